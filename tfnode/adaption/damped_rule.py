"""Our rule for the step size and the method, which does not oscillate."""

import dataclasses
import math

from tfnode.adaption.checks import check, check_factors, is_count
from tfnode.solvers import RK4, FixedStepSolver, Midpoint

# A step size may be single precision: its rounding must not add a step, nor take one.
_ROUNDING = 1e-6


@dataclasses.dataclass(frozen=True)
class DampedRule:
    """When to change the step size, and when the method, by a continuous signal with hysteresis.

    The signal is the *change*: how far the outputs under a better solver lie from those under the
    training solver, in [0, 1] (for a classifier the mean total variation distance of the class
    probabilities, about the fraction of samples whose class may change). A check fails above
    `high`, is calm below `low`, and in between, where the step is right, nothing moves.

    The change behaves as `h^p` with the order p of the method (Hairer et al., *Solving ODEs I*,
    section II.4), so it tells by how much to move: to where `sqrt(low * high)` is expected, the
    middle of the band. Step sizes are the interval over an integer, so that no cost is wasted on a
    last, shorter step.

    Args:
        low: Float, the change below which a check is calm.
        high: Float, the change above which a check fails.
        patience: Integer, the successive calm checks before the step grows.
        memory: Integer, the successive calm checks before it grows to where it failed before.
        shrink: Float in (0, 1), the smallest factor after a failure.
        growth: Float above 1, the largest factor otherwise.
        min_step_size: Float, the floor.
        max_step_size: Float, the cap, the length of the interval.

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

    def __post_init__(self):
        check(self, "high", "in (0, 1)", 0 < self.high < 1)
        check(self, "low", f"in (0, high = {self.high})", 0 < self.low < self.high)
        check(self, "patience", "an integer from 1 up", is_count(self.patience))
        check(
            self,
            "memory",
            f"an integer from patience = {self.patience} up",
            is_count(self.memory) and self.memory >= self.patience,
        )
        check_factors(self, "step_size")

    @property
    def target(self):
        """The change that a new step size aims at."""
        return math.sqrt(self.low * self.high)

    @property
    def finest(self):
        """Integer, the most steps: those of the floor."""
        return math.floor(self.max_step_size / self.min_step_size * (1 + _ROUNDING))

    def num_steps(self, step_size):
        """Integer, the steps that a step size takes, the last of them maybe shorter."""
        return max(1, math.ceil(self.max_step_size / step_size * (1 - _ROUNDING)))

    def snapped(self, step_size):
        """The largest step size up to the given one that is the interval over an integer.

        At the floor, where that may lie below, it is the smallest one above.
        """
        num_steps = self.num_steps(step_size)
        if step_size >= self.min_step_size:
            num_steps = min(num_steps, self.finest)
        return self.max_step_size / num_steps

    def finer(self, solver, change):
        """Returns the number of steps to take after a failure."""
        factor = max(self.shrink, (self.target / change) ** (1 / solver.order))
        num_steps = self.num_steps(solver.step_size)
        return max(num_steps, min(math.ceil(num_steps / factor), self.finest))

    def coarser(self, solver, change):
        """Returns the number of steps to try after a calm time."""
        factor = self.growth
        if change > 0:
            factor = min(factor, (self.target / change) ** (1 / solver.order))
        num_steps = self.num_steps(solver.step_size)
        # The factor alone could never leave a small number of steps.
        return max(1, min(math.ceil(num_steps / factor), num_steps - 1))


@dataclasses.dataclass(frozen=True)
class DampedState:
    """What the damped rule remembers from one check to the next.

    Args:
        solver: The fixed-step solver to train with.
        failures: Integer, the checks that this method has failed.
        calm: Integer, the successive checks that were calm.
        failed_num_steps: Integer, the most steps at which this method failed; 0 for none.
    """

    solver: FixedStepSolver
    failures: int = 0
    calm: int = 0
    failed_num_steps: int = 0


# The method of the next higher order, by the present order.
_BETTER = {1: Midpoint, 2: RK4, 3: RK4}


def next_state(rule, state, change, change_at):
    """Returns the state after a check of the damped rule, and the action that led to it.

    The first time that a method fails its step shrinks. If it fails again, a smaller step was no
    lasting answer, and it gives way to a method of higher order with as many evaluations: at equal
    cost that closes a gap which the old one leaves open. The last of them, RK4, can only shrink.
    After a calm time a longer step is tried, on the batch of the check first.

    Args:
        rule: `DampedRule`.
        state: `DampedState`.
        change: Float, the change of the outputs between the training solver and the better one.
        change_at: Callable that measures the change at another step size of the training solver;
            called at most once, and only before a growth.

    Returns:
        Tuple of the next `DampedState` and `"shrink"`, `"climb"` (to the better method), `"grow"`
        or `"keep"`.
    """
    # Not `change > high`: a change that is NaN is a failure.
    if not change <= rule.high:
        return _after_failure(rule, state, change)
    if change >= rule.low:
        return dataclasses.replace(state, calm=0), "keep"
    return _after_calm(rule, state, change, change_at)


def _after_failure(rule, state, change):
    solver, num_steps = state.solver, rule.num_steps(state.solver.step_size)
    better = _BETTER.get(solver.order)
    if state.failures and better:
        evaluations = num_steps * solver.tableau.num_stages
        num_steps = math.ceil(evaluations / better.tableau.num_stages)
        return DampedState(better(rule.max_step_size / num_steps)), "climb"
    finer = rule.finer(solver, change)
    state = DampedState(
        solver.with_step_size(rule.max_step_size / finer),
        failures=state.failures + 1,
        failed_num_steps=max(num_steps, state.failed_num_steps),
    )
    return state, "shrink" if finer > num_steps else "keep"


def _after_calm(rule, state, change, change_at):
    solver, num_steps = state.solver, rule.num_steps(state.solver.step_size)
    calm = dataclasses.replace(state, calm=state.calm + 1)
    coarser = rule.coarser(solver, change)
    failed_before = coarser <= state.failed_num_steps
    if coarser == num_steps or calm.calm < (rule.memory if failed_before else rule.patience):
        return calm, "keep"
    longer = solver.with_step_size(rule.max_step_size / coarser)
    if not change_at(longer.step_size) <= rule.target:
        failed = max(coarser, state.failed_num_steps)
        return dataclasses.replace(calm, calm=0, failed_num_steps=failed), "keep"
    return dataclasses.replace(state, solver=longer, calm=0), "grow"
