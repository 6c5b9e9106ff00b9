"""Training on two devices, or in two processes, is training on one."""

import ast
import contextlib
import importlib.util
import json
import os
import pathlib
import socket
import subprocess
import sys

import fences
import pytest

ROOT = pathlib.Path(__file__).parents[1]

# Under both: what is trained, and what is told of it.
TRAINING = """
import json, sys
import keras, numpy as np
import tfnode
from tfnode import solvers
from tfnode.adaption import DampedRule

x = np.random.default_rng(0).normal(size=(128, 2)).astype("float32")
y = (x[:, 0] * x[:, 1] > 0).astype("int32")
read = keras.ops.convert_to_numpy

def build(solver):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((2,))
    field = keras.Sequential([keras.layers.Dense(8, "tanh"), keras.layers.Dense(2)])
    z = tfnode.ODEBlock(field, solver, name="ode")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(2)(z))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    # On TensorFlow XLA would take longer than all else, and a metric by its name a second trace.
    by_xla = keras.backend.backend() == "jax"
    metrics = [keras.metrics.SparseCategoricalAccuracy("accuracy")]
    model.compile(keras.optimizers.SGD(0.1), loss, metrics=metrics, jit_compile=by_xla)
    return model

strict = DampedRule(low=1e-12, high=2e-12, patience=2, memory=3)
shared = dict(every=2, batch_size=64)
CASES = {
    "damped": ("euler", lambda: tfnode.StepAdaption(
        (x, y), policy=strict, initial_step_size=1.0, **shared)),
    "tolerance": (
        solvers.BogackiShampine32(1e-2, 1e-2, per_sample=True),
        lambda: tfnode.ToleranceAdaption((x, y), initial_tolerance=1e-2, **shared)),
}

def train(name, data, build=build):
    solver, make = CASES[name]
    model, callback = build(solver), make()
    history = model.fit(data, epochs=2, verbose=0, shuffle=False, callbacks=[callback])
    block = model.get_layer("ode")
    report = tfnode.validity.check(model, (x, y), reference_steps=8, verbose=0)
    same = tfnode.with_solver(model, solvers.RK4(1 / 8))
    return model, {
        "records": callback.history,
        "nfe": callback.nfe_per_iteration,
        "loss": history.history["loss"],
        "weights": [read(v.value).tolist() for v in model.trainable_variables],
        "solver": str(block.solver),
        "is_ode": report.is_ode,
        "gap": report.gap,
        "outputs": read(same(x)).tolist(),
    }
"""

MIRRORED = (
    """
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
"""
    + TRAINING
    + """
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
data = tf.data.Dataset.from_tensor_slices((x, y)).batch(32)

def mirrored(solver):
    with strategy.scope():
        return build(solver)

found = {}
for name in CASES:
    _, one = train(name, data)
    model, two = train(name, data, mirrored)
    block = model.get_layer("ode")
    assert "MirroredVariable" in type(block.adaption_memory.value).__name__
    model.save("model.keras")
    model.to_json()
    loaded = keras.saving.load_model("model.keras")
    two["reloaded"] = str(loaded.get_layer("ode").solver) == str(block.solver)
    two["apart"] = float(np.abs(read(loaded(x)) - read(model(x))).max())
    if name == "damped":
        export, own = tfnode.export.export_saved_models, [block.solver]
        (path,) = export(model, "served", own, (x, y), reference_steps=8, verbose=0)
        served = tf.saved_model.load(str(path))
        answer = served.signatures["serving_default"](**{model.inputs[0].name: tf.constant(x)})
        two["served_apart"] = float(np.abs(answer["logits"].numpy() - read(model(x))).max())
    if name != "tolerance":
        two["num_steps"] = [block.num_steps, loaded.get_layer("ode").num_steps]
    # The replicas agree on what has been adapted.
    variable = block.rtol if name == "tolerance" else block.step_size
    two["replicas"] = [float(v) for v in strategy.experimental_local_results(variable.value)]
    found[name] = [one, two]
print(json.dumps(found))
"""
)

DATA_PARALLEL = (
    TRAINING
    + """
import jax
assert len(jax.devices()) == 2
class Data(keras.utils.PyDataset):
    def __len__(self): return 4
    def __getitem__(self, i): return x[32 * i : 32 * i + 32], y[32 * i : 32 * i + 32]

_, one = train("damped", Data())
keras.distribution.set_distribution(keras.distribution.DataParallel())
model, two = train("damped", Data())
variables = [*model.trainable_variables, model.get_layer("ode").step_size]
assert all(len(v.value.sharding.device_set) == 2 for v in variables)
model.save("model.keras")
loaded = keras.saving.load_model("model.keras")
two["reloaded"] = str(loaded.get_layer("ode").solver) == two["solver"]
two["apart"] = float(np.abs(read(loaded(x)) - read(model(x))).max())
print(json.dumps({"damped": [one, two]}))
"""
)


def run(script, folder, **environment):
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=400,
    )
    return json.loads(done.stdout.splitlines()[-1])


def assert_agree(found):
    for name, (one, two) in found.items():
        for key in ("solver", "is_ode", "nfe"):
            assert (name, one[key]) == (name, two[key])
        for key in ("loss", "gap"):
            assert two[key] == pytest.approx(one[key], rel=1e-5, abs=1e-6)
        for key in ("weights", "outputs"):
            assert _flat(two[key]) == pytest.approx(_flat(one[key]), rel=1e-4, abs=1e-5)
        assert len(one["records"]) == len(two["records"]) == 4
        for ours, theirs in zip(one["records"], two["records"]):
            assert ours.pop("change") == pytest.approx(theirs.pop("change"), rel=1e-3, abs=1e-6)
            assert ours == theirs
    assert [r["action"] for r in found["damped"][0]["records"]].count("climb") == 2


def _flat(values):
    return [v for value in values for v in _flat(value)] if isinstance(values, list) else [values]


def test_mirrored_variables(tmp_path):
    found = run(MIRRORED, tmp_path)
    assert found.keys() == {"damped", "tolerance"}
    assert_agree(found)
    for name, (_, two) in found.items():
        assert two["reloaded"] is True, name
        assert max(two["apart"], two.get("served_apart", 0.0)) < 1e-6
        assert len(two["replicas"]) == 2 and len(set(two["replicas"])) == 1
    ours, theirs = found["damped"][1]["num_steps"]
    assert ours == theirs >= 1


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed")
def test_data_parallel_on_jax(tmp_path):
    flags = "--xla_force_host_platform_device_count=2"
    # As the guide sets it.
    *_, line = fences.of("docs/scaling.md", "python", 2)[0].splitlines()
    assert f"\n{line}\n" in DATA_PARALLEL
    found = run(DATA_PARALLEL, tmp_path, KERAS_BACKEND="jax", XLA_FLAGS=flags)
    assert_agree(found)
    _, two = found["damped"]
    assert two["reloaded"] is True
    assert two["apart"] < 1e-6


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed")
def test_two_processes_of_jax_decide_alike(tmp_path):
    """The script of the guide: each process has data of its own, and another number of samples."""
    (script,) = fences.of("docs/scaling.md", "python", 3)
    with socket.socket() as one, socket.socket() as two:
        for free in (one, two):
            free.bind(("127.0.0.1", 0))
        addresses = ",".join(f"127.0.0.1:{free.getsockname()[1]}" for free in (one, two))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "ADDRESSES": addresses}
    environment |= {"KERAS_BACKEND": "jax", "XLA_FLAGS": ""}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(index)],
            env=environment,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            text=True,
        )
        for index in (0, 1)
    ]
    try:
        printed = [process.communicate(timeout=300)[0] for process in processes]
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
    # Beside what the collectives say of themselves.
    one, two = (
        ast.literal_eval(next(line for line in text.splitlines() if line.startswith("[{")))
        for text in printed
    )
    assert len(one) == 4
    assert one == two
