"""From outputs and labels to numbers: accuracy, loss, metric, and distances between outputs."""

from typing import Any

import keras
import numpy as np
from keras import ops

from tfnode.models.outputs import decision_threshold
from tfnode.typing import Metric, Tensor

TASKS = ("classification", "regression")


class Scorer:
    """Scores the outputs of a model against labels, which it checks once.

    Args:
        model: Keras model, compiled or not, whose loss is used.
        y: NumPy array, the labels.
        outputs: NumPy array `(num_samples, ..., classes)`, to check the labels with.
        task: One of `TASKS`, or None to infer it from the loss and the labels: cross-entropies
            and hinge losses mean classification; mean errors, Huber, log-cosh and Poisson losses
            mean regression; with another loss or none, integer labels and one-hot rows mean
            classification, and all others regression.
        metric: Anything that `keras.metrics.get` understands, or None.
    """

    def __init__(
        self,
        model: keras.Model,
        y: np.ndarray,
        outputs: np.ndarray,
        task: str | None = None,
        metric: Metric | None = None,
    ) -> None:
        if outputs.shape[-1] == 1 and y.ndim == outputs.ndim - 1:
            y = y[..., None]
        self._y = y
        self._loss = _loss(model)
        self._metric: Any = None if metric is None else keras.metrics.get(metric)
        self.metric_name = None if metric is None else _name(self._metric)
        self.threshold = decision_threshold(model)
        self.task = _task(self._loss, y, outputs, task)
        if self.task == "classification":
            self.labels = _class_labels(y, outputs)
        else:
            _check_targets(y, outputs)

    @property
    def is_empty(self) -> bool:
        """Whether there is no accuracy, loss or metric."""
        return self.task == "regression" and self._loss is None and self._metric is None

    def scores(self, outputs: np.ndarray) -> dict[str, float | None]:
        """Accuracy, loss and metric as plain values, None where there is none."""
        return {
            "accuracy": self.accuracy(outputs),
            "loss": None if self._loss is None else _mean(self._loss(self._y, outputs)),
            "metric": None if self._metric is None else self._measure(outputs),
        }

    def accuracy(self, outputs: np.ndarray) -> float | None:
        """The fraction of the samples whose class is right; None in regression."""
        return None if self.task == "regression" else float(self.is_right(outputs).mean())

    def is_right(self, outputs: np.ndarray) -> np.ndarray:
        """Booleans, whether the predicted classes are the labels."""
        return self.classes(outputs) == self.labels

    def classes(self, outputs: np.ndarray) -> np.ndarray:
        """The predicted classes; -1, which is never right, where an output is not finite."""
        if outputs.shape[-1] == 1:
            classes = (outputs[..., 0] > self.threshold).astype("int64")
        else:
            classes = outputs.argmax(axis=-1)
        return np.where(np.isfinite(outputs).all(axis=-1), classes, -1)

    def _measure(self, outputs: np.ndarray) -> float:
        if not isinstance(self._metric, keras.metrics.Metric):
            return _mean(self._metric(self._y, outputs))
        self._metric.reset_state()
        self._metric.update_state(self._y, outputs)
        return _mean(self._metric.result())


def relative_distance(outputs: np.ndarray, reference: np.ndarray) -> float:
    """The root mean square of the difference, over that of the reference about its mean.

    The mean over the samples is subtracted, so that a large constant in the outputs does not hide
    a difference; outputs that are the same for every sample are measured by their size.

    Args:
        outputs: NumPy array `(num_samples, ...)`.
        reference: NumPy array of the same shape.

    Returns:
        Float, infinite if an output is not finite.
    """
    outputs, reference = outputs.astype("float64"), reference.astype("float64")
    if not (np.isfinite(outputs).all() and np.isfinite(reference).all()):
        return float("inf")
    change = _root_mean_square(outputs - reference)
    spread = _root_mean_square(reference - reference.mean(axis=0))
    scale = spread or _root_mean_square(reference)
    if change == 0:
        return 0.0
    return change / scale if scale else float("inf")


def _root_mean_square(a: np.ndarray) -> float:
    return float(np.sqrt(np.mean(a**2)))


def _mean(values: Tensor) -> float:
    return float(ops.convert_to_numpy(ops.mean(values)))


def _loss(model: keras.Model) -> Any:
    """The loss that the model was compiled with; None if it was not compiled."""
    # Logits and probabilities look alike, so that a guess could be wrong.
    losses = keras.tree.flatten(getattr(model, "loss", None))
    if not losses or losses[0] is None:
        return None
    return keras.losses.get(losses[0])


def _name(metric: Any) -> str:
    fallback = getattr(metric, "__name__", type(metric).__name__)
    return str(getattr(metric, "name", None) or fallback)


def _task(loss: Any, y: np.ndarray, outputs: np.ndarray, task: str | None) -> str:
    if task is not None:
        if task not in TASKS:
            raise ValueError(
                f"`task` must be one of {TASKS} or None. Received: task={task!r}. "
                "None infers it from the loss and the labels."
            )
        return task
    name = getattr(loss, "__name__", type(loss).__name__).lower()
    if any(word in name for word in ("crossentropy", "hinge")):
        return "classification"
    if any(word in name for word in ("mean", "huber", "cosh", "poisson")):
        return "regression"
    is_classes = y.dtype.kind in "iub" or (_has_rows(y, outputs) and _is_one_hot(y))
    return "classification" if is_classes else "regression"


def _has_rows(y: np.ndarray, outputs: np.ndarray) -> bool:
    return y.shape == outputs.shape and outputs.shape[-1] > 1


def _is_one_hot(y: np.ndarray) -> bool:
    return bool(np.isin(y, (0, 1)).all() and (y.sum(axis=-1) == 1).all())


def _class_labels(y: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """The classes that labels stand for, checked against the outputs."""
    num_classes = max(2, outputs.shape[-1])
    rows = _has_rows(y, outputs)
    if rows:
        # Smoothed labels are probabilities too; several classes at once are not.
        good = bool((y >= 0).all() and np.allclose(y.sum(axis=-1), 1, atol=1e-3))
        labels = y.argmax(axis=-1)
    else:
        labels = y[..., 0] if y.ndim == outputs.ndim and y.shape[-1] == 1 else y
        good = labels.shape == outputs.shape[:-1] and bool(
            np.isin(labels, np.arange(num_classes)).all()
        )
    if not good:
        found = f"y of shape {y.shape} and dtype {y.dtype} in [{y.min()}, {y.max()}]"
        raise ValueError(
            f"Labels must be classes from 0 to {num_classes - 1}, or one-hot rows, for outputs of "
            f"shape {outputs.shape}. Received: {found}. Do data and model belong together? If "
            'the labels are not classes, pass task="regression".'
        )
    return labels.astype("int64")


def _check_targets(y: np.ndarray, outputs: np.ndarray) -> None:
    if y.shape != outputs.shape:
        raise ValueError(
            "The targets of a regression must have the shape of the outputs, "
            f"{outputs.shape}. Received: y of shape {y.shape} and dtype {y.dtype}. Do data and "
            'model belong together? If the labels are classes, pass task="classification".'
        )
