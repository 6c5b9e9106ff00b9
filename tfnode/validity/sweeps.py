"""A trained model under other solvers and steps (section 4.1 of the paper)."""

import dataclasses
from collections.abc import Iterable
from typing import Any

import keras

from tfnode import arguments
from tfnode.models.judge import Judge, checked_metric, checked_task
from tfnode.solvers import SolverLike
from tfnode.typing import Data, Metric
from tfnode.validity.evaluation import Evaluation, Subject, evaluate
from tfnode.validity.results import Record
from tfnode.validity.trials import (
    Trial,
    check_factors,
    check_methods,
    sweep_trials,
    training_trial,
)


@dataclasses.dataclass(frozen=True, repr=False)
class SweepRow(Record):
    """A model under one solver.

    Args:
        solver: String, the class of the solver.
        factor: Float, its step or tolerance as a multiple of the training's; None for a solver that
            was given as it is.
        step_size: Float, of the first block; None for an adaptive solver.
        tolerance: Float, `rtol`; None for a fixed step.
        num_steps: Integer, summed over the blocks; None for an adaptive solver.
        nfe: Integer, the evaluations of the fields in one forward pass, likewise.
        is_training: Boolean, whether this is the solver and step of the training.
        accuracy: Float, the fraction of the samples whose class is right; None in regression.
        loss: Float, over the whole data; None for a model that is not compiled.
        metric: Float, the metric that was asked for; None if there is none.
    """

    solver: str
    factor: float | None
    step_size: float | None
    tolerance: float | None
    num_steps: int | None
    nfe: int | None
    is_training: bool
    accuracy: float | None
    loss: float | None
    metric: float | None


def sweep(
    model: keras.Model,
    data: Data,
    solvers: Iterable[SolverLike] | None = None,
    factors: Iterable[float] | None = None,
    task: str | None = None,
    metric: Metric | None = None,
    verbose: int | str = "auto",
) -> list[SweepRow]:
    """Returns accuracy and loss of a model under every solver and step of the paper.

    Section 4.1: a model trained with Euler's method is tested with Euler's method, the midpoint
    method and RK4, and a model trained with RK4 with RK4, at 0.5, 0.75, 1, 1.5 and 2 times the
    training step. (The authors' code multiplies the number of steps instead.) Other methods,
    which the paper does not train with, are tested with themselves and, if their order is below
    4, with RK4; adaptive solvers with themselves at 0.1, 1 and 10 times their tolerances. Steps
    that are longer than those of some block are left out: than its interval, or than the longest
    way between two times of `save_at`, which cuts the step of the training and of solvers that are
    given.

    The model is untouched and its weights are shared. The data is read once for all solvers.

    Examples:

    >>> field = keras.layers.Dense(2, "tanh")
    >>> block = tfnode.ODEBlock(field, tfnode.solvers.Midpoint(1 / 4))
    >>> model = keras.Sequential([keras.Input((2,)), block])
    >>> x = np.random.default_rng(0).normal(size=(8, 2))
    >>> rows = sweep(model, (x, np.zeros(8, int)), factors=(1, 2))
    >>> [(row.solver, row.step_size, row.nfe) for row in rows]
    [('Midpoint', 0.25, 8), ('Midpoint', 0.5, 4), ('RK4', 0.25, 16), ('RK4', 0.5, 8)]

    Args:
        model: Any Keras model with `ODEBlock`s of one method, and one output.
            Its loss is used if it is compiled.
        data: `tf.data.Dataset` or other finite iterable of `(inputs, labels)` batches, or a tuple
            of arrays `(x, y)`. Labels are classes, one-hot rows, 0/1 for a single output (above
            0 for a loss with `from_logits=True`, else above 1/2, it means class 1), or targets.
        solvers: Optional iterable in place of the paper's solvers. A name (`"rk4"`) stands for
            the method at multiples of the training step, a solver for itself with its own step.
        factors: Optional iterable of floats, the multiples of the step size or the tolerances.
        task: `"classification"`, `"regression"`, or None to infer it from the loss
            (cross-entropies and hinge losses mean classification, mean errors regression), or,
            if that leaves it open, from the labels: integers and one-hot rows mean classification.
        metric: Optional Keras metric, its name, or a function `metric(y_true, y_pred)`, for the
            rows' `metric`.
        verbose: 0, 1 for a progress bar, or `"auto"` for one if it takes long.

    Returns:
        List of `SweepRow`s.

    Raises:
        ValueError: If the model has no `ODEBlock` or blocks of different methods, if the labels
            do not fit its outputs, if the data is empty, endless or not finite, or if there is
            nothing to try (no solvers, no factors) or to measure (a regression without a loss or a
            metric).
    """
    solvers = None if solvers is None else check_methods(solvers)
    factors = None if factors is None else check_factors(factors)
    task, metric = checked_task(task), checked_metric(metric)
    verbose = arguments.verbosity(verbose, "auto")
    subject = Subject.of(model, data, task, metric)
    training = training_trial(model, subject.reached)
    trials = sweep_trials(subject.reached, training, solvers, factors)
    evaluation = evaluate(subject, [training, *trials], verbose)
    judge = evaluation.judge(model, training, task, metric)
    if judge.is_empty:
        raise ValueError(
            "A sweep needs something to measure. "
            f"Received: model={model.name!r}, a regression without a loss, and metric=None. "
            "Compile the model with a loss, or pass a metric."
        )
    return [SweepRow(**row_values(t, training, evaluation, judge)) for t in trials]


def row_values(
    trial: Trial, training: Trial, evaluation: Evaluation, judge: Judge
) -> dict[str, Any]:
    """The fields of a `SweepRow`, as a dictionary."""
    return {
        **trial.describe(),
        **evaluation.costs[trial],
        "is_training": trial.solvers == training.solvers,
        **judge.scores(evaluation.outputs[trial]),
    }
