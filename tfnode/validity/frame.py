"""What the pages of all reports have in common: one file, without scripts and without network."""

import dataclasses
import math
import pathlib
from collections.abc import Mapping

from tfnode import arguments, files, markup, versions
from tfnode.markup import Child, Element, element
from tfnode.typing import PathLike

_STYLE = pathlib.Path(__file__).with_name("page.css")
# A page that asks for nothing, whatever comes into it.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


@dataclasses.dataclass(frozen=True)
class Frame:
    """A page, framed by what is the same for every report.

    Args:
        heading: Element, what `heading` makes of a question.
        summary: The answer and the main numbers.
        sections: All else.
    """

    heading: Element
    summary: Child
    sections: Child

    def write(self, path: PathLike) -> None:
        """Writes the page to a file, which is complete or not there."""
        target = arguments.path("path", path)
        files.check_file(target, "path")
        files.write_text(target, self.document())

    def document(self) -> str:
        """The page as a file."""
        head = element(
            "head",
            element("meta", charset="utf-8"),
            element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
            element("meta", name="viewport", content="width=device-width, initial-scale=1"),
            element("meta", name="color-scheme", content="light dark"),
            # Else a browser asks the server for one.
            element("link", rel="icon", href="data:,"),
            element("title", "".join(self.heading.itertext())),
        )
        body = element("body", element("main", self._article()), style="margin: 0")
        return f"<!doctype html>\n{markup.written(element('html', head, body, lang='en'))}\n"

    def fragment(self) -> str:
        """The page as a part of another one, whose looks it leaves alone."""
        return markup.written(self._article())

    def _article(self) -> Element:
        return element(
            "article",
            element("style", _STYLE.read_text(encoding="utf-8")),
            element("header", self.heading, self.summary),
            self.sections,
            class_="tfnode-report",
        )


# === Parts of pages ===
def heading(title: str | None, question: Child) -> Element:
    """The title that a user gives, or else the question that a report answers."""
    if title is not None:
        question = arguments.text("title", title, advice="Leave it out for the usual one.")
    return element("h1", question)


def verdict(is_yes: bool, answer: str, *why: Child) -> Element:
    """The answer, and what it follows from."""
    return element(
        "p", element("strong", answer), why, class_="verdict yes" if is_yes else "verdict no"
    )


def numbers(found: Mapping[str, str]) -> Element:
    """The main numbers by what they are."""
    return element("dl", _pairs(found), class_="numbers")


def origin(found: Mapping[str, str], made_with: dict[str, str] | None) -> Element:
    """What a report was made of, and with."""
    if made_with is not None:
        found = {**found, "made with": versions.in_words(made_with)}
    return element("footer", element("h2", "Where it comes from"), element("dl", _pairs(found)))


def number(value: float | None) -> str:
    """A number, of which there may be none."""
    if value is None:
        return ""
    return f"{value:.3g}" if math.isfinite(value) else "not finite"


def counted(number: int, what: str) -> str:
    """A number of things."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _pairs(found: Mapping[str, str]) -> Child:
    return [element("div", element("dt", k), element("dd", v)) for k, v in found.items()]
