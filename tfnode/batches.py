"""Data as `fit` takes it, as batches `(inputs, labels, weights)` for all who measure on it.

A tuple is one of arrays; all else is an iterable of batches.
"""

import operator
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from tfnode import arguments

# Inputs, which may be nested, labels, and the samples' weights or None.
Batch = tuple[Any, Any, Any]


def check_data(data: Any) -> None:
    """Raises if this is neither a tuple of arrays nor an iterable of batches; reads nothing."""
    if isinstance(data, tuple):
        arrays(data)
    elif not arguments.is_iterable(data):
        raise arguments.refused(
            "`data` must be a tuple of arrays `(x, y)`, or an iterable of batches",
            "data",
            data,
            "Pass what `fit` takes, for example a `tf.data.Dataset`.",
        )


def empty(data: Any) -> ValueError:
    """The error for data without a sample."""
    return arguments.refused(
        "A model is measured on at least one sample",
        "data",
        data,
        "Is it empty, a generator that was used up, or smaller than one batch with "
        "drop_remainder=True? Pass data that has samples.",
    )


def arrays(data: tuple) -> Batch:
    """The arrays of a tuple `(x, y)` or `(x, y, sample_weight)`, checked to be of one length."""
    if len(data) not in (2, 3) or any(map(_holds_arrays, data[1:])):
        raise ValueError(
            "Arrays are given as a tuple `(x, y)` or `(x, y, sample_weight)`, with one array of "
            f"labels. Received: data, a tuple of the types {[type(p).__name__ for p in data]}. "
            "Pass batches as a list or a dataset, and a model with one output."
        )
    x = keras.tree.map_structure(np.asarray, data[0])
    y, weights = (None if part is None else np.asarray(part) for part in (*data[1:], None)[:2])
    given = [*keras.tree.flatten(x), y, *([] if weights is None else [weights])]
    lengths = {np.shape(array)[:1] for array in given}
    if len(lengths) != 1 or lengths == {()}:
        raise ValueError(
            "Inputs and labels must have the same length. Received: data with arrays of the "
            f"lengths {sorted(n for shape in lengths for n in shape)}. Pass `(x, y)` with a label "
            "for every input."
        )
    return x, y, weights


def _holds_arrays(part: Any) -> bool:
    """Whether what should be one array is several: of several outputs, or of another batch."""
    parts = part if isinstance(part, (tuple, list)) else ()
    return isinstance(part, dict) or any(getattr(inner, "shape", ()) for inner in parts)


def rows(batch: Batch, index: Any) -> Batch:
    """Some samples of a batch of arrays."""
    x, y, weights = batch
    take = operator.itemgetter(index)
    return keras.tree.map_structure(take, x), y[index], None if weights is None else weights[index]


def batches(data: Any) -> Iterator[Batch]:
    """Yields the batches of an iterable that have samples, all with weights of one form or none."""
    first: Batch | None = None
    for batch in data:
        if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
            raise ValueError(
                "A model is measured on batches `(inputs, labels)` or `(inputs, labels, weights)`. "
                f"Received: data with a batch of type {type(batch).__name__}. Pass a dataset of "
                "such batches, or a tuple of arrays `(x, y)`."
            )
        x, y, weights = (*batch, None)[:3]
        if keras.tree.is_nested(y):
            raise ValueError(
                "A model must have one output to be judged by, and its labels are one array. "
                f"Received: data with labels of type {type(y).__name__}. Build a "
                "`keras.Model(model.inputs, output)` for each output; it shares the weights."
            )
        if len(y):
            first = first or (x, y, weights)
            if _num_axes(weights) != _num_axes(first[2]):
                raise not_alike("weights", weights, first[2])
            yield x, y, weights


def _num_axes(array: Any) -> int | None:
    return None if array is None else np.ndim(array)


def not_alike(what: str, array: Any, first: Any) -> ValueError:
    """The error for batches that cannot be judged as one.

    Args:
        what: String, the part of a batch that differs.
        array: Array, of a batch, or None where it has no such part.
        first: Array or None, of a batch before it.
    """
    found = f"no {what}" if array is None else f"{what} of shape {np.shape(array)}"
    before = "without" if first is None else f"of shape {np.shape(first)}"
    advice = (
        "Give each batch weights of the same form, 1 for what counts as usual, or none."
        if what == "weights"
        else "Pad all batches to the same length, and mask the padding or give it a sample weight "
        "of 0."
    )
    return ValueError(
        "All batches must be alike but for their numbers of samples. "
        f"Received: data with {found} after some {before}. {advice}"
    )


def check_inputs(x: Any, outputs: np.ndarray, where: str) -> None:
    """Raises if samples have no finite outputs, as their inputs are not finite either.

    Such outputs say nothing of the model or its solver. A model that masks the inputs passes.

    Args:
        x: Nested structure of arrays `(num_samples, ...)`.
        outputs: NumPy array `(num_samples, ...)`, what a model makes of them.
        where: String, the batch that they are of.
    """
    unfit = _not_finite(outputs) > 0
    if not unfit.any():
        return
    counts = sum(_not_finite(to_numpy(array)) for array in keras.tree.flatten(x)) * unfit
    if counts.any():
        raise ValueError(
            "Inputs must be finite, or be masked by the model, to tell anything of its solver. "
            f"Received: x with {counts.sum()} values that are not finite, in {(counts > 0).sum()} "
            f"of the {len(outputs)} samples of {where}, whose outputs are not finite either. "
            "Leave these samples out."
        )


def _not_finite(array: np.ndarray) -> np.ndarray:
    """How many values of each sample are not finite; text has none."""
    if array.dtype.kind in "OSU":
        return np.zeros(len(array), int)
    return (~np.isfinite(array)).reshape(len(array), -1).sum(axis=1)


def joined(parts: list[Batch]) -> Batch:
    """Batches as one, of NumPy arrays."""
    inputs, labels, weights = zip(*parts)
    return (
        keras.tree.map_structure(lambda *arrays: _concatenated("inputs", arrays), *inputs),
        _concatenated("labels", labels),
        None if weights[0] is None else _concatenated("weights", weights),
    )


def _concatenated(what: str, parts: Sequence[Any]) -> np.ndarray:
    arrays = [to_numpy(part) for part in parts]
    for array in arrays:
        if array.shape[1:] != arrays[0].shape[1:]:
            raise not_alike(what, array, arrays[0])
    return np.concatenate(arrays)


def to_numpy(array: Any) -> np.ndarray:
    """An array of any library as NumPy's."""
    return keras.ops.convert_to_numpy(array)
