"""Where samples have steps of their own, one that cannot be integrated may fail alone."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

import tfnode
from tfnode import solvers
from tfnode.solvers import BogackiShampine32, DormandPrince, Fehlberg21

ALONE = {"per_sample": True, "per_sample_failure": "nan"}
SOLVERS = [cls(1e-3, 1e-3, max_num_steps=60, **ALONE) for cls in (DormandPrince, BogackiShampine32)]
every_solver = pytest.mark.parametrize("solver", SOLVERS, ids=lambda s: type(s).__name__)

# The solution z / (1 - t z) has its pole within [0, 1] for what is above 1.
STARTS = np.array([[0.1], [2.0], [-3.0], [np.nan], [0.5], [np.inf], [-np.inf], [1e4]])
GOOD = [0, 2, 4]
BAD = [1, 3, 5, 6, 7]


class Squares(keras.layers.Layer):
    def call(self, z):
        return ops.square(z)


def block_of(solver, dtype="float64", **options):
    return tfnode.ODEBlock(Squares(dtype=dtype), solver, dtype=dtype, **options)


@every_solver
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("wrap", [lambda f: f, tf.function], ids=["eager", "graph"])
def test_the_others_get_their_answers(solver, training, wrap):
    block = block_of(solver)
    call = wrap(lambda z: block(z, training=training))
    found, alone = call(tf.constant(STARTS)), call(tf.constant(STARTS[GOOD]))
    np.testing.assert_allclose(np.asarray(found)[GOOD], alone, rtol=1e-13)
    np.testing.assert_allclose(alone, STARTS[GOOD] / (1 - STARTS[GOOD]), rtol=1e-2)
    assert np.isnan(np.asarray(found)[BAD]).all()


@every_solver
def test_at_several_times_and_under_xla(solver):
    block = block_of(solver, save_at=[0.25, 1.0])
    call = tf.function(block, jit_compile=True)
    found, alone = call(tf.constant(STARTS)), call(tf.constant(STARTS[GOOD]))
    np.testing.assert_allclose(np.asarray(found)[GOOD], alone, rtol=1e-13)
    assert np.isnan(np.asarray(found)[BAD]).all()


def test_a_time_that_is_not_a_number_is_that_of_its_sample():
    block, x = block_of(SOLVERS[0]), tf.constant(STARTS[[0, 2, 4]])
    found = block(x, t1=tf.constant([1.0, float("nan"), 0.5], "float64"))
    np.testing.assert_allclose(found[0], block(x[:1])[0], rtol=1e-13)
    assert np.isnan(found[1]).all()
    np.testing.assert_allclose(found[2], [0.5 / 0.75], rtol=1e-3)


def test_a_budget_that_one_sample_spends_is_its_own():
    rates = tf.constant([[1.0], [1e4]], "float64")
    field = keras.layers.Rescaling(1.0, dtype="float64")
    field.call = lambda z: -rates * z
    block = tfnode.ODEBlock(field, SOLVERS[0], dtype="float64")
    z1 = block(tf.ones((2, 1), "float64"))
    np.testing.assert_allclose(z1[0], [np.exp(-1)], rtol=1e-2)
    assert np.isnan(z1[1]).all()


@every_solver
def test_by_default_it_is_an_error(solver):
    block = block_of(dataclasses.replace(solver, per_sample_failure="raise"))
    assert type(solver)(per_sample=True).per_sample_failure == "raise"
    with pytest.raises(FloatingPointError, match="must stay finite"):
        block(STARTS)
    with pytest.raises(ValueError, match="keeps its method"):
        block.solver = solver


@pytest.mark.parametrize(
    "options",
    [
        {"per_sample_failure": "nan"},
        {**ALONE, "per_sample_failure": "skip"},
        {**ALONE, "per_sample_failure": None},
    ],
)
def test_what_nobody_can_fail_alone_with_is_refused(options):
    with pytest.raises(ValueError, match="Received: per_sample_failure="):
        Fehlberg21(**options)


def test_configurations_of_before_and_of_now():
    solver = SOLVERS[0]
    assert solvers.deserialize(solvers.serialize(solver)) == solver
    config = solvers.serialize(dataclasses.replace(solver, per_sample_failure="raise"))
    del config["config"]["per_sample_failure"]
    assert solvers.deserialize(config).per_sample_failure == "raise"


# === Served ===
def test_a_served_sample_that_fails_leaves_the_others_their_answers(tmp_path):
    inputs = keras.Input((2,), name="state")
    z = tfnode.ODEBlock(Squares(), solvers.RK4(1 / 4), name="ode")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(3, name="head")(z))
    x = np.random.default_rng(0).uniform(-0.5, 0.5, (8, 2)).astype("float32")
    chosen = [DormandPrince(1e-4, 1e-4, per_sample=True), BogackiShampine32(1e-4, 1e-4)]
    data = (x, np.arange(8) % 3)
    alone, together = tfnode.export.export_saved_models(
        model, tmp_path, chosen, data, reference_steps=8, verbose=0
    )
    answer = tf.saved_model.load(alone).signatures["serving_default"]
    expected = answer(state=tf.constant(x))
    mixed = np.concatenate([x, [[0.1, np.nan], [2.0, 0.1], [np.inf, 0.0]]]).astype("float32")
    found = answer(state=tf.constant(mixed))
    for name in ("logits", "probabilities"):
        np.testing.assert_array_equal(found[name][:8], expected[name])
        assert np.isnan(found[name][8:]).all()
    np.testing.assert_allclose(
        expected["logits"], tfnode.with_solver(model, chosen[0]).predict(x, verbose=0), atol=1e-5
    )
    answer = tf.saved_model.load(together).signatures["serving_default"]
    with pytest.raises(tf.errors.InvalidArgumentError, match="not finite"):
        answer(state=tf.constant(mixed[:9]))
