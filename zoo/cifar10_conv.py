"""CIFAR-10 as people classify it today, beyond the paper: one ODE block behind a strided stem."""

import keras

from tfnode.solvers import SolverLike
from zoo.layers import Layers
from zoo.recipes import Recipe


def build(solver: SolverLike, layers: Layers) -> keras.Model:
    """Returns the functional model: from images `(32, 32, 3)` in [0, 1] to 10 logits."""
    # === Functional Model ===
    inputs = keras.Input((32, 32, 3), name="image")
    x = layers.normalized_conv(64, name="stem_in")(inputs)
    x = layers.normalized_conv(128, strides=2, name="stem_out")(x)
    field = layers.normalized_field(channels=128)
    x = layers.ode_block(field, solver, time_dependent=True)(x)
    x = layers.group_norm(name="head_norm")(x)
    x = keras.layers.ReLU(name="head_relu", dtype=layers.dtype)(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool", dtype=layers.dtype)(x)
    outputs = layers.logits(10)(x)
    return keras.Model(inputs, outputs, name="cifar10_conv")


# === Config ===
RECIPE = Recipe(
    dataset="cifar10",
    optimizer="adamw",
    learning_rate=2e-3,
    batch_size=256,
    iterations=9_750,
    schedule="cosine",
    weight_decay=0.05,
    augment=True,
)
