"""What a model of a time series is asked, and what follows from its answers."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Self

import numpy as np

from tfnode.models import Reached
from tfnode.models.judge import largest_gap, relative_distance
from tfnode.validity.convergence import rounding_floor
from tfnode.validity.evaluation import Evaluation, Subject
from tfnode.validity.results import made_with
from tfnode.validity.schedules import Schedule
from tfnode.validity.series_answers import check_answers, joined
from tfnode.validity.series_report import SeriesReport, SeriesRow
from tfnode.validity.trials import Trial, fine_trial, training_trial

# By what the distance of the times is divided and multiplied, unless others are asked for.
FACTORS = (2, 4)
# The rise of the error that a flow may have, over the spread of the observed states.
THRESHOLD = 0.02
# The relative rise of the error that makes a kink.
MARGIN = 0.01


@dataclasses.dataclass(frozen=True)
class SeriesPlan:
    """The times that a model is asked at.

    Args:
        schedule: `Schedule`.
        places: Dictionary from trials to the places of their times, the widest times first, and the
            flow last.
    """

    schedule: Schedule
    places: Mapping[Trial, tuple[Fraction, ...]]

    @classmethod
    def of(
        cls, subject: Subject, schedule: Schedule, factors: Sequence[int], reference_steps: int
    ) -> Self:
        """The plan for a model, after a look at what it makes of the first samples.

        Raises:
            ValueError: If it cannot be judged as a model of a time series.
        """
        check_answers(subject, schedule)
        nearer = [Fraction(1, factor) for factor in factors]
        fractions = sorted({*nearer, Fraction(1), *(1 / f for f in nearer)}, reverse=True)
        reached = subject.reached
        training = training_trial(subject.model, reached)
        places = {
            _asked(training, reached, factor, schedule): schedule.places(factor)
            for factor in fractions
            if schedule.every * factor <= schedule.last
        }
        fine = fine_trial(reached, training, float(min(nearer)), reference_steps)
        flow = dataclasses.replace(fine, save_at=_other_times(schedule.times[1:], reached))
        places[flow] = schedule.places(Fraction(1, schedule.every))
        for trial in places:
            _check_steps(trial, reached)
        return cls(schedule, places)

    def report(
        self, evaluation: Evaluation, threshold: float, margin: float, rounding: float
    ) -> SeriesReport:
        """The verdict, from the outputs under each trial of the plan.

        Raises:
            ValueError: If an observed state is not finite.
        """
        self.schedule.check_finite(evaluation.y)
        rows = _Comparison(evaluation, self).rows()
        better = [row for row in rows if row.factor is None or row.factor < 1]
        others = [row for row in rows if row.factor != 1]
        is_between = any(row.factor is not None and row.factor > 1 for row in rows)
        # One that is not finite asked as in training shows nothing.
        is_shown = all(math.isfinite(row.training_error) for row in rows)
        rises = [row.error - row.training_error for row in better]
        rise = largest_gap([0.0, *rises]) if is_shown else math.inf
        floor = rounding_floor(rounding)
        bounds = [row.training_error * (1 + margin) + floor for row in others]
        return SeriesReport(
            is_flow=bool(rise <= threshold),
            rise=rise,
            gap=largest_gap(row.gap for row in better),
            threshold=threshold,
            has_kink=is_shown
            and is_between
            and all(row.error > bound for row, bound in zip(others, bounds)),
            num_samples=len(evaluation.y),
            trained_until=self.schedule.times[self.schedule.last],
            rows=tuple(rows[:-1]),
            flow=rows[-1],
            versions=made_with(),
        )


class _Comparison:
    """Compares states under each trial with the observed ones, and with those of the training.

    Args:
        evaluation: `Evaluation`.
        plan: `SeriesPlan`.
    """

    def __init__(self, evaluation: Evaluation, plan: SeriesPlan) -> None:
        schedule = plan.schedule
        self._evaluation, self._schedule, self._places = evaluation, schedule, plan.places
        # Labels of a single number may lack its axis.
        shape = (*evaluation.y.shape[:2], *next(iter(evaluation.outputs.values())).shape[2:])
        self._observed = evaluation.y.reshape(shape)[:, schedule.num_before :]
        self._unit = joined(self._observed[:, : schedule.last])
        (self._training,) = (trial for trial in plan.places if trial.factor == 1)

    def rows(self) -> list[SeriesRow]:
        return [self._row(trial, places) for trial, places in self._places.items()]

    def _row(self, trial: Trial, places: tuple[Fraction, ...]) -> SeriesRow:
        last, own = self._schedule.last, self._places[self._training]
        observed = [p for p in places if p.denominator == 1]
        common = [p for p in own if p in places and p <= last]
        states, trained = self._states(trial, common), self._states(self._training, common)
        return SeriesRow(
            factor=trial.factor,
            time_step=self._schedule.time_step(places),
            step_size=trial.describe()["step_size"],
            num_steps=self._evaluation.costs[trial]["num_steps"],
            gap=relative_distance(joined(states), joined(trained), self._unit),
            error=self._error(trial, common),
            training_error=self._error(self._training, common),
            error_between=self._error_or_none(
                trial, [p for p in observed if p <= last and p not in own]
            ),
            error_beyond=self._error_or_none(trial, [p for p in observed if p > last]),
        )

    def _states(self, trial: Trial, places: Sequence[Fraction]) -> np.ndarray:
        indices = [self._places[trial].index(place) for place in places]
        return self._evaluation.outputs[trial][:, indices]

    def _error(self, trial: Trial, places: Sequence[Fraction]) -> float:
        observed = self._observed[:, [int(place) - 1 for place in places]]
        return relative_distance(joined(self._states(trial, places)), joined(observed), self._unit)

    def _error_or_none(self, trial: Trial, places: Sequence[Fraction]) -> float | None:
        return self._error(trial, places) if places else None


def _asked(
    training: Trial, reached: Sequence[Reached], factor: Fraction, schedule: Schedule
) -> Trial:
    """The trial that is asked at a multiple of the distance of times, its steps with them."""
    times = schedule.at(schedule.places(factor))
    ways = [f.way if f.block.save_at is None else abs(times[-1] - f.block.t0) for f in reached]
    each = training.solvers
    if not training.is_adaptive:
        # A step is no longer than the way.
        steps = [min(float(factor) * s.step_size, way) for s, way in zip(each, ways)]
        each = tuple(s.with_step_size(step) for s, step in zip(each, steps))
    return Trial(each, float(factor), _other_times(times, reached))


def _other_times(times: tuple[float, ...], reached: Sequence[Reached]) -> tuple[float, ...] | None:
    """What a trial says of times: nothing, if they are those that the blocks have."""
    return None if any(found.block.save_at == times for found in reached) else times


def _check_steps(trial: Trial, reached: Sequence[Reached]) -> None:
    """Raises if a block cannot take the steps of a trial, before any is evaluated."""
    for found, solver in zip(reached, trial.solvers):
        found.block.with_solver(solver, found.block.save_at and trial.save_at)
