"""Every fenced block of the README and of the site is run, parsed or compared, or says why not."""

import argparse
import configparser
import importlib
import pathlib
import re
import shlex

import fences
import pytest

from scripts.publishing import cards
from zoo import manifest
from zoo.commands import main

ROOT = pathlib.Path(__file__).parents[1]
# What no test compares, by page and language.
SHOWN = {
    ("docs/serving.md", ""): "the tree of an export, and queries of Prometheus, run by hand",
    ("docs/serving.md", "json"): "the shape of an answer, without its numbers",
}
SHELL = [
    (page, text)
    for page in fences.PAGES
    for language, text in fences.every(page)
    if language in ("bash", "console")
]
# The commands that no test looks at, and what they would need.
OTHERS = {
    ".": "an environment",
    "curl": "a server",
    "docker": "its daemon; test_deployment.py compares the options",
    "kubectl": "a cluster",
    "touch": "a version that is taken back",
}


@pytest.fixture(autouse=True)
def _fresh_keras():
    """No Keras here: its clean-up between tests would take longer than the tests."""


def test_every_block_is_accounted_for():
    asked, left = fences.asked_for(), []
    for page in fences.PAGES:
        places = {}
        for language, text in fences.every(page):
            place = places[language] = places.get(language, -1) + 1
            known = (page, language) in SHOWN or (page, text) in SHELL or is_written(page)
            if not known and not {(page, language, None), (page, language, place)} & asked:
                left.append((page, language, place))
    assert left == []


def is_written(page):
    """By a command, from what is tested: see below, and test_tutorials.py."""
    path = ROOT / page
    return path.with_suffix(".py").is_file() or path.stem in manifest.read().weights


def test_the_blocks_of_a_card_are_those_that_are_written():
    for name, entry in manifest.read().weights.items():
        written = [cards.code(entry), cards.serving_code(entry)]
        assert fences.every(f"docs/zoo/{name}.md") == [("python", f"{text}\n") for text in written]


def test_the_blocks_of_a_tutorial_are_those_of_its_script():
    for path in (ROOT / "docs" / "tutorials").glob("*.py"):
        script = path.read_text(encoding="utf-8")
        blocks = fences.every(str(path.with_suffix(".md").relative_to(ROOT)))
        assert {language for language, _ in blocks} == {"python"}
        assert [text for _, text in blocks if text not in script] == []


# === The shell ===
class Parsed(Exception):
    """The end of a command that has understood its arguments."""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A directory with what the lines find there; a command ends when it has parsed its line."""
    understand = argparse.ArgumentParser.parse_args

    def parse_args(*arguments):
        understand(*arguments)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
    monkeypatch.chdir(tmp_path)
    for name in ("model.keras", "mine.keras", "test.npz"):
        (tmp_path / name).touch()
    for name in ("bundle", "trained"):
        (tmp_path / name).mkdir()
    (tmp_path / "bundle" / "bundle.json").touch()


@pytest.mark.parametrize("page, text", SHELL)
def test_the_lines_of_the_shell_are_good(page, text, place):
    assert [line for line in re.split(r"\n| && ", text) if not is_good(line)] == []


def is_good(line):
    words = shlex.split(line, comments=True)
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        del words[0]
    return not words or words[0] in OTHERS or CHECKS[words[0]](*words[1:])


def is_understood(command, *arguments):
    try:
        command(arguments)
    except Parsed:
        return True
    return False


def python(what, *arguments):
    if what == "-c":
        return compile(*arguments, "a line", "exec")
    if what == "-m":
        return arguments[0] in ("pip", "venv")
    if what == "the_same.py":  # the first program of the README
        return True
    directory, name = pathlib.Path(what).parts
    script = importlib.import_module(f"{directory}.{name.removesuffix('.py')}")
    return directory == "scripts" and is_understood(script.main, *arguments)


def tfnode(*arguments):
    return is_understood(main.parser().parse_args, *arguments)


def bash(*paths):
    return all((ROOT / path).is_file() for path in paths)


def pip(command, *what):
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    extras = {extra for word in what for extra in re.findall(r"^\.\[(\w+)\]$", word)}
    return command == "install" and extras <= set(setup["options.extras_require"])


CHECKS = {"python": python, "tfnode": tfnode, "bash": bash, "pip": pip}


@pytest.mark.parametrize(
    "line",
    [
        "bash scripts/none.sh",
        "pip install .[none]",
        "pip list",
        "python -m none",
        "tfnode table1 &&",
    ],
)
def test_a_line_that_is_not_good_is_found(line, place, capsys):
    try:
        assert not is_good(line)
    except SystemExit as ended:  # of a command that does not understand its line
        assert ended.code == 2


def test_no_reason_is_left_over():
    lines = "\n".join(text for _, text in SHELL).replace(" && ", "\n")
    assert {word for word in OTHERS if not re.search(rf"(?m)^{re.escape(word)} ", lines)} == set()
    held = {(page, language) for page in fences.PAGES for language, _ in fences.every(page)}
    assert SHOWN.keys() <= held
