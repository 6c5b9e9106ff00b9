"""Tables of text and of Markdown."""

import pytest

from tfnode import tables

HEADER, ROWS = ("x", "", "number"), [("a", None, 1), ("bbb", "", 22)]


def test_columns_are_as_wide_as_their_widest_cell():
    assert tables.aligned(HEADER, ROWS).splitlines() == [
        "x          number",
        "a    None  1",
        "bbb        22",
    ]
    assert tables.aligned(HEADER, ROWS, right=[1, 2]).splitlines() == [
        "x          number",
        "a    None       1",
        "bbb            22",
    ]


def test_markdown_says_what_is_aligned_to_the_right():
    assert tables.markdown(HEADER, ROWS, right=[2]).splitlines() == [
        "| x   |      | number |",
        "| --- | ---- | -----: |",
        "| a   | None |      1 |",
        "| bbb |      |     22 |",
    ]
    # The rule needs a hyphen, however narrow its column is.
    assert tables.markdown("K", [[8]], right=[0]).splitlines() == ["|  K |", "| -: |", "|  8 |"]
    # A column without any text is one all the same.
    assert tables.markdown(("x", ""), []).splitlines() == ["| x |   |", "| - | - |"]


def test_every_row_has_the_cells_of_the_header():
    with pytest.raises(ValueError, match="shorter"):
        tables.aligned(HEADER, [("a", 1)])
