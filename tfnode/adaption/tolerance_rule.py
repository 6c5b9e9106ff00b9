"""The rule of the paper's authors for the tolerance of an adaptive solver."""

import dataclasses
import math
from collections.abc import Sequence

from tfnode.adaption.checks import check_factors, check_number, disagrees, is_gap
from tfnode.adaption.measurement import Measurement
from tfnode.adaption.rule import Decision
from tfnode.adaption.start import tighter_solver
from tfnode.solvers import AdaptiveSolver, check_solver


@dataclasses.dataclass(frozen=True)
class ToleranceRule:
    """When to tighten and when to loosen the tolerance, which is both `rtol` and `atol`.

    It decides as `StepRule` does for a step size, but for one thing: where the evaluations of the
    latest training iterations are all the same, the tolerance does not bind the solver, and a
    looser one is not tried.

    The paper shows that a tolerance binds a model (supplement B.6), and leaves an algorithm that
    adapts it to future work (section 6). This is the rule of the code that its authors published
    with the later version, "ResNet After All? Neural ODEs and Their Numerical Solution" (ICLR 2021,
    arXiv 2007.15386).

    The rule remembers nothing. For its methods see `Rule`.

    Examples:

    >>> rule = ToleranceRule()
    >>> measurement = tfnode.adaption.Measurement(0.9, 0.7, change=0.3, measure=None)
    >>> decision = rule.decide(tfnode.solvers.Fehlberg21(1e-3, 1e-3), (), measurement)
    >>> decision.action, decision.solver.rtol, decision.solver.atol
    ('shrink', 0.0005, 0.0005)

    Args:
        threshold: Float, the largest accepted gap between the accuracies.
        shrink: Float in (0, 1), the factor after a larger gap.
        growth: Float above 1, the factor otherwise.
        min_tolerance: Float, the floor.
        max_tolerance: Float, the cap.

    Raises:
        ValueError: If an argument lies outside its range.
    """

    threshold: float = 0.1
    shrink: float = 0.5
    growth: float = 1.1
    min_tolerance: float = 1e-6
    max_tolerance: float = 1.0

    def __post_init__(self) -> None:
        check_number(self, "threshold", 0, 1, "[)")
        check_factors(self, "tolerance")

    def first_memory(self) -> tuple[float, ...]:
        return ()

    def within(self, low: float, high: float) -> "ToleranceRule":
        return dataclasses.replace(self, min_tolerance=low, max_tolerance=high)

    def start(self, solver: AdaptiveSolver) -> AdaptiveSolver:
        """Returns the solver with `rtol`, clipped to the floor and the cap, as both tolerances."""
        check_solver(solver, AdaptiveSolver)
        tolerance = min(max(solver.rtol, self.min_tolerance), self.max_tolerance)
        return solver.with_tolerance(tolerance)

    def methods(self, solver: AdaptiveSolver) -> tuple[type[AdaptiveSolver], ...]:
        check_solver(solver, AdaptiveSolver)
        return (type(solver),)

    def reference(self, solver: AdaptiveSolver, length: float) -> AdaptiveSolver:
        """Returns the better solver of `tighter_solver`, its tolerances at the floor at least."""
        tighter = tighter_solver(solver)
        rtol, atol = (max(value, self.min_tolerance) for value in (tighter.rtol, tighter.atol))
        return dataclasses.replace(tighter, rtol=rtol, atol=atol)

    def decide(
        self,
        solver: AdaptiveSolver,
        memory: Sequence[float],
        measurement: Measurement[AdaptiveSolver],
    ) -> Decision[AdaptiveSolver]:
        tolerance = solver.rtol
        keep = Decision(solver, (), "keep")
        if math.isnan(tolerance) or math.isnan(solver.atol):
            return keep
        if disagrees(measurement, self.threshold):
            smaller = max(self.shrink * tolerance, min(self.min_tolerance, tolerance))
            if smaller == tolerance:
                return keep
            return Decision(solver.with_tolerance(smaller), (), "shrink")
        larger = min(self.growth * tolerance, self.max_tolerance)
        if larger <= tolerance or not _vary(measurement.recent_nfe):
            return keep
        looser = solver.with_tolerance(larger)
        if disagrees(measurement.measure(looser), self.threshold):
            return keep
        return Decision(looser, (), "grow")

    def exceeded(self, accuracy: float, reference_accuracy: float) -> bool:
        """Whether the two accuracies are further apart than the threshold."""
        return is_gap(abs(accuracy - reference_accuracy), self.threshold)


def _vary(evaluations: Sequence[float]) -> bool:
    """Whether not all are the same; NaN, which is never the same as itself, does not vary."""
    return len({number for number in evaluations if not math.isnan(number)}) > 1
