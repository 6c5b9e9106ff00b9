"""Nested structures of shapes, as Keras hands them to `build`: functions of each, and tensors."""

import itertools
from collections.abc import Callable
from typing import Any

import keras


def map_shapes(function: Callable, shapes: Any) -> Any:
    """`function` of every shape in a nested structure of them, or of a single one."""
    if isinstance(shapes, dict):
        return {key: map_shapes(function, shape) for key, shape in shapes.items()}
    if any(isinstance(size, (tuple, list, dict)) for size in shapes):
        return type(shapes)(map_shapes(function, shape) for shape in shapes)
    return function(tuple(shapes))


def symbolic(shapes: Any, dtypes: Any) -> Any:
    """Symbolic tensors of nested shapes, of one dtype or of a dtype each."""
    if isinstance(shapes, dict):
        of = lambda key: dtypes if isinstance(dtypes, str) else dtypes[key]
        return {key: symbolic(shape, of(key)) for key, shape in shapes.items()}
    if any(isinstance(size, (tuple, list, dict)) for size in shapes):
        each = itertools.repeat(dtypes) if isinstance(dtypes, str) else dtypes
        return type(shapes)(map(symbolic, shapes, each))
    return keras.KerasTensor(tuple(shapes), dtype=dtypes)
