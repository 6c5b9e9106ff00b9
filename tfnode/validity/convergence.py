"""How a model's answers converge as the step goes to zero."""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import keras
import numpy as np

from tfnode import arguments
from tfnode.models.judge import Judge, checked_task
from tfnode.typing import Data
from tfnode.validity.evaluation import Evaluation, Subject, evaluate
from tfnode.validity.results import Record, Result
from tfnode.validity.trials import (
    Trial,
    check_factors,
    check_reference_steps,
    fine_trial,
    fits,
    require_fixed_step,
    scaled,
    training_trial,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FACTORS = (8.0, 4.0, 2.0, 1.0, 0.5, 0.25, 0.125)


@dataclasses.dataclass(frozen=True, repr=False)
class ConvergenceRow(Record):
    """A model under its own method at one step.

    Args:
        factor: Float, the step as a multiple of the training step.
        step_size: Float, of the first block.
        num_steps: Integer, summed over the blocks.
        error: Float, the relative distance of the outputs from the reference's.
        accuracy: Float; None in regression.
        loss: Float; None for a model that is not compiled.
    """

    factor: float
    step_size: float
    num_steps: int
    error: float
    accuracy: float | None
    loss: float | None


@dataclasses.dataclass(frozen=True, repr=False)
class ConvergenceResult(Result):
    """What `convergence_test` found.

    Args:
        rows: Tuple of `ConvergenceRow`s, the coarsest step first.
        order: Float, fitted to the errors from the training step down; None where fewer than two
            of them are above rounding.
        expected_order: Integer, the order of the method.
        error_optimum_at_training_step: Boolean, whether the error is smallest there.
        loss_optimum_at_training_step: Boolean, whether the loss is smallest there, and larger by
            more than the margin at every other step and for the reference; None without a loss,
            or if it is not finite there.
        training_step_size: Float.
        reference_accuracy: Float, under fine RK4; None in regression.
        reference_loss: Float, under fine RK4; None for a model that is not compiled.
    """

    rows: tuple[ConvergenceRow, ...]
    order: float | None
    expected_order: int
    error_optimum_at_training_step: bool
    loss_optimum_at_training_step: bool | None
    training_step_size: float
    reference_accuracy: float | None
    reference_loss: float | None

    def plot(self, title: str | None = None) -> "Figure":
        """Error and loss over the step size, with the training step marked.

        Returns:
            A `matplotlib.figure.Figure`.
        """
        # Here, so that matplotlib is loaded only by those who draw.
        from tfnode import plots

        return plots.convergence(self, title)


def convergence_test(
    model: keras.Model,
    data: Data,
    factors: Iterable[float] = FACTORS,
    margin: float = 0.01,
    task: str | None = None,
    reference_steps: int = 256,
    verbose: int | str = "auto",
) -> ConvergenceResult:
    """Measures how a model's outputs converge to those of the exact flow, step by step.

    The model runs under its own method at multiples of its training step, and under RK4 with at
    least `reference_steps` steps in place of the flow. Two things tell a proper ODE from a
    solver-bound model:

    - **The order.** From the training step down, the error falls as the step to the power of the
      method's order, if that step is small for the field. A fitted order far from the expected
      one says that the training step is too coarse for the theory to apply. ReLU fields have
      kinks, which cost methods of high order part of theirs.
    - **The optimum of the loss.** Training minimises the loss of the discrete solution at its own
      step, so a model that has grown together with its solver is best exactly there, and worse
      with a coarser *and* with a finer step; figure 1 (d) of the paper shows the latter of its
      accuracy. For an ODE the loss
      is flat towards fine steps. This is the telling sign. The *error* has no reason to be
      smallest at the training step, since training never sees the exact flow: for both kinds it
      mostly falls with the step, and where it does not, the steps are coarse. It is reported for
      completeness.

    Examples:

    >>> field = keras.Sequential([keras.layers.Dense(8, "tanh"), keras.layers.Dense(2)])
    >>> block = tfnode.ODEBlock(field, tfnode.solvers.Euler(1 / 16))
    >>> model = keras.Sequential([keras.Input((2,)), block, keras.layers.Dense(2)])
    >>> x = np.random.default_rng(0).normal(size=(64, 2))
    >>> result = convergence_test(model, (x, x))
    >>> round(result.order), result.expected_order
    (1, 1)

    Args:
        model: Any Keras model with fixed-step `ODEBlock`s of one method.
        data: Batches `(inputs, labels)` or a tuple of arrays `(x, y)`, as for `sweep`.
        factors: Iterable of floats, the multiples of the training step, which is always one of
            them. Those that are too long are left out, as in `sweep`.
        margin: Float, the relative rise of the loss that counts; below it a loss is flat.
        task: `"classification"`, `"regression"`, or None to infer it as `sweep` does.
        reference_steps: Integer, the fewest steps of RK4 in place of the flow.
        verbose: 0, 1 for a progress bar, or `"auto"` for one if it takes long.

    Returns:
        `ConvergenceResult`.

    Raises:
        ValueError: If the model has no `ODEBlock`, blocks of different methods, or adaptive ones,
            if there is no other step to try, if the margin is negative or not finite, if the
            labels do not fit its outputs, or if the data is empty, endless or not finite.
    """
    multiples = sorted({1.0, *check_factors(factors)}, reverse=True)
    advice = "A rise of the loss by a hundredth is 0.01."
    margin = arguments.number("margin", margin, 0, ends="[)", advice=advice)
    task = checked_task(task)
    reference_steps = check_reference_steps(reference_steps)
    verbose = arguments.verbosity(verbose, "auto")
    subject = Subject.of(model, data, task)
    training = training_trial(model, subject.reached)
    require_fixed_step(training, "A convergence test")
    trials = [scaled(training, factor) for factor in multiples]
    trials = [trial for trial in trials if fits(subject.reached, trial)]
    if len(trials) < 2:
        raise ValueError(
            "A convergence test compares the training step with at least one other that is not "
            "longer than the interval, or the way between two times of `save_at`. "
            f"Received: factors={multiples} with {training.solvers[0]}. "
            "Add a factor below 1."
        )
    reference = fine_trial(subject.reached, training, multiples[-1], reference_steps)
    evaluation = evaluate(subject, [*trials, reference], verbose)
    outputs = evaluation.outputs[reference]
    judge = evaluation.judge(model, reference, task)
    rows = tuple(_row(trial, evaluation, outputs, judge) for trial in trials)
    scores = judge.scores(outputs)
    own = trials.index(training)
    others = [row.error for i, row in enumerate(rows) if i != own]
    return ConvergenceResult(
        rows=rows,
        order=fitted_order(((r.step_size, r.error) for r in rows[own:]), subject.rounding),
        expected_order=training.solvers[0].order,
        error_optimum_at_training_step=all(rows[own].error < error for error in others),
        loss_optimum_at_training_step=_is_optimum(rows, own, scores["loss"], margin),
        training_step_size=training.solvers[0].step_size,
        reference_accuracy=scores["accuracy"],
        reference_loss=scores["loss"],
    )


def _row(
    trial: Trial, evaluation: Evaluation, reference: np.ndarray, judge: Judge
) -> ConvergenceRow:
    assert trial.factor is not None
    outputs = evaluation.outputs[trial]
    scores = judge.scores(outputs)
    num_steps = evaluation.costs[trial]["num_steps"]
    assert num_steps is not None
    return ConvergenceRow(
        factor=trial.factor,
        step_size=trial.solvers[0].step_size,
        num_steps=num_steps,
        error=judge.distance(outputs, reference),
        accuracy=scores["accuracy"],
        loss=scores["loss"],
    )


def rounding_floor(rounding: float) -> float:
    """The error that may be rounding: summed up, or in half precision that of one evaluation."""
    return min(1000 * rounding, max(2 * rounding, 1e-3))


def fitted_order(points: Iterable[tuple[float, float]], rounding: float) -> float | None:
    """The slope of log(error) over log(step), without errors that may be only rounding.

    Args:
        points: Iterable of pairs of a step size and an error.
        rounding: Float, the spacing at 1 of the numbers that were computed in.

    Returns:
        Float, or None where fewer than two of the errors are left.
    """
    floor = rounding_floor(rounding)
    left = [(step, error) for step, error in points if floor < error < float("inf")]
    if len(left) < 2:
        return None
    steps, errors = np.log(left).T
    return float(np.polyfit(steps, errors, 1)[0])


def _is_optimum(
    rows: Sequence[ConvergenceRow], own: int, reference_loss: float | None, margin: float
) -> bool | None:
    if reference_loss is None:
        return None
    losses = [row.loss for row in rows if row.loss is not None]
    own_loss = losses.pop(own)
    if not math.isfinite(own_loss):
        return None
    bound = own_loss + margin * abs(own_loss)
    # A loss that is not finite is not lower either.
    return all(not loss <= bound for loss in [*losses, reference_loss])
