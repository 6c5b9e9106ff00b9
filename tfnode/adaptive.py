"""Adaptive integration by embedded Runge-Kutta pairs: the loop, its controller, its failures.

Written on `keras.ops`. The loop gives the solution and the grid of the accepted steps; a gradient
is that of the discrete solution on this grid (`tfnode.integrate`), which holds the grid fixed.
"""

import dataclasses
from typing import Any

import keras
import numpy as np
from keras import ops

from tfnode.integrate import AcceptedGrid, runge_kutta_stages, weighted_sum

# The controller (Hairer et al., *Solving ODEs I*, eq. II.4.13).
SAFETY, MIN_FACTOR, MAX_FACTOR = 0.9, 0.2, 10.0

# A step within a hundredth of the end is stretched to it, so that no sliver is left.
_STRETCH = 1.01


@dataclasses.dataclass(frozen=True)
class Statistics:
    """What an adaptive integration cost.

    Args:
        evaluations: Integer, calls of the vector field on the batch: those for the first step and
            of rejected steps included, and in training those of the replay on the accepted grid.
        accepted: Integer, accepted steps; with steps per sample the sum over the samples.
        rejected: Integer, rejected steps, likewise.
    """

    evaluations: int
    accepted: int
    rejected: int


@dataclasses.dataclass(frozen=True)
class Solution:
    """The result of an adaptive integration.

    Args:
        z1: Tensor, the state at `t1`; all NaN if the integration failed.
        grid: `AcceptedGrid`.
        statistics: int32 tensor of shape `(3,)`, the fields of `Statistics`.
        failed: Boolean scalar tensor.
        time: Scalar tensor, where the integration ended.
        step: Scalar tensor, the last step size.
    """

    z1: Any
    grid: AcceptedGrid
    statistics: Any
    failed: Any
    time: Any
    step: Any


@dataclasses.dataclass(frozen=True)
class Problem:
    """What is integrated, and how accurately.

    Args:
        field: Callable `field(t, z)`.
        t0: Float.
        t1: Float; `t1 < t0` integrates backwards.
        rtol: Scalar tensor.
        atol: Scalar tensor.
        solver: `tfnode.solvers.AdaptiveSolver`, for its method and budget; its tolerances are not
            read.
    """

    field: Any
    t0: float
    t1: float
    rtol: Any
    atol: Any
    solver: Any

    @property
    def length(self):
        return abs(self.t1 - self.t0)

    @property
    def sign(self):
        return 1.0 if self.t1 > self.t0 else -1.0

    @property
    def smallest_step(self):
        """The step below which rounding eats what a step adds."""
        eps = float(np.finfo(keras.backend.standardize_dtype(self.rtol.dtype)).eps)
        return 10 * eps * max(abs(self.t0), abs(self.t1))

    def remaining(self, t):
        """The length of what is left of the interval."""
        return self.sign * (self.t1 - t)

    def spread(self, v, z, dtype=None):
        """A value for each sample, or for the batch, in a shape that multiplies the state."""
        v = ops.cast(v, dtype or z.dtype)
        return ops.reshape(v, (-1, *(1 for _ in z.shape[1:]))) if self.solver.per_sample else v

    def time(self, t, z):
        """A time as the field is given it: a scalar, or with steps per sample `(batch, 1, ...)`."""
        if self.solver.per_sample and len(t.shape) == 0:
            t = ops.broadcast_to(t, (ops.shape(z)[0],))
        return self.spread(t, z)

    def spread_grid(self, rows, z):
        """As `spread`, for rows of values."""
        shape = (self.solver.max_num_steps, -1, *(1 for _ in z.shape[1:]))
        return ops.reshape(rows, shape) if self.solver.per_sample else rows

    def is_finite(self, norm, z):
        """Whether an error and a state are finite, for each sample or for the batch."""
        axes = tuple(range(1, len(z.shape))) if self.solver.per_sample else None
        return ops.logical_and(ops.isfinite(norm), ops.all(ops.isfinite(z), axis=axes))

    def norm(self, error, *states):
        """The root mean square of an error over its tolerance (Hairer et al., eq. II.4.11).

        Args:
            error: Tensor in the shape of the state.
            states: One or two states, whose larger absolute value scales the relative tolerance.
        """
        size = ops.abs(states[0])
        for z in states[1:]:
            size = ops.maximum(size, ops.abs(z))
        scale = ops.cast(self.atol, error.dtype) + ops.cast(self.rtol, error.dtype) * size
        axes = tuple(range(1, len(error.shape))) if self.solver.per_sample else None
        return ops.sqrt(ops.mean(ops.square(error / scale), axis=axes))


def next_factor(norm, order):
    """The factor by which the step changes, `0.9 norm^(-1/order)`, within [0.2, 10].

    Args:
        norm: Tensor, the error over its tolerance; infinite for an error that is not finite.
        order: Integer, the order of the propagated solution, one more than that of the error
            estimate.
    """
    # A minimum of 1e-30 instead of 0: the power stays finite, and the factor is clipped anyway.
    factor = SAFETY * ops.power(ops.maximum(norm, 1e-30), -1.0 / order)
    return ops.clip(factor, MIN_FACTOR, MAX_FACTOR)


def first_step(problem, z0):
    """Returns the derivative at `t0` and the length of the first step, by two evaluations.

    Hairer et al., *Solving ODEs I*, p. 169, with norms relative to the tolerances.
    """
    dtype, order = problem.rtol.dtype, problem.solver.order
    t0 = ops.convert_to_tensor(problem.t0, dtype=dtype)
    f0 = problem.field(problem.time(t0, z0), z0)
    d0, d1 = problem.norm(z0, z0), problem.norm(f0, z0)
    small = ops.minimum(d0, d1) < 1e-5
    h0 = ops.where(small, 1e-6, 0.01 * d0 / ops.where(small, 1.0, d1))
    h0 = ops.minimum(h0, problem.length)
    dt = problem.spread(problem.sign * h0, z0)
    f1 = problem.field(problem.time(t0 + problem.sign * h0, z0), z0 + dt * f0)
    d = ops.maximum(d1, problem.norm(f1 - f0, z0) / h0)
    flat = d <= 1e-15
    h1 = ops.power(0.01 / ops.where(flat, 1.0, d), 1 / (order + 1))
    h1 = ops.where(flat, ops.maximum(1e-6, 1e-3 * h0), h1)
    return f0, ops.cast(ops.minimum(ops.minimum(100 * h0, h1), problem.length), dtype)


def solve(problem, z0):
    """Integrates a `Problem` by the embedded pair of its solver; returns the `Solution`.

    The better solution of the pair is propagated. A step whose error is not finite is rejected.

    Args:
        problem: `Problem`.
        z0: Tensor, the state at `t0`.
    """
    solver, dtype = problem.solver, problem.rtol.dtype
    reuses_last = _reuses_last_stage(solver.tableau)
    f, h = first_step(problem, z0)
    shape = (ops.shape(z0)[0],) if solver.per_sample else ()
    t = ops.full(shape, problem.t0, dtype=dtype)
    loop_vars = (
        ops.zeros((), "int32"),  # attempts
        t,
        h,
        z0,
        f,
        ops.zeros(shape, "bool"),  # the last attempt was rejected
        ops.zeros(shape, "int32"),  # accepted
        ops.zeros(shape, "int32"),  # rejected
        ops.zeros((solver.max_num_steps, *shape), dtype),  # starts of the accepted steps
        ops.zeros((solver.max_num_steps, *shape), dtype),  # their lengths
    )

    def more(attempts, t, h, *_):
        active = problem.remaining(t) > 0
        # Not `h < smallest`: a step that is NaN has collapsed, too.
        collapsed = ops.logical_and(active, ops.logical_not(h >= problem.smallest_step))
        going = ops.logical_and(ops.any(active), ops.logical_not(ops.any(collapsed)))
        return ops.logical_and(going, attempts < solver.max_num_steps)

    def attempt(attempts, t, h, z, f, was_rejected, accepted, rejected, times, steps):
        remaining = problem.remaining(t)
        active, last = remaining > 0, remaining <= _STRETCH * h
        signed = problem.sign * ops.where(last, ops.maximum(remaining, 0), h)
        dt, first = problem.spread(signed, z), f if reuses_last else None
        stages = runge_kutta_stages(problem.field, problem.time(t, z), z, dt, solver.tableau, first)
        z_new = z + dt * weighted_sum(solver.tableau.b, stages)
        norm = problem.norm(dt * weighted_sum(solver.tableau.b_error, stages), z, z_new)
        norm = ops.where(problem.is_finite(norm, z_new), norm, float("inf"))
        accept = ops.logical_and(norm <= 1, active)
        factor = next_factor(norm, solver.order)
        # No growth right after a rejection (Hairer et al., p. 168).
        factor = ops.where(ops.logical_or(was_rejected, norm > 1), ops.minimum(factor, 1), factor)
        times = _write(times, accepted, t)
        steps = _write(steps, accepted, ops.where(accept, signed, 0))
        spread_accept = problem.spread(accept, z, "bool")
        landed = ops.where(last, problem.t1, t + signed)
        return (
            attempts + 1,
            ops.where(accept, ops.cast(landed, dtype), t),
            ops.where(active, ops.cast(ops.abs(signed) * factor, dtype), h),
            ops.where(spread_accept, z_new, z),
            ops.where(spread_accept, stages[-1], f) if reuses_last else f,
            ops.logical_and(active, norm > 1),
            accepted + ops.cast(accept, "int32"),
            rejected + ops.cast(ops.logical_and(active, norm > 1), "int32"),
            times,
            steps,
        )

    attempts, t, h, z1, _, _, accepted, rejected, times, steps = ops.while_loop(
        more, attempt, loop_vars, maximum_iterations=solver.max_num_steps
    )
    per_attempt = solver.tableau.num_stages - int(reuses_last)
    active = problem.remaining(t) > 0
    # The sample that is furthest behind.
    worst = ops.argmax(ops.cast(active, "int32")) if solver.per_sample else None
    return Solution(
        z1=ops.where(ops.any(active), float("nan"), z1),
        grid=AcceptedGrid(
            # The gradient of a solution holds its steps fixed.
            ops.stop_gradient(problem.spread_grid(times, z0)),
            ops.stop_gradient(problem.spread_grid(steps, z0)),
            ops.max(accepted),
            solver.max_num_steps,
        ),
        statistics=ops.stack([2 + per_attempt * attempts, ops.sum(accepted), ops.sum(rejected)]),
        failed=ops.any(active),
        time=t if worst is None else ops.take(t, worst),
        step=h if worst is None else ops.take(h, worst),
    )


def _reuses_last_stage(tableau):
    """Whether the last stage is the derivative at the end of the step ("first same as last")."""
    return tableau.a[-1] == tableau.b[:-1] and tableau.b[-1] == 0


def _write(rows, index, values):
    """Writes `values` into `rows` at an index, or for each sample at its own."""
    if len(values.shape) == 0:
        return ops.scatter_update(rows, ops.reshape(index, (1, 1)), ops.reshape(values, (1,)))
    # A sample that has arrived may stand one behind the last row; what it writes is not read.
    index = ops.minimum(index, rows.shape[0] - 1)
    samples = ops.arange(ops.shape(index)[0], dtype="int32")
    return ops.scatter_update(rows, ops.stack([index, samples], axis=1), values)


def check(solution, problem, block_name):
    """Returns the state at `t1`, and raises if the integration failed.

    In a TensorFlow graph the error comes when it runs, as an `InvalidArgumentError`. Where
    assertions are dropped (XLA) the state is NaN.

    Raises:
        FloatingPointError: If the step collapsed or the budget is spent.
    """
    rule = "An adaptive integration must reach t1 within its budget of steps."
    advice = (
        "Try a larger tolerance, a larger `max_num_steps`, a field with bounded derivatives (such "
        "as a tanh), or a smaller learning rate."
    )
    static = f"solver={type(problem.solver).__name__} in block {block_name!r}"
    budget = f"max_num_steps={problem.solver.max_num_steps}"
    values = {
        "time": solution.time,
        "step": solution.step,
        "rtol": problem.rtol,
        "atol": problem.atol,
        "evaluations": solution.statistics[0],
    }
    if _in_tensorflow_graph():
        import tensorflow as tf

        data = [rule, f"Received: {static}, {budget},"]
        for name, value in values.items():
            data += [f"{name}=", value]
        with tf.control_dependencies([tf.debugging.Assert(~solution.failed, [*data, advice])]):
            return tf.identity(solution.z1)
    if bool(solution.failed):
        numbers = ", ".join(f"{name}={float(value):.6g}" for name, value in values.items())
        raise FloatingPointError(f"{rule} Received: {static}, {budget}, {numbers}. {advice}")
    return solution.z1


def _in_tensorflow_graph():
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return not tf.executing_eagerly()
