"""MNIST (Ott et al., supplement A.1)."""

import keras

import tfnode
from tfnode.solvers import SolverLike
from zoo.layers import conv_field, dense
from zoo.recipes import Recipe


def build(solver: SolverLike) -> keras.Model:
    """Returns the functional model: from images `(28, 28, 1)` in [0, 1] to 10 logits."""
    # === Functional Model ===
    inputs = keras.Input((28, 28, 1), name="image")
    field = conv_field(keras.layers.Conv2D, filters=96, channels=1)
    x = tfnode.ODEBlock(field, solver, name="ode_block")(inputs)
    x = keras.layers.Flatten(name="flatten")(x)
    outputs = dense(10, name="logits")(x)
    return keras.Model(inputs, outputs, name="mnist")


# === Config ===
RECIPE = Recipe(
    dataset="mnist", optimizer="sgd", learning_rate=1e-2, batch_size=256, iterations=7_020
)
