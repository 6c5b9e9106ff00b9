"""The same code under Keras's torch backend, in a process of its own."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

import tfnode

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="torch is not installed"
)

ROOT = pathlib.Path(__file__).parents[1]
STEP_SIZE = 0.3

# Prints one line of JSON. The imports come first: what Keras loads later is its own affair.
SCRIPT = """
import json, sys
import tfnode, zoo
tensorflow_free = not {"tensorflow", "tensorflow_datasets"} & sys.modules.keys()

import keras, numpy as np
import test_torch
model = test_torch.build()
model.load_weights("model.weights.h5")
x, y = test_torch.data()
outputs = keras.ops.convert_to_numpy(model(x))
block = model.get_layer("ode")
loaded = float(block.step_size), block.num_steps, block.nfe

times, states = block.trajectory(np.zeros((2, 4), "float32"))
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(keras.optimizers.Adam(1e-2), loss, metrics=["accuracy"])
before = model.evaluate(x, y, verbose=0)[0]
adaption = tfnode.StepAdaption((x, y), every=4)
model.fit(x, y, batch_size=64, epochs=3, verbose=0, callbacks=[adaption])
print(json.dumps({
    "backend": keras.backend.backend(),
    "tensorflow_free": tensorflow_free,
    "outputs": outputs.tolist(),
    "loaded": loaded,
    "states": list(states.shape),
    "checks": [record["iteration"] for record in adaption.history],
    "is_ode": tfnode.validity.check(model, (x, y)).is_ode,
    "certified": tfnode.validity.certify(model, (x, y)).fraction,
    "loss_fell": model.evaluate(x, y, verbose=0)[0] < before,
}))
"""


def build():
    """The same model in both processes."""
    field = keras.Sequential(
        [keras.layers.Dense(8, "tanh", name="hidden"), keras.layers.Dense(4, name="out")],
        name="field",
    )
    inputs = keras.Input((2,), name="x")
    x = tfnode.Augment(2, name="augment")(inputs)
    x = tfnode.ODEBlock(field, tfnode.solvers.RK4(0.5), name="ode")(x)
    return keras.Model(inputs, keras.layers.Dense(2, name="logits")(x))


def data():
    x = np.random.default_rng(0).normal(size=(256, 2)).astype("float32")
    return x, (x[:, 0] > 0).astype("int32")


@pytest.fixture(scope="module")
def torch_process(tmp_path_factory):
    """TensorFlow's outputs, and what the torch process said."""
    folder = tmp_path_factory.mktemp("torch")
    model = build()
    model.get_layer("ode").step_size = STEP_SIZE
    model.save_weights(folder / "model.weights.h5")
    path = f"{ROOT}{os.pathsep}{ROOT / 'tests'}"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, "KERAS_BACKEND": "torch", "PYTHONPATH": path},
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return model(data()[0]), json.loads(done.stdout.splitlines()[-1])


def test_import_needs_no_tensorflow(torch_process):
    _, found = torch_process
    assert found["backend"] == "torch"
    assert found["tensorflow_free"] is True


def test_outputs_agree_with_tensorflow(torch_process):
    expected, found = torch_process
    np.testing.assert_allclose(found["outputs"], expected, rtol=0, atol=1e-5)
    assert found["loaded"] == [float(np.float32(STEP_SIZE)), 4, 16]
    assert found["states"] == [5, 2, 4]


def test_trains_with_step_adaption(torch_process):
    _, found = torch_process
    assert found["checks"] == [4, 8, 12]
    assert found["loss_fell"] is True


def test_validity_is_judged(torch_process):
    _, found = torch_process
    assert found["is_ode"] is True
    assert found["certified"] > 0.9
