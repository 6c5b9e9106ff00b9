"""The paper's rule for the step size (Ott et al., algorithm 1)."""

import dataclasses
import math
from collections.abc import Sequence

from tfnode.adaption.checks import check_factors, check_number, disagrees, is_gap
from tfnode.adaption.measurement import Measurement
from tfnode.adaption.rule import Decision
from tfnode.adaption.start import reference_solver
from tfnode.solvers import FixedStepSolver, check_solver


@dataclasses.dataclass(frozen=True)
class StepRule:
    """When to halve and when to grow the step size.

    A gap between the accuracies of the training solver and of a better one means that the model
    has grown together with its solver, and the step shrinks. Otherwise the step grows a little,
    if the training solver at the grown step still agrees with the better one. An accuracy or a
    change that is not a number is a gap.

    By the text of algorithm 1 the step grows wherever there is no gap. That the longer step is
    tried first, and the floor of 1/500 of the interval, come from the code that the authors
    published with the later version of the paper, "ResNet After All? Neural ODEs and Their
    Numerical Solution" (ICLR 2021, arXiv 2007.15386).

    The rule remembers nothing. For its methods see `Rule`.

    Examples:

    >>> rule = StepRule()
    >>> measurement = tfnode.adaption.Measurement(0.9, 0.7, change=0.3, measure=None)
    >>> rule.decide(tfnode.solvers.Euler(1 / 8), rule.first_memory(), measurement)
    Decision(solver=Euler(step_size=0.0625), memory=(), action='shrink')

    Args:
        threshold: Float, the largest accepted gap, as a fraction of the batch.
        shrink: Float in (0, 1), the factor after a gap that is too large.
        growth: Float above 1, the factor otherwise.
        min_step_size: Float, the floor.
        max_step_size: Float, the cap.

    Raises:
        ValueError: If an argument lies outside its range.
    """

    threshold: float = 0.1
    shrink: float = 0.5
    growth: float = 1.1
    min_step_size: float = 1 / 500
    max_step_size: float = 1.0

    def __post_init__(self) -> None:
        check_number(self, "threshold", 0, 1, "[)")
        check_factors(self, "step_size")

    def first_memory(self) -> tuple[float, ...]:
        return ()

    def within(self, low: float, high: float) -> "StepRule":
        return dataclasses.replace(self, min_step_size=low, max_step_size=high)

    def start(self, solver: FixedStepSolver) -> FixedStepSolver:
        """Returns the solver with its step size clipped to the floor and the cap."""
        check_solver(solver, FixedStepSolver)
        step_size = min(max(solver.step_size, self.min_step_size), self.max_step_size)
        return solver.with_step_size(step_size)

    def methods(self, solver: FixedStepSolver) -> tuple[type[FixedStepSolver], ...]:
        check_solver(solver, FixedStepSolver)
        return (type(solver),)

    def reference(self, solver: FixedStepSolver, length: float) -> FixedStepSolver:
        return reference_solver(solver, length)

    def decide(
        self,
        solver: FixedStepSolver,
        memory: Sequence[float],
        measurement: Measurement[FixedStepSolver],
    ) -> Decision[FixedStepSolver]:
        step_size = solver.step_size
        keep = Decision(solver, (), "keep")
        if math.isnan(step_size):
            return keep
        proposed = self._proposed(step_size, disagrees(measurement, self.threshold))
        if proposed == step_size:
            return keep
        other = solver.with_step_size(proposed)
        if proposed < step_size:
            return Decision(other, (), "shrink")
        if disagrees(measurement.measure(other), self.threshold):
            return keep
        return Decision(other, (), "grow")

    def exceeded(self, accuracy: float, reference_accuracy: float) -> bool:
        """Whether the two accuracies are further apart than the threshold."""
        return is_gap(abs(accuracy - reference_accuracy), self.threshold)

    def propose(self, step_size: float, train_accuracy: float, reference_accuracy: float) -> float:
        """Returns the step size to try next: smaller after a gap, else larger; within the caps."""
        return self._proposed(step_size, self.exceeded(train_accuracy, reference_accuracy))

    def _proposed(self, step_size: float, gap: bool) -> float:
        if gap:
            return max(self.shrink * step_size, min(self.min_step_size, step_size))
        return min(self.growth * step_size, self.max_step_size)
