"""Particle in an energy landscape with three minima (Ott et al., supplement A.4)."""

import keras

import tfnode
from tfnode.solvers import SolverLike
from zoo.layers import dense
from zoo.recipes import Recipe


def build(solver: SolverLike) -> keras.Model:
    """Returns the functional model: from position and velocity `(2,)` to 3 logits."""
    # === Functional Model ===
    inputs = keras.Input((2,), name="state")
    field = keras.Sequential(
        [
            dense(48, activation="relu", name="field_in"),
            dense(48, activation="relu", name="field_hidden"),
            dense(2, name="field_out"),
        ],
        name="field",
    )
    x = tfnode.ODEBlock(field, solver, name="ode_block")(inputs)
    outputs = dense(3, name="logits")(x)
    return keras.Model(inputs, outputs, name="energy_landscape")


# === Config ===
RECIPE = Recipe(
    dataset="energy_landscape/three_minima",
    optimizer="adam",
    learning_rate=5e-4,
    batch_size=128,
    iterations=30_000,
)
