"""What the outputs of a classifier mean: logits or probabilities, classes, and how far apart."""

from typing import Any

import keras
import numpy as np
from keras import ops

from tfnode.keras_internals import mask_of


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


def class_probabilities(outputs: Any, from_logits: bool, are_labels: bool) -> Any:
    """The probabilities of the classes, of which a single output gives two, or of the labels.

    Args:
        outputs: Tensor of shape `(batch_size, ..., classes)`.
        from_logits: Boolean, whether the outputs are logits or probabilities already.
        are_labels: Boolean, whether several of them may be right at once.
    """
    if outputs.shape[-1] == 1:
        p = ops.sigmoid(outputs) if from_logits else outputs
        return ops.concatenate([1 - p, p], axis=-1)
    if not from_logits:
        return outputs
    return ops.sigmoid(outputs) if are_labels else ops.softmax(outputs)


def with_mask(outputs: Any) -> tuple[Any, Any]:
    """Outputs and their Keras mask, or None: no compiled function returns it with them."""
    return outputs, None if keras.tree.is_nested(outputs) else mask_of(outputs)


def single_output(outputs: Any) -> np.ndarray:
    """The one output of a model as an array `(num_samples, ..., classes)`, in single precision at
    least.

    Raises:
        ValueError: If it has several, or one in a structure.
    """
    if keras.tree.is_nested(outputs):
        raise ValueError(
            "A model must have one output to be judged by, in no list or dictionary. "
            f"Received: a {type(outputs).__name__} of {len(keras.tree.flatten(outputs))}. Build a "
            "`keras.Model(model.inputs, output)` for each of them; it shares the weights."
        )
    outputs = ops.convert_to_numpy(outputs)
    if outputs.dtype not in (np.float32, np.float64):
        # NumPy knows little of half precision.
        outputs = outputs.astype(np.float32)
    return outputs[:, None] if outputs.ndim == 1 else outputs


def judged_output(outputs: Any, mask: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """The `single_output` and its mask, as arrays, of what `with_mask` has returned."""
    return single_output(outputs), None if mask is None else ops.convert_to_numpy(mask)
