"""The verdict on a model of a time series: a flow, or the steps between the times it was shown."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import Any

import keras
import numpy as np

from tfnode import arguments, batches
from tfnode import solvers as tfnode_solvers
from tfnode.layers import ODEBlock
from tfnode.models import held_blocks, looked_at
from tfnode.models.judge import largest_gap, relative_distance
from tfnode.models.outputs import single_output
from tfnode.solvers import SolverLike
from tfnode.typing import Data
from tfnode.validity.convergence import rounding_floor
from tfnode.validity.evaluation import Evaluation, Samples, Subject, check_built, evaluate
from tfnode.validity.results import made_with
from tfnode.validity.series_report import SeriesReport, SeriesRow
from tfnode.validity.trials import Trial, check_reference_steps, fine_trial, training_trial

# A time is one that is given if it lies behind it by no more than this part of the way from the
# time before: 3 * 0.1 is a rounding more than 0.3, and more than that in single precision.
_ROUNDING = 1e-3


def check_series(
    model: keras.Layer | Callable,
    data: Data,
    times: Sequence[float] | None = None,
    solver: SolverLike | None = None,
    every: int = 1,
    trained_until: float | None = None,
    factors: Iterable[int] = (2, 4),
    threshold: float = 0.02,
    margin: float = 0.01,
    reference_steps: int = 256,
    verbose: int | str = "auto",
) -> SeriesReport:
    """Judges whether a model of a time series has learned a flow, or the steps of its solver.

    Data at times that are `dt` apart can be fitted exactly by a field whose *solver* maps one state
    to the next, and whose flow does not. Such a model is of no use at other times. Krishnapriyan et
    al. (2023), *Learning continuous models for continuous physics*, test for it by convergence: the
    model is asked at other distances of the times, its solver's step with them, and **its error
    against the observed states must not grow as they shrink**.

    So the model is asked at the times of its training; at 1/2, 1/4 of their distance, where times
    are put between them; at 2 and 4 times their distance, where times are left out; and under RK4
    with at least `reference_steps` steps, in place of the flow. All are compared where the model
    was trained. **It is a flow if no nearer times, nor the flow, raise its error by more than
    `threshold`** of the spread of the observed states. A fall is none of its faults, though `check`
    counts it: there are states to compare with here, and an exact field comes nearer to them the
    finer its steps are. `gap` has the change itself.

    Two more things are told. A *kink*, the least error at the `dt` of the training with larger ones
    on both sides, is the mark of a model that has learned its solver, even where it is small. And
    there are the errors at times that were not trained with: between them, with `every`, and behind
    them, with `trained_until`.

    Examples:

    Data of `dz/dt = -z` at times 1/2 apart. The factor of one step of Euler's method is 1 + a/2, so
    that the field `a z` with a = 2 (exp(-1/2) - 1) fits them exactly, and its flow does not:

    >>> times = np.array([0.0, 0.5, 1.0, 1.5, 2.0])
    >>> z0 = np.array([[1.0], [2.0]], "float32")
    >>> data = z0, z0[:, None] * np.exp(-times)[:, None]
    >>> a = 2 * (np.exp(-0.5) - 1)
    >>> report = check_series(lambda t, z: a * z, data, times, tfnode.solvers.Euler(0.5))
    >>> report.is_flow, report.has_kink
    (False, True)

    Args:
        model: Keras model with an `ODEBlock` that has `save_at`, or such a block; or, with a
            `solver`, a field as `tfnode.odeint` takes it: a function or a Keras layer of `(t, z)`.
            A field with conditions is put into a model.
        data: A tuple of arrays `(x, y)`, or batches `(inputs, states)`: the observed states have
            the shape `(num_samples, num_times, ...)` of the model's outputs. Those that
            `tfnode.odeint` returns have the times first. Sample weights do not count.
        times: The times of the observed states, which may be more than the model was trained with.
            None for the `save_at` of the model. For a field the first is that of the inputs.
        solver: The solver of a field; None for a model, which has its own.
        every: Integer. The model was trained with every so many-th of the times, counted from that
            of the inputs.
        trained_until: Float, the last time that the model was trained with. None for the last of
            the model's `save_at`, or for a field for the last of the times.
        factors: Iterable of integers from 2 up: the model is asked at these fractions and multiples
            of its distance of times. Multiples that leave no time are left out.
        threshold: Float, the largest rise of the error that a flow may have.
        margin: Float, the relative rise of the error that makes a kink.
        reference_steps: Integer, the fewest steps of RK4 in place of the flow.
        verbose: 0, 1 for a progress bar, or `"auto"` for one if it takes long.

    Returns:
        `SeriesReport`.

    Raises:
        ValueError: If an argument is not as described: if the model has no block with `save_at`, or
            several with different times, if the times do not fit the states or have no time of the
            training, or if the data is empty, endless or not finite.
    """
    nearer = [Fraction(1, m) for m in _checked_factors(factors)]
    every = arguments.count("every", every, advice="Pass 1 if all were trained with.")
    advice = "A rise by a hundredth is 0.01."
    threshold = arguments.number("threshold", threshold, 0, ends="[)", advice=advice)
    margin = arguments.number("margin", margin, 0, ends="[)", advice=advice)
    reference_steps = check_reference_steps(reference_steps)
    verbose = arguments.verbosity(verbose, "auto")
    batches.check_data(data)
    if solver is None:
        block = _block_with_times(model)
        schedule = _Schedule.of(block.t0, times, block.save_at, every, trained_until)
    else:
        solver, field = tfnode_solvers.get(solver), _checked_field(model)
        schedule = _Schedule.of(None, times, None, every, trained_until)
    samples = Samples(data)
    if solver is not None:
        model = block = _block_of(field, solver, schedule.times, samples.first_inputs)
    reached, outputs = looked_at(model, samples.first_inputs)
    outputs = single_output(outputs)
    batches.check_inputs(samples.first_inputs, outputs, "the first batch")
    schedule.check(samples.first_labels, outputs, len(block.save_at or ()))
    subject = Subject(model, reached, samples)
    training = training_trial(model, subject.blocks)
    fractions = sorted({*nearer, Fraction(1), *(1 / f for f in nearer)}, reverse=True)
    places = {
        _asked(training, subject.blocks, factor, schedule): schedule.places(factor)
        for factor in fractions
        if every * factor <= schedule.last
    }
    fine = fine_trial(subject.blocks, training, float(min(nearer)), reference_steps)
    flow = dataclasses.replace(fine, save_at=schedule.times[1:])
    evaluation = evaluate(subject, [*places, flow], verbose)
    places[flow] = schedule.places(Fraction(1, every))
    rows = _Comparison(evaluation, schedule, places).rows()
    return _report(rows, threshold, margin, evaluation, schedule, subject.rounding)


def _report(
    rows: list[SeriesRow],
    threshold: float,
    margin: float,
    evaluation: Evaluation,
    schedule: "_Schedule",
    rounding: float,
) -> SeriesReport:
    better = [row for row in rows if row.factor is None or row.factor < 1]
    others = [row for row in rows if row.factor != 1]
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
        has_kink=is_shown and all(row.error > bound for row, bound in zip(others, bounds)),
        num_samples=len(evaluation.y),
        trained_until=schedule.times[schedule.last],
        rows=tuple(rows[:-1]),
        flow=rows[-1],
        versions=made_with(),
    )


@dataclasses.dataclass(frozen=True)
class _Schedule:
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
        cls, t0: float | None, times: Any, saved: Any, every: int, trained_until: float | None
    ) -> "_Schedule":
        """The schedule of times that a user gives, or of those that a block saves at.

        A field has no `t0`, which is then the first of the times.
        """
        advice = "Pass those of the observed states; for a field the first is that of the inputs."
        known = saved if times is None else times
        known = arguments.reals("times", known, advice=advice)
        is_list = known.ndim == 1 and known.size > 0
        start = float(known[0]) if t0 is None and is_list else t0 or 0.0
        num_before = int(is_list and known[0] == start)
        moves = np.diff([start, *known[num_before:]]) if is_list else np.zeros(1)
        sign = 1 if moves.size and moves[0] > 0 else -1
        if not moves.size or not (sign * moves > 0).all():
            rule = "Times must increase or decrease from that of the inputs on"
            raise arguments.refused(rule, "times", times, advice)
        end = saved[-1] if saved is not None else known[-1]
        if trained_until is not None:
            advice = "Pass a time, or None for all of them."
            end = arguments.number("trained_until", trained_until, advice=advice)
        found = (start, *known[num_before:].tolist())
        ways = itertools.pairwise(found)
        last = sum(sign * (t - end) <= _ROUNDING * abs(t - before) for before, t in ways)
        if last < every:
            raise arguments.refused(
                "A model is judged at times that it was trained with",
                "times",
                times,
                f"Pass some up to {end}, of which every={every} leaves at least one.",
            )
        return cls(found, num_before, every, last)

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
        if outputs.shape[:2] != (len(states), num_saved) or states.shape != wanted:
            raise ValueError(
                "The observed states must have the shape (num_samples, num_times, ...) of the "
                f"model's outputs, with {num_times} times. Received: data with states of the shape "
                f"{states.shape}, and outputs of the shape {outputs.shape} at {num_saved} times. "
                "Pass the times of the states as `times`, and swap the axes of what "
                "`tfnode.odeint` returned."
            )
        if states.dtype.kind not in "iuf" or not np.isfinite(states).all():
            rule = "The observed states must be finite numbers"
            raise arguments.refused(rule, "data", states, "Leave the others out.")


class _Comparison:
    """Compares states under each trial with the observed ones, and with those of the training.

    Args:
        evaluation: `Evaluation`.
        schedule: `_Schedule`.
        places: Dictionary from trials to the places that they were asked at.
    """

    def __init__(
        self,
        evaluation: Evaluation,
        schedule: _Schedule,
        places: dict[Trial, tuple[Fraction, ...]],
    ) -> None:
        self._evaluation, self._schedule, self._places = evaluation, schedule, places
        self._observed = evaluation.y[:, schedule.num_before :]
        self._unit = _joined(self._observed[:, : schedule.last])
        (self._training,) = (trial for trial in places if trial.factor == 1)

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
            gap=relative_distance(_joined(states), _joined(trained), self._unit),
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
        return relative_distance(
            _joined(self._states(trial, places)), _joined(observed), self._unit
        )

    def _error_or_none(self, trial: Trial, places: Sequence[Fraction]) -> float | None:
        return self._error(trial, places) if places else None


def _joined(states: np.ndarray) -> np.ndarray:
    """The states of all samples at all times, `(num_samples * num_times, ...)`."""
    return states.reshape(-1, *states.shape[2:])


def _asked(
    training: Trial, blocks: Sequence[ODEBlock], factor: Fraction, schedule: _Schedule
) -> Trial:
    """The trial that is asked at a multiple of the distance of times, its steps with them."""
    times = schedule.at(schedule.places(factor))
    lengths = [b.length if b.save_at is None else abs(times[-1] - b.t0) for b in blocks]
    each = training.solvers
    if not training.is_adaptive:
        # A step is no longer than the way.
        steps = [min(float(factor) * s.step_size, length) for s, length in zip(each, lengths)]
        each = tuple(s.with_step_size(step) for s, step in zip(each, steps))
    return Trial(each, float(factor), times)


# === What is judged ===
def _block_with_times(model: Any) -> ODEBlock:
    """A block of a model that says at which times the model answers."""
    check_built(model)
    blocks = [block for block in held_blocks(model) if block.save_at is not None]
    if len({(block.t0, block.save_at) for block in blocks}) != 1:
        raise arguments.refused(
            "A model of a time series must have an `ODEBlock` with `save_at`, or several of the "
            f"same times; it has {len(blocks)}",
            "model",
            model,
            "Build it with `tfnode.ODEBlock(..., save_at=times)`, or pass its field with a solver.",
        )
    return blocks[0]


def _checked_field(model: Any) -> keras.Layer | Callable:
    advice = "Pass a function `field(t, z)` or a Keras layer, or leave out `solver` for a model."
    arguments.function("model", model, advice=advice)
    if isinstance(model, keras.Layer) and any(b.save_at for b in held_blocks(model)):
        rule = "A model with times to save at has its own solver"
        raise arguments.refused(rule, "model", model, "Leave out `solver`.")
    return model


class _Function(keras.Layer):
    """A function `field(t, z)` as a layer."""

    def __init__(self, function: Callable, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        self._function = function

    def call(self, t: Any, z: Any) -> Any:
        return self._function(t, z)


def _block_of(field: Any, solver: Any, times: Sequence[float], z0: Any) -> ODEBlock:
    """What `tfnode.odeint` does with a field, as a block; in a layer's own dtype."""
    if not isinstance(field, keras.Layer):
        dtype = keras.backend.standardize_dtype(keras.tree.flatten(z0)[0].dtype)
        field = _Function(field, dtype=dtype)
    return ODEBlock(
        field,
        solver,
        t0=times[0],
        t1=times[-1],
        time_dependent=True,
        save_at=times[1:],
        dtype=field.dtype_policy,
    )


def _checked_factors(factors: Iterable[int]) -> list[int]:
    advice = "Pass integers from 2 up, such as (2, 4)."
    found = arguments.items("factors", factors, "integers", advice=advice)
    found = [arguments.count(f"factors[{i}]", f, 2, advice=advice) for i, f in enumerate(found)]
    if not found:
        rule = "A model is asked at one other distance of times at least"
        raise arguments.refused(rule, "factors", factors, advice)
    return found
