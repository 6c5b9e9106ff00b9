"""Files and directories are complete or not there, and nothing else is left behind."""

import concurrent.futures
import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time

import pytest

from tfnode import files

# The module alone: the package would bring Keras.
WRITER = """
import importlib.util, os, pathlib, sys
spec = importlib.util.spec_from_file_location("files", sys.argv[1])
files = importlib.util.module_from_spec(spec)
spec.loader.exec_module(files)
target, *text = map(os.fsencode, sys.argv[2:])
if text:
    files.write_text(pathlib.Path(os.fsdecode(target)), text[0].decode("utf-8"))
    sys.exit()
with files.beside(pathlib.Path(os.fsdecode(target))) as path:
    path.write_bytes(b"half")
    print("ready", flush=True)
    sys.stdin.read()
"""


def below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("name", ["result.txt", "a/b/result.txt"])
def test_a_text_replaces_the_one_before_and_makes_its_directory(tmp_path, name):
    for text in ("one\n", "zwölf\n"):
        files.write_text(tmp_path / name, text)
        assert (tmp_path / name).read_text(encoding="utf-8") == text
    assert [path for path in below(tmp_path) if path.endswith(".txt")] == [name]
    assert not [path for path in below(tmp_path) if "writing" in path]


def test_a_path_may_be_relative_to_where_one_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files.write_text(files.pathlib.Path("result.txt"), "here")
    assert (tmp_path / "result.txt").read_text() == "here"


def test_json_ends_with_a_line_and_holds_finite_numbers(tmp_path):
    path = tmp_path / "result.json"
    files.write_json(path, {"accuracy": 0.5}, indent=1)
    assert path.read_text() == '{\n "accuracy": 0.5\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(path, {"accuracy": float("nan")})
    assert json.loads(path.read_text()) == {"accuracy": 0.5}
    assert below(tmp_path) == ["result.json"]


def test_text_is_utf_8_whatever_the_locale(tmp_path):
    command = [sys.executable, "-c", WRITER, files.__file__, str(tmp_path / "text"), "zwölf"]
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    subprocess.run(command, env={**os.environ, **locale}, check=True)
    assert (tmp_path / "text").read_bytes() == "zwölf".encode()


def test_what_fails_half_way_leaves_the_old_file_and_no_directory(tmp_path):
    old, new = tmp_path / "old.txt", tmp_path / "new" / "new.txt"
    old.write_text("old")
    for target in (old, new):
        with pytest.raises(OSError, match="No space left"), files.beside(target) as path:
            path.write_text("half")
            raise OSError("No space left on device")
    assert below(tmp_path) == ["old.txt"]
    assert old.read_text() == "old"


def test_a_directory_appears_with_all_that_it_holds(tmp_path):
    with files.beside(tmp_path / "base" / "1") as path:
        (path / "variables").mkdir(parents=True)
        (path / "variables" / "index").write_text("0")
        assert not (tmp_path / "base").exists()
    assert below(tmp_path / "base") == ["1", "1/variables", "1/variables/index"]
    assert below(tmp_path)[0] == "base"


def test_a_directory_that_is_not_empty_is_not_replaced(tmp_path):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "model").write_text("served")
    with pytest.raises(OSError, match="not empty"), files.beside(tmp_path / "1") as path:
        path.mkdir()
    assert below(tmp_path) == ["1", "1/model"]


def test_a_file_where_a_directory_should_be_is_named(tmp_path):
    (tmp_path / "place").write_text("")
    with pytest.raises(NotADirectoryError, match="place"):
        files.write_text(tmp_path / "place" / "result.txt", "")


def test_others_may_read_what_was_written(tmp_path):
    """The directory beside is private; the file is as any other."""
    mask = os.umask(0o022)
    try:
        files.write_text(tmp_path / "result.txt", "")
    finally:
        os.umask(mask)
    assert (tmp_path / "result.txt").stat().st_mode & 0o777 == 0o644


def test_several_may_write_one_file(tmp_path):
    path = tmp_path / "new" / "result.txt"
    texts = [str(i) * 10_000 for i in range(8)]

    def write(text):
        for _ in range(10):
            files.write_text(path, text)
            files.check_writable(path.parent, "out")

    with concurrent.futures.ThreadPoolExecutor(8) as executor:
        assert list(executor.map(write, texts)) == [None] * 8
    assert path.read_text() in texts
    assert below(tmp_path) == ["new", "new/result.txt"]


# === Killed writers ===
@contextlib.contextmanager
def writer(target):
    """A process in the middle of writing a file; what ends it is a kill."""
    command = [sys.executable, "-c", WRITER, files.__file__, str(target)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as process:
        assert process.stdout.readline() == b"ready\n"
        yield process
        process.kill()


def test_what_a_killed_writer_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    with writer(tmp_path / "killed"):
        (left,) = tmp_path.glob(".writing-*")
    assert (left / "killed").read_bytes() == b"half"
    with writer(tmp_path / "living"):
        files.write_text(tmp_path / "result.txt", "")
        (kept,) = tmp_path.glob(".writing-*")
        assert kept != left
        assert (kept / "living").exists()


def test_within_a_process_writers_leave_each_other_alone(tmp_path):
    with files.beside(tmp_path / "a") as a, files.beside(tmp_path / "b") as b:
        a.write_text("a")
        b.write_text("b")
    assert below(tmp_path) == ["a", "b"]


def test_a_directory_that_others_must_not_remove_is_left_alone(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "place").mkdir()
    (tmp_path / "place" / ".writing-link").symlink_to(elsewhere)
    files.write_text(tmp_path / "place" / "result.txt", "")
    assert below(elsewhere) == []
    assert below(tmp_path / "place") == [".writing-link", "result.txt"]


# === Links ===
def test_a_planted_link_is_replaced_and_not_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    for name, write in (("whole", files.write_text), ("note", files.note)):
        link = tmp_path / name
        link.symlink_to(victim)
        with contextlib.suppress(OSError):
            write(link, "theirs")
        assert victim.read_text() == "mine"
    assert (tmp_path / "whole").read_text() == "theirs"
    assert not (tmp_path / "whole").is_symlink()


def test_a_note_is_written_over_the_one_before(tmp_path):
    for text in ("0.5", "1"):
        files.note(tmp_path / "progress", text)
        assert (tmp_path / "progress").read_text() == text


# === Places ===
@pytest.mark.parametrize("name", [".", "new", "new/and/deep"])
def test_a_place_that_can_be_written_to_is_left_as_it_was(tmp_path, name):
    files.check_writable(tmp_path / name, "out")
    assert below(tmp_path) == []


def unwritable(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    places = ["file", "file/below", "dangling", "dangling/below", "x" * 300, "null\0"]
    # Root may write where permissions say no, but nobody in the kernel's own file system.
    return [*(tmp_path / name for name in places), "/proc/out", *[closed] * (os.geteuid() != 0)]


def test_a_place_that_cannot_be_written_to_is_refused_with_the_reason(tmp_path):
    for place in unwritable(tmp_path):
        with pytest.raises(ValueError, match="`out` must be a directory that can be written") as e:
            files.check_writable(place, "out")
        assert f"Received: out={str(place)!r} (" in str(e.value)
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("name", ["there", "new", "new/and/deep", "x" * 255])
def test_a_file_that_can_be_written_is_left_as_it_was(tmp_path, name):
    (tmp_path / "there").write_text("old")
    files.check_file(tmp_path / name, "out")
    assert below(tmp_path) == ["there"]
    assert (tmp_path / "there").read_text() == "old"


def test_a_file_that_cannot_be_written_is_refused_with_the_reason(tmp_path):
    (tmp_path / "there").write_text("")
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "directory")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe")
    before = below(tmp_path)
    reasons = {
        ".": "Is a directory",
        "directory": "Is a directory",
        "link": "Is a directory",
        "new/..": "Is a directory",
        "pipe": "Not a regular file",
        "there/below": "Not a directory",
        "dangling/below": "",
        "x" * 256: "File name too long",
        "new/" + "x" * 256: "File name too long",
        "null\0": "",
        "/proc/out": "",
    }
    for name, reason in reasons.items():
        with pytest.raises(ValueError, match="`out` must be a file that can be written") as e:
            files.check_file(tmp_path / name, "out")
        assert f"Received: out={str(tmp_path / name)!r} ({reason}" in str(e.value)
        assert str(e.value).endswith("Choose another one, or correct its permissions.")
    assert below(tmp_path) == before


def test_a_directory_is_removed_as_a_whole(tmp_path, monkeypatch):
    folder = tmp_path / "iteration_1"
    folder.mkdir()
    (folder / "a").write_text("")
    # Killed in the middle: nothing is removed any more.
    monkeypatch.setattr(files.shutil, "rmtree", lambda *_, **__: None)
    files.remove(folder)
    assert not folder.exists()
    monkeypatch.undo()
    files.write_text(tmp_path / "next", "")
    assert below(tmp_path) == ["next"]
    files.remove(folder)


# === Locks ===
def test_a_lock_is_held_by_one_at_a_time(tmp_path):
    inside, most = [], []

    def work():
        with files.locked(tmp_path / "new" / ".lock"):
            inside.append(1)
            most.append(len(inside))
            # Which lets the other threads in, if they may.
            time.sleep(1e-3)
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 8
    assert below(tmp_path) == ["new", "new/.lock"]


# A process that imports this one room alone starts in no time.
PRELUDE = f"""
import importlib.util, pathlib, sys, time
spec = importlib.util.spec_from_file_location("files", {files.__file__!r})
files = importlib.util.module_from_spec(spec)
spec.loader.exec_module(files)
base = pathlib.Path(sys.argv[1])
"""
HOLD = """
with files.locked(base / ".lock"), files.beside(base / "1") as path:
    path.mkdir()
    (path / "half").touch()
    print("writing", flush=True)
    sys.stdin.read()
"""
# Each number is one directory of one process, which would be mixed or lost without a lock.
NUMBER = """
for _ in range(5):
    with files.locked(base / ".lock"):
        number = len(list(base.glob("[0-9]*")))
        time.sleep(0.001)
        with files.beside(base / str(number)) as path:
            path.mkdir()
            for part in "ab":
                (path / part).write_text(sys.argv[2])
"""


def start(script, *arguments):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", PRELUDE + script, *arguments], **pipes)


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock, in the middle of its writing."""
    with start(HOLD, str(tmp_path)) as process:
        assert process.stdout.readline() == "writing\n"
        yield process
        process.kill()


def test_processes_that_hold_a_lock_write_one_after_the_other(tmp_path):
    processes = [start(NUMBER, str(tmp_path), name) for name in ("one", "two")]
    for process in processes:
        process.communicate(timeout=30)
        assert process.returncode == 0
    found = {path.name: {p.read_text() for p in path.iterdir()} for path in tmp_path.glob("[0-9]*")}
    assert found.keys() == {str(number) for number in range(10)}
    assert sorted(map(sorted, found.values())) == [["one"]] * 5 + [["two"]] * 5


def test_who_waits_too_long_is_told_for_whom(tmp_path, holder, monkeypatch):
    monkeypatch.setattr(files, "LOCK_SECONDS", 0.05)
    with pytest.raises(TimeoutError) as error, files.locked(tmp_path / ".lock"):
        pass
    who = f"process {holder.pid} on {re.escape(socket.gethostname())} since"
    assert re.search(rf"\.lock', held by {who} 20\d\d-.*\. Wait for its end", str(error.value))


def test_one_process_may_not_hold_it_twice(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LOCK_SECONDS", 0.05)
    other = files.locked(tmp_path / ".lock")
    with files.locked(tmp_path / ".lock"):
        with pytest.raises(TimeoutError, match=f"held by process {os.getpid()} on"):
            other.__enter__()
        assert below(tmp_path) == [".lock", ".lock.owner"]
    assert below(tmp_path) == [".lock"]


def test_a_killed_process_leaves_a_lock_open_and_parts_that_can_be_removed(tmp_path, holder):
    assert [path for path in below(tmp_path) if path.endswith("/1/half")]
    holder.kill()
    holder.wait()
    with files.locked(tmp_path / ".lock"):
        files.sweep(tmp_path)
    assert below(tmp_path) == [".lock"]


def test_a_lock_opens_when_what_it_guards_fails(tmp_path):
    with pytest.raises(OSError, match="No space left"), files.locked(tmp_path / ".lock"):
        raise OSError("No space left on device")
    with files.locked(tmp_path / ".lock"):
        pass
