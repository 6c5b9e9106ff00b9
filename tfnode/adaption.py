"""The decisions of step adaption, without a backend: numbers in, numbers out.

Two rules. `StepRule` with `next_step` is algorithm 1 of Ott, Katiyar, Hennig, Tiemann, "When are
Neural ODE Solutions Proper ODEs?", with the constants of the authors' experiments. `DampedRule`
with `next_state` is ours, and does not oscillate. `tfnode.callbacks` measures, asks here, and acts.
"""

import dataclasses
import math

import numpy as np

from tfnode.solvers import RK4, FixedStepSolver, Midpoint


@dataclasses.dataclass(frozen=True)
class StepRule:
    """When to halve and when to grow the step size.

    A gap between the accuracies of the training solver and of a better one means that the model
    has grown together with its solver, and the step shrinks. Otherwise the step grows a little,
    if the training solver at the grown step still agrees with the better one.

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

    def __post_init__(self):
        _check(self, "threshold", "in [0, 1)", 0 <= self.threshold < 1)
        _check_factors(self)

    def exceeded(self, accuracy, reference_accuracy):
        """Whether the two accuracies are further apart than the threshold."""
        return abs(accuracy - reference_accuracy) > self.threshold

    def propose(self, step_size, train_accuracy, reference_accuracy):
        """Returns the step size to try next: smaller after a gap, else larger; within the caps."""
        if self.exceeded(train_accuracy, reference_accuracy):
            return max(self.shrink * step_size, min(self.min_step_size, step_size))
        return min(self.growth * step_size, self.max_step_size)


def _check(rule, name, bound, holds):
    if not holds:
        default = type(rule).__dataclass_fields__[name].default
        raise ValueError(
            f"`{name}` must be {bound}. Received: {name}={getattr(rule, name)!r}. "
            f"The default is {name}={default}."
        )


def _check_factors(rule):
    """What the rules share: the factors, and the floor and the cap of the step size."""
    _check(rule, "shrink", "in (0, 1)", 0 < rule.shrink < 1)
    _check(rule, "growth", "above 1 and finite", 1 < rule.growth < math.inf)
    fits = 0 < rule.min_step_size <= rule.max_step_size < math.inf
    _check(rule, "min_step_size", f"in (0, max_step_size = {rule.max_step_size}]", fits)


def _is_count(value):
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def next_step(rule, step_size, train_accuracy, reference_accuracy, accuracy_at):
    """Returns the next step size and the action that led to it.

    Args:
        rule: `StepRule`.
        step_size: Float, the present step size.
        train_accuracy: Float, the accuracy on one batch with the training solver.
        reference_accuracy: Float, the same with the better solver.
        accuracy_at: Callable that measures the training solver's accuracy at another step size;
            called once, and only before a growth.

    Returns:
        Tuple of the step size and `"shrink"`, `"grow"` or `"keep"`.
    """
    proposed = rule.propose(step_size, train_accuracy, reference_accuracy)
    if proposed < step_size:
        return proposed, "shrink"
    if proposed == step_size or rule.exceeded(accuracy_at(proposed), reference_accuracy):
        return step_size, "keep"
    return proposed, "grow"


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
        _check(self, "high", "in (0, 1)", 0 < self.high < 1)
        _check(self, "low", f"in (0, high = {self.high})", 0 < self.low < self.high)
        _check(self, "patience", "an integer from 1 up", _is_count(self.patience))
        _check(
            self,
            "memory",
            f"an integer from patience = {self.patience} up",
            _is_count(self.memory) and self.memory >= self.patience,
        )
        _check_factors(self)

    @property
    def target(self):
        """The change that a new step size aims at."""
        return math.sqrt(self.low * self.high)

    def num_steps(self, step_size):
        """Integer, the steps that a step size stands for."""
        return max(1, round(self.max_step_size / step_size))

    def snapped(self, step_size):
        """The largest step size up to the given one that is the interval over an integer."""
        # Protected against rounding: a third of the interval is 3 steps, not 4.
        return self.max_step_size / max(1, math.ceil(self.max_step_size / step_size - 1e-6))

    def finer(self, solver, change):
        """Returns the number of steps to take after a failure."""
        factor = max(self.shrink, (self.target / change) ** (1 / solver.order))
        num_steps = self.num_steps(solver.step_size)
        finest = math.floor(self.max_step_size / self.min_step_size * (1 + 1e-6))
        return max(num_steps, min(math.ceil(num_steps / factor), finest))

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
        failures: Integer, the successive checks that failed.
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

    After a failure the step shrinks. If the check behind it fails again, the method gives way to
    one of higher order with as many evaluations: at equal cost it closes a gap that the old one
    leaves open. After a calm time a longer step is tried, on the batch of the check first.

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
        return dataclasses.replace(state, failures=0, calm=0), "keep"
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
    calm = dataclasses.replace(state, failures=0, calm=state.calm + 1)
    coarser = rule.coarser(solver, change)
    failed_before = coarser <= state.failed_num_steps
    if coarser == num_steps or calm.calm < (rule.memory if failed_before else rule.patience):
        return calm, "keep"
    longer = solver.with_step_size(rule.max_step_size / coarser)
    if not change_at(longer.step_size) <= rule.target:
        failed = max(coarser, state.failed_num_steps)
        return dataclasses.replace(calm, calm=0, failed_num_steps=failed), "keep"
    return DampedState(longer, failed_num_steps=state.failed_num_steps), "grow"


def reference_solver(solver, length=1.0):
    """Returns the better solver that a check compares `solver` with.

    With the relative step `r = h / length`, the authors' code pairs a method of order 1 with the
    midpoint method at `r` if `1/r > 50`, else at `sqrt(r / 50)`; order 2 with RK4 at `r` if
    `1/r^2 > 50`, else at `(r^2 / 50)^(1/4)`. From order 3 on the method is paired with itself at
    half the step.

    Args:
        solver: A fixed-step solver.
        length: Float, the length of the interval.
    """
    r, p = solver.step_size / length, solver.order
    if p >= 3:
        return solver.with_step_size(solver.step_size / 2)
    reference_r = r if r**-p > 50 else (r**p / 50) ** (1 / (2 * p))
    return (Midpoint if p == 1 else RK4)(length * reference_r)


def initial_step_size(field, t0, z0, order, length, direction=1.0):
    """Returns the starting step size of Hairer et al., *Solving ODEs I*, p. 169.

    The book's norm of one state is here the mean of the Euclidean norms over the batch.

    Args:
        field: Callable `field(t, z)` from NumPy arrays to a NumPy array.
        t0: Float, the time of the state.
        z0: NumPy array of shape `(batch_size, ...)`, the state.
        order: Integer, the order of the solver.
        length: Float, the length of the interval, which caps the step.
        direction: 1.0 or -1.0, the direction of integration.
    """
    z0 = np.asarray(z0, "float64")
    f0 = np.asarray(field(t0, z0), "float64")
    d0, d1 = _mean_norm(z0), _mean_norm(f0)
    h0 = 1e-6 if min(d0, d1) < 1e-5 else 0.01 * d0 / d1
    f1 = np.asarray(field(t0 + direction * h0, z0 + direction * h0 * f0), "float64")
    d2 = _mean_norm(f1 - f0) / h0
    if max(d1, d2) <= 1e-15:
        h1 = max(1e-6, 1e-3 * h0)
    else:
        h1 = (0.01 / max(d1, d2)) ** (1 / (order + 1))
    return float(min(100 * h0, h1, length))


def _mean_norm(z):
    return np.linalg.norm(z.reshape(len(z), -1), axis=1).mean()
