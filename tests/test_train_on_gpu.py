"""Runs on a machine that has JAX alone: bundle, training, and what comes back, on the CPU."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import zipfile
from unittest import mock

import numpy as np
import pytest

from scripts import train_on_gpu
from scripts.gpu import parcels, plan, session
from scripts.paper import data
from tfnode.validity import ValidityReport

ROOT = pathlib.Path(__file__).parents[1]
# Small batches: JAX compiles here without optimizations.
OPTIONS = {"iterations": 100, "batch_size": 16, "test_samples": 100, "rk4_steps": 8}
RUNS = plan.runs(["concentric_spheres_2d"], **OPTIONS)

# Trains a run with an end after the first of its calls, and goes on.
SCRIPT = """
import json, pathlib, sys, time
from scripts.gpu import plan
from scripts.paper import checkpoints, experiments, measurements
measurements.sweep = lambda model, test: None  # a function of the weights, and takes longest
run = plan.runs(["concentric_spheres_2d"], **json.loads(sys.argv[1]))[0]
directory = pathlib.Path(sys.argv[2])
try:
    experiments.fit(run, lambda finished: None, directory, ends_at=time.time())
except checkpoints.OutOfTime:
    saved = [path.name for path in directory.iterdir()]
resumed = experiments.fit(run, lambda finished: None, directory)[1]
print(json.dumps([saved, resumed]))
"""


def on_jax(*command, **environment):
    if not importlib.util.find_spec("jax"):
        pytest.skip("jax is not installed")
    environment = {**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run(
        [sys.executable, *map(str, command)], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_images_are_mirrored_and_moved():
    x = np.random.default_rng(0).random((64, 8, 6, 3), "float32")
    batches = data.Batches((x, np.arange(64)), 32, seed=3, augment=True)
    moves = batches.moves(5)
    margin = data.MARGIN
    found = data.moved(x[:32], moves, np)
    for image, (mirrored, top, left), moved in zip(x, moves, found):
        padded = np.pad(image, ((margin, margin), (margin, margin), (0, 0)))
        expected = padded[top : top + 8, left : left + 6]
        np.testing.assert_array_equal(moved, expected[:, ::-1] if mirrored else expected)
    # Everything happens, and depends on nothing but the seed and the number of the batch.
    assert {tuple(column) for column in np.sort(moves.T)[:, [0, -1]]} == {(0, 1), (0, 8)}
    same, first = data.Batches((x, np.arange(64)), 32, seed=3, augment=True), next(iter(batches))
    np.testing.assert_array_equal(same.moves(5), moves)
    np.testing.assert_array_equal(next(same.starting_at(0))[0], first[0])
    np.testing.assert_array_equal(first[0], data.moved(x[first[1]], batches.moves(0), np))


# The losses of compiled training on augmented batches, and those of the same images moved here;
# what a layer adds belongs to them.
AUGMENTED = """
import keras, numpy as np
from scripts.paper import compiled_training, data
generator = np.random.default_rng(0)
x, y = generator.random((64, 8, 6, 3), "float32"), generator.integers(0, 3, 64)
dense = keras.layers.Dense(3, activity_regularizer="l2")
model = keras.Sequential([keras.Input((8, 6, 3)), keras.layers.Flatten(), dense])
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(keras.optimizers.SGD(0.0), loss)
for augment in (True, False):
    batches = data.Batches((x, y), 32, seed=3, augment=augment)
    print(*compiled_training.Compiled(model, batches)(1, 4))
    given = (batch for _, batch in zip(range(3), batches.starting_at(1)))
    print(*(float(loss(labels, model(images)) + sum(model.losses)) for images, labels in given))
"""


def test_compiled_training_moves_the_same_images():
    lines = on_jax("-c", AUGMENTED).splitlines()[-4:]
    moved, expected, plain, expected_plain = (np.array(line.split(), float) for line in lines)
    np.testing.assert_allclose(moved, expected, rtol=1e-5)
    np.testing.assert_allclose(plain, expected_plain, rtol=1e-5)
    assert np.abs(moved - plain).min() > 1e-4


def without_times(result):
    return {name: value for name, value in result.items() if name != "seconds"}


def test_a_bundle_is_trained_as_the_data_of_tfds(tmp_path):
    names = {name: tmp_path / name for name in ("bundle", "out", "runs", "weights", "checkpoints")}
    model = ["--models", "concentric_spheres_2d"]
    assert train_on_gpu.main(["--make-bundle", str(names["bundle"]), *model]) == 0
    for run in RUNS[1:]:  # finished before
        (names["runs"] / run.path).parent.mkdir(parents=True, exist_ok=True)
        (names["runs"] / run.path).write_text("{}")
    places = [f"--{name}={names[name]}" for name in ("bundle", "out", "runs", "checkpoints")]
    options = [f"--{name.replace('_', '-')}={value}" for name, value in OPTIONS.items()]
    script = ROOT / "scripts" / "train_on_gpu.py"
    said = on_jax(script, *places, *options, TFDS_DATA_DIR=str(tmp_path / "nothing"))
    assert "PROBLEM" not in said
    assert json.loads((names["out"] / "self_check.json").read_text())["gradient_difference"] < 1e-5
    places = [f"--{name}={names[name]}" for name in ("runs", "weights", "checkpoints")]
    assert train_on_gpu.main(["--unpack", str(names["out"]), *places]) == 0
    found = json.loads((names["runs"] / RUNS[0].path).read_text())
    assert (names["weights"] / RUNS[0].weights_path).exists()
    report = names["weights"] / RUNS[0].report_path
    assert ValidityReport.from_json(report.read_text()).num_samples == 100
    assert not names["checkpoints"].exists()
    for run in RUNS[1:]:
        assert (names["runs"] / run.path).read_text() == "{}"

    said = on_jax("-c", SCRIPT, json.dumps(OPTIONS), tmp_path / "interrupted")
    saved, resumed = json.loads(said.splitlines()[-1])
    assert resumed.pop("sweep") is None and found.pop("sweep")
    assert saved == ["iteration_000050"]
    assert resumed.pop("loss") == pytest.approx(found.pop("loss"), rel=1e-6)
    assert without_times(resumed) == without_times(found)
    assert found["backend"] == "jax"
    assert found["run"]["dtype"] == "float32"
    assert found["history"]["iteration"] == [50, 100]


def test_images_are_packed_without_loss():
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 9, 3)).astype(np.uint8)
    np.testing.assert_array_equal(data.images(data.residuals(images)), images)
    grey = images[..., :1]
    np.testing.assert_array_equal(data.images(data.residuals(grey)), grey)


def test_a_batch_is_the_same_wherever_a_training_begins():
    x = np.arange(10)
    batches = data.Batches((x, x), 3, seed=1)
    in_turn = [batches.rows(i).tolist() for i in range(6)]
    assert [data.Batches((x, x), 3, seed=1).rows(i).tolist() for i in range(6)] == in_turn
    assert [y.tolist() for (_, y), _ in zip(batches, range(6))] == in_turn
    epochs = [np.concatenate(in_turn[start : start + 3]).tolist() for start in (0, 3)]
    assert all(len(set(epoch)) == 9 for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_what_does_not_fit_gives_way_to_what_does():
    estimates = {"mnist": plan.Estimate(1e-3, 1e-3, 10.0)}
    runs = plan.runs(["mnist"], None)
    rule, shorter = runs[0], next(run for run in runs if run.num_steps == 4)
    assert estimates["mnist"].of(shorter) < estimates["mnist"].of(rule)
    assert plan.choose(runs, estimates, 1000.0) == rule
    assert plan.choose(runs, estimates, estimates["mnist"].of(shorter)) == shorter
    assert plan.choose(runs, estimates, 1.0) == rule


def test_an_archive_of_something_else_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "mnist.zip", "w") as archive:
        archive.writestr("../mnist/setup.json", "{}")
    with pytest.raises(ValueError, match="must hold results, weights or checkpoints"):
        parcels.unpack(tmp_path, tmp_path, tmp_path, tmp_path)


def test_no_half_of_a_checkpoint_is_left(tmp_path, monkeypatch):
    folder = "mnist/euler_k008/iteration_000050"
    with zipfile.ZipFile(tmp_path / "checkpoints.zip", "w") as archive:
        for name in ("model.keras", "states.json"):
            archive.writestr(f"{folder}/{name}", name)
    read = zipfile.ZipFile.read

    def interrupted(archive, name):
        if name.endswith("states.json"):
            raise KeyboardInterrupt
        return read(archive, name)

    places = [tmp_path, *(tmp_path / name for name in ("runs", "weights", "checkpoints"))]
    with monkeypatch.context() as patch:
        patch.setattr(zipfile.ZipFile, "read", interrupted)
        with pytest.raises(KeyboardInterrupt):
            parcels.unpack(*places)
    there = places[-1] / folder
    assert not there.exists()
    assert sorted(parcels.unpack(*places)) == [there / "model.keras", there / "states.json"]
    assert (there / "states.json").read_text() == "states.json"
    assert parcels.unpack(*places) == []


def written(directory, name):
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(name)


def test_a_session_of_other_runs_keeps_what_earlier_ones_have_left(tmp_path):
    work, out = tmp_path / "work", tmp_path / "out"
    run = plan.runs(["mnist"], None, dtype="mixed_bfloat16")[0]
    half, ended = plan.runs(["cifar10"], None)[:2]
    results = [run.path, run.weights_path, run.report_path]
    states = ["iteration_000050/model.keras", "iteration_000050/states.json"]
    pending = [f"{half.path.removesuffix('.json')}/{name}" for name in states]
    # Weights whose result is not yet there, the checkpoint of a finished run, and what is no file
    # of a run.
    others = [ended.weights_path, f"{run.path.removesuffix('.json')}/{states[0]}", ".compiled/a"]
    for name in (*results, *pending, *others, "mnist/under_way.progress"):
        written(work, name)
    parcels.pack_results(work, out)
    parcels.pack_checkpoints(work, out)

    def kept():
        archives = sorted(out.glob("*.zip"))
        return {path.name: set(zipfile.ZipFile(path).namelist()) for path in archives}

    expected = {"checkpoints.zip": set(pending), "mnist.zip": set(results)}
    assert kept() == expected
    # No time, so that nothing is trained.
    nothing = tmp_path / "nothing"
    with mock.patch.dict(os.environ):
        session.train(plan.runs(["mnist"], 10), out, nothing, nothing, seconds=0.0)
    assert kept() == expected
    written(work, half.path)
    parcels.pack_results(work, out)
    parcels.pack_checkpoints(work, out)
    assert kept() == {"cifar10.zip": {half.path}, "mnist.zip": set(results)}
