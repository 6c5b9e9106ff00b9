"""The pretrained weights as a plain-text table."""

from collections.abc import Iterable
from typing import Any

from tfnode import tables
from zoo.manifest import WeightsEntry

_HEADER = ("weights", "solver", "accuracy", "under RK4", "samples", "verdict", "bytes")


def pretrained(entries: Iterable[WeightsEntry]) -> str:
    """Returns a table of `WeightsEntry`s."""
    return tables.aligned(_HEADER, [_cells(entry) for entry in entries])


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
