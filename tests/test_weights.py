"""Weight files: found in the package, in the cache, or fetched, and never the wrong ones."""

import base64
import contextlib
import hashlib
import http.server
import os
import pickle
import signal
import subprocess
import sys
import threading
import time

import pytest

from zoo import weights

FILE = "energy_landscape_euler_fresh_v1.weights.h5"
CONTENT = bytes(range(256)) * 100
SHA256 = hashlib.sha256(CONTENT).hexdigest()
SIZE = len(CONTENT)


@pytest.fixture(autouse=True)
def _fresh_keras():
    """No Keras here: its clean-up between tests would take longer than the tests."""


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """An empty cache and an empty package, no address, and failures that do not take long."""
    monkeypatch.setenv("TFNODE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in ("TFNODE_ZOO_URL", "TFNODE_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(weights, "SHIPPED", tmp_path / "pretrained")
    monkeypatch.setattr(weights, "RETRIES", 0)
    return tmp_path / "home"


class Server(http.server.ThreadingHTTPServer):
    """Serves one file in the way of a function that writes the answer, and counts requests.

    Args:
        answer: Function of the handler and the number of the request, from 1.
    """

    daemon_threads = True
    # Whoever waits is sent away when the server closes.
    block_on_close = False

    def __init__(self, answer):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer = answer
        self.paths = []
        self.closing = threading.Event()
        self.address = f"http://127.0.0.1:{self.server_port}/zoo"

    def handle_error(self, request, client_address):
        """Clients that leave early are part of the tests."""


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.paths.append(self.path)
        self.server.answer(self, len(self.server.paths))

    def log_message(self, *_):
        """The tests count; nobody reads."""

    def send(self, content, length=None, code=200):
        self.send_response(code)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        self.end_headers()
        self.wfile.write(content)


@contextlib.contextmanager
def serving(answer, monkeypatch):
    with Server(answer) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv("TFNODE_ZOO_URL", server.address)
        yield server
        server.closing.set()
        server.shutdown()


def good(handler, _):
    handler.send(CONTENT)


def find():
    return weights.find(FILE, SHA256, SIZE)


def files(directory):
    """Everything in the cache but the locks, which are empty files."""
    found = [path for path in directory.rglob("*") if path.is_file()]
    assert all(path.stat().st_size == 0 for path in found if path.suffix == ".lock")
    return [path.name for path in found if path.suffix != ".lock"]


def assert_says(error, address, target, found):
    text = str(error.value)
    for part in (repr(address), repr(str(target)), f"expected sha256={SHA256}, {SIZE} bytes"):
        assert part in text
    assert f"found {found}" in text


# === Found ===
def test_what_ships_needs_no_network(monkeypatch, home):
    monkeypatch.setenv("TFNODE_OFFLINE", "1")
    weights.SHIPPED.mkdir()
    (weights.SHIPPED / FILE).write_bytes(CONTENT)
    assert find() == CONTENT
    assert not home.exists()


def test_a_changed_file_of_the_package_is_refused():
    weights.SHIPPED.mkdir()
    changed = CONTENT[:-1] + b"x"
    (weights.SHIPPED / FILE).write_bytes(changed)
    with pytest.raises(ValueError, match=r"It was not opened. Install the package again") as error:
        find()
    found = f"sha256={hashlib.sha256(changed).hexdigest()}, {SIZE} bytes"
    assert_says(error, "none, it ships with the package", weights.SHIPPED / FILE, found)


def test_it_is_fetched_once_and_then_found(monkeypatch, home):
    with serving(good, monkeypatch) as server:
        assert find() == CONTENT
        assert (home / FILE).read_bytes() == CONTENT
        assert files(home) == [FILE]
        assert find() == CONTENT
    assert server.paths == [f"/zoo/{FILE}"]
    # Offline, too.
    monkeypatch.setenv("TFNODE_OFFLINE", "1")
    assert find() == CONTENT


def test_the_address_may_end_in_a_slash(monkeypatch, home):
    with serving(good, monkeypatch) as server:
        monkeypatch.setenv("TFNODE_ZOO_URL", server.address + "/")
        find()
    assert server.paths == [f"/zoo/{FILE}"]


@pytest.mark.parametrize("offline", ["", "0", "1"])
def test_an_address_may_be_a_directory(monkeypatch, home, tmp_path, offline):
    source = tmp_path / "a directory"
    source.mkdir()
    (source / FILE).write_bytes(CONTENT)
    monkeypatch.setenv("TFNODE_ZOO_URL", source.as_uri())
    # It is no network.
    monkeypatch.setenv("TFNODE_OFFLINE", offline)
    assert find() == CONTENT
    assert (source / FILE).read_bytes() == CONTENT
    assert files(home) == [FILE]


def test_without_a_home_the_cache_is_the_systems(monkeypatch, tmp_path):
    monkeypatch.delenv("TFNODE_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert weights.cache().name == "tfnode"
    monkeypatch.setenv("TFNODE_HOME", "~/here")
    assert weights.cache() == (type(tmp_path).home() / "here")


def test_a_cache_that_cannot_be_read(monkeypatch, home):
    # No user may: the name is longer than a file system takes.
    home.mkdir()
    beyond = home / ("x" * 300)
    monkeypatch.setenv("TFNODE_HOME", str(beyond))
    with pytest.raises(OSError, match=r"must be readable. .* set TFNODE_HOME") as error:
        find()
    assert_says(error, "none, the cache is first", beyond / FILE, "nothing ([Errno")


def test_a_bad_file_in_the_cache_is_replaced(monkeypatch, home):
    home.mkdir()
    (home / FILE).write_bytes(CONTENT[:100])
    with serving(good, monkeypatch):
        assert find() == CONTENT
    assert files(home) == [FILE]


def test_a_bad_file_in_the_cache_goes_even_if_no_other_comes(monkeypatch, home):
    home.mkdir()
    (home / FILE).write_bytes(CONTENT[:100])
    with serving(cut_short, monkeypatch), pytest.raises(ValueError, match="Nothing was kept"):
        find()
    assert files(home) == []


def test_the_file_that_is_loaded_is_the_file_that_was_checked(monkeypatch, home):
    """Another file takes the place of the one that was hashed."""
    home.mkdir()
    (home / FILE).write_bytes(CONTENT)
    checked = weights._hash

    def exchange(content):
        (home / FILE).write_bytes(b"other")
        return checked(content)

    monkeypatch.setattr(weights, "_hash", exchange)
    assert find() == CONTENT


@pytest.mark.parametrize("mask, mode", [(0o022, 0o644), (0o007, 0o660)])
def test_a_fetched_file_is_for_whom_the_umask_says(monkeypatch, home, mask, mode):
    before = os.umask(mask)
    try:
        with serving(good, monkeypatch):
            find()
    finally:
        os.umask(before)
    assert (home / FILE).stat().st_mode & 0o777 == mode


def test_in_a_cache_of_somebody_else_what_is_there_is_found(home):
    """Nothing is written for it, not even a lock."""
    home.mkdir()
    (home / FILE).write_bytes(CONTENT)
    before = home.stat().st_mtime_ns
    (home / FILE).chmod(0o444)
    home.chmod(0o555)
    try:
        assert find() == CONTENT
    finally:
        home.chmod(0o755)
    assert home.stat().st_mtime_ns == before


# === Links ===
@pytest.mark.parametrize("name", [FILE, f"{FILE}.part", f"locks/{FILE}.lock"])
def test_a_planted_link_is_not_written_through(monkeypatch, home, tmp_path, name):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (home / "locks").mkdir(parents=True)
    (home / name).symlink_to(victim)
    with serving(good, monkeypatch), contextlib.suppress(OSError):
        assert find() == CONTENT
    assert victim.read_text() == "mine"


@pytest.mark.parametrize(
    "name", ["../x.weights.h5", "/etc/passwd", "a/b", "..", ".", "", "a\\b", ".hidden", "a\0"]
)
def test_a_name_never_leaves_the_cache(monkeypatch, home, name):
    with (
        serving(good, monkeypatch) as server,
        pytest.raises(ValueError, match="named without its directory"),
    ):
        weights.find(name, SHA256, SIZE)
    assert server.paths == []
    assert not home.exists()


# === Addresses ===
@pytest.mark.parametrize("name", ["50% off", "a#b", "what?", "a b", "zwölf", "a%20b", "@home"])
def test_an_address_of_any_directory(monkeypatch, tmp_path, name):
    source = tmp_path / name
    source.mkdir()
    (source / FILE).write_bytes(CONTENT)
    monkeypatch.setenv("TFNODE_ZOO_URL", source.as_uri())
    assert find() == CONTENT
    (weights.cache() / FILE).unlink()
    if "%20" not in name:
        # As one may type it; a percent sign before two digits is taken for an escape.
        monkeypatch.setenv("TFNODE_ZOO_URL", f"file://{source}")
        assert find() == CONTENT


def not_there(handler, _):
    handler.send(b"", code=404)


@pytest.mark.parametrize("answer", ["good", "cut_short", "not_there", "silent"])
def test_a_password_is_sent_and_never_shown(monkeypatch, answer):
    seen = []

    def protected(handler, number):
        seen.append(handler.headers["Authorization"])
        globals()[answer](handler, number)

    monkeypatch.setattr(weights, "TOTAL_SECONDS", 0.5)
    with serving(protected, monkeypatch) as server:
        address = server.address.replace("://", "://user:se%40cret@")
        monkeypatch.setenv("TFNODE_ZOO_URL", address)
        if answer == "good":
            assert find() == CONTENT
        else:
            with pytest.raises((OSError, ValueError)) as error:
                find()
            assert_hides(error.value, "cret")
    assert seen == ["Basic " + base64.b64encode(b"user:se@cret").decode()]


def assert_hides(error, secret):
    """Neither the error nor one that it came from says it."""
    while error is not None:
        assert secret not in str(error)
        assert secret not in repr(error)
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize(
    "address",
    [
        "http://user:se/cret@host/zoo",
        "ftp://user:secret@host",
        "user:secret@host",
        "https://u:secret@",
        "http://user:secret://x@localhost:1/zoo",
        "http://user:se://cret@localhost:1/zoo",
        "user:secret://x@host/zoo",
        "http://user:se?cret@host/zoo",
        "http://user:se#cret@host/zoo",
        "http://user@host:port/zoo?token=se@cret",
    ],
)
def test_a_password_in_an_address_that_is_not_valid_is_not_shown(monkeypatch, address):
    monkeypatch.setenv("TFNODE_ZOO_URL", address)
    with pytest.raises(ValueError, match="TFNODE_ZOO_URL must start with") as error:
        find()
    assert_hides(error.value, "cret")


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("", "http://localhost:1/zoo/" + FILE),
        ("?token=secret", "http://localhost:1/zoo"),
        ("#secret", "http://localhost:1/zoo"),
        ("?token=se@cret", "http://..."),
    ],
)
def test_an_address_is_shown_without_its_query(monkeypatch, query, shown):
    monkeypatch.setattr(weights, "RETRIES", 0)
    monkeypatch.setenv("TFNODE_ZOO_URL", f"http://user:secret@localhost:1/zoo{query}")
    with pytest.raises(OSError, match=r"must arrive whole") as error:
        find()
    assert f"address={shown!r}" in str(error.value)
    assert_hides(error.value, "cret")


# === Refused ===
class Surprise:
    """Unpickling an instance would write a file."""

    def __init__(self, path):
        self._path = path

    def __reduce__(self):
        return (type(self._path).touch, (self._path,))


def cut_short(handler, _):
    handler.send(CONTENT[:1000])


def broken_off(handler, _):
    handler.send(CONTENT[:1000], length=SIZE)


@pytest.mark.parametrize(
    "content",
    [CONTENT[:1000], b"", CONTENT[:-1] + b"x", b"<html>not here</html>", b"\0" * SIZE],
    ids=["cut short", "empty", "altered", "a page", "zeros"],
)
def test_another_file_is_refused_and_not_kept(monkeypatch, home, content):
    with (
        serving(lambda handler, _: handler.send(content), monkeypatch) as server,
        pytest.raises(ValueError, match="Nothing was kept") as error,
    ):
        find()
    found = f"sha256={hashlib.sha256(content).hexdigest()}, {len(content)} bytes"
    assert_says(error, f"{server.address}/{FILE}", home / FILE, found)
    assert files(home) == []


def test_a_pickle_in_its_place_is_never_opened(monkeypatch, home, tmp_path):
    content = pickle.dumps(Surprise(tmp_path / "surprise"))
    with (
        serving(lambda handler, _: handler.send(content), monkeypatch),
        pytest.raises(ValueError, match="Nothing was kept"),
    ):
        find()
    assert files(home) == []
    assert not (tmp_path / "surprise").exists()


def test_a_connection_that_breaks_off_is_refused(monkeypatch, home):
    with (
        serving(broken_off, monkeypatch) as server,
        pytest.raises((OSError, ValueError), match="Nothing was kept") as error,
    ):
        find()
    assert repr(f"{server.address}/{FILE}") in str(error.value)
    assert files(home) == []


def test_no_more_than_the_size_is_read(monkeypatch, home):
    def endless(handler, _):
        handler.send_response(200)
        handler.end_headers()
        while not handler.server.closing.is_set():
            handler.wfile.write(b"\0" * 65536)

    with (
        serving(endless, monkeypatch),
        pytest.raises(ValueError, match=f"{SIZE + 1} bytes") as error,
    ):
        find()
    assert f"found sha256={hashlib.sha256(bytes(SIZE + 1)).hexdigest()}" in str(error.value)
    assert files(home) == []


@pytest.mark.parametrize("code, requests", [(404, 1), (403, 1), (503, 2)])
def test_an_answer_without_the_file(monkeypatch, home, code, requests):
    monkeypatch.setattr(weights, "RETRIES", 1)
    with (
        serving(lambda handler, _: handler.send(b"sorry", code=code), monkeypatch) as server,
        pytest.raises(OSError, match=f"HTTP Error {code}") as error,
    ):
        find()
    assert_says(error, f"{server.address}/{FILE}", home / FILE, "nothing (")
    # Only a failure of the server may pass.
    assert len(server.paths) == requests
    assert files(home) == []


def test_a_failure_that_passes_is_tried_again(monkeypatch, home):
    def at_last(handler, number):
        (cut_short, good)[number - 1](handler, number)

    monkeypatch.setattr(weights, "RETRIES", 1)
    with serving(at_last, monkeypatch) as server:
        assert find() == CONTENT
    assert len(server.paths) == 2
    assert files(home) == [FILE]


def silent(handler, _):
    handler.server.closing.wait(60)


def dripping(handler, _):
    handler.send(b"", length=SIZE)
    while not handler.server.closing.wait(0.05):
        handler.wfile.write(b"\0")


def dripping_headers(handler, _):
    handler.wfile.write(b"HTTP/1.0 200 OK\r\nX-Header: ")
    while not handler.server.closing.wait(0.05):
        handler.wfile.write(b"x")


@pytest.mark.parametrize("answer", [silent, dripping, dripping_headers])
def test_a_slow_server_is_given_up(monkeypatch, home, answer):
    monkeypatch.setattr(weights, "SILENT_SECONDS", 0.2)
    monkeypatch.setattr(weights, "TOTAL_SECONDS", 0.5)
    given_up = pytest.raises(OSError, match=r"timed out|not complete after 0.5 s")
    with serving(answer, monkeypatch) as server, given_up as error:
        find()
    assert_says(error, f"{server.address}/{FILE}", home / FILE, "nothing")
    assert files(home) == []
    assert [t for t in threading.enumerate() if isinstance(t, threading.Timer)] == []


def test_a_server_that_is_not_there(monkeypatch, home):
    with serving(good, monkeypatch) as server:
        pass
    with pytest.raises(OSError, match="Connection refused") as error:
        find()
    assert_says(error, f"{server.address}/{FILE}", home / FILE, "nothing")
    assert files(home) == []


def test_offline_no_server_is_asked(monkeypatch, home):
    monkeypatch.setenv("TFNODE_OFFLINE", "1")
    with serving(good, monkeypatch) as server:
        with pytest.raises(FileNotFoundError, match="TFNODE_OFFLINE forbids") as error:
            find()
        assert server.paths == []
        assert_says(error, f"{server.address}/{FILE}", home / FILE, "nothing")
        assert not home.exists()
        # A bad file in the cache is no file.
        home.mkdir()
        (home / FILE).write_bytes(b"bad")
        with pytest.raises(FileNotFoundError, match="TFNODE_OFFLINE forbids") as error:
            find()
        found = f"sha256={hashlib.sha256(b'bad').hexdigest()}, 3 bytes"
        assert_says(error, f"{server.address}/{FILE}", home / FILE, found)
        assert server.paths == []


def test_without_an_address_nothing_is_fetched(home):
    with pytest.raises(FileNotFoundError, match="Set TFNODE_ZOO_URL") as error:
        find()
    assert_says(error, None, home / FILE, "nothing")
    assert not home.exists()


@pytest.mark.parametrize("address", ["ftp://host/zoo", "/a/directory", "data:,x", "zoo"])
def test_other_addresses_are_refused(monkeypatch, home, address):
    monkeypatch.setenv("TFNODE_ZOO_URL", address)
    with pytest.raises(ValueError, match="must start with https://, http:// or file://") as error:
        find()
    assert_says(error, f"{address}/{FILE}", home / FILE, "nothing")
    assert not home.exists()


def test_a_missing_directory(monkeypatch, home, tmp_path):
    monkeypatch.setenv("TFNODE_ZOO_URL", (tmp_path / "nowhere").as_uri())
    with pytest.raises(OSError, match="No such file") as error:
        find()
    assert_says(error, f"{(tmp_path / 'nowhere').as_uri()}/{FILE}", home / FILE, "nothing")


def test_a_cache_that_cannot_be_written_to(monkeypatch, home):
    home.write_text("a file where the directory should be")
    with (
        serving(good, monkeypatch) as server,
        pytest.raises(OSError, match="TFNODE_HOME moves the cache") as error,
    ):
        find()
    assert_says(error, f"{server.address}/{FILE}", home / FILE, "nothing")


def test_waiting_for_another_process_has_an_end(monkeypatch, home):
    monkeypatch.setattr(weights, "LOCK_SECONDS", 0.2)
    with serving(good, monkeypatch) as server, weights.lock(home / FILE):
        with pytest.raises(OSError, match="lock") as error:
            find()
        assert server.paths == []
    assert_says(error, f"{server.address}/{FILE}", home / FILE, "nothing")


# === Processes ===
# The module alone: a process that only fetches needs neither the package nor Keras.
CHILD = f"""
import importlib.util, sys
spec = importlib.util.spec_from_file_location("weights", {weights.__file__!r})
weights = importlib.util.module_from_spec(spec)
spec.loader.exec_module(weights)
print("ready", flush=True)
print(len(weights.find({FILE!r}, {SHA256!r}, {SIZE})))
assert not {{"keras", "tensorflow", "zoo", "tfnode"}} & set(sys.modules)
"""


def child():
    return subprocess.Popen(
        [sys.executable, "-c", CHILD], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_eight_processes_fetch_it_once(monkeypatch, home):
    all_ready = threading.Event()

    def waits(handler, number):
        all_ready.wait(60)
        good(handler, number)

    with serving(waits, monkeypatch) as server:
        processes = [child() for _ in range(8)]
        assert [process.stdout.readline() for process in processes] == ["ready\n"] * 8
        # From there to the lock it takes them milliseconds.
        time.sleep(0.5)
        all_ready.set()
        outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0] * 8, outputs
    assert {output.strip() for output, _ in outputs} == {str(SIZE)}
    assert (home / FILE).read_bytes() == CONTENT
    assert len(server.paths) == 1
    assert files(home) == [FILE]


def test_a_killed_process_leaves_no_file_of_that_name_and_no_lock(monkeypatch, home):
    def first_hangs(handler, number):
        silent(handler, number) if number == 1 else good(handler, number)

    with serving(first_hangs, monkeypatch) as server:
        process = child()
        deadline = time.monotonic() + 60
        while not server.paths and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        assert len(server.paths) == 1
        assert FILE not in files(home)
        # As a process leaves it that is killed while it writes.
        (home / f"{FILE}.part").write_bytes(CONTENT[:10])
        assert find() == CONTENT
        assert files(home) == [FILE]
