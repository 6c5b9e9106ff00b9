"""Tables of text, with columns as wide as their widest cells."""

from collections.abc import Collection, Iterable, Sequence


def aligned(header: Sequence, rows: Iterable[Sequence], right: Collection[int] = ()) -> str:
    """Returns a table for the terminal.

    Examples:

    >>> print(aligned(("name", "steps"), [("euler", 16), ("rk4", 4)], right=[1]))
    name   steps
    euler     16
    rk4        4

    Args:
        header: The names of the columns.
        rows: The cells of each row, of any type.
        right: The indices of the columns that are aligned to the right.
    """
    return "\n".join("  ".join(row).rstrip() for row in _padded(header, rows, right))


def markdown(header: Sequence, rows: Iterable[Sequence], right: Collection[int] = ()) -> str:
    """Returns a Markdown table, which reads in a terminal too.

    Examples:

    >>> print(markdown(("name", "steps"), [("euler", 16), ("rk4", 4)], right=[1]))
    | name  | steps |
    | ----- | ----: |
    | euler |    16 |
    | rk4   |     4 |

    Args:
        header: As for `aligned`, likewise `rows` and `right`.
    """
    # The rule of a column that is aligned needs a hyphen beside its colon.
    names, *cells = _padded(header, rows, right, least=2)
    rule = ["-" * (len(n) - 1) + (":" if i in right else "-") for i, n in enumerate(names)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (names, rule, *cells))


def _padded(
    header: Sequence, rows: Iterable[Sequence], right: Collection[int], least: int = 1
) -> list[tuple[str, ...]]:
    columns = []
    for i, cells in enumerate(zip(header, *rows, strict=True)):
        texts = [str(cell) for cell in cells]
        width = max(least if i in right else 1, *map(len, texts))
        columns.append([t.rjust(width) if i in right else t.ljust(width) for t in texts])
    return list(zip(*columns))
