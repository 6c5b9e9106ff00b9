"""The vector field of a block: its layer as a function of time and state, in three forms."""

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from tfnode.keras_internals import stateless_values
from tfnode.layers.field_inputs import FieldInputs
from tfnode.layers.stand_ins import in_open_scopes

tree = keras.tree


class VectorField:
    """A layer as a vector field.

    Args:
        layer: Keras layer, called with a state; before it with a time if it is time-dependent, and
            after it with the conditions if there are any, as `FieldInputs` has it.
        time_dependent: Boolean.
        owner: String, the name of the block, for errors.
    """

    def __init__(self, layer: keras.Layer, time_dependent: bool, owner: str) -> None:
        self._layer = layer
        self._field_inputs = FieldInputs(layer, time_dependent, owner)
        self._owner = owner

    def operands(self, conditions: Any) -> tuple[list, list]:
        """What the field is differentiated by: the values of its variables, and conditions."""
        values = [v.value for v in self._layer.trainable_variables]
        return values, [] if conditions is None else [conditions]

    @property
    def constants(self) -> list:
        """The values of its other variables."""
        return [v.value for v in self._layer.non_trainable_variables]

    def __call__(self, t: Any, z: Any, conditions: Any = None, **kwargs: Any) -> Any:
        """The derivative, as the layer gives it."""
        return self._field_inputs.call(t, z, conditions, **kwargs)

    def function(self, conditions: Any, training: bool | None) -> Callable:
        """The field as a function of `(t, z)`, in the structure and the dtypes of the state."""

        def field(t: Any, z: Any) -> Any:
            derivative = self(t, z, conditions, training=training)
            return _as_state(derivative, z, self._layer.name)

        return field

    def numpy(self, state: Any, conditions: Any, dtype: str) -> tuple[Callable, np.ndarray]:
        """The field as a function of `(t, z)` on NumPy arrays, and a state as such an array.

        The array is `(batch_size, -1)`, with the leaves of the state side by side, in the dtype
        that a block integrates in.
        """
        field = self.function(conditions, training=False)
        leaves = tree.flatten(state)
        ends = np.cumsum([math.prod(leaf.shape[1:]) for leaf in leaves])[:-1]

        def as_array(state: Any) -> np.ndarray:
            # Doubles, as NumPy may have no numbers of half precision.
            arrays = [ops.convert_to_numpy(ops.cast(z, dtype)) for z in tree.flatten(state)]
            flat = [z.astype("float64").reshape(len(z), math.prod(z.shape[1:])) for z in arrays]
            return np.concatenate(flat, axis=1)

        def numpy_field(t: Any, z: np.ndarray) -> np.ndarray:
            parts = np.split(z, ends, axis=1)
            arrays = [part.reshape(tuple(leaf.shape)) for part, leaf in zip(parts, leaves)]
            t, *tensors = (ops.convert_to_tensor(v, dtype=dtype) for v in (t, *arrays))
            return as_array(field(t, tree.pack_sequence_as(state, tensors)))

        return numpy_field, as_array(state)

    def pure(self, training: bool | None) -> Callable:
        """The field as a function of `operands(conditions), constants, t, z` and nothing else."""
        variables = self._layer.trainable_variables + self._layer.non_trainable_variables
        # Those of blocks that stand in for others in the field are not among its variables.
        around = stateless_values()

        def pure_field(weights: tuple, constants: list, t: Any, z: Any) -> Any:
            values, conditions = weights
            conditions = conditions[0] if conditions else None
            scope = keras.StatelessScope(collect_losses=True)
            scope.state_mapping.update(around)
            # Not by the constructor, which casts to a dtype that depends on the autocast scope.
            for update in zip(variables, [*values, *constants]):
                scope.add_update(update)
            before, seen = dict(scope.state_mapping), _random_state(t)
            with scope:
                derivative = self.function(conditions, training)(t, z)
            # By identity: values are tensors, and an update puts another one in its place.
            unchanged = all(before.get(key) is v for key, v in scope.state_mapping.items())
            self._check_pure(unchanged and seen == _random_state(t), scope.losses)
            return derivative

        return in_open_scopes(pure_field)

    def _check_pure(self, unchanged: bool, losses: list) -> None:
        if not unchanged:
            raise ValueError(
                "The discrete adjoint evaluates the field again in the backward pass and needs "
                "the same values, so the field must have no random or updating state (Dropout, "
                f"BatchNormalization). Received: field={self._layer.name!r} in block "
                f'{self._owner!r}. Build the block with gradient="backprop".'
            )
        if losses:
            raise ValueError(
                "The loop over the steps cannot hand out losses, so the field must add none "
                f"(activity regularizers). Received: field={self._layer.name!r} in block "
                f'{self._owner!r}. Build the block with gradient="backprop" and unroll=True.'
            )

    def check_derivative(self, derivative: Any, state: Any, compute_dtype: str) -> None:
        """Raises if a derivative has not the structure, the shapes and the dtypes of a state."""
        leaves = zip(tree.flatten(derivative), tree.flatten(state))
        fits = _has_shapes_of(derivative, state)
        if not (fits and all(dz.dtype in (z.dtype, compute_dtype) for dz, z in leaves)):
            raise _unfit(derivative, state, self._layer.name)


class FunctionField:
    """A function `field(t, z)` in the place of a `VectorField`; what it depends on is unseen.

    Args:
        function: Callable, given the conditions as its last argument if there are any.
    """

    constants: tuple = ()

    def __init__(self, function: Callable) -> None:
        self._function = function

    def operands(self, conditions: Any) -> tuple[list, list]:
        return [], [] if conditions is None else [conditions]

    def function(self, conditions: Any, training: bool | None) -> Callable:
        pure = self.pure(training)
        return lambda t, z: pure(self.operands(conditions), (), t, z)

    def pure(self, training: bool | None) -> Callable:
        name = getattr(self._function, "__name__", "field")
        return lambda weights, constants, t, z: _as_state(
            self._function(t, z, *weights[1]), z, name
        )


def _as_state(derivative: Any, z: Any, field: str) -> Any:
    """The derivative in the dtypes of the state, whose structure and shapes it must have."""
    if not _has_shapes_of(derivative, z):
        raise _unfit(derivative, z, field)
    # Keras saves tuples as lists, so that a field may be called with one and answer with the other.
    leaves = zip(tree.flatten(derivative), tree.flatten(z))
    return tree.pack_sequence_as(z, [ops.cast(dz, z.dtype) for dz, z in leaves])


def _has_shapes_of(derivative: Any, state: Any) -> bool:
    """Whether a derivative has a state's structure and shapes, as far as these are known."""
    try:
        tree.assert_same_structure(_as_tuples(state), _as_tuples(derivative))
    except (TypeError, ValueError):
        return False
    shapes = [
        [tuple(getattr(leaf, "shape", ())) for leaf in tree.flatten(tensors)]
        for tensors in (derivative, state)
    ]
    return all(
        len(a) == len(b) and all(m == n or None in (m, n) for m, n in zip(a, b))
        for a, b in zip(*shapes)
    )


def _as_tuples(structure: Any) -> Any:
    """A nested structure with tuples for all its sequences."""
    if isinstance(structure, dict):
        return {key: _as_tuples(value) for key, value in structure.items()}
    if isinstance(structure, (tuple, list)):
        return tuple(map(_as_tuples, structure))
    return structure


def _unfit(derivative: Any, state: Any, field: str) -> ValueError:
    return ValueError(
        "The field must map a state to a derivative of the same shape and dtype. "
        f"Received: a state of {_described(state)}, and from field={field!r} "
        f"a derivative of {_described(derivative)}. Change the field's last layer, or the "
        "dtype of the field or the block."
    )


def _random_state(t: Any) -> Any:
    """What torch's own generators hold, which a layer without a seed draws from."""
    if keras.backend.backend() != "torch":
        return None
    import torch

    generator = torch.cuda if t.is_cuda else torch.random
    return generator.get_rng_state().numpy().tobytes()


def _described(state: Any) -> str:
    return ", ".join(
        f"shape {getattr(s, 'shape', ())} and dtype {getattr(s, 'dtype', type(s).__name__)}"
        for s in tree.flatten(state)
    )
