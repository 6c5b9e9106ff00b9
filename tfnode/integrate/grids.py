"""Where the steps are: a `Grid` of fixed steps, or of those that an error estimate accepted.

Every time and step is a scalar for the batch, or a vector with one number for each sample. A
sample that arrives before others takes steps of length 0.
"""

import dataclasses
from typing import Any

import keras
import numpy as np
from keras import ops

from tfnode.integrate.doubles import cast, ceil, larger, smaller


@dataclasses.dataclass(frozen=True)
class Grid:
    """The steps of an integration: arrays of which the first `num_steps` rows are in use.

    Args:
        starts: Tensor of shape `(max_num_steps,)` or `(max_num_steps, batch_size)`, the times at
            which the steps start.
        steps: Tensor of the same shape, the signed lengths of the steps.
        num_steps: int32 scalar tensor or integer.
        stops: int32 tensor of shape `(num_times,)` or `(num_times, batch_size)`, the number of
            steps before each of the times that the grid leads through.
        has_gradient: Boolean, whether the grid is differentiated by these times.
    """

    starts: Any
    steps: Any
    num_steps: Any
    stops: Any
    has_gradient: bool = False


def fixed_grid(
    t0: Any, times: Any, step_size: Any, max_num_steps: int, time_dependent: bool = False
) -> Grid:
    """The grid that steps from `t0` through `times` and lands on each of them.

    Every stretch between two times takes `N = ceil(length / step_size)` steps, the last of which
    may be shorter. Rounding must not add a step: the interval 1 at step size 1/10 takes 10 steps,
    not 11. Steps are multiples of the step size, not a running sum, and are counted from the start
    of their stretch, so that rounding neither compounds nor grows with the distance from 0. A step
    size that is negative, NaN, or too small for `max_num_steps` becomes the finest one: a compiled
    graph cannot raise, and the finest step is the safe side. Where the times are no tuple, and are
    not finite, ask for more steps than there may be, or for such as a time-dependent field would
    not see, the steps are NaN.

    Args:
        t0: Float, or tensor of shape `()` or `(batch_size,)`.
        times: Tuple of floats, or array or tensor of shape `(num_times,)` or
            `(num_times, batch_size)`, which increase or decrease from `t0` on.
        step_size: Scalar tensor, or a NumPy scalar for a grid of NumPy arrays.
        max_num_steps: Integer, the static bound on the number of steps that XLA asks of a loop.
            Every further time adds one to it.
        time_dependent: Boolean, whether the steps must move the times that a field is given.
    """
    xp = np if isinstance(step_size, np.generic) else ops
    dtype = keras.backend.standardize_dtype(step_size.dtype)
    has_gradient, are_of_a_call = not are_known(t0, times), not isinstance(times, tuple)
    t0, times, lengths = _stretches(t0, times, dtype, xp)
    signs = xp.sign(lengths)
    h, counts, is_fine = _paces(lengths, step_size, max_num_steps, xp)
    ends = cast(xp.cumsum(counts, axis=0), "int32")
    k = np.arange(max_num_steps + lengths.shape[0] - 1, dtype="int32")
    k = k.reshape(-1, *(1 for _ in lengths.shape[1:]))
    k = k if xp is np else ops.convert_to_tensor(k)
    pick = _Picker(xp, k, ends, lengths.shape[0])
    index = k - pick(ends - counts)
    offset = pick(signs) * (cast(index, dtype) * h)
    step = xp.where(index == pick(counts) - 1, pick(lengths) - offset, pick(signs) * h)
    is_used = k < ends[-1]
    starts = xp.where(is_used, pick(xp.concatenate([t0[None], times[:-1]])) + offset, times[-1])
    steps = xp.where(is_used, step, xp.zeros_like(step))
    if are_of_a_call:
        # A graph cannot refuse them.
        if time_dependent:
            way = xp.sum(xp.abs(lengths), axis=0)
            moves_times = smaller(h, way) >= smallest_step(t0, times[-1], dtype)
            is_fine = ops.logical_and(is_fine, ops.logical_or(moves_times, way == 0))
        steps = ops.where(is_fine, steps, float("nan"))
    num_steps = xp.max(ends[-1])
    return Grid(starts, steps, int(num_steps) if xp is np else num_steps, ends, has_gradient)


def num_fixed_steps(
    t0: float, times: tuple[float, ...], step_size: np.generic, max_num_steps: int
) -> int:
    """The number of steps of a `fixed_grid` of NumPy arrays, without the arrays."""
    lengths = _stretches(t0, times, step_size.dtype.name, np)[2]
    return int(_paces(lengths, step_size, max_num_steps, np)[1].sum())


def _paces(lengths: Any, step_size: Any, max_num_steps: int, xp: Any) -> tuple:
    """The step size that is taken, the steps of every stretch, and whether there may be as many."""
    info = np.finfo(keras.backend.standardize_dtype(step_size.dtype))
    # A step longer than the way is one step. Not an infinite one: 0 times that is not a number.
    largest = float(info.max)
    step_size = xp.where(step_size > largest, largest, step_size)
    distances = xp.abs(lengths)
    finest = xp.max(xp.sum(distances, axis=0)) / max_num_steps
    h = xp.where(step_size > finest, step_size, finest)
    rounding = 8 * float(info.eps)
    # A stretch of length 0 takes no step, every other one at least one.
    counts = ceil(distances / h * (1 - rounding))
    counts = xp.where(distances == 0, 0, xp.maximum(counts, 1))
    is_fine = xp.logical_and(xp.isfinite(finest), step_size >= finest * (1 - rounding))
    return h, counts, is_fine


def epsilon(dtype: Any) -> float:
    """The spacing of a dtype's numbers at 1."""
    return float(np.finfo(keras.backend.standardize_dtype(dtype)).eps)


def smallest_step(t0: Any, t1: Any, dtype: Any) -> Any:
    """The step below which rounding eats what a step adds to a time."""
    if isinstance(t0, float) and isinstance(t1, float):
        return 10 * epsilon(dtype) * max(abs(t0), abs(t1))
    t0, t1 = (ops.abs(ops.convert_to_tensor(t, dtype=dtype)) for t in (t0, t1))
    return 10 * epsilon(dtype) * larger(t0, t1)


def are_known(*times: Any) -> bool:
    """Whether times are numbers, and not tensors, which may have a gradient."""
    return all(isinstance(t, (float, tuple, np.ndarray)) for t in times)


def distances(t0: Any, times: Any, dtype: str) -> Any:
    """How far the times lie from `t0`, with a sign; rounded times may not tell.

    Args:
        t0: Float, or tensor of shape `()` or `(batch_size,)`.
        times: Floats, or tensor of shape `(num_times,)` or `(num_times, batch_size)`.
        dtype: String, that of the result.
    """
    if are_known(t0, times):
        return ops.convert_to_tensor((np.asarray(times, "float64") - t0).astype(dtype))
    given = keras.backend.standardize_dtype(times.dtype)
    if given not in ("float32", "float64"):
        times, given = ops.cast(times, dtype), dtype
    # What a float has that their dtype has not is taken off by itself.
    rest = t0 - float(np.dtype(given).type(t0)) if isinstance(t0, float) else 0.0
    return ops.cast((times - ops.convert_to_tensor(t0, dtype=given)) - rest, dtype)


def _stretches(t0: Any, times: Any, dtype: str, xp: Any) -> tuple:
    """`t0`, the times, and the lengths between them."""
    if are_known(t0, times):
        # From double precision.
        times = np.asarray(times, "float64")
        t0 = np.broadcast_to(np.float64(t0), times.shape[1:])
        lengths = np.diff(np.concatenate([t0[None], times]), axis=0)
        arrays = [a.astype(dtype) for a in (t0, times, lengths)]
        return tuple(arrays if xp is np else map(ops.convert_to_tensor, arrays))
    between = ops.cast(times[1:] - times[:-1], dtype)
    lengths = ops.concatenate([distances(t0, times[:1], dtype), between])
    times = ops.convert_to_tensor(times, dtype=dtype)
    t0 = ops.broadcast_to(ops.convert_to_tensor(t0, dtype=dtype), ops.shape(times)[1:])
    return t0, times, lengths


class _Picker:
    """Picks for each step the value of the stretch that it lies in."""

    def __init__(self, xp: Any, k: np.ndarray, ends: Any, num_times: int) -> None:
        self._xp = xp
        self._num_times = num_times
        if num_times > 1:
            behind = cast(k >= ends[:-1][:, None], "int32")
            self._stretch = cast(xp.sum(behind, axis=0), "int32")

    def __call__(self, values: Any) -> Any:
        if self._num_times == 1:
            return values
        if len(values.shape) == 1:
            return self._xp.take(values, self._stretch, axis=0)
        return self._xp.take_along_axis(values, self._stretch, axis=0)


def accepted_grid(offsets: Any, steps: Any, num_steps: Any, t0: Any, times: Any) -> Grid:
    """The grid of the steps that an adaptive integration through `times` accepted.

    Its gradient holds the steps fixed, but for their ends at `t0` and `times`.

    Args:
        offsets: Tensor of shape `(max_num_steps,)` or `(max_num_steps, batch_size)`, how far from
            `t0` the steps start, unsigned; in rows that are not in use the distance of the last
            time.
        steps: Tensor of the same shape, the signed lengths, 0 in rows that are not in use.
        num_steps: int32 scalar tensor.
        t0: Float, or tensor of shape `()` or `(batch_size,)`.
        times: Floats, or tensor of shape `(num_times,)` or `(num_times, batch_size)`.
    """
    offsets, steps = ops.stop_gradient(offsets), ops.stop_gradient(steps)
    dtype, has_gradient = keras.backend.standardize_dtype(offsets.dtype), not are_known(t0, times)
    reached = ops.stop_gradient(distances(t0, times, dtype))
    t0, times, _ = _stretches(t0, times, dtype, ops)
    if len(offsets.shape) > len(times.shape):
        # Samples with steps of their own, on the way to the same times.
        t0, times, reached = t0[None], times[:, None], reached[:, None]
    is_step = ops.not_equal(steps, 0)
    # A step that starts before a time also ends before it, or there.
    is_before = ops.logical_and(is_step, offsets < ops.abs(reached)[:, None])
    stops = ops.sum(ops.cast(is_before, "int32"), axis=1)
    sign = ops.sign(reached[-1])
    starts = ops.where(is_step, ops.stop_gradient(t0) + sign * offsets, times[-1])
    starts = ops.stop_gradient(starts)
    if has_gradient:
        starts, steps = _with_moving_ends(starts, steps, is_step, t0, times, stops)
    return Grid(starts, steps, num_steps, stops, has_gradient)


def _with_moving_ends(
    starts: Any, steps: Any, is_step: Any, t0: Any, times: Any, stops: Any
) -> tuple:
    """The same steps, which move with the times that they start from or land on."""
    k = ops.arange(starts.shape[0], dtype="int32")
    k = ops.reshape(k, (-1, *(1 for _ in starts.shape[1:])))
    times = ops.concatenate([t0[None], times])
    stops = ops.concatenate([ops.zeros_like(stops[:1]), stops])
    moves = (times - ops.stop_gradient(times))[:, None]
    moves_at = lambda k: ops.sum(ops.where(k == stops[:, None], moves, 0.0), axis=0)
    starts_move = moves_at(k)
    return starts + starts_move, steps + ops.where(is_step, moves_at(k + 1) - starts_move, 0.0)
