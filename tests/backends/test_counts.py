"""How often a forward pass calls a block is the same on every backend."""

import keras
import numpy as np
from autodiff import BACKEND
from models import field

import tfnode
from tfnode import solvers
from tfnode.integrate.grids import fixed_grid
from tfnode.models import reached_blocks

X = np.ones((3, 2), "float32")


def calls(layers):
    model = keras.Sequential([keras.Input(X.shape[1:]), *layers])
    return {found.block.name: found.calls for found in reached_blocks(model, X)}


def test_a_block_in_the_field_of_another():
    inner = tfnode.ODEBlock(field(2), solvers.Euler(0.5), name="inner")
    outer = tfnode.ODEBlock(inner, solvers.Midpoint(0.5), name="outer")
    # Two steps of two stages.
    assert calls([outer]) == {"outer": 1, "inner": 4}


def test_a_block_applied_twice():
    block = tfnode.ODEBlock(field(2), solvers.Euler(0.5), name="ode")
    assert calls([block, keras.layers.Dense(2), block]) == {"ode": 2}


def test_a_block_in_a_recurrent_cell():
    class Cell(keras.layers.Layer):
        state_size = output_size = 2

        def __init__(self):
            super().__init__()
            self.block = tfnode.ODEBlock(field(2), solvers.Euler(0.5), name="ode")

        def build(self, input_shape):
            self.block.build(input_shape)

        def call(self, x, states):
            z = self.block(states[0] + x)
            return z, [z]

    model = keras.Sequential([keras.Input((5, 2)), keras.layers.RNN(Cell())])
    (found,) = reached_blocks(model, np.ones((3, 5, 2), "float32"))
    # To know the shape of its output, Keras evaluates the first of five steps once more.
    assert found.calls == (5 if BACKEND == "jax" else 6)


def test_steps_are_counted_in_double_precision(double):
    step_size = keras.ops.convert_to_tensor(0.125, dtype="float64")
    grid = fixed_grid(0.0, (1 + 1e-9,), step_size, 16)
    assert int(grid.num_steps) == 9
    steps = keras.ops.convert_to_numpy(grid.steps)
    np.testing.assert_allclose(steps[:10], [0.125] * 8 + [1e-9, 0], rtol=0, atol=1e-15)
