"""The core and the zoo without the packages that may be left out."""

import pathlib
import subprocess
import sys

import pytest

from tfnode import parts

ROOT = pathlib.Path(__file__).parents[1]
# Those that docs/installation.md leaves out, by their names in Python.
LEFT_OUT = (
    *("tensorflow_probability", "tf_keras", "tensorflow_datasets", "importlib_resources"),
    *("matplotlib", "joblib", "tensorboard"),
)
WITHOUT = f"""
import sys
sys.modules.update(dict.fromkeys({LEFT_OUT}))
import keras
import numpy as np
import filelock
before = set(sys.modules)
import tfnode
print(*{{name.partition(".")[0] for name in set(sys.modules) - before}})
import zoo
from tfnode import solvers

def refused(call):
    try:
        call()
    except ImportError as error:
        return str(error)

x = np.random.default_rng(0).uniform(-1, 1, (64, 2)).astype("float32")
y = (x[:, 0] > 0).astype(int)
def model(solver):
    block = tfnode.ODEBlock(keras.layers.Dense(2), solver)
    return keras.Sequential([keras.Input((2,)), block, keras.layers.Dense(2)])

trained = model(solvers.RK4(1 / 2))
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
trained.compile("adam", loss, metrics=["accuracy"], run_eagerly=True)
adaption = tfnode.StepAdaption((x, y), every=2)
trained.fit(x, y, batch_size=32, epochs=1, verbose=0, callbacks=[adaption])
assert adaption.history[-1]["iteration"] == 2
report = tfnode.validity.check(trained, (x, y), reference_steps=8)
assert report.rows[0].accuracy <= 1
pretrained = zoo.get_model("energy_landscape", weights="DEFAULT")
assert pretrained(x).shape == (64, 3)
assert model(solvers.DormandPrince(per_sample=True))(x).shape == (64, 2)
for call in (
    lambda: model(solvers.DormandPrince()),
    lambda: tfnode.odeint(lambda t, z: -z, x, [0.0, 1.0], solver=solvers.DormandPrince()),
    lambda: tfnode.datasets.load("concentric_spheres/2d", "test", as_numpy=True),
    lambda: tfnode.StepAdaption((x, y), log_dir="logs"),
    lambda: report.plot("a model"),
):
    print(refused(call))
"""


def test_the_core_and_the_zoo_work_without():
    """Nothing that is left out is imported, as it could not be; and importing is light."""
    command = [sys.executable, "-c", WITHOUT]
    options = {"cwd": ROOT, "capture_output": True, "encoding": "utf-8"}
    done = subprocess.run(command, **options)
    assert done.returncode == 0, done.stderr
    imported, tfp, odeint, data, log, figure = done.stdout.splitlines()
    # Beyond what Keras loads nothing but the package itself.
    assert imported == "tfnode"
    assert tfp == odeint
    assert tfp == (
        "`DormandPrince` with one step for the batch needs `tensorflow_probability` and "
        "`tf_keras`. Received: an installation without tensorflow_probability, tf_keras. Install "
        "it by `pip install tensorflow_probability tf_keras`. Or pass per_sample=True, which is "
        "our own."
    )
    assert data.startswith("A data set needs `tensorflow_datasets` and `importlib_resources`. Rec")
    assert log.startswith("`log_dir` needs `tensorboard` and `matplotlib`. Received: ")
    assert "matplotlib" in figure


def test_only_what_is_missing_is_named():
    parts.require("A test", "pytest")
    rule = "A test needs `pytest` and `of_tomorrow`. Received: an installation without of_tomorrow."
    with pytest.raises(ImportError) as error:
        parts.require("A test", "pytest", "of_tomorrow", install="'tests[tomorrow]'")
    assert str(error.value) == f"{rule} Install it by `pip install 'tests[tomorrow]'`."


def test_the_page_on_installation_names_what_may_be_left_out():
    page = (ROOT / "docs" / "installation.md").read_text(encoding="utf-8")
    assert {name for name in LEFT_OUT if f"`{name}`" not in page.replace("-", "_")} == set()
