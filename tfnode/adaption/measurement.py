"""What a rule is told at a check."""

import dataclasses
from collections.abc import Callable
from typing import Generic, TypeVar

from tfnode.solvers import AdaptiveSolver, FixedStepSolver

# The kind of solver that a rule adapts.
SolverT = TypeVar("SolverT", bound=FixedStepSolver | AdaptiveSolver)


@dataclasses.dataclass(frozen=True)
class Measurement(Generic[SolverT]):
    """How a model does under its training solver and under a better one, on one batch.

    Args:
        accuracy: Float, the accuracy with the training solver; None in regression.
        reference_accuracy: Float, the accuracy with the better solver; None in regression.
        change: Float, how far the outputs under the two solvers lie apart. For a classifier it is
            the mean total variation distance of the class probabilities, in [0, 1], in regression
            the root mean square of the change over the spread of the outputs.
        measure: Callable that takes the training solver with another setting and returns its
            `Measurement` on the same batch, against the same reference. It costs a forward pass,
            so a rule calls it at most once, and only before a growth.
        recent_nfe: Tuple of the evaluations of the latest training iterations. It is empty where
            they are not counted, as with a fixed step.
    """

    accuracy: float | None
    reference_accuracy: float | None
    change: float
    measure: Callable[[SolverT], "Measurement[SolverT]"]
    recent_nfe: tuple[float, ...] = ()

    @property
    def gap(self) -> float:
        """Float, how far the two accuracies are apart, NaN if one of them is; where there are
        none, the change."""
        if self.accuracy is None or self.reference_accuracy is None:
            return self.change
        return abs(self.accuracy - self.reference_accuracy)
