"""What the outputs of a classifier mean: logits or probabilities, classes, and how far apart."""

from typing import Any

import keras
import numpy as np
from keras import ops


def loss_of(model: keras.Model) -> Any:
    """The loss that a model was compiled with, the first of several; None if it was not."""
    losses = keras.tree.flatten(getattr(model, "loss", None))
    return losses[0] if losses else None


def gives_logits(model: keras.Model) -> bool:
    """Whether the outputs are logits: the loss tells."""
    return bool(getattr(loss_of(model), "from_logits", False))


def decision_threshold(model: keras.Model) -> float:
    """The decision threshold of a single output: 0 for logits, 1/2 for probabilities."""
    return 0.0 if gives_logits(model) else 0.5


def accuracy(y: Any, outputs: Any, threshold: float) -> Any:
    """The fraction of rows whose class is right.

    Args:
        y: Labels: classes, one-hot rows, or 0/1 for a single output.
        outputs: Tensor of shape `(batch_size, ..., classes)`, logits or probabilities.
        threshold: Float, above which a single output means class 1.
    """
    if outputs.shape[-1] == 1:
        predicted = ops.cast(outputs > threshold, "int32")
        labels = ops.reshape(ops.cast(y, "int32"), ops.shape(predicted))
    else:
        predicted = ops.argmax(outputs, axis=-1)
        one_hot = len(y.shape) == len(outputs.shape) and y.shape[-1] == outputs.shape[-1]
        labels = ops.argmax(y, axis=-1) if one_hot else ops.reshape(y, ops.shape(predicted))
    return ops.mean(ops.cast(ops.equal(predicted, ops.cast(labels, predicted.dtype)), "float32"))


def class_probabilities(outputs: Any, from_logits: bool) -> Any:
    """The probabilities of the classes, of which a single output gives two.

    Args:
        outputs: Tensor of shape `(batch_size, ..., classes)`.
        from_logits: Boolean, whether the outputs are logits or probabilities already.
    """
    if outputs.shape[-1] == 1:
        p = ops.sigmoid(outputs) if from_logits else outputs
        return ops.concatenate([1 - p, p], axis=-1)
    return ops.softmax(outputs) if from_logits else outputs


def total_variation(p: np.ndarray, q: np.ndarray) -> float:
    """The mean total variation distance of two arrays of class probabilities, in [0, 1]."""
    return float(np.abs(p.astype("float64") - q).sum(axis=-1).mean() / 2)
