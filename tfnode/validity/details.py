"""What a report tells beyond its verdict: which answers change, and which nearly do."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from tfnode.models.judge import Judge
from tfnode.validity.results import Record

# Enough for a look at each; a report stays small whatever the data is.
_MAX_CHANGES = 50
_MAX_NEAREST = 10
_MAX_EXAMPLES = 3


@dataclasses.dataclass(frozen=True, repr=False)
class ClassChange(Record):
    """The answers that go from one class to another.

    Args:
        before: Integer, the class under the training solver; -1 where the output is not finite.
        after: Integer, the class under the other solver, likewise.
        count: Integer, the answers.
        lost: Integer, those of them that were right.
        gained: Integer, those that are right now.
        samples: Tuple of integers, where the first of them stand in the data.
    """

    before: int
    after: int
    count: int
    lost: int
    gained: int
    samples: tuple[int, ...]


@dataclasses.dataclass(frozen=True, repr=False)
class NearSample(Record):
    """A sample that no better solver changes, and how near one comes to it.

    Args:
        sample: Integer, where it stands in the data.
        predicted: Integer, its class.
        rival: Integer, the class that comes nearest.
        margin: Float, the lead of its class over the next under the training solver.
        left: Float, what the least favourable of the better solvers leaves of it.
        row: Integer, the row of the report with that solver.
    """

    sample: int
    predicted: int
    rival: int
    margin: float
    left: float
    row: int


@dataclasses.dataclass(frozen=True, repr=False)
class Details(Record):
    """What `check` records for whoever reads its report.

    Args:
        model: String, the name of the model.
        changed_row: Integer, the better row in which most answers change, whose `changes` these
            are; None in regression.
        changes: Tuple of `ClassChange`s, the most frequent first, and of those the first 50.
        nearest: Tuple of `NearSample`s, the ten of which the smallest part of the lead is left,
            that one first.
        order: Float, fitted to the errors of the training method from its step down, as
            `convergence_test` does with more steps; None where that is not possible.
        expected_order: Integer, the order of the method; None for an adaptive solver.
        versions: Dictionary from packages to their versions.
    """

    model: str
    changed_row: int | None
    changes: tuple[ClassChange, ...]
    nearest: tuple[NearSample, ...]
    order: float | None
    expected_order: int | None
    versions: dict[str, str]


def class_changes(judge: Judge, base: np.ndarray, outputs: np.ndarray) -> tuple[ClassChange, ...]:
    """The changes between two outputs, among the answers that count."""
    before, after = (judge.classes(o).ravel() for o in (base, outputs))
    changed = np.flatnonzero((before != after) & (judge.counts.ravel() > 0))
    pairs = np.stack([before[changed], after[changed]], axis=-1)
    found, kinds, counts = np.unique(pairs, axis=0, return_inverse=True, return_counts=True)
    labels = judge.labels.ravel()
    changes = []
    for kind in np.argsort(-counts, kind="stable")[:_MAX_CHANGES]:
        answers = changed[kinds.ravel() == kind]
        changes.append(
            ClassChange(
                before=int(found[kind, 0]),
                after=int(found[kind, 1]),
                count=len(answers),
                lost=int((before[answers] == labels[answers]).sum()),
                gained=int((after[answers] == labels[answers]).sum()),
                samples=tuple(_samples(judge, answers)[:_MAX_EXAMPLES].tolist()),
            )
        )
    return tuple(changes)


def nearest_samples(
    judge: Judge, base: np.ndarray, others: Mapping[int, np.ndarray]
) -> tuple[NearSample, ...]:
    """The samples that come nearest to a change of class, without changing.

    Args:
        judge: `Judge`.
        base: NumPy array, the outputs under the training solver.
        others: Dictionary from rows to the outputs under better solvers.
    """
    if not others:
        return ()
    classes = judge.classes(base)
    keeps = (classes >= 0) & (judge.counts > 0)
    for outputs in others.values():
        keeps &= judge.classes(outputs) == classes
    kept = np.flatnonzero(keeps)
    margins = _leads(judge, base, classes)[kept].min(axis=-1)
    least = np.full(len(kept), np.inf)
    rows, rivals = np.zeros((2, len(kept)), int)
    for row, outputs in others.items():
        leads = _leads(judge, outputs, classes)[kept]
        lower = leads.min(axis=-1) < least
        least[lower], rows[lower] = leads.min(axis=-1)[lower], row
        rivals[lower] = leads.argmin(axis=-1)[lower]
    # The leads are those over the other classes alone.
    own = classes.ravel()[kept]
    rivals += rivals >= own
    # Of a tie nothing is left.
    shares = np.divide(least, margins, out=np.zeros_like(least), where=margins > 0)
    first = np.argsort(shares, kind="stable")[:_MAX_NEAREST]
    columns = (_samples(judge, kept), own, rivals, margins, least, rows)
    return tuple(NearSample(*values) for values in zip(*(c[first].tolist() for c in columns)))


def _leads(judge: Judge, outputs: np.ndarray, classes: np.ndarray) -> np.ndarray:
    # Differences of values that are not finite, of which none is kept.
    with np.errstate(invalid="ignore"):
        leads = judge.leads(outputs, classes)
    return leads.reshape(-1, leads.shape[-1])


def _samples(judge: Judge, answers: np.ndarray) -> np.ndarray:
    """The samples that answers belong to; those of a sequence, or of several labels, share one."""
    return answers // (judge.counts.size // len(judge.counts))
