"""The verdict on a model of a time series: a flow, or the steps between the times it was shown."""

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import Any

import keras

from tfnode import arguments, batches
from tfnode import solvers as tfnode_solvers
from tfnode.layers import ODEBlock
from tfnode.models import held_blocks, looked_at
from tfnode.models.outputs import single_output
from tfnode.solvers import SolverLike
from tfnode.typing import Data
from tfnode.validity.evaluation import Samples, Subject, check_built, evaluate
from tfnode.validity.schedules import Schedule, checked_times
from tfnode.validity.series_answers import block_with_times
from tfnode.validity.series_plan import FACTORS, MARGIN, THRESHOLD, SeriesPlan
from tfnode.validity.series_report import SeriesReport
from tfnode.validity.trials import check_reference_steps


def check_series(
    model: keras.Layer | Callable,
    data: Data,
    times: Sequence[float] | None = None,
    solver: SolverLike | None = None,
    every: int = 1,
    trained_until: float | None = None,
    factors: Iterable[int] = FACTORS,
    threshold: float = THRESHOLD,
    margin: float = MARGIN,
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
            several with different times, if an answer depends on the other times that are asked for
            or the outputs have a mask, if the times do not fit the states or have no time of the
            training, or if the data is empty, endless or not finite.
    """
    factors = _checked_factors(factors)
    every = arguments.count("every", every, advice="Pass 1 if all were trained with.")
    advice = "A rise by a hundredth is 0.01."
    threshold = arguments.number("threshold", threshold, 0, ends="[)", advice=advice)
    margin = arguments.number("margin", margin, 0, ends="[)", advice=advice)
    reference_steps = check_reference_steps(reference_steps)
    verbose = arguments.verbosity(verbose, "auto")
    batches.check_data(data)
    # Before the data is read.
    if times is not None:
        checked_times(times)
    if trained_until is not None:
        advice = "Pass a time, or None for all of them."
        trained_until = arguments.number("trained_until", trained_until, advice=advice)
    if solver is None:
        check_built(model)
    else:
        solver, field = tfnode_solvers.get(solver), _checked_field(model)
        schedule = Schedule.of(None, times, None, every, trained_until)
    samples = Samples(data)
    if solver is not None:
        trained = schedule.at(schedule.places(Fraction(1)))
        model = _block_of(field, solver, schedule.times, trained, samples.first_inputs)
    reached, outputs = looked_at(model, samples.first_inputs)
    if solver is None:
        block = block_with_times(model, reached)
        schedule = Schedule.of(block.t0, times, block.save_at, every, trained_until)
    batches.check_inputs(samples.first_inputs, single_output(outputs), "the first batch")
    subject = Subject(model, reached, samples)
    plan = SeriesPlan.of(subject, schedule, factors, reference_steps)
    evaluation = evaluate(subject, plan.places, verbose)
    return plan.report(evaluation, threshold, margin, subject.rounding)


# === What is judged ===
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


def _block_of(
    field: Any, solver: Any, times: Sequence[float], trained: Sequence[float], z0: Any
) -> ODEBlock:
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
        save_at=trained,
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
