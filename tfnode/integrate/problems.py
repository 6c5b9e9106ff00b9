"""What an adaptive integration is: its problem, its norm, its first step and its result."""

import dataclasses
from typing import Any

import keras
from keras import ops

from tfnode.integrate.doubles import larger, smaller
from tfnode.integrate.failures import Failure
from tfnode.integrate.grids import Grid, are_known, distances, epsilon, smallest_step
from tfnode.integrate.runge_kutta import moved, spread, time_of
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
        time_dependent: Boolean, whether the field may depend on time.
    """

    field: Any
    t0: Any
    times: Any
    rtol: Any
    atol: Any
    solver: AdaptiveSolver
    name: str
    time_dependent: bool = True

    @property
    def ends(self) -> Any:
        """How far the times lie from `t0`, a tensor: a step is never told from rounded times."""
        return ops.abs(ops.stop_gradient(distances(self.t0, self.times, self._of_times)))

    @property
    def sign(self) -> Any:
        """The direction, with end times for each sample that of each."""
        if are_known(self.t0, self.times) and isinstance(self.times, tuple):
            return 1.0 if self.times[-1] > self.t0 else -1.0
        return ops.sign(ops.stop_gradient(distances(self.t0, self.times, self._of_times)[-1]))

    @property
    def length(self) -> Any:
        """The length of the whole way, with end times for each sample that of each."""
        if are_known(self.t0, self.times) and isinstance(self.times, tuple):
            return abs(self.times[-1] - self.t0)
        return self.ends[-1]

    @property
    def smallest_step(self) -> Any:
        """The step below which rounding eats what a step adds to the way, or to a time."""
        if self.time_dependent:
            return smallest_step(self.t0, self.times[-1], self._of_times)
        return 10 * epsilon(self._of_times) * self.length

    @property
    def has_tolerances(self) -> Any:
        """Whether the tolerances are positive and finite: a weight may hold anything."""
        positive = ops.logical_and(self.rtol > 0, self.atol > 0)
        return ops.logical_and(positive, ops.isfinite(self.rtol + self.atol))

    @property
    def solvable(self) -> "Problem":
        """The same problem, with tolerances with which a loop ends if there are none."""
        good = self.has_tolerances
        rtol, atol = (ops.where(good, v, ops.ones_like(v)) for v in (self.rtol, self.atol))
        return dataclasses.replace(self, rtol=rtol, atol=atol)

    @property
    def _of_times(self) -> str:
        return str(keras.backend.standardize_dtype(self.rtol.dtype))

    def derivative(self, offset: Any, z: Any) -> Any:
        """The field so far from `t0`, with a sign."""
        t0 = ops.convert_to_tensor(self.t0, dtype=self._of_times)
        return self.field(time_of(t0 + offset, z), z)

    def is_finite(self, norm: Any, z: Any) -> Any:
        """Whether an error and a state are finite, for each sample or for the batch."""
        finite = ops.isfinite(norm)
        for leaf in tree.flatten(z):
            of_leaf = ops.all(ops.isfinite(self._rows(leaf)), axis=-1)
            finite = ops.logical_and(finite, of_leaf)
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
            relative = self._rows(ops.square(e / scale))
            squares = squares + ops.sum(relative, axis=-1)
            count = count + ops.shape(relative)[-1]
        return ops.sqrt(squares / ops.cast(count, squares.dtype))

    def _rows(self, z: Any) -> Any:
        """The numbers of the batch as one row, or as a row for each sample."""
        return ops.reshape(z, (ops.shape(z)[0], -1) if self.solver.per_sample else (-1,))


def first_step(problem: Problem, z0: Any) -> tuple:
    """Returns the derivative at `t0` and the length of the first step, by two evaluations.

    Hairer et al., *Solving ODEs I*, p. 169, with norms relative to the tolerances. The book's step
    depends on the unit of time, and may be one at which no estimate of an error means anything.
    Here time is measured by the length of the way, and a derivative by how it changes the state
    in `d0 / d1` of it, in which it changes by its own size.
    """
    dtype, order, length = problem.rtol.dtype, problem.solver.order, problem.length
    offset = ops.zeros((), dtype)
    if problem.solver.per_sample:
        offset = ops.broadcast_to(offset, (ops.shape(tree.flatten(z0)[0])[0],))
    over_the_way = lambda f: tree.map_structure(lambda f: spread(length, f) * f, f)
    f0 = problem.derivative(offset, z0)
    d0, d1 = problem.norm(z0, z0), problem.norm(over_the_way(f0), z0)
    small = smaller(d0, d1) < 1e-5
    unit = smaller(1.0, ops.where(small, 1e-4, d0 / ops.where(small, 1.0, d1)))
    h0 = problem.sign * length * (0.01 * unit)
    f1 = problem.derivative(offset + h0, moved(z0, h0, (1.0,), [f0]))
    difference = over_the_way(tree.map_structure(lambda a, b: a - b, f1, f0))
    d = unit * larger(d1, 100 * problem.norm(difference, z0))
    flat = d <= 1e-15
    share = ops.where(flat, 1e-2, ops.power(0.01 / ops.where(flat, 1.0, d), 1 / (order + 1)))
    h = length * smaller(unit, unit * share)
    # In single precision this may be no step at all. A step that is NaN stays NaN.
    h = ops.where(h < problem.smallest_step, problem.smallest_step, h)
    return f0, ops.cast(h, dtype)
