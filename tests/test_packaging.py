"""What is published: its metadata, the archive of its source, and a README that stands alone."""

import email
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _fresh_keras():
    """No Keras here: its clean-up between tests would take longer than the tests."""


@pytest.fixture(scope="module")
def described(tmp_path_factory):
    """The directory in which setuptools describes the package, and what its archive holds."""
    pytest.importorskip("setuptools", minversion="77")
    place = tmp_path_factory.mktemp("described")
    command = ["-c", "import setuptools; setuptools.setup()", "egg_info", "--egg-base", str(place)]
    options = {"cwd": ROOT, "capture_output": True, "encoding": "utf-8"}
    made = subprocess.run([sys.executable, *command], **options)
    assert made.returncode == 0, made.stderr
    return place / "tfnode.egg-info"


def test_the_metadata(described):
    said = email.message_from_string((described / "PKG-INFO").read_text(encoding="utf-8"))
    assert said["License-Expression"] == "Apache-2.0"
    assert said["License"] is None
    assert said["License-File"] == "LICENSE"
    assert said["Requires-Python"] == "<3.14,>=3.11"
    assert said["Description-Content-Type"] == "text/markdown"
    assert [c for c in said.get_all("Classifier") if c.startswith("License")] == []
    cited = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"license: {said['License-Expression']}\n" in cited
    assert f"version: {said['Version']}\n" in cited
    for address in said.get_all("Project-URL"):
        # None that the project does not name elsewhere.
        assert address.partition(", ")[2] in cited


@pytest.fixture(scope="module")
def held(described):
    """The names of the files that the archive of the source holds."""
    return set((described / "SOURCES.txt").read_text(encoding="utf-8").splitlines())


def test_the_archive_of_the_source_holds_what_is_tracked_but_for_the_exported_models(held):
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True)
    if listing.returncode:
        pytest.skip("not a git checkout, so nothing is tracked")
    tracked = {name for name in listing.stdout.decode().split("\0") if (ROOT / name).is_file()}
    assert {n for n in tracked - held if not re.match("saved_models/.+/", n)} == set()
    assert {n for n in held - tracked if n.endswith((".pyc", ".lock", ".pdf"))} == set()


def test_without_the_exported_models_their_tests_pass_or_skip(held, tmp_path):
    """In the archive, where every file of tests that names their directory is imported."""
    for name in held:
        if not pathlib.Path(name).is_absolute():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, tmp_path / name)
    reading = [
        str(path)
        for path in (tmp_path / "tests").glob("**/test_*.py")
        if '/ "saved_models"\n' in path.read_text(encoding="utf-8")
    ]
    command = ["-m", "pytest", "-q", "-k", "deployment or exported_zoo", *reading]
    options = {"cwd": tmp_path, "capture_output": True, "encoding": "utf-8"}
    done = subprocess.run([sys.executable, *command], **options)
    assert done.returncode == 0, done.stdout


def test_the_readme_has_no_picture_that_an_index_would_not_find():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    pictures = re.findall(r"!\[[^\]]*\]\(([^)\s]+)|<img[^>]* src=\"([^\"]+)", text)
    assert [p for pair in pictures for p in pair if p and not p.startswith("https://")] == []
