"""Where step adaption starts, and what it compares with."""

from collections.abc import Callable

import numpy as np

from tfnode import arguments
from tfnode.solvers import (
    RK4,
    AdaptiveSolver,
    DormandPrince,
    FixedStepSolver,
    Midpoint,
    check_solver,
)


def reference_solver(solver: FixedStepSolver, length: float = 1.0) -> FixedStepSolver:
    """Returns the better solver that a check compares `solver` with.

    With the relative step `r = h / length`, the authors' code pairs a method of order 1 with the
    midpoint method at `r` if `1/r > 50`, else at `sqrt(r / 50)`; order 2 with RK4 at `r` if
    `1/r^2 > 50`, else at `(r^2 / 50)^(1/4)`. From order 3 on the method is paired with itself at
    half the step.

    Args:
        solver: A fixed-step solver.
        length: Float, the length of the interval.

    Raises:
        ValueError: If an argument is not as described.
    """
    check_solver(solver, FixedStepSolver)
    length = _checked_length(length)
    r, p = solver.step_size / length, solver.order
    if p >= 3:
        return solver.with_step_size(solver.step_size / 2)
    reference_r = r if r**-p > 50 else (r**p / 50) ** (1 / (2 * p))
    return (Midpoint if p == 1 else RK4)(length * reference_r)


def tighter_solver(solver: AdaptiveSolver) -> AdaptiveSolver:
    """Returns the better solver that a check compares an adaptive `solver` with.

    The authors' experiments pair Fehlberg's method with Dormand-Prince at a fifth of the
    tolerance, and Dormand-Prince with itself at a tenth. Every pair of order below 5 is treated
    like Fehlberg's.

    Args:
        solver: An adaptive solver.

    Raises:
        ValueError: If an argument is not as described.
    """
    check_solver(solver, AdaptiveSolver)
    if isinstance(solver, DormandPrince):
        return solver.scaled(1 / 10)
    return DormandPrince(**solver.get_config()).scaled(1 / 5)


def initial_step_size(
    field: Callable[[float, np.ndarray], np.ndarray],
    t0: float,
    z0: np.ndarray,
    order: int,
    length: float,
    direction: float = 1.0,
) -> float:
    """Returns the starting step size of Hairer et al., *Solving ODEs I*, p. 169.

    The book's norm of one state is here the mean of the Euclidean norms over the batch. Where the
    field is not a number, neither is the step size.

    Args:
        field: Callable `field(t, z)` from NumPy arrays to a NumPy array.
        t0: Float, the time of the state.
        z0: NumPy array of shape `(batch_size, ...)`, the state.
        order: Integer, the order of the solver.
        length: Float, the length of the interval, which caps the step.
        direction: 1.0 or -1.0, the direction of integration.

    Raises:
        ValueError: If an argument is not as described.
    """
    arguments.function("field", field, advice="Pass one of a time and a state.")
    t0 = arguments.number("t0", t0, advice="Pass the time of the state.")
    z0 = arguments.reals("z0", z0, is_finite=False, advice="Pass states (batch_size, ...).")
    if not z0.ndim or not z0.size:
        rule = "`z0` must have at least one sample"
        raise arguments.refused(rule, "z0", z0, "Pass states (batch_size, ...).")
    order = arguments.count("order", order, advice="Pass `solver.order`.")
    length = _checked_length(length)
    advice = "Pass 1.0 or -1.0, the sign of t1 - t0."
    if abs(arguments.number("direction", direction, advice=advice)) != 1:
        raise arguments.refused("A direction is a sign", "direction", direction, advice)
    f0 = np.asarray(field(t0, z0), "float64")
    d0, d1 = _mean_norm(z0), _mean_norm(f0)
    h0 = 1e-6 if min(d0, d1) < 1e-5 else 0.01 * d0 / d1
    f1 = np.asarray(field(t0 + direction * h0, z0 + direction * h0 * f0), "float64")
    d2 = _mean_norm(f1 - f0) / h0
    # Not `max` and `min`, which pass over what is not a number.
    d = float(np.maximum(d1, d2))
    h1 = max(1e-6, 1e-3 * h0) if d <= 1e-15 else (0.01 / d) ** (1 / (order + 1))
    return float(np.min([100 * h0, h1, length]))


def _checked_length(length: float) -> float:
    return arguments.number("length", length, 0, advice="Pass that of the interval, |t1 - t0|.")


def _mean_norm(z: np.ndarray) -> float:
    return float(np.linalg.norm(z.reshape(len(z), -1), axis=1).mean())
