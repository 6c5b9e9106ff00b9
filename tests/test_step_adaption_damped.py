"""`StepAdaption(policy="damped")` through `fit`, on models whose decisions are known by hand."""

import contextlib
import io
import math
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from frozen_models import (
    ONES,
    ZEROS,
    X,
    columns,
    fit,
    frozen,
    num_steps,
    rounded,
)
from problems import CountingField

import tfnode
from tfnode import solvers
from tfnode.adaption import DampedRule, initial_step_size, reference_solver
from tfnode.models import held_blocks

RATE = -3.0
RULE = DampedRule(patience=2, memory=3)
# Any change is a failure.
STRICT = DampedRule(low=1e-12, high=2e-12)


def solution(solver, rate=RATE):
    """At t = 1 from 1, in double precision; the last step is shorter."""
    steps = num_steps(solver.step_size)
    lengths = [*[solver.step_size] * (steps - 1), 1 - (steps - 1) * solver.step_size]
    powers = range(solver.order + 1)
    return math.prod(sum((rate * h) ** k / math.factorial(k) for k in powers) for h in lengths)


def change_between(solver, reference):
    """The total variation distance of the probabilities of the logits -z and z."""
    p, q = (1 / (1 + math.exp(-2 * solution(s))) for s in (solver, reference))
    return abs(p - q)


@pytest.fixture(scope="module")
def climb(tmp_path_factory):
    """One training from Euler with a step to RK4 with three, and everything that it left."""
    export_dir = tmp_path_factory.mktemp("models")
    model, seen = frozen(RATE, jit_compile=False), []
    callback = tfnode.StepAdaption(
        (X, ZEROS), 5, RULE, initial_step_size=1.0, export_dir=export_dir, verbose=1
    )

    def note(batch, logs):
        field = model.get_layer("ode_0").field
        seen.append((field.traces, dict(logs)))

    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        after = [keras.callbacks.LambdaCallback(on_train_batch_end=note)]
        fit(model, callback, ZEROS, iterations=42, more=after)
    return types.SimpleNamespace(
        model=model, callback=callback, seen=seen, output=output.getvalue(), export_dir=export_dir
    )


CHECKED = [
    (5, "euler", 1, 1, "shrink"),
    (10, "euler", 2, 2, "climb"),
    (15, "midpoint", 1, 2, "shrink"),
    (20, "midpoint", 2, 4, "climb"),
    (25, "rk4", 1, 4, "shrink"),
    (30, "rk4", 2, 8, "shrink"),
    (35, "rk4", 3, 12, "keep"),
    (40, "rk4", 3, 12, "keep"),
]


def test_records(climb):
    found = columns(climb.callback, "iteration", "method", "num_steps", "nfe", "action")
    assert found == CHECKED
    for record in climb.callback.history:
        assert record["step_size"] == rounded(1 / record["num_steps"])
        solver = solvers.get(record["method"], step_size=record["step_size"])
        expected = change_between(solver, reference_solver(solver))
        assert record["change"] == pytest.approx(expected, rel=1e-4, abs=1e-7)
    # Euler with a step is on the wrong side, RK4 with one far off on the right one.
    assert columns(climb.callback, "train_accuracy", "reference_accuracy") == [
        (1, 0),
        *[(0, 0)] * 7,
    ]


def test_the_model_has_the_last_method(climb):
    solver = climb.model.get_layer("ode_0").solver
    assert solver == solvers.RK4(rounded(1 / 3))
    config = climb.model.get_layer("ode_0").get_config()
    assert config["solver"] == solvers.serialize(solver)


def test_evaluations_are_counted_with_the_stages_of_the_method(climb):
    training = 5 * (1 + 2 + 2 + 4 + 4 + 8) + 12 * 12
    # A check: the training solver; a better one; and none tried in the calm of two checks, which
    # is below the memory of three.
    better = {
        "euler": lambda n: 2 * num_steps(math.sqrt(1 / n / 50)),
        "midpoint": lambda n: 4 * num_steps((1 / n**2 / 50) ** 0.25),
        "rk4": lambda n: 4 * 2 * n,
    }
    checks = sum(nfe + better[method](n) for _, method, n, nfe, _ in CHECKED)
    assert climb.callback.nfe_per_iteration == training / 42
    assert climb.callback.nfe_per_iteration_with_checks == (training + checks) / 42


def test_logs_have_what_the_check_decided(climb):
    nfe = [logs["nfe"] for _, logs in climb.seen]
    after = [checked[3] for checked in CHECKED[1:]]
    assert nfe == [1] * 4 + list(np.repeat(after, 5)) + [12] * 3
    losses = [logs["loss"] for _, logs in climb.seen]
    # The loss that `fit` logs is the mean of the epoch up to here: cross-entropy of -z and z.
    methods = [s for s in (solvers.Euler(1.0), solvers.Euler(1 / 2), solvers.Midpoint(1.0))]
    expected = np.repeat([math.log1p(math.exp(2 * solution(s))) for s in methods], 5)
    means = np.cumsum(expected) / np.arange(1, 16)
    assert losses[:15] == pytest.approx(means, rel=1e-5)


def test_neither_a_climb_nor_a_step_size_retraces(climb):
    # Each step asks a weight which of the methods it takes, so that one trace has all of them.
    # What is before the block learns nothing, so that it calls the field once a stage of each.
    assert {traces for traces, _ in climb.seen} == {1 + 2 + 4}


def test_what_is_printed(climb):
    assert [line for line in climb.output.splitlines() if line] == [
        "Iteration 5: StepAdaption shrinks the step size from 1 to 0.5 (gap 1.000).",
        "Iteration 10: StepAdaption climbs from Euler(step_size=0.5) to Midpoint(step_size=1.0) "
        "(gap 0.000).",
        "Iteration 15: StepAdaption shrinks the step size from 1 to 0.5 (gap 0.000).",
        "Iteration 20: StepAdaption climbs from Midpoint(step_size=0.5) to RK4(step_size=1.0) "
        "(gap 0.000).",
        "Iteration 25: StepAdaption shrinks the step size from 1 to 0.5 (gap 0.000).",
        "Iteration 30: StepAdaption shrinks the step size from 0.5 to 0.3333 (gap 0.000).",
    ]


def test_the_last_method_is_exported(climb):
    solver = climb.model.get_layer("ode_0").solver
    expected = {tfnode.export.solver_slug(s): s for s in (solver, reference_solver(solver))}
    assert len(expected) == 2
    for slug, solver in expected.items():
        loaded = tf.saved_model.load(str(climb.export_dir / slug / "1"))
        (name,) = loaded.signatures["serving_default"].structured_input_signature[1]
        answer = loaded.signatures["serving_default"](**{name: tf.constant(X, "float32")})
        assert float(answer["logits"][0, 1]) == pytest.approx(solution(solver), rel=1e-5)


def test_rk4_shrinks_only_and_grows_only_as_far_as_it_agrees():
    model = frozen(RATE, solver="rk4", jit_compile=False)
    callback = tfnode.StepAdaption((X, ONES), 1, RULE, initial_step_size=1 / 8)
    fit(model, callback, iterations=9)
    fit(model, callback, iterations=11)  # with the memory of the first
    changes = [
        (i, n, action)
        for i, method, n, action in columns(callback, "iteration", "method", "num_steps", "action")
        if method != "rk4" or action != "keep"
    ]
    # At two steps, from three, the change is 0.012: too much.
    assert changes == [
        (2, 8, "grow"),
        (4, 7, "grow"),
        (6, 6, "grow"),
        (8, 5, "grow"),
        (10, 4, "grow"),
    ]
    assert columns(callback, "num_steps")[-1] == (3,)
    # Euler's reference is not asked for; what is tried is counted: 8 to 3 once each, and 2 as
    # often as the patience (once) and then the memory let it be tried.
    checks = sum(4 * 3 * n for (n,) in columns(callback, "num_steps"))
    tried = 4 * (7 + 6 + 5 + 4 + 3) + 4 * 2 * 3
    training = 4 * (2 * (8 + 7 + 6 + 5 + 4) + 10 * 3)
    assert callback.nfe_per_iteration_with_checks == (training + checks + tried) / 20


def test_every_evaluation_is_counted():
    """Against a field that counts what really runs; under backprop nothing runs twice."""
    field = CountingField()
    z = inputs = keras.Input((1,))
    for t1 in (1.0, 0.75):
        z = tfnode.ODEBlock(field, t1=t1, gradient="backprop")(z)
    model = keras.Model(inputs, keras.layers.Dense(2)(z))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.0), loss, jit_compile=False, steps_per_execution=4)
    callback = tfnode.StepAdaption((X, ONES), 2, STRICT, initial_step_size=0.5)
    field.executions.assign(0)
    # When training begins one forward pass, with the solver of the model, finds the blocks.
    look = sum(block.nfe for block in held_blocks(model))
    fit(model, callback, iterations=12)
    # A check waits for the end of an execution. On [0, 0.75] there are 2 steps, then 4, and after
    # the climb 2 again; on [0, 1] as many as it takes.
    assert columns(callback, "iteration", "method", "nfe", "action") == [
        (4, "euler", 2 + 3, "shrink"),
        (8, "euler", 4 + 6, "climb"),
        (12, "midpoint", 2 * (2 + 3), "shrink"),
    ]
    assert callback.nfe_per_iteration == 4 * (5 + 10 + 10) / 12
    assert int(field.executions) == look + 12 * callback.nfe_per_iteration_with_checks
    assert [block.solver for block in held_blocks(model)] == [solvers.Midpoint(0.75 / 4)] * 2


BATCH = np.random.default_rng(3).normal(size=(32, 2)).astype("float32")
LABELS = (BATCH[:, 0] * BATCH[:, 1] > 0).astype("int64")
BATCHES = tf.data.Dataset.from_tensors((BATCH, LABELS))


def trainable(solver, weights=None, **options):
    """A model that learns, with the weights of another but its solver's own step size."""
    keras.utils.set_random_seed(1)
    field = keras.Sequential([keras.layers.Dense(16, "tanh"), keras.layers.Dense(2)])
    block = tfnode.ODEBlock(field, solver)
    model = keras.Sequential([keras.Input((2,)), block, keras.layers.Dense(2)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.5), loss, **options)
    for variable, value in zip(model.trainable_variables, weights or ()):
        variable.assign(value)
    return model


def values(model):
    return [variable.numpy() for variable in model.trainable_variables]


def distance(weights, others):
    return max(np.abs(a - b).max() for a, b in zip(weights, others))


def after_a_step(solver, weights):
    """What a fresh model with these weights is after a training step, and its loss."""
    model = trainable(solver, weights, run_eagerly=True)
    loss = model.train_on_batch(BATCH, LABELS)
    return [*values(model), np.array(loss)]


def climbing_fit(model, **arguments):
    """Five iterations: two by Euler with 2 steps, two with 4, the last by midpoint with 2."""
    snapshots = []
    note = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: snapshots.append(values(model))
    )
    callback = tfnode.StepAdaption((BATCH, LABELS), 2, STRICT, initial_step_size=1 / 2)
    callbacks = [callback, note]
    history = model.fit(
        BATCHES, epochs=5, shuffle=False, verbose=0, callbacks=callbacks, **arguments
    ).history
    assert columns(callback, "method", "num_steps", "action") == [
        ("euler", 2, "shrink"),
        ("euler", 4, "climb"),
    ]
    return snapshots, history


@pytest.mark.parametrize("jit_compile", [True, False])
def test_a_climb_reaches_the_training_step(jit_compile):
    snapshots, history = climbing_fit(trainable(solvers.Euler(1 / 2), jit_compile=jit_compile))
    # The fifth iteration is the first after the climb: what does a fresh model make of it?
    found = [*snapshots[4], np.array(history["loss"][4])]
    assert distance(found, after_a_step(solvers.Midpoint(1 / 2), snapshots[3])) < 2e-6
    # Not what the old method would with the new step size.
    assert distance(found, after_a_step(solvers.Euler(1 / 2), snapshots[3])) > 1e-3


def test_a_climb_reaches_validation_and_prediction():
    model = trainable(solvers.Euler(1 / 2), jit_compile=False)
    # Traced with Euler's method.
    model.predict(BATCH, verbose=0)
    model.evaluate(BATCHES, verbose=0)
    snapshots, history = climbing_fit(model, validation_data=BATCHES)
    # Validation right after the climb, and prediction an iteration later.
    fresh = trainable(solvers.Midpoint(1 / 2), snapshots[3], run_eagerly=True)
    expected = fresh.evaluate(BATCHES, verbose=0)
    assert history["val_loss"][3] == pytest.approx(expected, rel=1e-5)
    fresh = trainable(solvers.Midpoint(1 / 2), snapshots[4], run_eagerly=True)
    np.testing.assert_allclose(model.predict(BATCH, verbose=0), fresh(BATCH), atol=2e-6)


@pytest.mark.parametrize(
    "initial, expected",
    [(0.3, 1 / 4), (1 / 3, 1 / 3), (5.0, 1.0), (np.float32(1 / 41), 1 / 41)],
)
def test_the_first_step_is_a_whole_one(initial, expected):
    model = frozen()
    callback = tfnode.StepAdaption((X, ONES), policy="damped", initial_step_size=initial)
    callback.set_model(model)
    callback.on_train_begin()
    assert held_blocks(model)[0].solver == solvers.Euler(rounded(expected))


def test_auto_starts_from_hairers_rule_in_whole_steps():
    model = frozen(RATE, t1=(1.0, 2.0), solver="midpoint")
    callback = tfnode.StepAdaption((X, ONES), policy="damped")
    callback.set_model(model)
    callback.on_train_begin()
    hairer = initial_step_size(lambda t, z: RATE * z, 0.0, X, 2, 1.0)
    steps = math.ceil(1 / hairer)
    assert [float(block.step_size) for block in held_blocks(model)] == [rounded(1 / steps)] * 2
    assert 1 / steps < hairer < 1 / (steps - 1)


def test_a_change_that_is_not_a_number_is_a_failure():
    # Where the check starts, Euler's method with four steps doubles up and out of single
    # precision; in training it does not. With eight steps it decays, as the better one does.
    checked = np.full((8, 1), 2.8e37, "float32")
    model = frozen(rate=-12.0, jit_compile=False)
    callback = tfnode.StepAdaption((checked, ONES), 1, RULE, initial_step_size=1 / 4)
    fit(model, callback, iterations=2)
    assert columns(callback, "num_steps", "action") == [(4, "shrink"), (8, "keep")]
    assert math.isnan(callback.history[0]["change"])
    assert callback.history[1]["change"] == 0.0


# === What is refused ===
@pytest.mark.parametrize(
    "arguments",
    [
        {"policy": "dampened"},
        {"policy": None},
        {"policy": 0.1},
        {"policy": DampedRule},
        {"policy": tfnode.adaption.StepRule},
        {"policy": "tolerance"},
        {"policy": "damped", "threshold": 0.05},
        {"policy": "damped", "shrink": 0.25},
        {"policy": "damped", "growth": 1.5},
        {"policy": DampedRule(), "threshold": 0.05},
        # The blocks give these; a value that nobody reads is not taken.
        {"policy": DampedRule(min_step_size=1 / 50)},
        {"policy": DampedRule(max_step_size=2.0)},
        {"policy": tfnode.adaption.StepRule(min_step_size=1 / 50)},
    ],
    ids=str,
)
def test_a_policy_that_is_not_valid_is_refused(arguments):
    with pytest.raises(ValueError, match=r"Received: .*policy="):
        tfnode.StepAdaption((X, ONES), **arguments)


def two_methods():
    z = inputs = keras.Input((1,))
    for solver in ("euler", "midpoint"):
        z = tfnode.ODEBlock(keras.layers.Rescaling(-1.0), solver)(z)
    model = keras.Model(inputs, keras.layers.Dense(2)(z))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.0), loss, jit_compile=False)
    return model


def test_blocks_of_different_methods_are_refused_by_the_damped_rule_only():
    model = two_methods()
    with pytest.raises(ValueError, match=r"Received: model=.* methods \['euler', 'midpoint'\]"):
        fit(model, tfnode.StepAdaption((X, ONES), policy="damped"))
    assert int(model.optimizer.iterations) == 0
    callback = tfnode.StepAdaption((X, ONES), initial_step_size=0.25)
    callback.set_model(model)
    callback.on_train_begin()
    assert [block.nfe for block in held_blocks(model)] == [4, 8]
