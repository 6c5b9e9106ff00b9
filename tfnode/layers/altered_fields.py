"""A field made of another one: with a penalty beside its state, or at another pace.

A penalty is one more component of the state, which the steps integrate by the stages that they
take anyway. An end at another time is the same interval with the field at another pace. So every
solver and every gradient serves them as it is.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import keras
from keras import ops

from tfnode.integrate.loops import pulled_back
from tfnode.layers.regularization import Regularization
from tfnode.layers.vector_field import FunctionField, GivenField

tree = keras.tree


class AlteredField:
    """A field made of another one, with the same face.

    Args:
        field: `GivenField`, or another field.
        alter: Pure function of `field, drawn, t, z`, where `field` is called as `field(t, z)`.
        drawn: List of tensors without gradient, the same at every evaluation of a forward pass.
    """

    def __init__(self, field: "Field", alter: Callable, drawn: list) -> None:
        self._field = field
        self._alter = alter
        self._drawn = drawn

    @property
    def operands(self) -> Any:
        return self._field.operands

    @property
    def constants(self) -> tuple:
        return self._field.constants, self._drawn

    def mapped(self, function: Callable) -> "AlteredField":
        return AlteredField(
            self._field.mapped(function), self._alter, list(map(function, self._drawn))
        )

    def function(self, training: bool | None) -> Callable:
        field = self._field.function(training)
        return lambda t, z: self._alter(field, self._drawn, t, z)

    def pure(self, training: bool | None) -> Callable:
        field = self._field.pure(training)

        def pure_field(operands: Any, constants: tuple, t: Any, z: Any) -> Any:
            constants, drawn = constants
            return self._alter(lambda t, z: field(operands, constants, t, z), drawn, t, z)

        return pure_field


# A field of any of these kinds.
Field: TypeAlias = GivenField | FunctionField | AlteredField


def regularized(
    field: Field, regularization: Regularization, z0: Any, t0: float, generator: Any
) -> tuple[Field, Field | None]:
    """The fields of one forward pass in training, from a state at `t0` on.

    Args:
        field: The field of a block.
        regularization: `Regularization`.
        z0: The state at `t0`.
        t0: Float.
        generator: `keras.random.SeedGenerator`, or None if nothing is random.

    Returns:
        Tuple of the field, and of the field that is metered: with a penalty beside its state; None
        if there is none.
    """
    fields = [field]
    if regularization.has_penalty:
        noise = _noise(z0, generator) if regularization.jacobian > 0 else []
        meter = lambda *given: _metered(regularization, *given)
        fields.append(AlteredField(field, meter, noise))
    if regularization.end_time > 0:
        low, high = 1 - regularization.end_time, 1 + regularization.end_time
        pace = [keras.random.uniform((), low, high, _dtype(tree.flatten(z0)[0]), generator)]
        at_pace = lambda *given: _at_pace(t0, *given)
        fields = [AlteredField(field, at_pace, pace) for field in fields]
    return fields[0], fields[1] if regularization.has_penalty else None


def with_penalty(z0: Any) -> tuple:
    """The start of a metered field: a state, and a penalty of 0 for each of its samples."""
    leaf = tree.flatten(z0)[0]
    return z0, ops.zeros((ops.shape(leaf)[0],), dtype=leaf.dtype)


def mean_penalty(penalties: Any, t0: float, t1: Any) -> Any:
    """What is added to a loss, from the penalties `(num_times, batch_size)` from `t0` to `t1`."""
    # Backwards in time the steps are negative, and what they have summed up.
    direction = ops.sign(ops.convert_to_tensor(t1 - t0, dtype=penalties.dtype))
    last = direction * penalties[-1]
    # A device may be given no sample of a last batch: the mean of none is not a number.
    return ops.sum(last) / ops.cast(ops.maximum(ops.shape(last)[0], 1), last.dtype)


def _metered(
    regularization: Regularization, field: Callable, noise: list, t: Any, state: tuple
) -> tuple:
    """The derivative of a state and of its penalty."""
    z, _ = state
    derivative = lambda flat: tree.flatten(field(t, tree.pack_sequence_as(z, flat)))
    penalty: Any = 0.0
    if noise:
        dz, products = pulled_back(derivative, tree.flatten(z), noise)
        penalty = regularization.jacobian * _squared_norms(products)
    else:
        dz = derivative(tree.flatten(z))
    if regularization.kinetic > 0:
        penalty = penalty + regularization.kinetic * _squared_norms(dz)
    return tree.pack_sequence_as(z, dz), penalty


def _at_pace(t0: float, field: Callable, pace: list, t: Any, z: Any) -> Any:
    """The derivative at a pace, by which the time runs that the field is given."""
    (pace_,) = pace
    dz = field(t0 + pace_ * (t - t0), z)
    return tree.map_structure(lambda dz: pace_ * dz, dz)


def _noise(z0: Any, generator: Any) -> list:
    """A direction for each sample to pull the Jacobian back from, flat."""
    flat = tree.flatten(z0)
    return [keras.random.normal(ops.shape(z), dtype=_dtype(z), seed=generator) for z in flat]


def _squared_norms(flat: list) -> Any:
    """The squared norm of every sample, of which a list has the parts."""
    # One by one: torch takes no axes for all of them.
    axes = [tuple(range(1, len(z.shape))) for z in flat]
    return sum(ops.sum(ops.square(z), axis=a) if a else ops.square(z) for z, a in zip(flat, axes))


def _dtype(z: Any) -> str:
    return keras.backend.standardize_dtype(z.dtype)
