"""What other callbacks save and restore: step, records, export and weights stay in agreement."""

import copy
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from frozen_models import ZEROS, X, columns, fit, frozen, rounded

import tfnode
from tfnode import solvers
from tfnode.adaption import DampedRule
from tfnode.models import held_blocks

FLIP = {"rate": -3.0, "jit_compile": False}
# Any change is a failure: Euler with a step, with two, midpoint with one, and so on.
STRICT = DampedRule(low=1e-12, high=2e-12)


def adaption(policy=STRICT, **arguments):
    return tfnode.StepAdaption((X, ZEROS), 1, policy, initial_step_size=1.0, **arguments)


def in_order(callback, other, comes_first):
    return [other, callback] if comes_first else [callback, other]


def train(model, callbacks, epochs, **options):
    """One iteration an epoch."""
    batches = tf.data.Dataset.from_tensors((X, ZEROS))
    return model.fit(
        batches, epochs=epochs, verbose=0, shuffle=False, callbacks=callbacks, **options
    )


class Weights(keras.callbacks.Callback):
    """Notes the weights at the end of every epoch."""

    def __init__(self):
        super().__init__()
        self.epochs = []

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append([np.array(w) for w in self.model.weights])


def assert_equal(weights, others):
    for ours, theirs in zip(weights, others, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("comes_first", [False, True])
def test_early_stopping_restores_the_step_too(comes_first, tmp_path):
    model, weights = frozen(**FLIP), Weights()
    callback = adaption(export_dir=tmp_path)
    # The loss is best under one step of Euler's method: the labels are what it predicts.
    stopping = keras.callbacks.EarlyStopping("loss", patience=2, restore_best_weights=True)
    train(model, [*in_order(callback, stopping, comes_first), weights], epochs=9)
    assert len(callback.history) == 3
    block = model.get_layer("ode_0")
    # As the best epoch left them: after its check.
    assert_equal(model.weights, weights.epochs[0])
    assert block.solver == solvers.Euler(0.5)
    exported = {path.name for path in tmp_path.iterdir()}
    assert tfnode.export.solver_slug(block.solver) in exported
    (path,) = (p for p in tmp_path.iterdir() if p.name == "euler_h0p5")
    card = json.loads((path / "1" / "assets.extra/validity.json").read_text())
    assert card["sweep"][0]["step_size"] == 0.5
    # The next training goes on from there, with what the rule had remembered.
    fit(model, callback, ZEROS, iterations=1)
    _, second, _, last = columns(callback, "method", "step_size", "change", "action")
    assert last == second
    assert last[-1] == "climb"


@pytest.mark.parametrize("comes_first", [False, True])
def test_a_backup_is_taken_up_where_it_was(comes_first, tmp_path):
    straight = adaption()
    train(frozen(**FLIP), [straight], epochs=4)

    class Interrupted(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    def backup(callback):
        return in_order(callback, keras.callbacks.BackupAndRestore(tmp_path / "b"), comes_first)

    with pytest.raises(KeyboardInterrupt):
        train(frozen(**FLIP), [*backup(adaption()), Interrupted()], epochs=4)
    # In another process: nothing but the backup is left.
    model, resumed = frozen(**FLIP), adaption()
    train(model, backup(resumed), epochs=4)
    names = ("iteration", "method", "step_size", "nfe", "action")
    # The weights hold the method that the first two checks led to.
    assert columns(resumed, "method")[0] == ("midpoint",)
    assert columns(resumed, *names) == columns(straight, *names)[2:]


@pytest.mark.parametrize("comes_first", [False, True])
@pytest.mark.parametrize("weights_only", [False, True])
def test_a_checkpoint_has_the_step_of_its_epoch(weights_only, comes_first, tmp_path):
    suffix = "weights.h5" if weights_only else "keras"
    name = str(tmp_path / ("{epoch}." + suffix))
    checkpoint = keras.callbacks.ModelCheckpoint(name, save_weights_only=weights_only)
    callback = adaption()
    train(frozen(**FLIP), in_order(callback, checkpoint, comes_first), epochs=3)
    path = tmp_path / f"2.{suffix}"
    # A weight file goes into a model of its method.
    method, step_size = columns(callback, "method", "step_size")[2]
    if weights_only:
        model = frozen(**{**FLIP, "solver": method})
        model.load_weights(path)
    else:
        model = keras.saving.load_model(path)
    assert held_blocks(model)[0].solver == solvers.get(method, step_size)
    # A new callback goes on from the weights, and does not begin anew.
    resumed = adaption()
    fit(model, resumed, ZEROS, iterations=1)
    names = ("method", "step_size", "nfe", "action")
    assert columns(resumed, *names) == columns(callback, *names)[2:]


def test_a_callback_can_be_copied_before_and_after_fit():
    callback = adaption("paper")
    before, model = copy.deepcopy(callback), frozen(**FLIP)
    fit(model, callback, ZEROS, iterations=2)
    after = copy.deepcopy(callback)
    assert (before.history, after.history) == ([], callback.history)
    fit(frozen(**FLIP), before, ZEROS, iterations=2)
    assert before.history == callback.history
    # Both go on from the step in the weights, each with records of its own.
    fit(model, after, ZEROS, iterations=2)
    fit(model, callback, ZEROS, iterations=1)
    assert columns(after, "num_steps", "action") == [(1, "shrink"), *[(2, "grow")] * 3]
    assert (len(before.history), len(callback.history)) == (2, 3)


def test_a_model_that_was_not_adapted_starts_and_one_that_was_goes_on():
    model = frozen(**FLIP)
    fit(model, adaption("paper"), ZEROS, iterations=2)
    block = model.get_layer("ode_0")
    assert float(block.step_size) == rounded(0.55)
    again = adaption("paper")
    fit(model, again, ZEROS, iterations=1)
    assert columns(again, "step_size") == [(rounded(0.55),)]
    # Whoever wants another start says so.
    block.adaption_memory.assign(np.zeros(8))
    anew = adaption("paper")
    fit(model, anew, ZEROS, iterations=1)
    assert columns(anew, "step_size") == [(1.0,)]
