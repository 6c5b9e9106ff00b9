"""What an adaptive integration is: its problem, its norm, its first step and its result."""

import dataclasses
from typing import Any

import keras
import numpy as np
from keras import ops

from tfnode.integrate.doubles import larger, smaller
from tfnode.integrate.failures import Failure
from tfnode.integrate.grids import Grid
from tfnode.integrate.runge_kutta import moved, time_of
from tfnode.solvers import AdaptiveSolver

tree = keras.tree


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
    """The result of an adaptive integration; see `tfnode.integrate.failures.check`.

    Args:
        z1: The state at the last time, which means nothing if the integration failed; or None
            if it was not asked for.
        grid: `Grid` of the accepted steps; None if the integration has a gradient of its own.
        statistics: int32 tensor of shape `(3,)`, the fields of `Statistics`.
        failure: `Failure`.
    """

    z1: Any
    grid: Grid | None
    statistics: Any
    failure: Failure


@dataclasses.dataclass(frozen=True)
class Problem:
    """What is integrated, and how accurately.

    Args:
        field: Callable `field(t, z)`; None until a forward pass puts its own there.
        t0: Float, or scalar tensor.
        times: Floats, or tensor of shape `(num_times,)`, with steps per sample also
            `(num_times, batch_size)`: times that increase or decrease from `t0` on, all of which a
            step lands on, and the last of which ends the integration.
        rtol: Scalar tensor.
        atol: Scalar tensor.
        solver: `tfnode.solvers.AdaptiveSolver`, for its method and budget; its tolerances are not
            read.
        name: String, whose problem it is, for errors.
    """

    field: Any
    t0: Any
    times: Any
    rtol: Any
    atol: Any
    solver: AdaptiveSolver
    name: str

    @property
    def ends(self) -> Any:
        """The times as a tensor."""
        return ops.convert_to_tensor(self.times, dtype=self.rtol.dtype)

    @property
    def sign(self) -> Any:
        if isinstance(self.t0, float) and isinstance(self.times, tuple):
            return 1.0 if self.times[-1] > self.t0 else -1.0
        return ops.sign(ops.sum(ops.stop_gradient(self.ends[-1] - self.t0)))

    @property
    def length(self) -> Any:
        """The length of the whole way, of the longest one with end times for each sample."""
        if isinstance(self.t0, float) and isinstance(self.times, tuple):
            return abs(self.times[-1] - self.t0)
        return ops.max(ops.abs(self.ends[-1] - self.t0))

    @property
    def smallest_step(self) -> Any:
        return smallest_step(self.t0, self.times[-1], self.rtol.dtype)

    def is_finite(self, norm: Any, z: Any) -> Any:
        """Whether an error and a state are finite, for each sample or for the batch."""
        finite = ops.isfinite(norm)
        for leaf in tree.flatten(z):
            axes = tuple(range(1, len(leaf.shape))) if self.solver.per_sample else None
            finite = ops.logical_and(finite, ops.all(ops.isfinite(leaf), axis=axes))
        return finite

    def norm(self, error: Any, *states: Any) -> Any:
        """The root mean square of an error over its tolerance (Hairer et al., eq. II.4.11).

        Args:
            error: The error, in the structure of the state.
            states: One or two states, whose larger absolute value scales the relative tolerance.
        """
        squares: Any = 0.0
        count: Any = 0
        for e, *zs in zip(*map(tree.flatten, (error, *states))):
            size = ops.abs(zs[0])
            for z in zs[1:]:
                size = larger(size, ops.abs(z))
            scale = ops.cast(self.atol, e.dtype) + ops.cast(self.rtol, e.dtype) * size
            axes = tuple(range(1, len(e.shape))) if self.solver.per_sample else None
            relative = ops.square(e / scale)
            squares = squares + ops.sum(relative, axis=axes)
            count = count + ops.size(relative[0] if self.solver.per_sample else relative)
        return ops.sqrt(squares / ops.cast(count, squares.dtype))


def smallest_step(t0: Any, t1: Any, dtype: Any) -> Any:
    """The step below which rounding eats what a step adds to a time."""
    eps = float(np.finfo(keras.backend.standardize_dtype(dtype)).eps)
    if isinstance(t0, float) and isinstance(t1, float):
        return 10 * eps * max(abs(t0), abs(t1))
    t0, t1 = (ops.abs(ops.convert_to_tensor(t, dtype=dtype)) for t in (t0, t1))
    return 10 * eps * ops.max(larger(t0, t1))


def first_step(problem: Problem, z0: Any) -> tuple:
    """Returns the derivative at `t0` and the length of the first step, by two evaluations.

    Hairer et al., *Solving ODEs I*, p. 169, with norms relative to the tolerances.
    """
    dtype, order = problem.rtol.dtype, problem.solver.order
    t0 = ops.convert_to_tensor(problem.t0, dtype=dtype)
    if problem.solver.per_sample:
        t0 = ops.broadcast_to(t0, (ops.shape(tree.flatten(z0)[0])[0],))
    f0 = problem.field(time_of(t0, z0), z0)
    d0, d1 = problem.norm(z0, z0), problem.norm(f0, z0)
    small = smaller(d0, d1) < 1e-5
    h0 = ops.where(small, 1e-6, 0.01 * d0 / ops.where(small, 1.0, d1))
    h0 = smaller(problem.length, h0)
    z1 = moved(z0, problem.sign * h0, (1.0,), [f0])
    f1 = problem.field(time_of(t0 + problem.sign * h0, z0), z1)
    difference = tree.map_structure(lambda a, b: a - b, f1, f0)
    d = larger(d1, problem.norm(difference, z0) / h0)
    flat = d <= 1e-15
    h1 = ops.power(0.01 / ops.where(flat, 1.0, d), 1 / (order + 1))
    h1 = ops.where(flat, larger(1e-6, 1e-3 * h0), h1)
    h = smaller(problem.length, smaller(100 * h0, h1))
    # In single precision 1e-6 may be no step at all. A step that is NaN stays NaN.
    h = ops.where(h < problem.smallest_step, problem.smallest_step, h)
    return f0, ops.cast(h, dtype)
