"""Which samples keep their class under better solvers, by an estimate of their errors."""

import dataclasses
from collections.abc import Sequence

import keras
import numpy as np

from tfnode import arguments
from tfnode.typing import Data
from tfnode.validity.evaluation import Subject, evaluate
from tfnode.validity.results import Result
from tfnode.validity.trials import (
    check_reference_steps,
    fine_trial,
    is_better,
    require_fixed_step,
    scaled,
    sweep_trials,
    training_trial,
)

_REMEDY = 'call `check` with task="{task}"'


@dataclasses.dataclass(frozen=True, repr=False)
class Certificate(Result):
    """What `certify` found, answer by answer in the order of the data: one a sample, or more.

    Args:
        fraction: Float, the fraction of the answers that are certified, as they count.
        accuracy: Float, the fraction that is certified and right; a better solver's accuracy is at
            least this, where the estimates of the errors hold.
        num_samples: Integer.
        certified: Tuple of Booleans.
        margins: Tuple of floats, the lead of the predicted class over the class that an error
            would reach first.
        errors: Tuple of floats, the estimated error of that lead.
    """

    fraction: float
    accuracy: float
    num_samples: int
    certified: tuple[bool, ...]
    margins: tuple[float, ...]
    errors: tuple[float, ...]


def certify(
    model: keras.Model, data: Data, reference_steps: int = 256, verbose: int | str = "auto"
) -> Certificate:
    """Certifies, by an estimate, the samples whose class does not change under better solvers.

    Section 4 of the paper: "for the classifier, there should exist a robustness threshold e such
    that f_d(z(T) + delta) = f_d(z(T))" for every smaller delta, so that two solvers that agree up
    to delta give the same class. Here delta and e are measured for each sample, where they meet:
    in the outputs. For a class j let `d` be the lead of the predicted class over j at the training
    step h. Its error is estimated from the leads at h/2 and h/4 by Richardson extrapolation
    (Hairer et al., *Solving ODEs I*, section II.4), with p the order of the method, as the largest
    of

        2^p / (2^p - 1) |d(h) - d(h/2)|,
        |d(h) - d(h/2)| + 2^p / (2^p - 1) |d(h/2) - d(h/4)|, and
        |d(h) - d(RK4)|,

    which agree where h is small. The second also detects a step that is too coarse for the first,
    and the third, against RK4 at a fine step, a field that changes within a quarter of a step. A
    sample is certified if `d` exceeds **twice** that error for every j, once for the way to the
    exact flow and once more for the error of a better solver, and if its class is the same under
    every better solver of `sweep`. These are better by order and step, or on the data as a whole;
    for a single sample the error may still be larger.

    Examples:

    >>> field = keras.Sequential([keras.layers.Dense(8, "tanh"), keras.layers.Dense(2)])
    >>> block = tfnode.ODEBlock(field, tfnode.solvers.RK4(1 / 8))
    >>> model = keras.Sequential([keras.Input((2,)), block, keras.layers.Dense(3)])
    >>> x = np.random.default_rng(0).normal(size=(64, 2))
    >>> certify(model, (x, np.zeros(64, int))).fraction > 0.9
    True

    Args:
        model: Any Keras classifier with fixed-step `ODEBlock`s of one method.
        data: Batches `(inputs, labels)` or a tuple of arrays `(x, y)`, as for `sweep`, with which
            sample weights and masks count.
        reference_steps: Integer, the fewest steps of the fine RK4, as for `check`.
        verbose: 0, 1 for a progress bar, or `"auto"` for one if it takes long.

    Returns:
        `Certificate`.

    Raises:
        ValueError: If the model has no `ODEBlock`, blocks of different methods, or adaptive ones,
            if the labels are not classes, or if the data is empty, endless or not finite.
    """
    reference_steps = check_reference_steps(reference_steps)
    verbose = arguments.verbosity(verbose, "auto")
    subject = Subject.of(model, data, "classification", is_scored=False, remedy=_REMEDY)
    training = training_trial(model, subject.reached)
    require_fixed_step(training, "A certificate")
    fine = fine_trial(subject.reached, training, 0.25, reference_steps)
    steps = [training, scaled(training, 0.5), scaled(training, 0.25), fine]
    swept = sweep_trials(subject.reached, training, None, None)
    evaluation = evaluate(subject, [*steps, *swept], verbose)
    outputs = evaluation.outputs
    judge = evaluation.judge(model, training, "classification", remedy=_REMEDY)
    if judge.has_labels:
        raise ValueError(
            "A certificate is for samples of one class each. "
            f"Received: outputs of shape {outputs[training].shape} with a binary loss, which are "
            "labels of their own. Build a `keras.Model(model.inputs, output)` for one of them."
        )
    classes = judge.classes(outputs[training])
    # Differences of values that are not finite are NaN, which certifies nothing.
    with np.errstate(invalid="ignore"):
        leads = [judge.leads(outputs[trial], classes) for trial in steps]
        margins, errors = leads[0], _errors(leads, training.solvers[0].order)
        nearest = np.nan_to_num(margins - 2 * errors, nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    # The class that an error would reach first.
    first = nearest.argmin(axis=-1)[..., None]
    certified = (nearest > 0).all(axis=-1)
    training_error = judge.distance(outputs[training], outputs[fine])
    for trial in swept:
        error = judge.distance(outputs[trial], outputs[fine])
        if is_better(trial, training, error, training_error):
            certified &= judge.classes(outputs[trial]) == classes
    margins, errors = (np.take_along_axis(a, first, -1).ravel() for a in (margins, errors))
    right = judge.is_right(outputs[training])
    return Certificate(
        fraction=judge.mean(certified),
        accuracy=judge.mean(certified & right),
        num_samples=len(evaluation.y),
        certified=tuple(certified.ravel().tolist()),
        margins=tuple(margins.tolist()),
        errors=tuple(errors.tolist()),
    )


def _errors(leads: Sequence[np.ndarray], order: int) -> np.ndarray:
    """The estimated errors of leads: those at h, h/2 and h/4, and under RK4 at a fine step."""
    at_h, at_half, at_quarter, at_fine = leads
    extrapolation = 2**order / (2**order - 1)
    first, second = np.abs(at_h - at_half), np.abs(at_half - at_quarter)
    estimate = np.maximum(extrapolation * first, first + extrapolation * second)
    return np.maximum(estimate, np.abs(at_h - at_fine))
