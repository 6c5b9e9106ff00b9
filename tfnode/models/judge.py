"""What the outputs of a model mean, by its loss and its labels: one judge for all who measure."""

import math
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from tfnode import arguments
from tfnode.layers.checks import epsilon
from tfnode.models.outputs import decision_threshold, gives_logits, loss_of
from tfnode.typing import Metric, Tensor

TASKS = ("classification", "regression")

# What to do if the labels are those of the other task, for those who take one.
PASS_TASK = 'pass task="{task}"'

# A spread of so many roundings of the numbers is none.
_ROUNDINGS = 4

# Parts of the names of Keras's losses.
_CLASSIFYING = ("crossentropy", "hinge")
_MEASURING = ("mean", "huber", "cosh", "poisson", "similarity", "divergence")


class Judge:
    """Scores the outputs of a model against labels, which it checks once.

    In *classification* an output is a class, or with a binary loss and several outputs each is a
    label, yes or no. All else is *regression*, whose outputs are compared as they are.

    Args:
        model: Keras model, compiled or not, whose loss is used.
        y: NumPy array, the labels.
        outputs: NumPy array `(num_samples, ..., classes)`, to check the labels with.
        task: One of `TASKS`, or None to infer it: Keras's cross-entropies and hinge losses mean
            classification, its mean errors and the like regression. With a loss of one's own, of
            which nobody knows what it makes of a single output, or with none, integer labels and
            one-hot rows mean classification, and all others regression.
        metric: Anything that `keras.metrics.get` understands, or None. `"accuracy"` is the judge's.
        weights: NumPy array, by how much each sample counts, or each row of outputs, or None.
        mask: NumPy array of Booleans, the Keras mask of the outputs, or None. What is masked does
            not count.
        is_all: Boolean, whether these are all the samples. Among a few none may count.
        remedy: String, what to do if the labels are those of the other `{task}`.

    Raises:
        ValueError: If labels or weights do not fit the outputs.
        NothingCounts: If no answer counts.
    """

    def __init__(
        self,
        model: keras.Model,
        y: np.ndarray,
        outputs: np.ndarray,
        task: str | None = None,
        metric: Metric | None = None,
        weights: np.ndarray | None = None,
        mask: np.ndarray | None = None,
        is_all: bool = True,
        remedy: str = PASS_TASK,
    ) -> None:
        # Half precision, which NumPy does not know, is of the kind V.
        if y.dtype.kind not in "biufV":
            advice = "Number the classes from 0."
            raise arguments.refused("Labels must be numbers", "y.dtype", y.dtype, advice)
        if outputs.shape[-1] == 1 and y.ndim == outputs.ndim - 1:
            y = y[..., None]
        if y.dtype.kind == "f" and not np.isfinite(y).all():
            raise ValueError(
                "Labels must be finite to be compared with. "
                f"Received: {int((~np.isfinite(y)).sum())} of {y.size} numbers that are not. "
                "Leave these samples out."
            )
        # Logits and probabilities look alike, so that a guess could be wrong.
        loss = self._loss = _resolved_loss(loss_of(model), y, outputs)
        self._metric: Any = checked_metric(metric)
        self._remedy = remedy
        self.metric_name = None if metric is None else _shown_name(self._metric)
        self._y, self._weights = y, _row_weights(weights, mask, outputs.shape[:-1])
        self._are_logits = gives_logits(model)
        name = "" if loss is None else _kind_name(loss).lower().replace("_", "")
        self._is_known = loss is None or _is_keras(self._loss)
        self._is_hinge = self._is_known and "hinge" in name
        self.threshold = 0.0 if self._is_hinge else decision_threshold(model)
        self.task = checked_task(task) or self._task(name, outputs)
        is_binary = self._is_known and ("binary" in name or name in ("hinge", "squaredhinge"))
        self.has_labels = is_binary and _has_rows(y, outputs)
        if self.task == "regression":
            self._check_targets(outputs)
            self._check_regression_metric()
        else:
            self.labels = self._class_labels(outputs)
        self.counts = self._counts(outputs)
        if is_all and not self.counts.any():
            raise NothingCounts(
                "There must be an answer that counts: not all sample weights are 0, not all labels "
                f"ignored, and not all outputs masked. Received: {self.counts.size} answers that "
                "count as 0 in all. "
                "Pass others, or no weights."
            )

    def _task(self, name: str, outputs: np.ndarray) -> str:
        if self._is_known and any(part in name for part in _CLASSIFYING):
            return "classification"
        if self._is_known and any(part in name for part in _MEASURING):
            return "regression"
        if self._loss is not None and outputs.shape[-1] == 1:
            return "regression"
        one_hot = _has_rows(self._y, outputs) and _is_one_hot(self._y)
        is_classes = self._y.dtype.kind in "iub" or one_hot
        return "classification" if is_classes else "regression"

    @property
    def is_empty(self) -> bool:
        """Whether there is no accuracy, loss or metric."""
        return self.task == "regression" and self._loss is None and self._metric is None

    def scores(self, outputs: np.ndarray) -> dict[str, float | None]:
        """Accuracy, loss and metric as plain values, None where there is none."""
        return {
            "accuracy": self.accuracy(outputs),
            "loss": None if self._loss is None else self._mean_loss(outputs),
            "metric": None if self._metric is None else self._measure(outputs),
        }

    def check_scores(self, outputs: np.ndarray) -> None:
        """Raises if the loss or the metric cannot be computed."""
        for rule, name, measured, measure in (
            ("The loss of the model", "loss", self._loss, self._mean_loss),
            ("`metric`", "metric", self._metric, self._measure),
        ):
            try:
                if measured is not None:
                    measure(outputs)
            except Exception as error:
                raise ValueError(
                    f"{rule} must take the labels and the outputs. "
                    f"Received: {name}={_shown_name(measured)!r}, y of shape {self._y.shape} and "
                    f"dtype {self._y.dtype}, and outputs of shape {outputs.shape}, of which it "
                    f"says: {error} Pass another {name}, or labels that fit it."
                ) from error

    def _check_targets(self, outputs: np.ndarray) -> None:
        if self._y.shape != outputs.shape:
            raise ValueError(
                "The targets of a regression must have the shape of the outputs, "
                f"{outputs.shape}. Received: y of shape {self._y.shape} and dtype "
                f"{self._y.dtype}. Do data and model belong together? If the labels are classes, "
                f"{self._remedy.format(task='classification')}."
            )

    def _check_regression_metric(self) -> None:
        if _is_accuracy(self._metric):
            raise ValueError(
                "An accuracy by its name alone is that of classes. "
                f"Received: metric={self._metric!r} in a regression. If the labels are classes, "
                'pass task="classification"; else pass a metric of targets, such as "mae".'
            )

    def accuracy(self, outputs: np.ndarray) -> float | None:
        """The part of the answers that are right, as they count; None in regression."""
        if self.task == "regression":
            return None
        return self.mean(self.is_right(outputs))

    def mean(self, values: np.ndarray) -> float:
        """The mean of numbers, one for each answer, as the answers count."""
        return float((values * self.counts).sum() / self.counts.sum())

    def is_right(self, outputs: np.ndarray) -> np.ndarray:
        """Booleans, whether the predicted classes are the labels."""
        return self.classes(outputs) == self.labels

    def is_finite(self, outputs: np.ndarray) -> np.ndarray:
        """Booleans, whether the outputs that an answer is made of are finite."""
        finite = np.isfinite(outputs)
        return finite if self.has_labels else finite.all(axis=-1)

    def classes(self, outputs: np.ndarray) -> np.ndarray:
        """The predicted classes; -1, which is never right, where an output is not finite."""
        if self.has_labels:
            classes = outputs > self.threshold
        elif outputs.shape[-1] == 1:
            classes = outputs[..., 0] > self.threshold
        else:
            classes = outputs.argmax(axis=-1)
        return np.where(self.is_finite(outputs), classes.astype("int64"), -1)

    def leads(self, outputs: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """The leads of one class of each answer over all the others.

        Args:
            outputs: NumPy array.
            classes: NumPy array, as `classes` returns it. For one that is -1 the leads are those of
                any class.

        Returns:
            NumPy array of doubles `(num_samples, ..., classes - 1)`, of answers of yes and no
            `(num_samples, ..., 1)`.
        """
        outputs = outputs.astype("float64")
        if self.has_labels or outputs.shape[-1] == 1:
            excess = outputs.reshape(classes.shape) - self.threshold
            return np.where(classes == 1, excess, -excess)[..., None]
        own = np.maximum(classes, 0)[..., None]
        leads = np.take_along_axis(outputs, own, -1) - outputs
        others = np.arange(outputs.shape[-1]) != own
        return leads[others].reshape(*leads.shape[:-1], -1)

    def change(self, outputs: np.ndarray, reference: np.ndarray) -> float:
        """How far outputs lie from those under a better solver; NaN if one is not finite.

        For classes whose probabilities the loss tells it is their mean total variation distance,
        else the fraction of them that changes: both lie in [0, 1], and are about the fraction of
        the samples whose class may change. In regression it is their `distance`.
        """
        if not (np.isfinite(outputs).all() and np.isfinite(reference).all()):
            return float("nan")
        if self.task == "regression":
            return self.distance(outputs, reference)
        if self._is_hinge or self._loss is None or not self._is_known:
            return self.mean(self.classes(outputs) != self.classes(reference))
        p, q = (self._probabilities(a.astype("float64")) for a in (outputs, reference))
        distances = np.abs(p - q)
        if not self.has_labels:
            # The other class of a single output changes by as much.
            distances = distances.sum(axis=-1) / (1 if p.shape[-1] == 1 else 2)
        return self.mean(distances)

    def distance(self, outputs: np.ndarray, reference: np.ndarray) -> float:
        """The `relative_distance` of outputs, as they count."""
        return relative_distance(outputs, reference, weights=self._weights)

    def _probabilities(self, outputs: np.ndarray) -> np.ndarray:
        if not self._are_logits:
            return outputs
        if self.has_labels or outputs.shape[-1] == 1:
            return 1 / (1 + np.exp(-np.clip(outputs, -700, 700)))
        exponents = np.exp(outputs - outputs.max(axis=-1, keepdims=True))
        return exponents / exponents.sum(axis=-1, keepdims=True)

    def _class_labels(self, outputs: np.ndarray) -> np.ndarray:
        """The classes that labels stand for, checked against the outputs."""
        y = self._y
        if self._is_hinge:
            # -1 and 1 stand for 0 and 1, as Keras takes them.
            y = np.where(y == -1, 0, y)
        if self.has_labels:
            labels, good = y > 0.5, bool(((y >= 0) & (y <= 1)).all())
        elif _has_rows(y, outputs):
            # Smoothed labels are probabilities too; several classes at once are not.
            good = bool((y >= 0).all() and np.allclose(y.sum(axis=-1), 1, atol=1e-3))
            labels = y.argmax(axis=-1)
        else:
            labels = y[..., 0] if y.ndim == outputs.ndim and y.shape[-1] == 1 else y
            classes = np.arange(max(2, outputs.shape[-1]))
            if outputs.shape[-1] == 1 and labels.dtype.kind == "f" and not self._ignored:
                # Smoothed labels of yes and no, as above.
                labels = np.where((labels >= 0) & (labels <= 1), labels > 0.5, labels)
            good = labels.shape == outputs.shape[:-1] and bool(
                np.isin(labels, [*classes, *self._ignored]).all()
            )
        if not good:
            found = f"y of shape {y.shape} and dtype {y.dtype} in [{y.min()}, {y.max()}]"
            raise ValueError(
                f"Labels must be classes from 0 to {max(2, outputs.shape[-1]) - 1}, or one-hot "
                f"rows, for outputs of shape {outputs.shape}. Received: {found}. Do data and "
                "model belong together? If the labels are not classes, "
                f"{self._remedy.format(task='regression')}."
            )
        return labels.astype("int64")

    @property
    def _ignored(self) -> list[int]:
        """The class that the loss ignores, if it does."""
        ignored = getattr(self._loss, "ignore_class", None)
        return [] if ignored is None else [ignored]

    def _counts(self, outputs: np.ndarray) -> np.ndarray:
        """By how much each answer counts."""
        weights = np.ones(outputs.shape[:-1]) if self._weights is None else self._weights
        if self.task == "regression":
            return weights
        if self.has_labels:
            weights = weights[..., None]
        return weights * (1.0 - np.isin(self.labels, self._ignored))

    def _mean_loss(self, outputs: np.ndarray) -> float:
        if isinstance(self._loss, keras.losses.Loss):
            return _mean(self._loss(self._y, outputs, sample_weight=self._weights))
        return _mean(self._weighted(self._loss(self._y, outputs)))

    def _measure(self, outputs: np.ndarray) -> float:
        if _is_accuracy(self._metric):
            return self.mean(self.is_right(outputs))
        if isinstance(self._metric, keras.metrics.Metric):
            self._metric.reset_state()
            self._metric.update_state(self._y, outputs, sample_weight=self._weights)
            return _mean(self._metric.result())
        mean = _mean(self._weighted(self._metric(self._y, outputs)))
        return mean if self._weights is None else float(mean / self._weights.mean())

    def _weighted(self, values: Tensor) -> Tensor:
        """What a function makes of every row of outputs, times its weight."""
        if self._weights is None:
            return values
        values = ops.convert_to_numpy(values).astype("float64")
        rows = self._weights.shape
        if values.shape[: len(rows)] != rows:
            raise ValueError("With sample weights it must give a number for every row of outputs.")
        return values.reshape(*rows, -1).mean(axis=-1) * self._weights


class NothingCounts(ValueError):
    """No answer counts: by its weight, as its label is ignored, or as it is masked."""


def _row_weights(
    weights: np.ndarray | None, mask: np.ndarray | None, rows: tuple[int, ...]
) -> np.ndarray | None:
    """By how much every row of outputs counts; None if all count alike."""
    weights = None if weights is None else _on_rows("Sample weights", "weights", weights, rows)
    if mask is None:
        return weights
    kept = _on_rows("Masks", "mask", mask, rows)
    # As Keras's losses have it, so that their mean is that of what is not masked.
    kept = kept / (kept.mean() or 1)
    return kept if weights is None else weights * kept


def _on_rows(what: str, name: str, values: np.ndarray, rows: tuple[int, ...]) -> np.ndarray:
    """Numbers of samples, or of rows of outputs, as an array of one for every row."""
    found = np.asarray(values, "float64")
    if found.ndim == len(rows) + 1 and found.shape[-1] == 1:
        found = found[..., 0]
    found = found.reshape(*found.shape, *(1,) * (len(rows) - found.ndim))
    fits = len(found.shape) == len(rows) and all(n in (1, m) for n, m in zip(found.shape, rows))
    if not fits or len(found) != rows[0]:
        shapes = " or ".join(map(str, dict.fromkeys((rows[:1], rows))))
        raise ValueError(
            f"{what} must be one for each sample, or one for each row of outputs. "
            f"Received: {name} of shape {np.shape(values)} for outputs with rows of the shape "
            f"{rows}. It must have the shape {shapes}."
        )
    found = np.broadcast_to(found, rows)
    with np.errstate(over="ignore", invalid="ignore"):
        total = found.sum()
    if not (np.isfinite(total) and (found >= 0).all()):
        raise ValueError(
            f"{what} must be finite and not negative, and their sum finite. "
            f"Received: {name} in [{found.min()}, {found.max()}]. Give what does not count 0."
        )
    return found


def relative_distance(
    outputs: np.ndarray,
    reference: np.ndarray,
    about: np.ndarray | None = None,
    weights: np.ndarray | None = None,
) -> float:
    """The root mean square of the difference, over that of the reference about its mean.

    The mean over the samples is subtracted, so that a large constant in the outputs does not hide
    a difference; outputs that are the same for every sample, up to the rounding of their dtype, are
    measured by their size.

    Args:
        outputs: NumPy array `(num_samples, ...)`.
        reference: NumPy array of the same shape.
        about: NumPy array whose spread is the unit; None for the reference's.
        weights: NumPy array `(num_samples, ...)`, by how much the rows along the last axis count,
            or None if all count alike.

    Returns:
        Float, infinite if a number that counts is not finite. It does not depend on the scale of
        the numbers.
    """
    arrays = [outputs, reference, reference if about is None else about]
    roundings = [epsilon(str(a.dtype)) for a in arrays if a.dtype.kind not in "biu"]
    rounding = _ROUNDINGS * max(roundings, default=0.0)
    arrays = [a.astype("float64") for a in arrays]
    if weights is not None:
        weights = np.broadcast_to(weights[..., None], outputs.shape)
        arrays = [np.where(weights > 0, a, 0) for a in arrays]
    if not all(np.isfinite(a).all() for a in arrays):
        return float("inf")
    exponent = max(map(_exponent, arrays))
    outputs, reference, unit = (np.ldexp(a, -exponent) for a in arrays)
    change = root_mean_square(outputs - reference, weights)
    spread = root_mean_square(unit - _mean_sample(unit, weights), weights)
    size = root_mean_square(unit, weights)
    scale = spread if spread > rounding * size else size
    if change == 0:
        return 0.0
    return change / scale if scale else float("inf")


def root_mean_square(a: np.ndarray, weights: np.ndarray | None = None) -> float:
    """The root of the mean of the squares of all numbers of an array."""
    exponent = _exponent(a)
    mean = np.average(np.ldexp(a, -exponent) ** 2, weights=weights)
    return float(np.ldexp(np.sqrt(mean), exponent))


def _exponent(a: np.ndarray) -> int:
    """The least power of two above all numbers of an array.

    Over that power the square of none overflows, and that of the largest does not underflow. It
    costs no rounding.
    """
    return int(np.frexp(np.abs(a).max(initial=0))[1])


def largest_gap(gaps: Iterable[float]) -> float:
    """The largest of some gaps; infinite if one is NaN, which `max` may pass over."""
    return max(math.inf if math.isnan(gap) else gap for gap in gaps)


def _mean_sample(a: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """The mean over the samples; 0 where none counts."""
    if weights is None:
        return a.mean(axis=0)
    total = weights.sum(axis=0)
    return (a * weights).sum(axis=0) / np.where(total > 0, total, 1)


def _mean(values: Tensor) -> float:
    return float(ops.convert_to_numpy(ops.mean(values)))


def checked_task(task: str | None) -> str | None:
    """One of `TASKS`, or None."""
    if task is None:
        return None
    advice = "Pass None to infer it from the loss and the labels."
    return arguments.choice("task", task, TASKS, advice=advice)


def checked_metric(metric: Metric | None) -> Any:
    """The metric that a name stands for, as `keras.metrics.get` has it; None for none.

    The names of accuracies stay names: what they stand for, loss, labels and outputs tell.
    """
    if _is_accuracy(metric):
        return metric
    try:
        found = None if metric is None else keras.metrics.get(metric)
    except (TypeError, ValueError):
        found = None
    if metric is not None and not callable(found):
        rule = "`metric` must be a Keras metric, its name, or a function `metric(y_true, y_pred)`"
        raise arguments.refused(rule, "metric", metric, "Leave it out to compare accuracies.")
    return found


def _is_accuracy(metric: Any) -> bool:
    """Whether this is a name that `compile` takes for the accuracy that fits the labels."""
    return isinstance(metric, str) and metric.lower() in ("accuracy", "acc")


def _resolved_loss(loss: Any, y: np.ndarray, outputs: np.ndarray) -> Any:
    """The loss that a model is trained with, of which `compile` takes some names by the shapes."""
    if isinstance(loss, str) and loss.lower() in ("crossentropy", "ce"):
        if outputs.shape[-1] == 1:
            loss = "binary_crossentropy"
        elif y.ndim < outputs.ndim or y.shape[-1] == 1:
            loss = "sparse_categorical_crossentropy"
        else:
            loss = "categorical_crossentropy"
    return None if loss is None else keras.losses.get(loss)


def _kind_name(function: Any) -> str:
    """The name of a function, or of the class of an object, which no user has given."""
    return str(getattr(function, "__name__", type(function).__name__))


def _shown_name(metric: Any) -> str:
    if isinstance(metric, str):
        return metric
    return str(getattr(metric, "name", None) or _kind_name(metric))


def _is_keras(loss: Any) -> bool:
    """Whether a loss is one of Keras's own, whose name says what it takes."""
    module = getattr(loss, "__module__", type(loss).__module__)
    return module.partition(".")[0] == "keras"


def _has_rows(y: np.ndarray, outputs: np.ndarray) -> bool:
    return y.shape == outputs.shape and outputs.shape[-1] > 1


def _is_one_hot(y: np.ndarray) -> bool:
    return bool(np.isin(y, (0, 1)).all() and (y.sum(axis=-1) == 1).all())
