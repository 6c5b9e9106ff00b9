"""The pretrained weights as a table: names for programs, text for people, records for files."""

from collections.abc import Iterable, Sequence
from typing import Any

import keras

import tfnode
from tfnode import tables
from zoo.manifest import WeightsEntry

_HEADER = (
    *("weights", "solver", "steps", "evaluations", "accuracy", "under RK4", "gap", "samples"),
    *("verdict", ""),
)


class WeightsTable(list[str]):
    """The names of pretrained weights: a list, which prints as a table.

    Args:
        entries: Iterable of `WeightsEntry`s.
        default: Iterable of strings, the weights that are the `"DEFAULT"` of their models.

    Attributes:
        records: List of dictionaries of plain values, one for each of the weights, for JSON, CSV
            or a data frame. `steps`, `step_size` and `nfe`, the evaluations of the field for one
            answer, are None where the solver is adaptive, and `test_samples` where the accuracies
            are those of the whole test set.
    """

    def __init__(self, entries: Iterable[WeightsEntry], default: Iterable[str]) -> None:
        entries, chosen = list(entries), set(default)
        super().__init__(entry.name for entry in entries)
        self.records = [_record(entry, entry.name in chosen) for entry in entries]

    def __repr__(self) -> str:
        return _text(self.records)


def _text(records: Sequence[dict[str, Any]]) -> str:
    if not records:
        return "There are no such pretrained weights."
    return tables.aligned(_HEADER, map(_cells, records), right=range(2, 7))


def _cells(record: dict[str, Any]) -> tuple[Any, ...]:
    samples = record["test_samples"]
    return (
        record["weights"],
        record["solver"],
        record["steps"] or "adaptive",
        record["nfe"] or "",
        f"{record['accuracy']:.2%}",
        f"{record['accuracy_under_rk4']:.2%}",
        f"{record['gap']:.2%}",
        "all" if samples is None else f"first {samples}",
        "an ODE" if record["is_ode"] else "not an ODE",
        "DEFAULT" if record["default"] else "",
    )


def _record(entry: WeightsEntry, is_default: bool) -> dict[str, Any]:
    is_fixed = isinstance(entry.solver, tfnode.solvers.FixedStepSolver)
    # From 0 to 1, as every model of the zoo integrates.
    block = tfnode.ODEBlock(keras.layers.Identity(), entry.solver) if is_fixed else None
    return {
        "weights": entry.name,
        "model": entry.model,
        "dataset": entry.dataset,
        "default": is_default,
        "solver": type(entry.solver).__name__,
        "steps": block and block.num_steps,
        "step_size": block and block.solver.step_size,
        "nfe": block and block.nfe,
        **entry.metrics,
        "rk4_steps": entry.rk4_steps,
        "test_samples": entry.test_samples,
        "is_ode": entry.is_ode,
        "parameters": entry.parameters,
        "bytes": entry.bytes,
    }
