"""Step, method and what a rule remembers are weights: whoever writes them, all else agrees."""

import copy
import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from frozen_models import ZEROS, X, columns, frozen, rounded
from scope_models import block, build, compiled, inputs, outputs

import tfnode
from tfnode import solvers
from tfnode.adaption import DampedRule
from tfnode.callbacks.base import SolverAdaption

EPOCHS = 8
# Any change is a failure: this rule climbs from Euler to the midpoint method and to RK4.
STRICT = DampedRule(low=1e-12, high=2e-12, patience=2, memory=3)


def step_adaption(policy, **kwargs):
    return tfnode.StepAdaption((X, ZEROS), 1, policy, initial_step_size=1.0, **kwargs)


def tolerance_adaption(**kwargs):
    return tfnode.ToleranceAdaption((X, ZEROS), 1, initial_tolerance=0.5, **kwargs)


PAPER, CLIMB, TOLERANCE = "paper", "climb", "tolerance"
every_rule = pytest.mark.parametrize("rule", [PAPER, CLIMB, TOLERANCE])
# The order matters to what a callback writes, whatever the rule.
every_rule_in_order = pytest.mark.parametrize(
    "rule, first", [(PAPER, True), (CLIMB, True), (CLIMB, False), (TOLERANCE, False)]
)


def adaption(rule, **kwargs):
    if rule == TOLERANCE:
        return tolerance_adaption(**kwargs)
    return step_adaption("paper" if rule == PAPER else STRICT, **kwargs)


def model_for(rule):
    if rule == TOLERANCE:
        solver = solvers.BogackiShampine32(1e-2, 1e-2, per_sample=True)
        return frozen(-3.0, 0.0495, solver=solver, jit_compile=False)
    return frozen(-3.0, 0.0, jit_compile=False)


def ode(model):
    return model.get_layer("ode_0")


def truth(model):
    """All that a rule has written into the weights."""
    memory = keras.ops.convert_to_numpy(ode(model).adaption_memory)
    return ode(model).solver, *memory.tolist()


class Truths(keras.callbacks.Callback):
    """Notes the truth at the end of each epoch, and gives each a score, the best in the second."""

    def __init__(self):
        super().__init__()
        self.noted = []

    def on_epoch_end(self, epoch, logs=None):
        self.noted.append(truth(self.model))
        logs["score"] = -abs(epoch - 1)


def in_order(first, callback, other):
    return [callback, other] if first else [other, callback]


def train(model, callbacks, epochs=EPOCHS):
    batches = tf.data.Dataset.from_tensors((X, ZEROS))
    return model.fit(batches, epochs=epochs, verbose=0, shuffle=False, callbacks=callbacks)


@pytest.fixture(scope="module")
def straight():
    """The records, the truths and the logs of a training that nobody disturbs, for each rule."""
    found = {}
    for rule in (PAPER, CLIMB, TOLERANCE):
        keras.utils.set_random_seed(0)
        model, callback, truths = model_for(rule), adaption(rule), Truths()
        history = train(model, [callback, truths])
        found[rule] = callback.history, truths.noted, history.history
    return found


@pytest.fixture(scope="module")
def climbed():
    """A trained model that no test changes."""
    model = model_for(CLIMB)
    train(model, [adaption(CLIMB)])
    return model


def test_the_rules_do_something(straight):
    """Else the other tests would hold of themselves."""
    records, truths, _ = straight[CLIMB]
    methods = [record["method"] for record in records]
    assert list(dict.fromkeys(methods)) == ["euler", "midpoint", "rk4"]
    assert len(set(truths)) >= EPOCHS - 1
    for rule in (PAPER, TOLERANCE):
        _, truths, _ = straight[rule]
        assert len({solver for solver, *_ in truths}) > 2


@every_rule
def test_logs_are_the_weights(rule, straight):
    records, truths, logs = straight[rule]
    name = "tolerance" if rule == TOLERANCE else "step_size"
    values = [getattr(solver, "rtol" if rule == TOLERANCE else name) for solver, *_ in truths]
    assert logs[name] == values
    assert [record[name] for record in records[1:]] == values[:-1]
    assert all(started == 1 for _, started, *_ in truths)


# === EarlyStopping, ModelCheckpoint, BackupAndRestore ===
@every_rule_in_order
def test_early_stopping_restores_all_of_it(rule, first, straight, tmp_path):
    records, truths, _ = straight[rule]
    exports = {} if rule == TOLERANCE or not first else {"export_dir": tmp_path}
    model, callback = model_for(rule), adaption(rule, **exports)
    stopping = keras.callbacks.EarlyStopping("score", mode="max", patience=EPOCHS)
    stopping.restore_best_weights = True
    train(model, [Truths(), *in_order(first, callback, stopping)])
    assert callback.history == records
    assert truth(model) == truths[1]
    if exports:
        solver, *_ = truths[1]
        names = {path.name for path in tmp_path.iterdir() if path.is_dir()}
        slug = f"{solver.tableau.name}_h{solver.step_size:g}".replace(".", "p")
        assert slug in names and len(names) == 2
        card = json.loads((tmp_path / slug / "1" / "assets.extra/validity.json").read_text())
        assert card["sweep"][0]["step_size"] == solver.step_size
        served = tf.saved_model.load(tmp_path / slug / "1")
        logits = served.signatures["serving_default"](**{model.inputs[0].name: X})["logits"]
        np.testing.assert_allclose(logits, model(X), rtol=0, atol=1e-6)
    # The next fit goes on from there.
    train(model, [callback], epochs=2)
    drop = lambda record: {k: v for k, v in record.items() if k != "iteration"}
    assert list(map(drop, callback.history[EPOCHS:])) == list(map(drop, records[2:4]))


@every_rule_in_order
def test_model_checkpoints_hold_all_of_it(rule, first, straight, tmp_path):
    records, truths, _ = straight[rule]
    model, callback = model_for(rule), adaption(rule)
    whole = keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.keras")
    weights = keras.callbacks.ModelCheckpoint(
        tmp_path / "{epoch}.weights.h5", save_weights_only=True
    )
    train(model, [*in_order(first, callback, whole), weights])
    for epoch in (2, 5):
        loaded = keras.saving.load_model(tmp_path / f"{epoch}.keras")
        assert truth(loaded) == truths[epoch - 1]
        fresh = keras.models.clone_model(loaded)
        fresh.load_weights(tmp_path / f"{epoch}.weights.h5")
        assert truth(fresh) == truths[epoch - 1]
    # A new callback goes on from the step and the memory in the weights, not from the start.
    loaded = keras.saving.load_model(tmp_path / "5.keras")
    resumed = adaption(rule)
    train(loaded, [resumed], epochs=EPOCHS - 5)
    assert resumed.history == records[5:]
    assert truth(loaded) == truths[-1]


# Keras says what else it would have loaded, too.
@pytest.mark.filterwarnings("ignore:Skipping nested container")
def test_weights_of_another_method_are_refused_by_name(climbed, tmp_path):
    climbed.save_weights(tmp_path / "rk4.weights.h5")
    with pytest.raises(ValueError, match="values of 'rk4' for 'ode_0', which has euler"):
        model_for(CLIMB).load_weights(tmp_path / "rk4.weights.h5")


class Stop(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 5:
            raise KeyboardInterrupt


@every_rule_in_order
def test_an_interrupted_fit_goes_on(rule, first, straight, tmp_path):
    records, truths, _ = straight[rule]
    backup = lambda: keras.callbacks.BackupAndRestore(tmp_path / "backup")
    callback = adaption(rule)
    with pytest.raises(KeyboardInterrupt):
        train(model_for(rule), [*in_order(first, callback, backup()), Stop()])
    assert callback.history == records[:5]
    # As in a process of its own.
    model, resumed = model_for(rule), adaption(rule)
    train(model, in_order(first, resumed, backup()))
    assert resumed.history == records[5:]
    assert truth(model) == truths[-1]
    assert resumed.nfe_per_iteration > 0
    shutil.rmtree(tmp_path / "backup", ignore_errors=True)


# === Copies ===
@pytest.mark.parametrize("rule", [CLIMB, TOLERANCE])
def test_a_callback_can_be_copied(rule, straight):
    records, _, _ = straight[rule]
    original = adaption(rule)
    before = copy.deepcopy(original)
    for callback in (original, before):
        train(model_for(rule), [callback])
        assert callback.history == records
    after = copy.deepcopy(original)
    assert after.history == records and after.model is None
    train(original.model, [after], epochs=1)
    assert len(after.history) == EPOCHS + 1 and original.history == records
    assert isinstance(copy.copy(after), SolverAdaption)


def test_a_model_that_was_not_adapted_starts_and_one_that_was_goes_on():
    model = model_for(PAPER)
    train(model, [adaption(PAPER)], epochs=2)
    assert float(ode(model).step_size) == rounded(0.55)
    again = adaption(PAPER)
    train(model, [again], epochs=1)
    assert columns(again, "step_size") == [(rounded(0.55),)]
    # Whoever wants another start says so.
    ode(model).adaption_memory.assign(np.zeros(8))
    anew = adaption(PAPER)
    train(model, [anew], epochs=1)
    assert columns(anew, "step_size") == [(1.0,)]


def test_a_copied_model_has_the_present_solver(climbed):
    model = climbed
    clone = keras.models.clone_model(model)
    assert ode(clone).solver == ode(model).solver == solvers.RK4(ode(model).solver.step_size)
    clone.set_weights(model.get_weights())
    assert truth(clone) == truth(model)
    np.testing.assert_array_equal(clone(X), model(X))
    ode(clone).step_size = 1 / 2
    assert ode(model).solver.step_size != 1 / 2


def test_half_precision_keeps_the_step(tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = build("functional", solvers.Euler(0.3))
        compiled(model, "functional")
        x, y = inputs("functional"), np.arange(8) % 2
        callback = tfnode.StepAdaption((x, y), every=1)
        model.fit(x, y, epochs=2, verbose=0, callbacks=[callback])
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
    finally:
        keras.config.set_dtype_policy("float32")
    found = [tfnode.models.held_blocks(m)[0] for m in (model, loaded)]
    assert found[0].solver == found[1].solver
    assert [b.step_size.dtype for b in found] == ["float32", "float32"]
    np.testing.assert_array_equal(outputs(loaded, x), outputs(model, x))


# === TensorFlow's own saving ===
def test_a_checkpoint_of_tensorflow_holds_all_of_it(climbed, tmp_path):
    model = climbed
    path = tf.train.Checkpoint(model=model).save(tmp_path / "checkpoint")
    fresh = frozen(-3.0, 0.0, solver=ode(model).solver.with_step_size(1.0))
    tf.train.Checkpoint(model=fresh).restore(path).expect_partial()
    assert truth(fresh) == truth(model)
    np.testing.assert_array_equal(fresh(X), model(X))
    other = model_for(CLIMB)
    tf.train.Checkpoint(model=other).restore(path).expect_partial()
    with pytest.raises(ValueError, match="weights of another one for 'ode_0', which has euler"):
        _ = ode(other).num_steps
    # The rule that climbed there knows the method.
    train(other, [adaption(CLIMB)], epochs=1)
    assert ode(other).solver.tableau.name == "rk4"


def test_weights_mean_the_same_in_every_block():
    """The number of a method is not its place among those of one block."""
    model = build("functional", solvers.Midpoint(1 / 4))
    (here,) = tfnode.models.held_blocks(model)
    other = build("functional", solvers.Euler(1 / 4))
    (there,) = tfnode.models.held_blocks(other)
    there.methods = (solvers.Euler(1 / 4), solvers.Midpoint(1 / 4), solvers.RK4(1 / 4))
    there.solver = solvers.Midpoint(1 / 8)
    here.methods = (solvers.Midpoint(1 / 4), solvers.RK4(1 / 4))
    model.set_weights(other.get_weights())
    assert here.solver == there.solver == solvers.Midpoint(1 / 8)
    np.testing.assert_array_equal(*outputs(model, X2), *outputs(other, X2))


X2 = inputs("functional")


@pytest.mark.parametrize(
    "solver",
    [
        solvers.RK4(1 / 4),
        solvers.BogackiShampine32(1e-3, 1e-3, per_sample=True),
        solvers.DormandPrince(1e-3, 1e-3),
    ],
    ids=["fixed", "adaptive", "TFP"],
)
def test_tensorflow_saves_a_model(solver, tmp_path):
    model = compiled(build("functional", solver), "functional")
    model.fit(X2, np.arange(8) % 2, verbose=0)
    for name, one in {"own": model, "other": tfnode.with_solver(model, "midpoint")}.items():
        tf.saved_model.save(one, tmp_path / name)
        loaded = tf.saved_model.load(tmp_path / name)
        (output,) = loaded.signatures["serving_default"](tf.constant(X2)).values()
        np.testing.assert_allclose(output, *outputs(one, X2), rtol=0, atol=1e-5)
    first = rounded(solver.step_size if hasattr(solver, "step_size") else solver.rtol)
    saved = tf.train.load_checkpoint(str(tmp_path / "own" / "variables" / "variables"))
    name = "_step_size" if hasattr(solver, "step_size") else "_rtol"
    (key,) = (k for k in saved.get_variable_to_shape_map() if f"{name}/" in k)
    assert float(saved.get_tensor(key)) == first


# === The interval ===
def test_the_interval_cannot_be_assigned():
    ode = block(solvers.Euler(1 / 4))
    with pytest.raises(AttributeError, match=r"Received: t1=2\.0 for 'ode_block'\. Call the block"):
        ode.t1 = 2.0
    with pytest.raises(AttributeError, match=r"Received: t0=0.5 for 'ode_block'"):
        ode.t0 = 0.5
    assert (ode.t0, ode.t1) == (0.0, 1.0)
    two = ode(X2, t1=2.0)
    field = tfnode.ODEBlock(ode.field, solvers.Euler(1 / 4), t1=2.0)
    np.testing.assert_allclose(two, field(X2), rtol=0, atol=1e-6)


@pytest.mark.parametrize("make", [tf.Variable, keras.Variable, tf.constant])
def test_an_end_that_is_a_tensor_is_refused(make):
    """It would be read once, and have no gradient."""
    with pytest.raises(ValueError, match=r"an end time that changes at the call: `block\(z, t1="):
        tfnode.ODEBlock(keras.layers.Dense(2), t1=make(1.0))


def test_records_of_the_frozen_model(straight):
    """By hand: the rule halves what is wrong, and climbs at the second failure."""
    records = straight[CLIMB][0][:3]
    assert [(r["method"], r["num_steps"], r["action"]) for r in records] == [
        ("euler", 1, "shrink"),
        ("euler", 2, "climb"),
        ("midpoint", 1, "shrink"),
    ]
