"""Conditions of integers and Booleans: given as they are, without a gradient."""

import keras
import numpy as np
import pytest
from keras import ops

import tfnode
from tfnode import solvers

RNG = np.random.default_rng(0)
Z = RNG.normal(size=(4, 2)).astype("float32")
# In no order, as a structure may sort its keys.
CONDITIONS = {
    "place": np.array([2, 0, 1, 2], "int32"),
    "is_on": np.array([[True], [False], [True], [True]]),
    "amount": RNG.normal(size=(4, 1)).astype("float32"),
}
SOLVERS = {
    "fixed": solvers.RK4(0.25),
    "adaptive": solvers.DormandPrince(1e-5, 1e-5, per_sample=True),
}


@keras.saving.register_keras_serializable("test_conditions")
class Chosen(keras.layers.Layer):
    """`rate[place] amount` where it is on; takes nothing for what it is not."""

    def build(self, *shapes):
        self.rate = self.add_weight(name="rate", shape=(3, 2), initializer="ones")

    def call(self, z, conditions):
        chosen = ops.take(self.rate, conditions["place"], axis=0) * conditions["amount"]
        return ops.where(ops.logical_not(conditions["is_on"]), 0.0, chosen)

    def compute_output_spec(self, z, conditions):
        dtypes = {key: keras.backend.standardize_dtype(c.dtype) for key, c in conditions.items()}
        assert dtypes == {"place": "int32", "is_on": "bool", "amount": "float32"}
        return keras.KerasTensor(z.shape, dtype=z.dtype)


def expected(rate, amount):
    return Z + np.where(CONDITIONS["is_on"], rate[CONDITIONS["place"]] * amount, 0)


def model_of(solver, **arguments):
    inputs = keras.Input((2,))
    conditions = {
        "place": keras.Input((), dtype="int32", name="place"),
        "is_on": keras.Input((1,), dtype="bool", name="is_on"),
        "amount": keras.Input((1,), name="amount"),
    }
    block = tfnode.ODEBlock(Chosen(), solver, **arguments)
    return keras.Model([inputs, conditions], block(inputs, conditions))


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
def test_a_model_of_them_is_trained_saved_and_loaded(solver, tmp_path):
    model = model_of(solver)
    x, rate = [Z, CONDITIONS], np.ones((3, 2))
    answer = lambda model: ops.convert_to_numpy(model(x))
    before = expected(rate, CONDITIONS["amount"])
    np.testing.assert_allclose(answer(model), before, rtol=1e-5)
    model.compile(keras.optimizers.SGD(0.1), "mse")
    loss = float(model.fit(x, np.zeros_like(Z), verbose=0).history["loss"][0])
    assert loss == pytest.approx((before**2).mean(), rel=1e-5)
    # The gradient of the mean by hand: each place is that of some samples.
    for place in range(3):
        here = (CONDITIONS["place"] == place)[:, None] & CONDITIONS["is_on"]
        rate[place] -= 0.1 * (2 * before / Z.size * CONDITIONS["amount"] * here).sum(axis=0)
    after = expected(rate, CONDITIONS["amount"])
    np.testing.assert_allclose(answer(model), after, rtol=1e-5)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(answer(loaded), after, rtol=1e-5)


def test_a_block_alone_knows_their_dtypes(tmp_path):
    given = {**CONDITIONS, "amount": CONDITIONS["amount"].astype("float64")}
    block = tfnode.ODEBlock(Chosen(), "rk4")
    # A path of a block that nobody has built.
    _, path = block.trajectory(Z, {key: ops.convert_to_tensor(c) for key, c in CONDITIONS.items()})
    answer = expected(np.ones((3, 2)), CONDITIONS["amount"])
    np.testing.assert_allclose(ops.convert_to_numpy(path)[-1], answer, rtol=1e-5)
    built = block.get_build_config()
    again = tfnode.ODEBlock.from_config(block.get_config())
    again.build_from_config(built or {"input_shape": None})
    given["amount"] = given["amount"].astype("float32")
    np.testing.assert_allclose(ops.convert_to_numpy(again(Z, given)), answer, rtol=1e-5)


def test_numbers_of_another_precision_are_those_of_the_block():
    inputs = keras.Input((2,)), keras.Input((2,))
    field = keras.Model(inputs, inputs[0] * inputs[1])
    rates = np.full((4, 2), 0.5)
    found = tfnode.ODEBlock(field, solvers.RK4(0.05))(Z, rates)
    np.testing.assert_allclose(ops.convert_to_numpy(found), Z * np.exp(0.5), rtol=1e-5)
