"""Where the paths that a solver takes through the plane cross each other."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self

import keras
import numpy as np
from keras import ops

from tfnode import arguments, solvers
from tfnode.keras_internals import mask_of, masked
from tfnode.layers import ODEBlock
from tfnode.models import Reached, reached_blocks
from tfnode.typing import Nested
from tfnode.validity.results import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Pairs of segments that are compared at once: some tens of megabytes.
_PAIRS = 1_000_000

# The chords that stand for the curve of a step, where it is no chord itself. Odd, so that curves
# that mirror each other do not meet where two of them join.
_PIECES = 45


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Crossings(Result):
    """Crossings of the solver's paths.

    Args:
        count: Integer, the number of crossings.
        num_segments: Integer, steps times trajectories.
        fraction: Float, the fraction of the trajectories that cross another or themselves.
        points: NumPy array `(count, 2)`, the places where they cross.
        steps: NumPy array `(count, 2)`, the k and k' of the definition.
        samples: NumPy array `(count, 2)`, the n and n'.
        states: NumPy array `(num_steps + 1, num_samples, 2)`, where the steps start and end.
        curves: NumPy array `(pieces * num_steps + 1, num_samples, 2)`, the paths: the states, with
            those at the fractions of each step that were looked at.
    """

    count: int
    num_segments: int
    fraction: float
    points: np.ndarray
    steps: np.ndarray
    samples: np.ndarray
    states: np.ndarray
    curves: np.ndarray

    @classmethod
    def _from_plain(cls, content: dict[str, Any]) -> Self:
        found = super()._from_plain(content)
        # Nothing but the number of its items is left of an empty array.
        pairs = lambda values, dtype: np.reshape(values, (-1, 2)).astype(dtype)
        return dataclasses.replace(
            found,
            points=pairs(found.points, float),
            steps=pairs(found.steps, int),
            samples=pairs(found.samples, int),
        )

    def plot(self, classes: Sequence[int] | None = None, title: str | None = None) -> "Figure":
        """The paths with their crossings marked, as in figure 1 (a, b) of the paper.

        Args:
            classes: Optional integers, one for each path, to colour them by.
            title: Optional string.

        Returns:
            A `matplotlib.figure.Figure`.
        """
        # Here, so that matplotlib is loaded only by those who draw.
        from tfnode import plots

        return plots.crossings(self, classes, title)


def crossings(model: keras.Model, x: Nested) -> Crossings:
    """Finds the crossings of a model's trajectories in the plane.

    "If the trajectories found by the ODE solver are supposed to approximate the true solutions to
    the ODE, then the trajectories should not cross" (section 4 of the paper), where crossing is

        exists tau, tau' in (0, 1), n, n', k, k':
        Psi_{tau h}(z_{n,k}) = Psi_{tau' h}(z_{n',k'}),
        z_{n,k} != z_{n',k'},  z_{n,k+1} != z_{n',k'+1}.

    `Psi_{tau h}(z)` is one step of the solver over the fraction tau of its length h: for Euler's
    method a straight line, for every other method a curve, which is followed by 45 chords. As the
    field is autonomous, any two different steps may cross, at different times and also within one
    trajectory. Exactly what counts:

    - Two steps cross if their curves have a point in common that is an end of neither, and neither
      their starts nor their ends are equal. Touching an end is not a crossing. Two steps that meet
      in several points cross once.
    - Parallel chords on one line share a whole stretch or nothing. In *opposite* directions it
      counts, with its middle as the point: no field points both ways. In the *same* direction it
      does not, although it does by the letter of the definition: two samples on one orbit run along
      it at different times, in a proper ODE too.
    - Points are equal, chords parallel and tau at an end of (0, 1) if they are so up to rounding:
      within four spacings of the states' dtype at the largest coordinate. Steps shorter than that
      do not count, nor does a point where two chords of one curve join.

    Even an ODE's paths may cross as a solver finds them, where its orbits lie closer than its
    error, or than the sagitta of a chord. Five models of 256 steps of Euler's method on the
    energy landscape had from 0 to 280 crossings among 30 trajectories. With many samples, look
    at the fraction.

    Examples:

    Under the field `-3 z`, one Euler step of 2/3 takes every state through 0 to its opposite:

    >>> block = tfnode.ODEBlock(keras.layers.Rescaling(-3.0), tfnode.solvers.Euler(2 / 3), t1=2 / 3)
    >>> model = keras.Sequential([keras.Input((2,)), block])
    >>> found = crossings(model, np.array([[1.0, 0.0], [0.0, 1.0]]))
    >>> found.count, found.points.round(6).tolist()
    (1, [[0.0, 0.0]])

    Args:
        model: Any Keras model with exactly one `ODEBlock`, or an `ODEBlock`,
            whose state has two dimensions.
        x: Array `(num_samples, ...)`, inputs of the model.

    Returns:
        `Crossings`.

    Raises:
        ValueError: If the model does not have exactly one `ODEBlock`, if its field depends on
            time, if it is called with times of its own, or if its state is not two-dimensional or
            not finite.
    """
    states, curves = _paths(model, x)
    num_steps, num_samples = states.shape[0] - 1, states.shape[1]
    found, points = step_crossings(curves, (len(curves) - 1) // num_steps)
    # Steps are numbered along time first.
    steps, samples = np.divmod(found, num_samples)
    return Crossings(
        count=len(points),
        num_segments=num_steps * num_samples,
        fraction=len(np.unique(samples)) / num_samples,
        points=points,
        steps=steps,
        samples=samples,
        states=states,
        curves=curves,
    )


def _paths(model: keras.Model, x: Nested) -> tuple[np.ndarray, np.ndarray]:
    """The states at the ends of the steps, and those with the fractions of the steps between."""
    arguments.model(model)
    x = arguments.tensors("x", x, advice="Pass inputs of the model, (num_samples, ...).")
    reached = reached_blocks(model, x)
    is_one = len(reached) == 1 and reached[0].calls == 1 and not reached[0].has_times
    if not is_one or reached[0].block.time_dependent:
        raise ValueError(
            "Crossings are defined for one ODE on the interval of its block, whose field does not "
            f"depend on time. Received: model={model.name!r} with the blocks "
            f"{[_described(found) for found in reached]}. Pass a single block and its input states."
        )
    block, (inputs,) = reached[0].block, reached[0].inputs
    times, states = map(ops.convert_to_numpy, block.trajectory(*inputs))
    if states.ndim != 3 or states.shape[-1] != 2:
        raise ValueError(
            "Only in the plane are paths unable to pass around each other. "
            f"Received: states of shape {states.shape[1:]} in block {block.name!r}. Crossings "
            "need states of shape (num_samples, 2)."
        )
    curves = _followed(block, times, states, *inputs)
    if not np.isfinite(curves).all():
        raise ValueError(
            "Paths must be finite to cross or not to cross. "
            f"Received: {int((~np.isfinite(curves)).any(axis=(0, 2)).sum())} samples whose states "
            f"are not finite in block {block.name!r}. Look for NaN in the inputs and weights, or "
            "take a smaller step."
        )
    return states, curves


def _followed(
    block: ODEBlock, times: np.ndarray, states: np.ndarray, start: Any, conditions: Nested
) -> np.ndarray:
    """The states at fractions of every step: one step each, over the fraction of its length."""
    tableau = block.solver.tableau
    if tableau.num_stages == 1:
        return states
    steps = np.diff(times.astype("float64"))
    num_steps, num_samples = states.shape[0] - 1, states.shape[1]
    # All steps are one batch, as the field knows no time.
    starts = masked(states[:-1].reshape(-1, 2), mask_of(_repeated(start, num_steps)))
    lengths = np.repeat(steps, num_samples)
    if conditions is not None:
        conditions = keras.tree.map_structure(lambda c: _repeated(c, num_steps), conditions)
    single = block.with_solver(solvers.RungeKutta(float(np.abs(steps).max()), tableau))
    within = [
        ops.convert_to_numpy(single(starts, conditions, t1=block.t0 + lengths * i / _PIECES))
        for i in range(1, _PIECES)
    ]
    points = np.stack([starts, *within]).reshape(_PIECES, num_steps, num_samples, 2)
    path = points.transpose(1, 0, 2, 3).reshape(-1, num_samples, 2)
    return np.concatenate([path, states[-1:]])


def _repeated(tensor: Any, count: int) -> Any:
    """A tensor and its mask, that many times one behind the other."""
    many = lambda x: ops.concatenate([x] * count)
    mask = mask_of(tensor)
    return masked(many(tensor), None if mask is None else many(mask))


def _described(found: Reached) -> tuple[str, ...]:
    block = found.block
    return (
        block.name,
        f"calls={found.calls}",
        f"time_dependent={block.time_dependent}",
        f"times of its calls={found.has_times}",
    )


def step_crossings(curves: np.ndarray, pieces: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """The pairs of steps of some paths that cross, in the sense of `crossings`.

    Args:
        curves: NumPy array `(pieces * num_steps + 1, num_samples, 2)`, the points that the chords
            of the paths join.
        pieces: Integer, the chords of a step.

    Returns:
        Tuple of the pairs, `(count, 2)`, where step k of sample n is number `k * num_samples + n`,
        and of the points, `(count, 2)`, in float64.
    """
    rounding = 4 * np.finfo(curves.dtype).eps * np.abs(curves).max(initial=0.0)
    curves = curves.astype("float64")
    starts, ends = curves[:-1].reshape(-1, 2), curves[1:].reshape(-1, 2)
    chord, sample = np.divmod(np.arange(len(starts)), curves.shape[1])
    step = chord // pieces * curves.shape[1] + sample
    first, last = curves[:-1:pieces].reshape(-1, 2), curves[pieces::pieces].reshape(-1, 2)
    # NaN compares false: a path that is no longer finite crosses nothing.
    used = np.flatnonzero(np.abs(ends - starts).max(axis=1) > rounding)
    starts, ends, step = starts[used], ends[used], step[used]
    low, high = np.minimum(starts, ends) - rounding, np.maximum(starts, ends) + rounding
    pairs, points = [np.empty((0, 2), int)], [np.empty((0, 2))]
    for i, j in _overlapping_boxes(low, high):
        # Also apart from itself.
        apart = [np.abs(p[step[i]] - p[step[j]]).max(axis=1) > rounding for p in (first, last)]
        i, j = i[np.logical_and(*apart)], j[np.logical_and(*apart)]
        crossing, point = _intersect(starts[i], ends[i], starts[j], ends[j], rounding)
        pairs.append(np.sort(step[np.stack([i[crossing], j[crossing]], axis=1)], axis=1))
        points.append(point)
    found, one = np.unique(np.concatenate(pairs), axis=0, return_index=True)
    return found, np.concatenate(points)[one]


def _overlapping_boxes(
    low: np.ndarray, high: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields index arrays of the pairs of boxes that overlap, each pair once.

    Boxes are sorted along the axis on which fewer overlap, so that a box's partners there are the
    run that follows it; runs are cut into pieces of bounded size and compared on the other axis.
    """
    sorts = [_sort(low[:, axis], high[:, axis]) for axis in (0, 1)]
    axis = int(np.argmin([counts.sum() for _, counts in sorts]))
    order, counts = sorts[axis]
    low, high = low[order, 1 - axis], high[order, 1 - axis]
    ends = np.cumsum(counts)
    for first in range(0, int(ends[-1]) if len(ends) else 0, _PAIRS):
        pair = np.arange(first, min(first + _PAIRS, ends[-1]))
        i = np.searchsorted(ends, pair, side="right")
        j = i + 1 + pair - (ends[i] - counts[i])
        both = (low[i] <= high[j]) & (low[j] <= high[i])
        yield order[i[both]], order[j[both]]


def _sort(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The order of intervals by their lower ends, and the number of partners after each."""
    order = np.argsort(low, kind="stable")
    last = np.searchsorted(low[order], high[order], side="right")
    return order, last - np.arange(len(low)) - 1


def _intersect(
    a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray, rounding: float
) -> tuple[np.ndarray, np.ndarray]:
    """Which segments ab and cd cross, and the points where they do."""
    u, v, w = b - a, d - c, c - a
    lengths = np.stack([np.linalg.norm(u, axis=1), np.linalg.norm(v, axis=1)])
    cross = _cross(u, v)
    # The shorter segment does not leave the direction of the longer one by more than rounding.
    parallel = np.abs(cross) <= rounding * lengths.max(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        taus = np.stack([_cross(w, v) / cross, _cross(w, u) / cross])
    margins = rounding / lengths
    inside = ((taus > margins) & (taus < 1 - margins)).all(axis=0)
    opposite, middles = _opposite(a, u, w, v, lengths[0], rounding)
    crossing = np.where(parallel, opposite, inside)
    points = np.where(parallel[:, None], middles, a + taus[0][:, None] * u)
    return crossing, points[crossing]


def _opposite(
    a: np.ndarray,
    u: np.ndarray,
    w: np.ndarray,
    v: np.ndarray,
    length: np.ndarray,
    rounding: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Which parallel segments overlap in opposite directions, and the middles of the overlaps.

    Args:
        a: Start of the first segment, of direction `u`.
        w: Start of the second minus `a`, of direction `v`.
        length: The length of `u`.
    """
    direction = u / length[:, None]
    start, move = (w * direction).sum(axis=1), (v * direction).sum(axis=1)
    low, high = np.maximum(start + move, 0), np.minimum(start, length)
    # The direction is known up to rounding over the segment's own length.
    on_line = np.abs(_cross(direction, w)) <= rounding * (1 + np.abs(start) / length)
    opposite = on_line & (move < 0) & (high - low > rounding)
    return opposite, a + ((low + high) / 2)[:, None] * direction


def _cross(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]
