"""Our rule for the step size and the method, which does not oscillate."""

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

from tfnode.adaption.checks import check_count, check_factors, check_number
from tfnode.adaption.measurement import Measurement
from tfnode.adaption.rule import Decision
from tfnode.adaption.start import reference_solver
from tfnode.solvers import RK4, FixedStepSolver, Midpoint, check_solver

# A step size may be single precision: its rounding must not add a step, nor take one.
_ROUNDING = 1e-6
# The method of the next higher order, by the present order.
_BETTER: dict[int, type[FixedStepSolver]] = {1: Midpoint, 2: RK4, 3: RK4}


class DampedMemory(NamedTuple):
    """What the damped rule remembers from one check to the next.

    Args:
        failures: Integer, the checks that this method has failed.
        calm: Integer, the successive checks that were calm.
        failed_num_steps: Integer, the most steps at which this method failed; 0 for none.
    """

    failures: int = 0
    calm: int = 0
    failed_num_steps: int = 0


@dataclasses.dataclass(frozen=True)
class DampedRule:
    """When to change the step size, and when the method, by a continuous signal with hysteresis.

    The signal is the *change*: how far the outputs under a better solver lie from those under the
    training solver, in [0, 1] (for a classifier the mean total variation distance of the class
    probabilities, about the fraction of samples whose class may change). A check fails above
    `high`, is calm below `low`, and in between, where the step is right, nothing moves.

    The first time that a method fails its step shrinks. If it fails again, a smaller step was no
    lasting answer, and it gives way to a method of higher order with as many evaluations: at equal
    cost that closes a gap which the old one leaves open. The last of them, RK4, can only shrink.
    After a calm time a longer step is tried, on the batch of the check first.

    The change behaves as `h^p` with the order p of the method (Hairer et al., *Solving ODEs I*,
    section II.4), so it tells by how much to move: to where `sqrt(low * high)` is expected, the
    middle of the band. Step sizes are the cap over an integer, which is the interval, or the
    longest way between two of its times: no cost is wasted on a last, shorter step.

    A change that is not a number is a failure; after an accuracy that is not one, nothing grows.
    The rule remembers a `DampedMemory`. For its methods see `Rule`.

    Examples:

    >>> rule = DampedRule()
    >>> measurement = tfnode.adaption.Measurement(0.9, 0.9, change=0.02, measure=None)
    >>> first = rule.decide(tfnode.solvers.Euler(1 / 8), rule.first_memory(), measurement)
    >>> first.solver, first.action
    (Euler(step_size=0.0625), 'shrink')
    >>> first.memory
    DampedMemory(failures=1, calm=0, failed_num_steps=8)
    >>> rule.decide(first.solver, first.memory, measurement).solver
    Midpoint(step_size=0.125)

    Args:
        low: Float, the change below which a check is calm.
        high: Float, the change above which a check fails.
        patience: Integer, the successive calm checks before the step grows.
        memory: Integer, the successive calm checks before it grows to where it failed before.
        shrink: Float in (0, 1), the smallest factor after a failure.
        growth: Float above 1, the largest factor otherwise; but one step fewer is always tried.
        min_step_size: Float, the floor.
        max_step_size: Float, the cap, the longest step that is taken.

    Raises:
        ValueError: If an argument lies outside its range.
    """

    low: float = 0.003
    high: float = 0.01
    patience: int = 4
    memory: int = 40
    shrink: float = 0.5
    growth: float = 1.25
    min_step_size: float = 1 / 500
    max_step_size: float = 1.0

    def __post_init__(self) -> None:
        check_number(self, "high", 0, 1)
        check_number(self, "low", 0, self.high)
        check_count(self, "patience")
        check_count(self, "memory", self.patience)
        check_factors(self, "step_size")

    def first_memory(self) -> DampedMemory:
        return DampedMemory()

    def within(self, low: float, high: float) -> "DampedRule":
        return dataclasses.replace(self, min_step_size=low, max_step_size=high)

    def start(self, solver: FixedStepSolver) -> FixedStepSolver:
        """Returns the solver with its step size `snapped` to the cap over an integer."""
        check_solver(solver, FixedStepSolver)
        return solver.with_step_size(self.snapped(solver.step_size))

    def methods(self, solver: FixedStepSolver) -> tuple[type[FixedStepSolver], ...]:
        """Returns the class of the solver and those that it can climb to."""
        check_solver(solver, FixedStepSolver)
        found, better = [type(solver)], _BETTER.get(solver.order)
        while better:
            found.append(better)
            better = _BETTER.get(better.tableau.order)
        return tuple(found)

    def reference(self, solver: FixedStepSolver, length: float) -> FixedStepSolver:
        return reference_solver(solver, length)

    def decide(
        self,
        solver: FixedStepSolver,
        memory: Sequence[float],
        measurement: Measurement[FixedStepSolver],
    ) -> Decision[FixedStepSolver]:
        memory = _remembered(memory)
        if math.isnan(solver.step_size):
            return Decision(solver, memory, "keep")
        # Not `change > high`: a change that is NaN is a failure.
        if not measurement.change <= self.high:
            return self._after_failure(solver, memory, measurement.change)
        if measurement.change >= self.low or math.isnan(measurement.gap):
            return Decision(solver, memory._replace(calm=0), "keep")
        return self._after_calm(solver, memory, measurement)

    @property
    def target(self) -> float:
        """The change that a new step size aims at."""
        return math.sqrt(self.low * self.high)

    @property
    def finest(self) -> int:
        """Integer, the most steps: those of the floor."""
        return math.floor(self.max_step_size / self.min_step_size * (1 + _ROUNDING))

    def num_steps(self, step_size: float) -> int:
        """Integer, the steps that a step size takes, the last of them maybe shorter."""
        return max(1, math.ceil(self.max_step_size / step_size * (1 - _ROUNDING)))

    def snapped(self, step_size: float) -> float:
        """The largest step size up to the given one that is the interval over an integer.

        At the floor, where that may lie below, it is the smallest one above.
        """
        num_steps = self.num_steps(step_size)
        if step_size >= self.min_step_size:
            num_steps = min(num_steps, self.finest)
        return self.max_step_size / num_steps

    def finer(self, solver: FixedStepSolver, change: float) -> int:
        """Returns the number of steps to take after a failure."""
        factor = max(self.shrink, (self.target / change) ** (1 / solver.order))
        num_steps = self.num_steps(solver.step_size)
        return max(num_steps, min(math.ceil(num_steps / factor), self.finest))

    def coarser(self, solver: FixedStepSolver, change: float) -> int:
        """Returns the number of steps to try after a calm time."""
        factor = self.growth
        if change > 0:
            factor = min(factor, (self.target / change) ** (1 / solver.order))
        num_steps = self.num_steps(solver.step_size)
        # The factor alone could never leave a small number of steps.
        return max(1, min(math.ceil(num_steps / factor), num_steps - 1))

    def _after_failure(
        self, solver: FixedStepSolver, memory: DampedMemory, change: float
    ) -> Decision[FixedStepSolver]:
        num_steps = self.num_steps(solver.step_size)
        better = _BETTER.get(solver.order)
        if memory.failures and better:
            evaluations = num_steps * solver.tableau.num_stages
            fewer = math.ceil(evaluations / better.tableau.num_stages)
            # A method of many stages and a low order would not take fewer.
            fewer = min(fewer, max(num_steps, self.finest))
            return Decision(better(self.max_step_size / fewer), DampedMemory(), "climb")
        finer = self.finer(solver, change)
        memory = DampedMemory(
            failures=memory.failures + 1,
            failed_num_steps=max(num_steps, memory.failed_num_steps),
        )
        if finer == num_steps:
            return Decision(solver, memory, "keep")
        return Decision(solver.with_step_size(self.max_step_size / finer), memory, "shrink")

    def _after_calm(
        self,
        solver: FixedStepSolver,
        memory: DampedMemory,
        measurement: Measurement[FixedStepSolver],
    ) -> Decision[FixedStepSolver]:
        num_steps, calm = self.num_steps(solver.step_size), memory.calm + 1
        coarser = self.coarser(solver, measurement.change)
        failed_before = coarser <= memory.failed_num_steps
        if coarser == num_steps or calm < (self.memory if failed_before else self.patience):
            return Decision(solver, memory._replace(calm=calm), "keep")
        longer = solver.with_step_size(self.max_step_size / coarser)
        tried = measurement.measure(longer)
        if not tried.change <= self.target or math.isnan(tried.gap):
            failed = max(coarser, memory.failed_num_steps)
            return Decision(solver, memory._replace(calm=0, failed_num_steps=failed), "keep")
        return Decision(longer, memory._replace(calm=0), "grow")


def _remembered(memory: Sequence[float]) -> DampedMemory:
    """The memory of the rule, of whole numbers again where a weight made floats of them."""
    if len(memory) != len(DampedMemory._fields) or not all(map(math.isfinite, memory)):
        raise ValueError(
            f"`memory` must be the {len(DampedMemory._fields)} numbers of a `DampedMemory`. "
            f"Received: memory={memory!r}. Pass that of the last decision, or `first_memory()`."
        )
    return DampedMemory(*map(int, memory))
