"""What many signatures have in common. Shapes and dtypes are said in docstrings, in words."""

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import keras

Tensor: TypeAlias = Any
"""A tensor of the backend, or whatever Keras makes one of: a NumPy array, a variable, a number."""

Nested: TypeAlias = Any
"""A tensor, or a list, tuple or dictionary of them, as models with several inputs take it."""

Shape: TypeAlias = tuple[Any, ...]
"""The lengths of a tensor's axes; None where one is not known yet."""

Field: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""A vector field: `field(t, z)` is the derivative, of the shape of the state `z`."""

Metric: TypeAlias = keras.metrics.Metric | str | Callable[[Tensor, Tensor], Tensor]
"""A Keras metric, its name, or a function `metric(y_true, y_pred)`."""

PathLike: TypeAlias = str | os.PathLike[str]
"""A path, as a string or a `pathlib.Path`."""

Data: TypeAlias = tuple[Nested, ...] | Iterable[Sequence[Nested]]
"""Arrays `(x, y)`, or batches `(inputs, labels)`, such as a `tf.data.Dataset` of them; either with
sample weights as a third part."""
