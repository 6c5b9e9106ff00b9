"""A model under another solver, wherever its blocks are: saved, exported, adapted, judged.

What it answers and how it trains is in `backends/test_solver_scopes.py`.
"""

import pathlib
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from scope_models import (
    COARSE,
    FINE,
    KINDS,
    LOSS,
    Holder,
    Subclassed,
    assert_equal,
    block,
    build,
    classifier,
    compiled,
    inputs,
    labels,
    outputs,
)

import tfnode
from tfnode import keras_internals, solvers
from tfnode.models import held_blocks, reached_blocks

ROOT = pathlib.Path(__file__).parents[1]

every_kind = pytest.mark.parametrize("kind", KINDS)


# === with_solver ===
@every_kind
def test_shares_the_weights_and_leaves_the_model_alone(kind):
    model = compiled(build(kind, COARSE), kind)
    optimizer, before = model.optimizer, model.get_weights()
    same = tfnode.with_solver(model, FINE)
    shared = {id(v) for v in same.variables}
    assert all(id(v) in shared for v in model.variables)
    assert [id(v) for v in same.trainable_variables] == [id(v) for v in model.trainable_variables]
    assert not same.compiled
    other = compiled(build(kind, FINE), kind)
    other.run_eagerly = True  # needs no graph
    loss, expected = (
        one.evaluate(inputs(kind), labels(kind), verbose=0) for one in (compiled(same, kind), other)
    )
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    assert model.optimizer is optimizer and model.compiled
    assert_equal(model.get_weights(), before)
    assert {b.solver for b in held_blocks(model)} == {COARSE}
    assert {b.solver for b in held_blocks(same)} == {FINE}


@every_kind
def test_is_saved(kind, tmp_path):
    model = build(kind, COARSE)
    same, x = tfnode.with_solver(model, FINE), inputs(kind)
    held_blocks(same)[0].step_size = 1 / 3
    same.save(tmp_path / "model.keras")
    same.save_weights(tmp_path / "model.weights.h5")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert_equal(outputs(loaded, x), outputs(same, x))
    keras.utils.set_random_seed(2)
    fresh = KINDS[kind](COARSE)
    fresh(x)
    fresh = tfnode.with_solver(fresh, FINE)
    assert np.abs(outputs(fresh, x)[0] - outputs(same, x)[0]).max() > 1e-3
    fresh.load_weights(tmp_path / "model.weights.h5")
    assert_equal(outputs(fresh, x), outputs(same, x))


@pytest.mark.parametrize(
    "kind",
    ["functional", "sequential_without_input", "beside", "recurrent", "lists", "dictionaries"],
)
def test_is_functional_and_exported(kind, tmp_path):
    model = build(kind, COARSE)
    same, x = tfnode.with_solver(model, FINE), inputs(kind)
    assert same.inputs and [t.shape for t in same.inputs] == [t.shape for t in model.inputs]
    assert [t.name for t in same.inputs] == [t.name for t in model.inputs]
    if not isinstance(model, keras.Sequential):
        assert same.output_names == model.output_names
    same.export(tmp_path / "served", verbose=False)
    served = tf.saved_model.load(tmp_path / "served")
    for ours, theirs in zip(keras.tree.flatten(served.serve(x)), outputs(same, x), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


def test_is_exported_for_each_solver(tmp_path):
    kind = "beside"
    model = compiled(build(kind, COARSE), kind)
    data = inputs(kind), labels(kind)
    (path,) = tfnode.export.export_saved_models(
        model, tmp_path, [FINE], data, reference_steps=8, verbose=0
    )
    served = tf.saved_model.load(path)
    expected = outputs(build(kind, FINE), inputs(kind))[0]
    np.testing.assert_allclose(
        served.signatures["serving_default"](x=data[0])["logits"], expected, atol=1e-5
    )


def test_a_subclassed_model_that_is_not_built():
    keras.utils.set_random_seed(1)
    same = tfnode.with_solver(Subclassed(COARSE), FINE)
    x = inputs("Subclassed")
    first = outputs(same, x)
    assert same.model.built
    assert_equal(first, outputs(build("Subclassed", FINE), x))


def test_half_precision_casts_where_the_model_does():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        for kind in ("functional", "Subclassed", "in_field"):
            same, other = tfnode.with_solver(build(kind, COARSE), FINE), build(kind, FINE)
            assert same(inputs(kind)).dtype == other(inputs(kind)).dtype == "bfloat16"
            assert_equal(outputs(same, inputs(kind)), outputs(other, inputs(kind)))
    finally:
        keras.config.set_dtype_policy("float32")


def test_a_model_without_a_block_is_refused():
    model = keras.Sequential([keras.Input((2,)), layers.Dense(2)])
    data = inputs("functional")[:, :2], labels("functional")
    compiled(model, "functional")
    for ask in (
        lambda: tfnode.with_solver(model, FINE),
        lambda: tfnode.validity.check(model, data),
        lambda: model.fit(*data, verbose=0, callbacks=[tfnode.StepAdaption(data)]),
    ):
        with pytest.raises(ValueError, match=r"have an `ODEBlock`.*without any block") as error:
            ask()
        assert f"model={model.name!r} of type Sequential" in str(error.value)


# === What is called ===
def test_a_changed_name_in_keras_is_noticed():
    """`tfnode.keras_internals` writes what Keras writes, but for how a model is compiled."""
    for kind in ("functional", "sequential", "Subclassed"):
        model = compiled(build(kind, COARSE), kind)
        theirs = keras.saving.serialize_keras_object(model)
        assert "loss" in theirs.pop("compile_config")
        assert keras_internals.serialized(model) == theirs


@pytest.mark.parametrize(
    "kind, nfe",
    [("functional", 2), ("beside", 4), ("twice", 4), ("recurrent", 12), ("in_field", 6)],
)
def test_training_evaluations(kind, nfe):
    model = compiled(build(kind, COARSE), kind)
    # No check comes.
    callback = tfnode.StepAdaption((inputs(kind), labels(kind)), 100, initial_step_size=1 / 2)
    model.fit(inputs(kind), labels(kind), epochs=3, verbose=0, callbacks=[callback])
    assert callback.nfe_per_iteration == nfe


@pytest.mark.parametrize("is_scaled", [False, True])
def test_training_evaluations_are_those_of_an_optimizer_step(is_scaled):
    model = build("functional", COARSE)
    optimizer = keras.optimizers.SGD(0.1, gradient_accumulation_steps=4)
    optimizer = keras.optimizers.LossScaleOptimizer(optimizer) if is_scaled else optimizer
    model.compile(optimizer, LOSS)
    callback = tfnode.StepAdaption(
        (inputs("functional"), labels("functional")), 100, initial_step_size=1 / 2
    )
    data = inputs("functional", 64), labels("functional", 64)
    model.fit(*data, batch_size=8, verbose=0, callbacks=[callback])
    assert callback.nfe_per_iteration == 8


# === Adaption and verdict ===
# The other places are in `test_callbacks_anywhere.py` and `test_validity_anywhere.py`.
@pytest.mark.parametrize("kind", ["beside", "time_distributed", "recurrent", "in_field"])
def test_is_adapted_and_judged(kind):
    model, data = compiled(build(kind, COARSE), kind), (inputs(kind), labels(kind))
    callback = tfnode.StepAdaption(data, every=1, initial_step_size=1 / 2)
    model.fit(*data, epochs=2, verbose=0, callbacks=[callback])
    assert [record["iteration"] for record in callback.history] == [1, 2]
    report = tfnode.validity.check(model, data, reference_steps=8, verbose=0)
    solver = held_blocks(model)[0].solver
    finest = tfnode.with_solver(model, solvers.RK4(report.rows[-1].step_size))
    right = outputs(finest, data[0])[0].argmax(-1) == data[1]
    assert report.rows[-1].accuracy == right.mean()
    assert report.rows[0].step_size == solver.step_size
    assert report.rows[0].error > 0


class Unreached(keras.Model):
    """Has a block that it does not call."""

    def __init__(self, solver):
        super().__init__()
        self.used, self.unused, self.head = block(solver), block(solver, "unused"), layers.Dense(2)

    def build(self, inputs_shape):
        for layer in (self.used, self.unused, self.head):
            layer.build(inputs_shape)

    def call(self, x):
        return self.head(self.used(x))


def test_a_block_that_is_not_reached_is_an_error():
    data = inputs("functional"), labels("functional")
    model = compiled(Unreached(COARSE), "functional")
    model(data[0])
    with pytest.raises(ValueError, match=r"does not call \['unused'\]"):
        tfnode.validity.check(model, data)
    with pytest.raises(ValueError, match=r"does not call \['unused'\]"):
        model.fit(*data, verbose=0, callbacks=[tfnode.StepAdaption(data)])
    with pytest.raises(ValueError, match=r"no call of \['unused'\]"):
        tfnode.with_solver(model, FINE)(data[0])
    model = compiled(Unreached(solvers.BogackiShampine32(1e-3, 1e-3)), "functional")
    with pytest.raises(ValueError, match=r"does not call \['unused'\]"):
        model.fit(*data, verbose=0, callbacks=[tfnode.ToleranceAdaption(data)])


class Traced(Holder):
    """Keeps the graph that it traced first."""

    @tf.function
    def call(self, z):
        return self.inner(z)


def test_a_graph_of_a_users_own_is_an_error():
    """It keeps the solver that it was traced with, and would be judged under no other."""
    ode = block(COARSE)
    ode.build((None, 2))
    model = keras.Sequential([Traced(ode), layers.Dense(2)])
    data = inputs("functional"), labels("functional")
    model(data[0])
    same = tfnode.models.with_solver(classifier(lambda x: Holder(ode)(x)), FINE)
    same(data[0])
    compiled(model, "functional")
    with pytest.raises(ValueError, match=r"not in a `tf\.function` or `jax\.jit` of your own"):
        tfnode.models.Twin(model, reached_blocks(classifier(ode), data[0]), [FINE])(data[0])
    with pytest.raises(ValueError, match=r"calls \[\] and does not call \['ode_block'\]"):
        tfnode.validity.check(model, data)


def test_threads_have_scopes_of_their_own():
    model, x, found = build("functional", COARSE), inputs("functional"), {}
    each = [solvers.Euler(1 / n) for n in (2, 4, 8, 16)]
    models = [tfnode.with_solver(model, solver) for solver in each]
    expected = [outputs(build("functional", solver), x) for solver in each]
    barrier = threading.Barrier(len(each))

    def run(i):
        barrier.wait()
        found[i] = [outputs(models[i], x)[0] for _ in range(20)]

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(each))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    for i, solution in enumerate(expected):
        assert len(found[i]) == 20
        for output in found[i]:
            np.testing.assert_array_equal(output, solution[0])


# === What is not registered ===
def function(y, outputs):
    return keras.ops.mean(LOSS(y, outputs) ** 2)


class OwnLoss(keras.losses.Loss):
    def __init__(self):
        super().__init__(name="own")

    def call(self, y, outputs):
        return keras.losses.sparse_categorical_crossentropy(y, outputs, from_logits=True)


class OwnMetric(keras.metrics.Mean):
    def update_state(self, y, outputs, sample_weight=None):
        super().update_state(keras.ops.mean(outputs))


class OwnSchedule(keras.optimizers.schedules.LearningRateSchedule):
    def __init__(self, argument):
        self.argument = argument

    def __call__(self, step):
        return 0.01


@pytest.mark.parametrize(
    "loss, metric",
    [
        (function, OwnMetric()),
        (lambda y, outputs: function(y, outputs), lambda y, outputs: outputs[:, 0]),
        (OwnLoss(), None),
    ],
    ids=["function", "lambda", "class"],
)
@pytest.mark.parametrize("kind", ["functional", "Subclassed"])
def test_what_is_not_registered(kind, loss, metric, tmp_path):
    model, data = build(kind, COARSE), (inputs(kind), labels(kind))
    optimizer = keras.optimizers.SGD(OwnSchedule(object()))
    model.compile(optimizer, loss, metrics=[metric] if metric else None)
    callback = tfnode.StepAdaption(data, every=1)
    model.fit(*data, epochs=2, verbose=0, callbacks=[callback])
    assert len(callback.history) == 2
    report = tfnode.validity.check(model, data, task="classification", verbose=0)
    assert report.num_samples == len(data[1])
    same = tfnode.with_solver(model, FINE)
    same.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert_equal(outputs(loaded, data[0]), outputs(same, data[0]))
