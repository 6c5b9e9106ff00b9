"""The pretrained weights as a plain-text table."""

from collections.abc import Iterable, Sequence
from typing import Any

from zoo.manifest import WeightsEntry

_HEADER = ("weights", "solver", "accuracy", "under RK4", "samples", "verdict", "bytes")


def pretrained(entries: Iterable[WeightsEntry]) -> str:
    """Returns a table of `WeightsEntry`s."""
    return aligned(_HEADER, [_cells(entry) for entry in entries])


def aligned(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Returns a table whose columns are as wide as their widest cell.

    Examples:

    >>> print(aligned(("name", "steps"), [("euler", 16), ("rk4", 4)]))
    name   steps
    euler  16
    rk4    4
    """
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells)]
    lines = ("  ".join(map(str.ljust, row, widths)) for row in cells)
    return "\n".join(line.rstrip() for line in lines)


def _cells(entry: WeightsEntry) -> tuple[Any, ...]:
    accuracy = entry.accuracy
    return (
        entry.name,
        entry.solver,
        f"{accuracy['train_solver']:.2%}",
        f"{accuracy['rk4_fine']:.2%} ({entry.rk4_steps} steps)",
        "all" if entry.test_samples is None else f"first {entry.test_samples}",
        "an ODE" if entry.is_ode else "not an ODE",
        entry.bytes,
    )
