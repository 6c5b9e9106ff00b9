"""The same weights give the same outputs on every backend.

`outputs.json` was written once, under TensorFlow, by `python tests/backends/test_outputs.py`.
"""

import json
import pathlib

import numpy as np
import pytest
from keras import ops
from models import TimedField, classifier, data, randomised

import tfnode
import zoo
from scripts.publishing import goldens
from tfnode import solvers
from zoo import manifest

PATH = pathlib.Path(__file__).with_name("outputs.json")

CLASSIFIERS = {
    "euler": lambda: classifier(solvers.Euler(0.3)),
    "midpoint": lambda: classifier(solvers.Midpoint(0.25)),
    "rk4": lambda: classifier(solvers.RK4(0.1)),
    "rk4_backwards": lambda: classifier(solvers.RK4(0.3), t0=1.0, t1=-0.5),
    "rk38_unrolled": lambda: classifier(solvers.RK38(0.5), unroll=True, gradient="backprop"),
    "save_at": lambda: classifier(solvers.Heun(0.3), save_at=[0.0, 0.5, 1.0]),
    "bogacki_shampine32": lambda: classifier(solvers.BogackiShampine32(1e-3, 1e-3)),
    # At tighter tolerances rounding in single precision decides whether a step is accepted.
    "dormand_prince": lambda: classifier(solvers.DormandPrince(1e-3, 1e-3, per_sample=True)),
}


def outputs(name):
    """What a model answers to eight samples, in single precision."""
    x, _ = data(8)
    if name in CLASSIFIERS:
        return CLASSIFIERS[name]().predict(x, verbose=0)
    block = tfnode.ODEBlock(TimedField(2), solvers.RK4(0.2), time_dependent=True)
    conditions = np.ones_like(x) / 4
    block(x, conditions=conditions)
    return ops.convert_to_numpy(randomised(block)(x, conditions=conditions))


def write():
    """Writes the expectations, by the present backend."""
    values = {name: outputs(name).tolist() for name in [*CLASSIFIERS, "timed"]}
    PATH.write_text(json.dumps(values, indent=1) + "\n")


@pytest.mark.parametrize("name", [*CLASSIFIERS, "timed"])
def test_outputs_are_those_of_every_backend(name):
    expected = np.array(json.loads(PATH.read_text())[name])
    found = outputs(name)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_weights_that_tensorflow_has_written_are_read():
    entry = manifest.read().weights["energy_landscape_rk4_damped_v1"]
    golden = json.loads(goldens.path_of(entry).read_text())
    model = zoo.get_model(entry.model, weights=entry.name)
    assert model.get_layer("ode_block").solver == entry.solver
    found = ops.convert_to_numpy(model(goldens.inputs(golden["inputs"])))
    assert solvers.deserialize(golden["outputs"][0]["solver"]) == entry.solver
    expected = np.array(golden["outputs"][0]["logits"])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


if __name__ == "__main__":
    write()
