"""Particle in an energy landscape (Ott et al., section 3.2): which minimum does it settle in?

The data come from an ODE, so that a Neural ODE can be compared with the truth:
`dx/dt = v`, `dv/dt = -V'(x) - friction * v`. In `dims` dimensions the potential is the sum of the
same 1-D potential in each coordinate, and a class is a combination of minima.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np
import tensorflow_datasets as tfds

from tfnode import tableaus
from tfnode.integrate.runge_kutta import runge_kutta_step
from tfnode.typing import Field

# A split that is added leaves those before it as they are.
_NUM_EXAMPLES = {"train": 2000, "test": 1000, "validation": 1000}


@dataclasses.dataclass(frozen=True)
class Potential:
    """A 1-D potential with several minima, given by its slope.

    Args:
        slope: Tuple of floats, the coefficients of the polynomial `V'(x)`, highest power first.
        minima: Tuple of floats, the positions of the minima, ascending.
    """

    slope: tuple[float, ...]
    minima: tuple[float, ...]

    @classmethod
    def from_minima(
        cls, minima: Sequence[float], maxima: Sequence[float] | None = None, scale: float = 1.2
    ) -> Self:
        """The potential with `V'(x) = scale * product(x - root)` over minima and maxima.

        Examples:

        >>> Potential.from_minima((-1.0, 1.0), scale=1.0).slope
        (1.0, 0.0, -1.0, 0.0)

        Args:
            minima: Sequence of floats, ascending.
            maxima: Sequence of floats, one between every two neighbours; the midpoints if None.
            scale: Float, positive.

        Raises:
            ValueError: If minima and maxima do not interleave, or `scale` is not positive.
        """
        low = np.array(minima, "float64")
        high = (low[:-1] + low[1:]) / 2 if maxima is None else np.array(maxima, "float64")
        fits = len(low) >= 1 and len(high) == len(low) - 1
        if not fits or not np.all((low[:-1] < high) & (high < low[1:])):
            raise ValueError(
                "Minima must ascend, with exactly one maximum between every two neighbours. "
                f"Received: minima={low.tolist()}, maxima={high.tolist()}. Leave `maxima` "
                "out to have them half-way."
            )
        if not scale > 0:
            raise ValueError(
                "The scale of a potential must be positive, or its minima become maxima. "
                f"Received: scale={scale}. The landscape of the paper's experiments has 1.2."
            )
        slope = scale * np.poly(np.concatenate([low, high]))
        return cls(tuple(slope.tolist()), tuple(low.tolist()))

    def derivative(self, x: np.ndarray) -> np.ndarray:
        """`V'(x)`, element-wise."""
        return np.polyval(self.slope, x)


# V(x) = 0.2 (x - 2)(x - 0.5)(x + 1)(x + 0.6)(x - 1.6) x, of the authors' published experiments: the
# paper has a picture of it, figure 2, and no formula.
THREE_MINIMA = Potential(
    slope=(1.2, -2.5, -0.768, 2.364, 0.176, -0.192), minima=(-0.850, 0.269, 1.839)
)


def vector_field(potential: Potential, friction: float) -> Field:
    """Returns `field(t, z)` for states `z = (x, v)` of shape `(..., 2 * dims)`."""

    def field(t: float, z: np.ndarray) -> np.ndarray:
        x, v = np.split(z, 2, axis=-1)
        return np.concatenate([v, -potential.derivative(x) - friction * v], axis=-1)

    return field


def settle(
    potential: Potential,
    friction: float,
    z0: np.ndarray,
    t1: float = 100.0,
    step_size: float = 0.02,
) -> np.ndarray:
    """Integrates states with RK4 until they rest; returns the class of each.

    Args:
        potential: `Potential`.
        friction: Float.
        z0: Array of shape `(batch_size, 2 * dims)`, positions then velocities.
        t1: Float, the time by which every particle must rest.
        step_size: Float.

    Returns:
        int64 array of shape `(batch_size,)`: the index of the minimum; in several dimensions
        the number whose digits in base `len(minima)` are the indices of the coordinates.

    Raises:
        ValueError: If a particle is not at rest at a minimum by `t1`.
    """
    field, z = vector_field(potential, friction), np.asarray(z0, "float64")
    for k in range(round(t1 / step_size)):
        z = runge_kutta_step(field, k * step_size, z, step_size, tableaus.RK4)
    x, v = np.split(z, 2, axis=-1)
    minima = np.array(potential.minima)
    distance = np.abs(x[..., None] - minima)
    at_rest = np.all(np.abs(v) < 1e-3, axis=-1) & np.all(distance.min(axis=-1) < 0.02, axis=-1)
    if not np.all(at_rest):
        raise ValueError(
            "Every particle must rest at a minimum when the integration ends. "
            f"Received: {np.sum(~at_rest)} of {len(z)} that do not by t1={t1}, with "
            f"friction={friction}, step_size={step_size}, minima={potential.minima}. Raise the "
            "friction or t1, or take a smaller step."
        )
    return distance.argmin(axis=-1) @ len(minima) ** np.arange(x.shape[-1])[::-1]


@dataclasses.dataclass(kw_only=True)
class EnergyLandscapeConfig(tfds.core.BuilderConfig):
    """A landscape and the box of initial states; positions default to the range of the minima."""

    potential: Potential = THREE_MINIMA
    dims: int = 1
    friction: float = 0.2
    x_range: tuple[float, float] | None = None
    v_range: tuple[float, float] = (-2.0, 2.0)
    t1: float = 100.0
    step_size: float = 0.02
    seed: int = 0

    def sample(self, num_examples: int, seed: int | Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Draws initial states and integrates them to their classes.

        Returns:
            Tuple of float32 states of shape `(num_examples, 2 * dims)` and int64 classes.
        """
        rng = np.random.default_rng(seed)
        minima = self.potential.minima
        x_range = self.x_range or (minima[0] - 0.15, minima[-1] + 0.15)
        shape = (num_examples, self.dims)
        x, v = rng.uniform(*x_range, size=shape), rng.uniform(*self.v_range, size=shape)
        # Rounded first: the label belongs to the state that the model sees.
        state = np.concatenate([x, v], axis=-1).astype("float32")
        return state, settle(self.potential, self.friction, state, self.t1, self.step_size)


class EnergyLandscape(tfds.core.GeneratorBasedBuilder):
    """Initial position and velocity of a particle; the label is the minimum it settles in."""

    VERSION = tfds.core.Version("1.1.0")
    RELEASE_NOTES = {"1.0.0": "First release.", "1.1.0": "A validation split."}
    BUILDER_CONFIGS = [
        EnergyLandscapeConfig(
            name="three_minima",
            description="The paper's landscape with three minima, in one dimension.",
            x_range=(-1.0, 2.0),
        )
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        config = self.builder_config
        return self.dataset_info_from_configs(
            description="A particle with friction in a potential with several minima.",
            features=tfds.features.FeaturesDict(
                {
                    "state": tfds.features.Tensor(shape=(2 * config.dims,), dtype=np.float32),
                    "label": tfds.features.ClassLabel(
                        num_classes=len(config.potential.minima) ** config.dims
                    ),
                }
            ),
            supervised_keys=("state", "label"),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[Any]]:
        return {split: self._generate_examples(split) for split in _NUM_EXAMPLES}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        split_index = list(_NUM_EXAMPLES).index(split)
        seed = (self.builder_config.seed, split_index)
        states, labels = self.builder_config.sample(_NUM_EXAMPLES[split], seed)
        for i, (state, label) in enumerate(zip(states, labels)):
            yield i, {"state": state, "label": int(label)}
