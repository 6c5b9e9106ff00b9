"""How a layer is called as a vector field: with arguments, with one list, or with one tensor."""

import inspect
import math
from typing import Any

import keras
from keras import ops

from tfnode.keras_internals import mask_of, set_mask

tree = keras.tree

# What Keras passes to a layer's `call` by itself.
_BY_KERAS = ("training", "mask")


class FieldInputs:
    """Calls a layer with a time, a state and conditions, in the form that the layer takes.

    Args:
        layer: Keras layer.
        time_dependent: Boolean, whether it is given the time.
        owner: String, the name of the block, for errors.
    """

    def __init__(self, layer: keras.Layer, time_dependent: bool, owner: str) -> None:
        self._layer = layer
        self._time_dependent = time_dependent
        self._owner = owner
        self._num_arguments = _num_arguments(layer)

    def call(self, t: Any, z: Any, conditions: Any, **kwargs: Any) -> Any:
        """What the layer answers."""
        arguments = [t, z] if self._time_dependent else [z]
        if conditions is not None:
            arguments.append(conditions)
        if len(arguments) <= self._num_arguments:
            if self._time_dependent:
                _build_by_state(self._layer, z)
            return self._layer(*arguments, **kwargs)
        # Functional models have them; a `Sequential` that is not built, or a layer, has none.
        inputs = getattr(self._layer, "inputs", None) or []
        if isinstance(self._layer, keras.Model) and len(inputs) > 1:
            return self._layer(self._as_list(arguments), **kwargs)
        if conditions is not None:
            raise self._unfit(arguments, "It has no place for conditions.")
        return self._layer(self._with_time(t, z), **kwargs)

    def _as_list(self, arguments: list) -> list:
        """The inputs of a functional model, which have a batch axis each, times too."""
        given = self._layer.input
        if not isinstance(given, (list, tuple)) or len(given) != len(arguments):
            raise self._unfit(arguments, f"It has the inputs {tree.map_structure(_shape, given)}.")
        if not self._time_dependent:
            return arguments
        t, z, *others = arguments
        return [_for_each_sample(t, tree.flatten(z)[0], len(given[0].shape)), z, *others]

    def _with_time(self, t: Any, z: Any) -> Any:
        """The state with the time as one more feature."""
        if not hasattr(z, "shape") or len(z.shape) < 2:
            raise self._unfit([t, z], "It has one input, and the state no last axis for the time.")
        time = ops.cast(t, z.dtype) * ops.ones_like(z[..., :1])
        # On torch Keras takes symbolic doubles together to be single precision.
        with_time = ops.cast(ops.concatenate([z, time], axis=-1), z.dtype)
        set_mask(with_time, mask_of(z))
        return with_time

    def _unfit(self, arguments: list, found: str) -> ValueError:
        names = ["t"] * self._time_dependent + ["z"]
        names += ["conditions"] * (len(arguments) - len(names))
        return ValueError(
            "A field takes its arguments one after the other, or is a functional model with a list "
            "of them as its inputs; a field of one input may have the time as the last feature of "
            f"one state. Received: field={self._layer.name!r} of type "
            f"{type(self._layer).__name__} in block {self._owner!r}, for ({', '.join(names)}). "
            f"{found} Write a layer with `call(self, {', '.join(names)})`."
        )


def _num_arguments(layer: keras.Layer) -> float:
    """How many arguments a layer's call takes by their positions."""
    parameters = inspect.signature(layer.call).parameters.values()
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return math.inf
    by_position = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    # A layer of several inputs may take the mask of each by its name.
    masks = {f"{p.name}_mask" for p in by_position}
    by_keras = lambda p: p.name in _BY_KERAS or (p.name in masks and p.default is not p.empty)
    return len([p for p in by_position if not by_keras(p)])


def _build_by_state(layer: keras.Layer, z: Any) -> None:
    """Builds a layer with `build(input_shape)`, which Keras would give the shape of the time."""
    is_own = type(layer).build not in (keras.layers.Layer.build, keras.Model.build)
    if is_own and not layer.built and len(inspect.signature(layer.build).parameters) == 1:
        layer.build(tree.map_structure(_shape, z))


def _for_each_sample(t: Any, z: Any, rank: int) -> Any:
    """The time as an input of a model has it, `(batch_size, 1, ...)` of a rank."""
    if rank == 0:
        return t
    row = z[(slice(None), *(0 for _ in z.shape[1:]))]
    t = ops.reshape(ops.cast(t, z.dtype), (-1,)) * ops.ones_like(row)
    for _ in range(rank - 1):
        t = ops.expand_dims(t, -1)
    return t


def _shape(tensor: Any) -> tuple:
    return tuple(tensor.shape)
