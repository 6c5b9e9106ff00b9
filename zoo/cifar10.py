"""CIFAR-10 (Ott et al., supplement A.2)."""

import keras

from tfnode.solvers import SolverLike
from zoo.layers import Layers
from zoo.recipes import Recipe


def build(solver: SolverLike, layers: Layers) -> keras.Model:
    """Returns the functional model: from images `(32, 32, 3)` in [0, 1] to 10 logits."""
    # === Functional Model ===
    inputs = keras.Input((32, 32, 3), name="image")
    field = layers.conv_field(keras.layers.Conv2D, filters=128, channels=3)
    x = layers.ode_block(field, solver)(inputs)
    x = layers.flatten()(x)
    outputs = layers.logits(10)(x)
    return keras.Model(inputs, outputs, name="cifar10")


# === Config ===
RECIPE = Recipe(
    dataset="cifar10", optimizer="adam", learning_rate=1e-3, batch_size=256, iterations=7_800
)
