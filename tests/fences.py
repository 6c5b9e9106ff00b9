"""The fenced blocks of the README and of the site's pages, and which of them a test asks for."""

import ast
import pathlib
import re

TESTS = pathlib.Path(__file__).parent
ROOT = TESTS.parent
SITE = sorted((ROOT / "docs").glob("**/*.md"))
PAGES = ["README.md", "CONTRIBUTING.md", *(str(path.relative_to(ROOT)) for path in SITE)]


def of(page: str, language: str, *places: int) -> list[str]:
    """The blocks of a page in one language, in their order; `places` chooses some of them.

    Whoever calls it accounts for them: it runs them, or compares what they say.
    """
    found = [text for of_block, text in every(page) if of_block == language]
    return [found[place] for place in places] if places else found


def every(page: str) -> list[tuple[str, str]]:
    """The language and the text of each block of a page."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(r"(?ms)^ *```([^\n`]*)\n(.*?)^ *```$", text)


def asked_for() -> set[tuple[str, str, int | None]]:
    """The page, the language and the place of what the tests get by `fences.of`; None: all."""
    calls = [
        [argument.value for argument in node.args]
        for path in TESTS.glob("**/test_*.py")
        if "fences.of(" in (text := path.read_text(encoding="utf-8"))
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "fences.of"
        if all(isinstance(argument, ast.Constant) for argument in node.args)
    ]
    return {
        (page, language, place) for page, language, *places in calls for place in places or [None]
    }


def words_and_numbers(printed):
    """What a program prints, apart: its words, with a sign for each number, and its numbers."""
    number = r"\d+(?:\.\d+)?"
    return re.sub(number, "#", printed), list(map(float, re.findall(number, printed)))
