"""The decisions of step adaption, without a backend: numbers in, numbers out.

Algorithm 1 of Ott, Katiyar, Hennig, Tiemann, "When are Neural ODE Solutions Proper ODEs?", with
the constants of the authors' experiments. `tfnode.callbacks` measures, asks here, and acts.
"""

import dataclasses

import numpy as np

from tfnode.solvers import RK4, Midpoint


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
        _check(self, "shrink", "in (0, 1)", 0 < self.shrink < 1)
        _check(self, "growth", "above 1 and finite", 1 < self.growth < float("inf"))
        fits = 0 < self.min_step_size <= self.max_step_size < float("inf")
        _check(self, "min_step_size", f"in (0, max_step_size = {self.max_step_size}]", fits)

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
        raise ValueError(
            f"`{name}` must be {bound}. Received: {name}={getattr(rule, name)!r}. "
            "The paper uses threshold=0.1, shrink=0.5, growth=1.1."
        )


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
