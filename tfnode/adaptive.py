"""What an adaptive integration is: its problem, its norm, its first step, its result, its failure.

Written on `keras.ops`. An integration gives the solution and the grid of the accepted steps; a
gradient is that of the discrete solution on this grid (`tfnode.integrate`), which holds it fixed.
"""

import dataclasses
from typing import Any

import keras
import numpy as np
from keras import ops

from tfnode.integrate import AcceptedGrid


@dataclasses.dataclass(frozen=True)
class Statistics:
    """What an adaptive integration cost.

    Args:
        evaluations: Integer, calls of the vector field on the batch: those for the first step and
            of rejected steps included, and where the accepted steps are taken once more, in
            training or for full double precision, those of this replay.
        accepted: Integer, accepted steps; with steps per sample the sum over the samples.
        rejected: Integer, rejected steps, likewise.
    """

    evaluations: int
    accepted: int
    rejected: int


@dataclasses.dataclass(frozen=True)
class Solution:
    """The result of an adaptive integration; see `check`.

    Args:
        z1: Tensor, the state at `t1`, of no meaning if the integration failed. None if only the
            steps were asked for.
        grid: `AcceptedGrid`. None if the integration has a gradient of its own.
        statistics: int32 tensor of shape `(3,)`, the fields of `Statistics`.
        failed: Boolean scalar tensor.
        time: Scalar tensor, where the integration ended.
        step: Scalar tensor, the last step size.
    """

    z1: Any
    grid: AcceptedGrid | None
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
        name: String, whose problem it is, for errors.
    """

    field: Any
    t0: float
    t1: float
    rtol: Any
    atol: Any
    solver: Any
    name: str

    @property
    def length(self):
        return abs(self.t1 - self.t0)

    @property
    def sign(self):
        return 1.0 if self.t1 > self.t0 else -1.0

    @property
    def smallest_step(self):
        return smallest_step(self.t0, self.t1, self.rtol.dtype)

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


def smallest_step(t0, t1, dtype):
    """The step below which rounding eats what a step adds to a time."""
    eps = float(np.finfo(keras.backend.standardize_dtype(dtype)).eps)
    return 10 * eps * max(abs(t0), abs(t1))


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
    h = ops.minimum(ops.minimum(100 * h0, h1), problem.length)
    # In single precision 1e-6 may be no step at all. A step that is NaN stays it.
    h = ops.where(h < problem.smallest_step, problem.smallest_step, h)
    return f0, ops.cast(h, dtype)


def check(solution, problem, equation=""):
    """Returns whether the integration failed, or its solution is not finite; raises if so.

    In a TensorFlow graph the error comes when it runs, as an `InvalidArgumentError`. Where
    assertions are dropped (XLA) there is only the return value.

    Args:
        solution: `Solution`.
        problem: `Problem`.
        equation: String, what was integrated if not the problem itself.

    Raises:
        FloatingPointError: If the state was not finite, the step collapsed or the budget is spent.
    """
    rule = "An adaptive integration must stay finite and end within its budget of steps."
    advice = (
        "Look for NaN in the inputs and weights, or try a larger tolerance, a larger "
        "`max_num_steps`, a field with bounded derivatives (such as a tanh), or a smaller learning "
        "rate."
    )
    solver = f"solver={type(problem.solver).__name__} in block {problem.name!r}{equation}"
    static = f"{solver}, max_num_steps={problem.solver.max_num_steps}"
    values = {
        "time": solution.time,
        "step": solution.step,
        "rtol": problem.rtol,
        "atol": problem.atol,
        "evaluations": solution.statistics[0],
    }
    failed = solution.failed
    if solution.z1 is not None:
        # The accepted steps, taken once more, may touch where the field is not finite.
        failed = ops.logical_or(failed, ops.logical_not(ops.all(ops.isfinite(solution.z1))))
    if _in_tensorflow_graph():
        import tensorflow as tf

        data = [rule, f"Received: {static},"]
        for name, value in values.items():
            data += [f"{name}=", value]
        with tf.control_dependencies([tf.debugging.Assert(~failed, [*data, advice])]):
            return tf.identity(failed)
    if bool(failed):
        numbers = ", ".join(f"{name}={float(value):.6g}" for name, value in values.items())
        raise FloatingPointError(f"{rule} Received: {static}, {numbers}. {advice}")
    return failed


def _in_tensorflow_graph():
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return not tf.executing_eagerly()
