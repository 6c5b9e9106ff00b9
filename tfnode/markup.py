"""HTML and SVG as trees of elements: whatever a text holds, it is written as that text."""

from collections.abc import Iterable
from typing import TypeAlias
from xml.etree import ElementTree

Element: TypeAlias = ElementTree.Element
Child: TypeAlias = "Element | str | Iterable[Child] | None"


def element(tag: str, *children: Child, **attributes: object) -> Element:
    """Returns an element.

    Examples:

    >>> written(element("p", "1 < 2, ", element("b", "really"), class_="a b", aria_hidden="true"))
    '<p class="a b" aria-hidden="true">1 &lt; 2, <b>really</b></p>'

    Args:
        tag: String.
        children: Strings, elements, iterables of these, and None for nothing.
        attributes: Their values by name, with underscores in place of hyphens and one more at the
            end of a word of Python; None for an attribute that is left out.
    """
    made = ElementTree.Element(tag)
    for name, value in attributes.items():
        if value is not None:
            made.set(name.rstrip("_").replace("_", "-"), _text(value))
    for child in _flat(children):
        if isinstance(child, ElementTree.Element):
            made.append(child)
        elif len(made):
            made[-1].tail = (made[-1].tail or "") + _text(child)
        else:
            made.text = (made.text or "") + _text(child)
    return made


def table(header: Iterable[Child], rows: Iterable[Iterable[Child]], label: str) -> Element:
    """Returns a table in a region of its own, which scrolls by itself where it is too wide.

    Args:
        header: The names of the columns.
        rows: The cells of each row, of which the first names it.
        label: String, what a screen reader calls the region.
    """
    head = element("thead", element("tr", (element("th", name, scope="col") for name in header)))
    body = element("tbody", (element("tr", _cells(row)) for row in rows))
    # Where it scrolls, it does so by the keyboard too.
    whole = element("table", head, body)
    return element("div", whole, class_="scroll", role="region", tabindex=0, aria_label=label)


def written(root: Element) -> str:
    """Returns an element as HTML."""
    return ElementTree.tostring(root, encoding="unicode", method="html")


def _cells(row: Iterable[Child]) -> Iterable[Element]:
    for i, cell in enumerate(row):
        yield element("td", cell) if i else element("th", cell, scope="row")


def _flat(children: Iterable[Child]) -> Iterable[Element | str]:
    for child in children:
        if isinstance(child, (str, ElementTree.Element)):
            yield child
        elif child is not None:
            yield from _flat(child)


def _text(value: object) -> str:
    # Half of a pair of surrogates cannot be written in UTF-8.
    return str(value).encode("utf-8", "replace").decode("utf-8")
