"""What a page says in words and tables, and which of its numbers nobody has accounted for."""

import re

# What is no prose: code, comments, and where links and pictures lead.
NO_PROSE = (
    r"(?s)```.*?```",
    r"(?s)<!--.*?-->",
    r"(?m)^---\n(.*\n)*?---\n",
    r"(?m)^    .*$",
    r"(?m)^--8<--.*$",
    r"(?m)^ *\d+\. ",  # the number of an item
    r"`[^`]*`",
    r"\]\([^)]*\)",
    r"(?m)^\|[-:| ]+\|$",  # the rule below the names of columns
)
# Numbers that nothing measures: names, years, papers, and the versions that are asked for.
NAMES = (
    r"arXiv \d{4}\.\d{5}",
    r"\b[A-Za-z][\w-]*\d[\w.-]*",
    r"\b\d+[dD]\b",
    r"\b(19|20)\d\d\b",
    r"Python \d[\d.]*( to \d[\d.]*)?",
    r"[Ff]igures? \d+( \([a-z](, [a-z])*\))?|[Ss]ection \d[\d.]*|Table \d|Algorithm \d",
)


def of(page: str) -> str:
    """The prose of a page, in one line."""
    for pattern in NO_PROSE:
        page = re.sub(pattern, " ", page)
    return re.sub(r"\s+", " ", page).strip()


def unaccounted(text: str, claims: list[str], settings: list[str]) -> list[str]:
    """The places of a prose that hold a number which is no claim, no setting and no name.

    Args:
        text: A prose.
        claims: What was measured, as the page says it.
        settings: Regular expressions of what was chosen.
    """
    for claim in sorted(map(of, claims), key=len, reverse=True):
        text = text.replace(claim, " … ")
    for pattern in (*settings, *NAMES):
        text = re.sub(pattern, " … ", text)
    return [text[max(0, m.start() - 40) : m.end() + 30] for m in re.finditer(r"\d[\d.,]*", text)]
