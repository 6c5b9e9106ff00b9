"""Fields that are cheap to solve: what a block adds to its training so that few steps suffice.

A penalty is one more component of the state, which the steps integrate by the stages that they
take anyway, and a random end of the time is the same interval with the field at another pace. Both
are fields made of a field, so that every solver and every gradient serves them as it is.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Self, TypeAlias

import keras
from keras import ops

from tfnode import arguments
from tfnode.integrate.loops import pulled_back
from tfnode.layers.vector_field import FunctionField, VectorField
from tfnode.solvers.checks import check_config

tree = keras.tree

_MAX_SEED = 2**31 - 1


@dataclasses.dataclass(frozen=True)
class Regularization:
    """What makes the field of an `ODEBlock` cheap to solve, in training only.

    The two penalties of Finlay et al. (2020), *How to train your neural ODE*, are added to the
    loss, each a mean over the batch:

    - the kinetic energy, `kinetic` times the integral of `|f|^2` over time, which is least where
      every sample goes straight on at one speed;
    - the size of the Jacobian, `jacobian` times the integral of `|eps^T df/dz|^2`, whose mean over
      the standard normal `eps`, one for each sample and forward pass, is the squared Frobenius norm
      of `df/dz`: where it is small, solvers take long steps.

    The integrals are taken by the steps of the solution, at its stages, and the gradient is exactly
    that of the loss so computed. No step and no evaluation of the field is added; a penalty of the
    Jacobian takes one vector-Jacobian product with each evaluation. Adaptive steps are those of the
    state alone.

    Random end times are those of Ghosh et al. (2020), *STEER*: a forward pass in training ends at a
    time that is drawn uniformly around `t1`, up to `end_time` of the interval's length from it, so
    that a flow that turns sharply before `t1` does badly. Fixed steps are as many as ever, and all
    of them longer or shorter.

    Inference has neither penalties nor anything random.

    Examples:

    >>> field = keras.Sequential([keras.layers.Dense(8, "tanh"), keras.layers.Dense(2)])
    >>> regularization = Regularization(kinetic=0.01, jacobian=0.01, end_time=0.25)
    >>> block = tfnode.ODEBlock(field, "rk4", regularization=regularization)
    >>> block(np.ones((3, 2)), training=True).shape
    TensorShape([3, 2])
    >>> len(block.losses)
    1

    Args:
        kinetic: Float, not negative; the weight of the kinetic energy in the loss.
        jacobian: Float, not negative; the weight of the Jacobian.
        end_time: Float from 0 to below 1, a share of the interval.
        seed: Optional integer, for what is drawn: the same at every run.

    Raises:
        ValueError: If an argument is not valid.
    """

    kinetic: float = 0.0
    jacobian: float = 0.0
    end_time: float = 0.0
    seed: int | None = None

    def __post_init__(self) -> None:
        for name, high, advice in (
            ("kinetic", float("inf"), "Pass a weight such as 0.01, or 0 for none."),
            ("jacobian", float("inf"), "Pass a weight such as 0.01, or 0 for none."),
            ("end_time", 1.0, "Pass a share of the interval such as 0.25, or 0 for none."),
        ):
            value = arguments.number(name, getattr(self, name), 0, high, "[)", advice=advice)
            object.__setattr__(self, name, value)
        if self.seed is not None:
            advice = "Leave it out for a seed that is drawn."
            seed = arguments.count("seed", self.seed, 0, _MAX_SEED, advice=advice)
            object.__setattr__(self, "seed", seed)

    @property
    def has_penalty(self) -> bool:
        """Whether something is added to the loss."""
        return self.kinetic > 0 or self.jacobian > 0

    def generator(self) -> keras.random.SeedGenerator | None:
        """What a block draws from; None where nothing is random, so that it has no such weight."""
        if self.jacobian > 0 or self.end_time > 0:
            return keras.random.SeedGenerator(self.seed)
        return None

    def check_times(self, times: Any, name: str) -> None:
        """Raises if a call in training has times of its own, and a random end as well."""
        if self.end_time > 0 and times is not None:
            raise ValueError(
                "In training either the call says where the integration ends, or a random number. "
                f"Received: times of a call for {name!r}, which has {self}. Build the block "
                "without `end_time`, and draw the times of the call."
            )

    def fields(self, field: "Field", z0: Any, t0: float, generator: Any) -> tuple:
        """The fields of one forward pass in training, from a state at `t0` on.

        Returns:
            Tuple of the field, and of the field with the penalty beside it, or None.
        """
        metered = AlteredField(field, self._metered, self._noise(z0, generator))
        fields = field, metered if self.has_penalty else None
        if self.end_time == 0:
            return fields
        low, high = 1 - self.end_time, 1 + self.end_time
        dtype = keras.backend.standardize_dtype(tree.flatten(z0)[0].dtype)
        pace = [keras.random.uniform((), low, high, dtype, seed=generator)]
        at_pace = lambda *given: _at_pace(t0, *given)
        return tuple(f if f is None else AlteredField(f, at_pace, pace) for f in fields)

    def _noise(self, z0: Any, generator: Any) -> list:
        """A direction for each sample to pull the Jacobian back from, flat; none if not needed."""
        if self.jacobian == 0:
            return []
        return [
            keras.random.normal(
                ops.shape(z), dtype=keras.backend.standardize_dtype(z.dtype), seed=generator
            )
            for z in tree.flatten(z0)
        ]

    def _metered(self, field: Callable, noise: list, t: Any, state: tuple) -> tuple:
        """The derivative of a state and of its penalty."""
        z, _ = state
        derivative = lambda flat: tree.flatten(field(t, tree.pack_sequence_as(z, flat)))
        penalty = 0.0
        if noise:
            dz, products = pulled_back(derivative, tree.flatten(z), noise)
            penalty = self.jacobian * _squares(products)
        else:
            dz = derivative(tree.flatten(z))
        if self.kinetic > 0:
            penalty = penalty + self.kinetic * _squares(dz)
        return tree.pack_sequence_as(z, dz), penalty

    def get_config(self) -> dict[str, Any]:
        """The plain values from which `from_config` makes an equal one."""
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Returns what a configuration was taken from."""
        return cls(**check_config(cls, config))


def checked(regularization: Any, gradient: str, save_at: Any) -> Regularization:
    """The regularization of a block that is given one, a configuration of one, or None."""
    if regularization is None:
        return Regularization()
    if isinstance(regularization, dict):
        regularization = Regularization.from_config(regularization)
    arguments.instance(
        "regularization",
        regularization,
        Regularization,
        "a `tfnode.Regularization`, its configuration, or None",
        advice="Make one, for example `tfnode.Regularization(kinetic=0.01)`.",
    )
    if regularization.has_penalty and gradient == "adjoint":
        raise ValueError(
            "A penalty is integrated along the steps, and the continuous adjoint knows none. "
            f'Received: gradient="adjoint" with {regularization}. Keep the default '
            'gradient="discrete_adjoint", or leave only `end_time`.'
        )
    if regularization.end_time > 0 and save_at is not None:
        raise ValueError(
            "With a random end the states in training are at other times than those to save at. "
            f"Received: save_at={save_at} with {regularization}. Leave out one of `end_time` and "
            "`save_at`."
        )
    return regularization


class AlteredField:
    """A field made of another one, with the same faces.

    Args:
        field: `VectorField`, or another field.
        alter: Pure function of `field, drawn, t, z`, where `field` is called as `field(t, z)`.
        drawn: List of tensors without gradient, the same at every evaluation of a forward pass.
    """

    def __init__(self, field: "Field", alter: Callable, drawn: list) -> None:
        self._field = field
        self._alter = alter
        self._drawn = drawn

    def operands(self, conditions: Any) -> tuple[list, list]:
        return self._field.operands(conditions)

    @property
    def constants(self) -> tuple:
        return self._field.constants, self._drawn

    def function(self, conditions: Any, training: bool | None) -> Callable:
        field = self._field.function(conditions, training)
        return lambda t, z: self._alter(field, self._drawn, t, z)

    def pure(self, training: bool | None) -> Callable:
        field = self._field.pure(training)

        def pure_field(weights: tuple, constants: tuple, t: Any, z: Any) -> Any:
            constants, drawn = constants
            return self._alter(lambda t, z: field(weights, constants, t, z), drawn, t, z)

        return pure_field


# A field of any of these kinds.
Field: TypeAlias = VectorField | FunctionField | AlteredField


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


def _at_pace(t0: float, field: Callable, pace: list, t: Any, z: Any) -> Any:
    """The derivative at a pace: what has been reached at a time is reached at another one."""
    (pace_,) = pace
    dz = field(t0 + pace_ * (t - t0), z)
    return tree.map_structure(lambda dz: pace_ * dz, dz)


def _squares(flat: list) -> Any:
    """The squared norm of every sample of a list of tensors."""
    # One by one: torch takes no axes for all of them.
    axes = [tuple(range(1, len(z.shape))) for z in flat]
    return sum(ops.sum(ops.square(z), axis=a) if a else ops.square(z) for z, a in zip(flat, axes))
