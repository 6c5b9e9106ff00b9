"""Particle in an energy landscape with three minima (Ott et al., supplement A.4)."""

import keras

from tfnode.solvers import SolverLike
from zoo.layers import Layers
from zoo.recipes import Recipe


def build(solver: SolverLike, layers: Layers) -> keras.Model:
    """Returns the functional model: from position and velocity `(2,)` to 3 logits."""
    # === Functional Model ===
    inputs = keras.Input((2,), name="state")
    field = layers.dense_field(units=48, channels=2)
    x = layers.ode_block(field, solver)(inputs)
    outputs = layers.logits(3)(x)
    return keras.Model(inputs, outputs, name="energy_landscape")


# === Config ===
RECIPE = Recipe(
    dataset="energy_landscape/three_minima",
    optimizer="adam",
    learning_rate=5e-4,
    batch_size=128,
    iterations=30_000,
)
