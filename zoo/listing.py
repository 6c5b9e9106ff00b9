"""The pretrained weights as a table of plain text."""

from tfnode import tables

_HEADER = ("weights", "solver", "accuracy", "under RK4", "samples", "verdict", "bytes")


def pretrained(entries):
    """Returns the table of some `WeightsEntry`s."""
    return tables.aligned(_HEADER, [_cells(entry) for entry in entries])


def _cells(entry):
    accuracy = entry.accuracy
    return (
        entry.name,
        entry.solver,
        f"{accuracy['train_solver']:.2%}",
        f"{accuracy['rk4_fine']:.2%} ({entry.rk4_steps} steps)",
        "all" if entry.test_samples is None else f"first {entry.test_samples}",
        "an ODE" if entry.is_ode else "no ODE",
        entry.bytes,
    )
