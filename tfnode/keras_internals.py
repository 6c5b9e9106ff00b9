"""What is private in Keras and needed here, each name with its reason; a test notices changes."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import keras
from keras.src.backend import AutocastScope, get_keras_mask, set_keras_mask
from keras.src.backend import in_stateless_scope as _in_stateless_scope
from keras.src.backend.common.stateless_scope import get_stateless_scope
from keras.src.backend.common.symbolic_scope import in_symbolic_scope as _in_symbolic_scope
from keras.src.saving.serialization_lib import serialize_with_public_class


def no_autocast() -> AbstractContextManager:
    """A scope in which variables are read as they are.

    For an outermost layer Keras casts variables to the compute dtype even with `autocast=False`.
    """
    return AutocastScope(None)


def in_stateless_scope() -> bool:
    """Whether no variable may be assigned, as while a model is exported."""
    return _in_stateless_scope()


def in_symbolic_scope() -> bool:
    """Whether Keras calls a layer for the shapes of its outputs alone, and keeps no graph."""
    return _in_symbolic_scope()


def stateless_values() -> dict[int, Any]:
    """What the innermost `keras.StatelessScope` has for variables, by their ids.

    Keras asks no scope but the innermost, so one that is opened inside must be given them.
    """
    return dict(get_stateless_scope().state_mapping) if _in_stateless_scope() else {}


def mask_of(tensor: Any) -> Any:
    """The mask that a layer has left on its output, or None.

    Keras's losses and metrics ask for it, but no public function does.
    """
    return get_keras_mask(tensor)


def set_mask(tensor: Any, mask: Any) -> None:
    """Attaches a mask to a tensor, or takes it off with None, as layers do with their outputs."""
    set_keras_mask(tensor, mask)


def masked(tensor: Any, mask: Any) -> Any:
    """A tensor with a mask: a copy, unless it has that mask."""
    if mask_of(tensor) is mask:
        return tensor
    copy = keras.ops.copy(tensor)
    set_mask(copy, mask)
    return copy


def iterations_of(model: keras.Model) -> Any:
    """How many steps the optimizer of a model has taken, while it is trained too.

    On JAX Keras then keeps all values outside of the variables. `jax_state_sync` brings every one
    of them back, which can take longer than a training step.
    """
    iterations = model.optimizer.iterations
    state = getattr(model, "_jax_state", None)
    if not state or model._jax_state_synced:
        return iterations
    found = zip(model.optimizer.variables, state["optimizer_variables"], strict=True)
    return next(value for variable, value in found if variable is iterations)


def serialized(layer: keras.Layer) -> dict:
    """A layer as Keras saves it, without how a model is compiled.

    `keras.saving.serialize_keras_object` adds that, and fails or warns where a loss, a metric or a
    schedule is not registered.
    """
    entries = keras.saving.serialize_keras_object(layer.get_config())
    config = serialize_with_public_class(type(layer), entries)
    shapes = layer.get_build_config()
    if shapes is not None:
        config["build_config"] = keras.saving.serialize_keras_object(shapes)
    return config


def sublayers(layer: keras.Layer) -> Iterator[Any]:
    """A layer and all that it tracks, wherever they sit: `layers` names only those on top."""
    yield from layer._flatten_layers(include_self=True, recursive=True)


def attributes(layer: keras.Layer) -> dict[str, Any]:
    """What is set on a layer, by name."""
    # torch keeps layers, as modules, apart from all else, and Keras the parameters of one there.
    found = {**vars(layer), **vars(layer).get("_modules", {})}
    found.pop("_torch_params", None)
    return found
