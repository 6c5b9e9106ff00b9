"""`Regularization`: what a block adds to its training so that its field is cheap to solve."""

import dataclasses
from typing import Any

import keras

from tfnode import arguments

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

    Inference has neither penalties nor anything random. As with `Dropout`, nor has the training of
    a model whose `call` takes no `training`, or does not hand it on.

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
        for name, high, usual in (
            ("kinetic", float("inf"), "a weight such as 0.01"),
            ("jacobian", float("inf"), "a weight such as 0.01"),
            ("end_time", 1.0, "a share of the interval such as 0.25"),
        ):
            advice = f"Pass {usual}, or 0 for none."
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

    @property
    def is_random(self) -> bool:
        """Whether something is drawn."""
        return self.jacobian > 0 or self.end_time > 0


def checked(regularization: Any, gradient: str, save_at: Any) -> Regularization:
    """The regularization of a block that is given one, a dictionary of its values, or None."""
    if regularization is None:
        return Regularization()
    names = {field.name for field in dataclasses.fields(Regularization)}
    if isinstance(regularization, dict) and set(regularization) <= names:
        regularization = Regularization(**regularization)
    arguments.instance(
        "regularization",
        regularization,
        Regularization,
        "a `tfnode.Regularization`, a dictionary of its values, or None",
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


def check_times(regularization: Regularization, times: Any, name: str) -> None:
    """Raises if a call in training has times of its own, and a random end as well."""
    if regularization.end_time > 0 and times is not None:
        raise ValueError(
            "In training either the call says where the integration ends, or a random number. "
            f"Received: times of a call for {name!r}, which has {regularization}. Build the block "
            "without `end_time`, and draw the times of the call."
        )


def generator_of(regularization: Regularization) -> keras.random.SeedGenerator | None:
    """What a block draws from; None where nothing is random, so that it has no such variable."""
    return keras.random.SeedGenerator(regularization.seed) if regularization.is_random else None
