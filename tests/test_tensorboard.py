"""What TensorBoard finds in `log_dir`, read with its own reader."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from frozen_models import ONES, ZEROS, Notes, X, fit, frozen, rounded
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import tfnode
from tfnode import solvers

SCALARS = {
    "StepAdaption": {"step_size", "num_steps", "nfe", "accuracy_gap", "change"},
    "ToleranceAdaption": {"tolerance", "nfe", "accuracy_gap", "change"},
}


def events(log_dir):
    """The scalars as lists of `(iteration, value)`, the images of `(iteration, size, pixels)`."""
    board = EventAccumulator(str(log_dir), size_guidance={"tensors": 0}).Reload()
    scalars, images = {}, {}
    for tag in board.Tags()["tensors"]:
        plugin = board.SummaryMetadata(tag).plugin_data.plugin_name
        values = [(e.step, tf.make_ndarray(e.tensor_proto)) for e in board.Tensors(tag)]
        if plugin == "scalars":
            scalars[tag] = [(step, value.item()) for step, value in values]
        else:
            assert plugin == "images"
            images[tag] = [(step, *decoded(value)) for step, value in values]
    return scalars, images


def decoded(summary):
    """Width and height as TensorBoard shows them, and the pixels of the only image."""
    width, height, png = summary
    return (int(width), int(height)), tf.image.decode_png(png).numpy()


def adapting(name, **arguments):
    """A frozen model and a callback that checks every second iteration."""
    if name == "StepAdaption":
        model = frozen(rate=-3.0, jit_compile=False)
        return model, tfnode.StepAdaption((X, ZEROS), 2, initial_step_size=1.0, **arguments)
    model = frozen(rate=-3.0, solver=solvers.BogackiShampine32(per_sample=True))
    return model, tfnode.ToleranceAdaption((X, ZEROS), 2, initial_tolerance=0.1, **arguments)


@pytest.mark.parametrize("name", SCALARS)
def test_every_check_and_the_figure_at_the_end(name, tmp_path):
    log_dir = tmp_path / "not" / "there" / "yet"
    model, callback = adapting(name, log_dir=log_dir)
    notes = Notes()
    fit(model, callback, ZEROS, iterations=7, more=[notes])
    assert [path.parent for path in tmp_path.rglob("*") if path.is_file()] == [log_dir]
    scalars, images = events(log_dir)

    assert set(scalars) == SCALARS[name]
    assert [r["action"] for r in callback.history][:1] == ["shrink"]
    assert scalars["change"] == [(r["iteration"], rounded(r["change"])) for r in callback.history]
    for tag in SCALARS[name] - {"change"}:
        # What the callbacks behind see in `logs` after the check.
        assert scalars[tag] == [(i, rounded(notes.logs[i - 1][tag])) for i in (2, 4, 6)]
    gaps = [abs(r["train_accuracy"] - r["reference_accuracy"]) for r in callback.history]
    assert [value for _, value in scalars["accuracy_gap"]] == gaps
    assert set(gaps) == {0.0, 1.0}

    assert list(images) == ["validity"]
    [(step, size, pixels)] = images["validity"]
    assert (step, size, pixels.shape) == (7, (500, 350), (350, 500, 4))
    assert_is_a_figure(pixels)


def assert_is_a_figure(pixels):
    # Opaque, white at the edge, and drawn upon with axes, text and markers.
    assert (pixels[..., 3] == 255).all()
    assert (pixels[0] == 255).all() and (pixels[:, -1] == 255).all()
    assert 0.02 < (pixels[..., :3] != 255).any(axis=-1).mean() < 0.5
    # The disc of the training solver, in the plot and in the legend.
    midnight_blue = (pixels[..., :3] == (25, 25, 112)).all(axis=-1)
    assert midnight_blue.sum() > 10


@pytest.mark.parametrize("was_fit", [False, True])
def test_a_loop_of_ones_own_reports_at_its_end(was_fit, tmp_path):
    model, callback = adapting("StepAdaption", log_dir=tmp_path)
    if was_fit:
        model.fit(X, ZEROS, verbose=0)
    callbacks = keras.callbacks.CallbackList([callback], model=model)
    callbacks.on_train_begin()
    for batch in range(2):
        callbacks.on_train_batch_begin(batch)
        callbacks.on_train_batch_end(batch, model.train_on_batch(X, ZEROS, return_dict=True))
    callbacks.on_train_end()
    scalars, images = events(tmp_path)
    assert [step for step, _ in scalars["nfe"]] == [2]
    assert [step for step, *_ in images["validity"]] == [2 + was_fit]


@pytest.mark.parametrize("is_behind", [False, True])
def test_a_history_of_ones_own_in_fit(is_behind, tmp_path):
    model, callback = adapting("StepAdaption", log_dir=tmp_path)
    order = slice(None, None, 1 if is_behind else -1)
    model.fit(X, ZEROS, verbose=0, callbacks=[callback, keras.callbacks.History()][order])
    assert [step for step, *_ in events(tmp_path)[1]["validity"]] == [1]


def test_without_log_dir_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model, callback = adapting("StepAdaption")
    fit(model, callback, ZEROS, iterations=2)
    assert len(callback.history) == 1
    assert list(tmp_path.iterdir()) == []


def test_two_fits_of_which_the_second_fails(tmp_path):
    model, callback = adapting("StepAdaption", log_dir=tmp_path)
    fit(model, callback, ZEROS, iterations=3)
    x = np.concatenate([X, np.full_like(X, np.nan)])
    with pytest.raises(FloatingPointError):
        model.fit(
            x, np.tile(ZEROS, 2), batch_size=8, shuffle=False, verbose=0, callbacks=[callback]
        )
    # The check of the second is kept.
    scalars, images = events(tmp_path)
    assert [step for step, _ in scalars["nfe"]] == [2, 4]
    assert [step for step, *_ in images["validity"]] == [3]


def test_the_figure_of_a_model_with_several_inputs(tmp_path):
    inputs = {"a": keras.Input((1,), name="a"), "b": keras.Input((1,), name="b")}
    z = keras.layers.Add()([*inputs.values()])
    z = tfnode.ODEBlock(keras.layers.Rescaling(-1.0), solvers.RK4(1.0))(z)
    model = keras.Model(inputs, keras.layers.Dense(2)(z))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.0), loss, jit_compile=False)
    batches = tf.data.Dataset.from_tensors(({"a": X, "b": X}, ONES))
    callback = tfnode.StepAdaption(batches, 1, initial_step_size=0.5, log_dir=tmp_path)
    model.fit(batches, verbose=0, shuffle=False, callbacks=[callback])
    scalars, images = events(tmp_path)
    assert scalars["accuracy_gap"] == [(1, 0.0)]
    assert [step for step, *_ in images["validity"]] == [1]
