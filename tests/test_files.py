"""Files and directories are complete or not there, and nothing else is left behind."""

import json
import os
import threading

import pytest

from tfnode import files


def below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("name", ["result.txt", "a/b/result.txt"])
def test_a_text_replaces_the_one_before_and_makes_its_directory(tmp_path, name):
    for text in ("one\n", "zwölf\n"):
        files.write_text(tmp_path / name, text)
        assert (tmp_path / name).read_text() == text
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
    threads = [threading.Thread(target=files.write_text, args=(path, text)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text() in texts
    assert below(tmp_path) == ["new", "new/result.txt"]
