"""The verdict on a trained model, and the critical step of a grid search."""

import dataclasses
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence

import keras
import numpy as np

from tfnode import arguments
from tfnode import solvers as tfnode_solvers
from tfnode.models import digest
from tfnode.models.judge import Judge, checked_metric, checked_task, largest_gap
from tfnode.solvers import SolverLike
from tfnode.typing import Data, Metric
from tfnode.validity.convergence import fitted_order
from tfnode.validity.details import Details, class_changes, nearest_samples
from tfnode.validity.evaluation import Evaluation, Subject, evaluate
from tfnode.validity.report import VERSION, CheckRow, ValidityReport
from tfnode.validity.results import made_with
from tfnode.validity.schedules import Schedule
from tfnode.validity.series_answers import block_with_times
from tfnode.validity.series_plan import FACTORS, MARGIN, THRESHOLD, SeriesPlan
from tfnode.validity.sweeps import row_values
from tfnode.validity.trials import (
    STEP_FACTORS,
    Trial,
    check_methods,
    check_reference_steps,
    fine_trial,
    given_trial,
    is_better,
    is_finer,
    sweep_trials,
    training_trial,
)


def check(
    model: keras.Model,
    data: Data,
    threshold: float = 0.02,
    task: str | None = None,
    metric: Metric | None = None,
    reference_steps: int = 256,
    verbose: int | str = "auto",
    solvers: Iterable[SolverLike] = (),
    stop_early: bool = False,
) -> ValidityReport:
    """Judges whether a trained model is an ODE, or has grown together with its solver.

    "If the trained model is supposed to be a flow generated from an ODE, it should be possible to
    choose another numerical solver with equal or smaller numerical error without loss of
    performance" (the paper's abstract; section 4). So the model is tried with such solvers, and
    **it is an ODE if its accuracy under none of them differs by more than `threshold`** from that
    under the solver of its training. A gain counts as much as a loss, as in algorithm 1: either
    shows that the answer depends on the solver. A sample whose output is not finite shows nothing,
    and counts as one whose answer differs; where that is so because its input is not finite, the
    data is refused.

    The solvers and steps of `sweep` are tried, and RK4 with at least `reference_steps` steps in
    place of the exact flow. A solver has equal or smaller error, and counts, if

    - its order is at least that of the training method and its step no longer (its tolerance no
      larger), which is what theory says of small steps, or
    - its outputs are measured to be no further from the finest RK4's, which holds at any step.

    In regression the outputs take the place of the accuracy: the root mean square of their change
    from the training solver, over the spread of the outputs about their mean. With a `metric`, its
    difference decides in either task.

    Of a model whose block has `save_at`, with states as labels, the report has the verdict of
    `check_series` too, as `series`: whether it is a flow at other times than those it was asked at,
    by the same threshold where the outputs decide, and else by that of `check_series`.

    Judge on the whole test set. The paper's check during training allows 0.1 on one batch, for the
    noise of a batch; such models may lose ten points under RK4, so the default is stricter.

    Examples:

    The field is `-z`, the initial state 1. At t = 1 one step of Euler's method gives 0 and the
    exact flow 1/e, and class 1 lies above 1/2 or 1/4:

    >>> def model(level):
    ...     inputs = keras.Input((1,))
    ...     z = tfnode.ODEBlock(keras.layers.Rescaling(-1.0), tfnode.solvers.Euler(1.0))(inputs)
    ...     return keras.Model(inputs, keras.layers.Rescaling(1.0, offset=0.5 - level)(z))
    >>> x, y = np.ones((4, 1)), np.zeros(4, int)
    >>> report = check(model(1 / 2), (x, y))
    >>> report.is_ode, report.gap
    (True, 0.0)
    >>> report = check(model(1 / 4), (x, y))
    >>> report.is_ode, report.gap
    (False, 1.0)

    Args:
        model: Any Keras model with `ODEBlock`s of one method, and one output.
        data: `tf.data.Dataset` or other finite iterable of `(inputs, labels)` batches, or a tuple
            of arrays `(x, y)`, as for `sweep`.
        threshold: Float, the largest gap that an ODE may have, as a fraction.
        task: `"classification"`, `"regression"`, or None to infer it as `sweep` does.
        metric: Optional Keras metric, its name, or a function `metric(y_true, y_pred)`, whose
            difference decides instead.
        reference_steps: Integer, the fewest steps of RK4 in place of the exact flow. Fewer are
            faster for large models; the report's `reference_error` says whether they are enough.
        verbose: 0, 1 for a progress bar, or `"auto"` for one if it takes long.
        solvers: Iterable of further solvers to try, which count as the others do.
        stop_early: Boolean. If true, the solvers that theory calls better are tried first, and the
            check ends with them where they refute the model already. The report then has their
            rows only, and `gap` is the largest of those.

    Returns:
        `ValidityReport`. Its `series` is None of a classifier, of samples with weights, where
        `check_series` would refuse the model or the labels, and where the check has stopped early.

    Raises:
        ValueError: If `threshold` is not in [0, 1) for accuracies, or negative or not finite, if
            the model has no `ODEBlock` or blocks of different methods, if the labels do not fit
            its outputs, if outputs are not finite because the inputs are not, or if the data is
            empty or endless.
    """
    threshold, reference_steps, verbose = checked_settings(threshold, reference_steps, verbose)
    task, metric = checked_task(task), checked_metric(metric)
    given = [tfnode_solvers.get(solver) for solver in check_methods(solvers)]
    stop_early = arguments.flag("stop_early", stop_early)
    subject = Subject.of(model, data, task, metric)
    if metric is None:
        _check_threshold(threshold, subject)
    training = training_trial(model, subject.reached)
    fine = fine_trial(subject.reached, training, min(STEP_FACTORS), reference_steps)
    half = Trial(tuple(s.with_step_size(2 * s.step_size) for s in fine.solvers))
    further = [given_trial(subject.reached, solver) for solver in given]
    swept = [*sweep_trials(subject.reached, training, None, None), *further]
    trials = [t for t in dict.fromkeys([training, *swept, half]) if t != fine] + [fine]
    series = _series_plan(subject, reference_steps)
    every = [*trials, *(series.places if series else ())]

    def compare(evaluation: Evaluation, fine: Trial | None) -> _Comparison:
        judge = evaluation.judge(model, training, task, metric)
        return _Comparison(subject, judge, evaluation, training, fine)

    if stop_early:
        # Those whose rows count whatever is measured, and which cost a fraction of the others.
        sure = [t for t in trials if t not in (half, fine) and is_finer(t, training)]
        subject.samples.keep()
        evaluation = evaluate(subject, sure, verbose)
        report = compare(evaluation, None).report(threshold, None)
        if not report.is_ode:
            return report
        others = evaluate(subject, [t for t in every if t not in sure], verbose)
        evaluation = evaluation.joined(others)
    else:
        evaluation = evaluate(subject, every, verbose)
    report = compare(evaluation.only(trials), fine).report(threshold, half)
    if series is None:
        return report
    # A threshold of a metric is in its own unit.
    risen = threshold if report.measure == "outputs" else THRESHOLD
    found = series.report(evaluation, risen, MARGIN, subject.rounding)
    return dataclasses.replace(report, series=found)


def _series_plan(subject: Subject, reference_steps: int) -> SeriesPlan | None:
    """What a model of a time series is asked too; None for any other."""
    if subject.task == "classification" or subject.samples.first_weights is not None:
        return None
    if all(block.save_at is None for block in subject.blocks):
        return None
    try:
        block = block_with_times(subject.model, subject.reached)
        schedule = Schedule.of(block.t0, None, block.save_at)
        return SeriesPlan.of(subject, schedule, FACTORS, reference_steps)
    except ValueError:
        # Its answers are no states at its times, or not of these alone.
        return None


class _Comparison:
    """Compares the outputs under each trial with those under the training solver."""

    def __init__(
        self,
        subject: Subject,
        judge: Judge,
        evaluation: Evaluation,
        training: Trial,
        fine: Trial | None,
    ) -> None:
        self._subject, self._judge = subject, judge
        self._evaluation, self._training = evaluation, training
        self._base = evaluation.outputs[training]
        self._fine = None if fine is None else evaluation.outputs[fine]
        self._training_error = self._error(self._base)
        self._scores = judge.scores(self._base)
        self.measure = "accuracy" if judge.task == "classification" else "outputs"
        if judge.metric_name is not None:
            self.measure = judge.metric_name

    def report(self, threshold: float, half: Trial | None) -> ValidityReport:
        """The verdict; `half` is the trial with twice the step of the finest RK4."""
        rows = {trial: self.row(trial) for trial in self._evaluation.outputs}
        # The training row is better than itself, with a gap of 0 where its outputs are finite.
        better = {trial: row for trial, row in rows.items() if row.is_better}
        gap = largest_gap(row.gap for row in better.values())
        changes = [row.changed for row in better.values() if row.changed is not None]
        return ValidityReport(
            is_ode=bool(gap <= threshold),
            gap=gap,
            threshold=float(threshold),
            measure=self.measure,
            task=self._judge.task,
            num_samples=len(self._evaluation.y),
            changed=max(changes, default=None),
            class_gaps=self.class_gaps(better),
            loss_gap=_loss_gap(rows[self._training], list(better.values())),
            reference_error=None if half is None else rows[half].error,
            rows=tuple(rows.values()),
            digest=digest(self._subject.model),
            version=VERSION,
            details=self.details(rows),
        )

    def row(self, trial: Trial) -> CheckRow:
        outputs = self._evaluation.outputs[trial]
        values = row_values(trial, self._training, self._evaluation, self._judge)
        error = self._error(outputs)
        return CheckRow(
            **values,
            gap=self._gap(outputs, values["metric"]),
            changed=self._changed(outputs),
            error=error,
            is_better=is_better(trial, self._training, error, self._training_error),
        )

    def _error(self, outputs: np.ndarray) -> float | None:
        return None if self._fine is None else self._judge.distance(outputs, self._fine)

    def class_gaps(self, trials: Iterable[Trial]) -> dict[int, float] | None:
        """The largest gap of each class's accuracy; None in regression."""
        if self._judge.task == "regression":
            return None
        labels, counts = self._judge.labels, self._judge.counts
        outputs = [self._evaluation.outputs[trial] for trial in trials]
        return {
            int(label): largest_gap(self._accuracy_gap(o, labels == label) for o in outputs)
            for label in np.unique(labels[counts > 0])
        }

    def details(self, rows: Mapping[Trial, CheckRow]) -> Details:
        """What the rows do not tell, for whoever reads the report."""
        trials, judge, base = list(rows), self._judge, self._base
        is_classifier = judge.task == "classification"
        better = [i for i, row in enumerate(rows.values()) if row.is_better]
        outputs = {i: self._evaluation.outputs[trials[i]] for i in better}
        most = max(better, key=lambda i: rows[trials[i]].changed or 0.0)
        others = {i: o for i, o in outputs.items() if trials[i] != self._training}
        solver = self._training.solvers[0]
        return Details(
            model=str(self._subject.model.name),
            changed_row=most if is_classifier else None,
            changes=class_changes(judge, base, outputs[most]) if is_classifier else (),
            nearest=nearest_samples(judge, base, others) if is_classifier else (),
            order=None if self._training.is_adaptive else self._order(rows),
            expected_order=None if self._training.is_adaptive else solver.order,
            versions=made_with(),
        )

    def _order(self, rows: Mapping[Trial, CheckRow]) -> float | None:
        """The order of the training method, from its step down."""
        solver = self._training.solvers[0]
        points = [
            (row.step_size, row.error)
            for trial, row in rows.items()
            if trial.solvers[0].tableau == solver.tableau
            if row.step_size is not None and row.error is not None
            if row.step_size <= solver.step_size
        ]
        return fitted_order(points, self._subject.rounding)

    def _gap(self, outputs: np.ndarray, metric: float | None) -> float:
        base = self._scores["metric"]
        if metric is not None and base is not None:
            finite = np.isfinite(outputs).all() and np.isfinite(self._base).all()
            is_measured = finite and math.isfinite(metric - base)
            # Without what rounding adds to the difference of two means, as of accuracies below.
            return float(f"{abs(metric - base):.12g}") if is_measured else math.inf
        if self._judge.task == "regression":
            return self._judge.distance(outputs, self._base)
        return self._accuracy_gap(outputs, slice(None))

    def _accuracy_gap(self, outputs: np.ndarray, rows: np.ndarray | slice) -> float:
        # From sums of counts, so that a gap at the threshold does not exceed it by rounding.
        judge, counts = self._judge, self._judge.counts[rows]
        shown = (judge.is_finite(outputs) & judge.is_finite(self._base))[rows]
        right, base = (judge.is_right(o)[rows].astype(float) for o in (outputs, self._base))
        difference = abs(((right - base) * counts)[shown].sum())
        return float((difference + counts[~shown].sum()) / counts.sum())

    def _changed(self, outputs: np.ndarray) -> float | None:
        if self._judge.task == "regression":
            return None
        changes = self._judge.classes(outputs) != self._judge.classes(self._base)
        return self._judge.mean(changes)


def _loss_gap(training: CheckRow, rows: Sequence[CheckRow]) -> float | None:
    if training.loss is None:
        return None
    return largest_gap(abs(row.loss - training.loss) for row in rows if row.loss is not None)


def checked_settings(
    threshold: float, reference_steps: int, verbose: int | str
) -> tuple[float, int, int | str]:
    """The settings of a verdict, for those who have work to do before it."""
    return (
        _checked_threshold(threshold),
        check_reference_steps(reference_steps),
        arguments.verbosity(verbose, "auto"),
    )


def _checked_threshold(threshold: float, high: float = math.inf) -> float:
    advice = "A gap of 2 points is 0.02."
    return arguments.number("threshold", threshold, 0, high, "[)", advice=advice)


def _check_threshold(threshold: float, subject: Subject) -> None:
    """Raises, or warns, if a threshold of accuracies or of outputs says nothing."""
    if subject.task == "classification":
        # A fraction of the samples.
        _checked_threshold(threshold, 1)
    elif threshold < 2 * subject.rounding:
        warnings.warn(
            "A threshold below the rounding of the field asks for more than its dtype has: the gap "
            f"may be rounding. Received: threshold={threshold} with a rounding of "
            f"{subject.rounding:.1g}. Judge the same weights in a model with dtype='float32'.",
            stacklevel=3,
        )


def critical_step(gaps: Mapping[int, float], threshold: float) -> tuple[int | None, int | None]:
    """Returns the numbers of steps of a grid search just below and above the critical one.

    "There exists some critical step size below which the model shows no clear dependence on the
    test solver" (section 4.1): a number of steps is valid if the gap of the models trained
    with it is at most `threshold`, **and likewise for every larger number of the grid**. The
    critical one lies between the largest that is not valid and the smallest that is. A gap that
    is not a number is no sign of validity.

    Examples:

    >>> critical_step({1: 0.3, 2: 0.0, 4: 0.2, 8: 0.05, 16: 0.0}, threshold=0.1)
    (4, 8)

    Args:
        gaps: Dictionary from numbers of steps to gaps, such as those of `check`.
        threshold: Float.

    Returns:
        Tuple of two numbers of steps. The first is None if every number is valid, the second if
        none is.

    Raises:
        ValueError: If there are no gaps, if one is negative, or if the threshold is negative or not
            finite.
    """
    advice = "Pass the gaps of `check` by their numbers of steps, such as {8: 0.05, 16: 0.0}."
    arguments.mapping("gaps", gaps, advice=advice)
    for num_steps, gap in gaps.items():
        arguments.count("gaps", num_steps, advice=advice)
        number = arguments.reals("gaps", gap, is_finite=False, advice=advice)
        if number.ndim or number < 0:
            rule = "A gap is one number, the size of a difference, from 0 up"
            raise arguments.refused(rule, "gaps", gap, advice)
    if not gaps:
        raise arguments.refused("A critical step lies in a grid of gaps", "gaps", gaps, advice)
    threshold = _checked_threshold(threshold)
    above = None
    for num_steps in sorted(gaps, reverse=True):
        # Not `gap > threshold`: one that is NaN is not valid.
        if not gaps[num_steps] <= threshold:
            return num_steps, above
        above = num_steps
    return None, above
