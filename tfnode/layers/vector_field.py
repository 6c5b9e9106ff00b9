"""The vector field of a block: a layer, and with what a call gives it a function of `(t, z)`."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from tfnode.keras_internals import stateless_values
from tfnode.layers.field_inputs import FieldInputs
from tfnode.layers.given import Given
from tfnode.layers.stand_ins import in_open_scopes

tree = keras.tree

_OF_BLOCK = (
    'Build the block with gradient="backprop".',
    'Build the block with gradient="backprop" and unroll=True.',
)


class VectorField:
    """A layer as a vector field.

    Args:
        layer: Keras layer, called with a state; before it with a time if it is time-dependent, and
            after it with the conditions if there are any, as `FieldInputs` has it.
        time_dependent: Boolean.
        owner: String, the name of the block, for errors.
        remedies: What to do with a layer whose state is random or changes, and with one that adds
            losses.
    """

    def __init__(
        self,
        layer: keras.Layer,
        time_dependent: bool,
        owner: str,
        remedies: tuple[str, str] = _OF_BLOCK,
    ) -> None:
        self.layer = layer
        self._remedies = remedies
        self._field_inputs = FieldInputs(layer, time_dependent, owner)
        self._owner = owner

    def __call__(self, t: Any, z: Any, given: Given, **kwargs: Any) -> Any:
        """The derivative, as the layer gives it."""
        with given.masking(z):
            return self._field_inputs.call(t, z, given.conditions, **kwargs)

    def with_given(self, given: Given) -> "GivenField":
        """The field of one call of a block."""
        return GivenField(self, given)

    def numpy(self, state: Any, conditions: Any, dtype: str) -> tuple[Callable, np.ndarray]:
        """The field as a function of `(t, z)` on NumPy arrays, and a state as such an array.

        The array is `(batch_size, -1)`, with the leaves of the state side by side, in the dtype
        that a block integrates in.
        """
        field = self.with_given(Given.of_call(state, conditions)).function(training=False)
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

    def check_pure(self, unchanged: bool, losses: list) -> None:
        """Raises if an evaluation has changed what it read, or has added losses."""
        if not unchanged:
            raise ValueError(
                "The discrete adjoint evaluates the field again in the backward pass and needs "
                "the same values, so the field must have no random or updating state (Dropout, "
                "BatchNormalization, the statistics of an adaptive block). "
                f"Received: field={self.layer.name!r} for {self._owner!r}. {self._remedies[0]}"
            )
        if losses:
            raise ValueError(
                "The loop over the steps cannot hand out losses, so the field must add none "
                f"(activity regularizers). Received: field={self.layer.name!r} for "
                f"{self._owner!r}. {self._remedies[1]}"
            )

    def check_own(self, foreign: list) -> None:
        """Raises if an evaluation has read trainable variables of others."""
        if foreign:
            raise ValueError(
                "The adjoint gives a gradient to the weights of the field alone, so that the field "
                "must hold all that it reads and that is trained. "
                f"Received: field={self.layer.name!r} for {self._owner!r}, which reads "
                f"{sorted({variable.path for variable in foreign})}. Make their layer an attribute "
                "of the field, or freeze it by `trainable = False`."
            )

    def check_derivative(self, derivative: Any, state: Any, compute_dtype: str) -> None:
        """Raises if a derivative has not the structure, the shapes and the dtypes of a state."""
        leaves = zip(tree.flatten(derivative), tree.flatten(state))
        fits = _has_shapes_of(derivative, state)
        if not (fits and all(dz.dtype in (z.dtype, compute_dtype) for dz, z in leaves)):
            raise _unfit(derivative, state, self.layer.name)


class _FieldScope(keras.StatelessScope):
    """In which a field's variables have other values, and what it reads of others is noticed.

    Args:
        values: List of pairs of a variable and its value.
        around: Dictionary from the ids of further variables to their values.
    """

    def __init__(self, values: list[tuple], around: dict[int, Any]) -> None:
        # Not with the values: they would be cast to a dtype that depends on the autocast scope.
        super().__init__(collect_losses=True)
        self.state_mapping.update(around)
        for update in values:
            self.add_update(update)
        self._own = {id(variable) for variable, _ in values}
        self.foreign: list[Any] = []

    def get_current_value(self, variable: Any) -> Any:
        if variable.trainable and id(variable) not in self._own:
            self.foreign.append(variable)
        return super().get_current_value(variable)


@dataclasses.dataclass(frozen=True)
class GivenField:
    """A vector field with what a call gives it, in the forms that it is integrated in.

    Args:
        vector_field: `VectorField`.
        given: `Given`.
    """

    vector_field: VectorField
    given: Given

    @property
    def operands(self) -> tuple[list, list]:
        """What the field is differentiated by: values of its variables, and of what is given."""
        values = [v.value for v in self.vector_field.layer.trainable_variables]
        return values, self.given.operands

    @property
    def constants(self) -> tuple[list, list]:
        """The values of its other variables, and the rest of what is given."""
        values = [v.value for v in self.vector_field.layer.non_trainable_variables]
        return values, self.given.constants

    def mapped(self, function: Callable) -> "GivenField":
        """The field with the function of every tensor that is given."""
        return GivenField(self.vector_field, self.given.mapped(function))

    def function(self, training: bool | None) -> Callable:
        """The field as a function of `(t, z)`, in the structure and the dtypes of the state."""

        def field(t: Any, z: Any) -> Any:
            derivative = self.vector_field(t, z, self.given, training=training)
            return _as_state(derivative, z, self.vector_field.layer.name)

        return field

    def pure(self, training: bool | None) -> Callable:
        """The field as a function of `operands, constants, t, z` and nothing else."""
        layer = self.vector_field.layer
        variables = layer.trainable_variables + layer.non_trainable_variables
        # Those of blocks that stand in for others in the field are not among its variables.
        around = stateless_values()

        def pure_field(operands: tuple, constants: tuple, t: Any, z: Any) -> Any:
            (weights, given), (other_weights, other_given) = operands, constants
            scope = _FieldScope(list(zip(variables, [*weights, *other_weights])), around)
            before, seen = dict(scope.state_mapping), _random_state(t)
            field = dataclasses.replace(self, given=self.given.replaced(given, other_given))
            with scope:
                derivative = field.function(training)(t, z)
            # By identity: values are tensors, and an update puts another one in its place.
            unchanged = all(before.get(key) is v for key, v in scope.state_mapping.items())
            self.vector_field.check_pure(unchanged and seen == _random_state(t), scope.losses)
            if training:
                self.vector_field.check_own(scope.foreign)
            return derivative

        return in_open_scopes(pure_field)


@dataclasses.dataclass(frozen=True)
class FunctionField:
    """A function `field(t, z)` in the place of a `GivenField`; what it depends on is unseen.

    Args:
        of_state: Callable, given the conditions as its last argument if there are any.
        given: `Given`.
    """

    of_state: Callable
    given: Given

    @property
    def operands(self) -> list:
        return self.given.operands

    @property
    def constants(self) -> list:
        return self.given.constants

    def mapped(self, function: Callable) -> "FunctionField":
        return FunctionField(self.of_state, self.given.mapped(function))

    def function(self, training: bool | None) -> Callable:
        conditions = [] if self.given.conditions is None else [self.given.conditions]
        name = getattr(self.of_state, "__name__", "field")

        def field(t: Any, z: Any) -> Any:
            with self.given.masking(z):
                return _as_state(self.of_state(t, z, *conditions), z, name)

        return field

    def pure(self, training: bool | None) -> Callable:
        def pure_field(operands: list, constants: list, t: Any, z: Any) -> Any:
            given = self.given.replaced(operands, constants)
            return FunctionField(self.of_state, given).function(training)(t, z)

        return pure_field


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
