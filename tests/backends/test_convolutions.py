"""Convolutions as matrix products: the same function, and the same weights."""

import keras
import numpy as np
import pytest

import tfnode
import zoo
from scripts.paper import convolutions, experiments
from scripts.paper.runs import Run

MODELS = ["concentric_spheres_2d", "concentric_spheres_10d"]


def read(value):
    return keras.ops.convert_to_numpy(value)


@pytest.mark.parametrize("name", MODELS)
def test_products_are_the_convolutions(name, double):
    field = zoo.get_model(name, dtype="float64").get_layer("ode_block").field
    products = convolutions.as_products(field)
    products.build(field.input_shape)
    products.set_weights(field.get_weights())
    # A kernel that is its own mirror image would not tell which side is which.
    left, _, right = read(products.layers[1].kernel)
    assert not np.allclose(left, right)
    x = np.random.default_rng(0).normal(size=(5, *field.input_shape[1:]))
    # On torch Keras rounds every matrix product to single precision.
    close = 1e-6 if keras.backend.backend() == "torch" else 1e-13
    np.testing.assert_allclose(read(products(x)), read(field(x)), rtol=close, atol=close)
    assert {type(layer) for layer in products.layers} == {convolutions.Conv1D}


def test_a_run_on_jax_takes_products_and_leaves_weights_that_the_zoo_reads(tmp_path):
    run = Run("concentric_spheres_2d", 4, 0, 10)
    model = experiments.compiled(run)
    takes = isinstance(model.get_layer("ode_block").field.layers[0], convolutions.Conv1D)
    assert takes == (keras.backend.backend() == "jax")
    model.save_weights(tmp_path / "spheres.weights.h5")
    there = zoo.get_model(run.model, solver=tfnode.solvers.Euler(1 / 4), seed=1)
    x = np.random.default_rng(0).normal(size=(5, 2)).astype("float32")
    assert not np.allclose(read(there(x)), read(model(x)))
    there.load_weights(tmp_path / "spheres.weights.h5")
    np.testing.assert_allclose(read(there(x)), read(model(x)), rtol=1e-5, atol=1e-6)
