"""MNIST (Ott et al., supplement A.1)."""

import keras

from tfnode.solvers import SolverLike
from zoo.layers import Layers
from zoo.recipes import Recipe


def build(solver: SolverLike, layers: Layers) -> keras.Model:
    """Returns the functional model: from images `(28, 28, 1)` in [0, 1] to 10 logits."""
    # === Functional Model ===
    inputs = keras.Input((28, 28, 1), name="image")
    field = layers.conv_field(keras.layers.Conv2D, filters=96, channels=1)
    x = layers.ode_block(field, solver)(inputs)
    x = layers.flatten()(x)
    outputs = layers.logits(10)(x)
    return keras.Model(inputs, outputs, name="mnist")


# === Config ===
RECIPE = Recipe(
    dataset="mnist", optimizer="sgd", learning_rate=1e-2, batch_size=256, iterations=7_020
)
