"""When a time series was observed, and the times at which a model of it is asked."""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from tfnode import arguments

# A time is one that is given if it lies behind it by no more than this part of the way from the
# time before: 3 * 0.1 is a rounding more than 0.3, and more than that in single precision.
_ROUNDING = 1e-3
_ADVICE = "Pass those of the observed states; for a field the first is that of the inputs."


@dataclasses.dataclass(frozen=True)
class Schedule:
    """When states were observed. A place is an index into the times, from that of the inputs on.

    Args:
        times: Tuple of floats, that of the inputs and those of the observed states behind it.
        num_before: Integer, 1 if the state of the inputs was observed too, else 0.
        every: Integer, the distance of the places that a model was trained with.
        last: Integer, the last place that it was trained with.
    """

    times: tuple[float, ...]
    num_before: int
    every: int
    last: int

    @classmethod
    def of(
        cls,
        t0: float | None,
        times: Any,
        saved: Any,
        every: int = 1,
        trained_until: float | None = None,
    ) -> "Schedule":
        """The schedule of times that a user gives, or of those that a block saves at.

        A field has no `t0`, which is then the first of the times.
        """
        known = checked_times(saved if times is None else times)
        start = float(known[0]) if t0 is None else t0
        num_before = int(known[0] == start)
        moves = np.diff([start, *known[num_before:]])
        if not moves.size or not _has_one_sign(moves):
            raise _refused(times)
        sign = 1 if moves[0] > 0 else -1
        end = saved[-1] if saved is not None else known[-1]
        end = end if trained_until is None else trained_until
        found = (start, *known[num_before:].tolist())
        ways = itertools.pairwise(found)
        last = sum(sign * (t - end) <= _ROUNDING * abs(t - before) for before, t in ways)
        if last < every:
            raise ValueError(
                "A model is judged at times that it was trained with. "
                f"Received: every={every} and trained_until={trained_until} with the times "
                f"{known.tolist()}. Pass some up to {end}, of which `every` leaves at least one."
            )
        schedule = cls(found, num_before, every, last)
        if saved is not None:
            schedule._check_saved([t for t in saved if t != start])
        return schedule

    def _check_saved(self, saved: Sequence[float]) -> None:
        """Raises if the times of the training are not those that a model saves at, up to the last.

        Its steps would be cut at other ones than in training.
        """
        places = [place for place in self.places(Fraction(1)) if place <= self.last]
        trained = self.at(places)
        ways = itertools.pairwise((self.times[0], *trained))
        are_near = (abs(s - t) <= _ROUNDING * abs(t - b) for s, (b, t) in zip(saved, ways))
        rest = saved[len(trained) :]
        end = abs(self.times[self.last] - self.times[0])
        is_behind = not rest or abs(rest[0] - self.times[0]) > end
        if len(saved) < len(trained) or not all(are_near) or not is_behind:
            raise ValueError(
                "The times that a model was trained with are those that its block saves at. "
                f"Received: every={self.every}, which leaves the times {list(trained)}, and a "
                f"model that saves at {list(saved)}. Pass the times of the observed states, of "
                "which every so many-th is one of these."
            )

    def places(self, factor: Fraction) -> tuple[Fraction, ...]:
        """Where a model is asked, at a multiple of its distance of places."""
        stride = self.every * factor
        return tuple(k * stride for k in range(1, math.floor((len(self.times) - 1) / stride) + 1))

    def at(self, places: Sequence[Fraction]) -> tuple[float, ...]:
        """The times of places, those between two of them in equal parts."""
        indices = [float(place) for place in places]
        return tuple(np.interp(indices, range(len(self.times)), self.times).tolist())

    def time_step(self, places: Sequence[Fraction]) -> float:
        """The mean distance of the times of places within the training."""
        inside = [place for place in places if place <= self.last]
        return abs(self.at(inside)[-1] - self.times[0]) / len(inside)

    def check(self, states: np.ndarray, outputs: np.ndarray, num_saved: int) -> None:
        """Raises if observed states do not fit the times, or the outputs of a model."""
        num_times = len(self.times) - 1 + self.num_before
        wanted = (len(states), num_times, *outputs.shape[2:])
        fits = states.shape == wanted or (*states.shape, 1) == wanted
        if outputs.shape[:2] != (len(states), num_saved) or not fits:
            raise ValueError(
                "The observed states must have the shape (num_samples, num_times, ...) of the "
                f"model's outputs, with {num_times} times. Received: data with states of the shape "
                f"{states.shape}, and outputs of the shape {outputs.shape} at {num_saved} times. "
                "Pass the times of the states as `times`, and swap the axes of what "
                "`tfnode.odeint` returned."
            )
        self.check_finite(states)

    def check_finite(self, states: np.ndarray) -> None:
        """Raises if observed states are not finite numbers."""
        if states.dtype.kind not in "iuf" or not np.isfinite(states).all():
            rule = "The observed states must be finite numbers"
            raise arguments.refused(rule, "data", states, "Leave the others out.")


def checked_times(times: Any) -> np.ndarray:
    """Times as doubles, which must increase or decrease."""
    known = arguments.reals("times", times, advice=_ADVICE)
    if known.ndim != 1 or not known.size or not _has_one_sign(np.diff(known)):
        raise _refused(times)
    return known


def _has_one_sign(moves: np.ndarray) -> bool:
    return bool((moves > 0).all() or (moves < 0).all())


def _refused(times: Any) -> ValueError:
    rule = "Times must increase or decrease from that of the inputs on"
    return arguments.refused(rule, "times", times, _ADVICE)
