"""Concentric spheres in 2, 3, 10 and 900 dimensions (Ott et al., supplement A.3, for 2).

A point is a sequence with one channel, and the field convolves along its coordinates.
"""

import keras

from tfnode.solvers import SolverLike
from zoo.layers import Layers
from zoo.recipes import Recipe


def build(dim: int, solver: SolverLike, layers: Layers) -> keras.Model:
    """Returns the functional model: from points `(dim,)` to 2 logits."""
    # === Functional Model ===
    inputs = keras.Input((dim,), name="point")
    x = keras.layers.Reshape((dim, 1), name="as_sequence", dtype=layers.dtype)(inputs)
    field = layers.conv_field(keras.layers.Conv1D, filters=32, channels=1)
    x = layers.ode_block(field, solver)(x)
    x = layers.flatten()(x)
    outputs = layers.logits(2)(x)
    return keras.Model(inputs, outputs, name=f"concentric_spheres_{dim}d")


# === Config ===
def recipe(dim: int) -> Recipe:
    """The paper's recipe for 2 dimensions, which serves every dimension."""
    return Recipe(
        dataset=f"concentric_spheres/{dim}d",
        optimizer="adam",
        learning_rate=1e-4,
        batch_size=128,
        iterations=10_000,
    )
