"""Goldens: every pretrained weight still answers what it did when it was published."""

import functools
import json

import keras
import numpy as np
import pytest
from stand_ins import StandInZoo

import tfnode
import zoo
from scripts import write_golden
from scripts.publishing import goldens, places
from zoo import manifest

# Of the largest logit: single precision, summed in another order on another processor.
TOLERANCE = 1e-4


def differences(entries, directory, get_model=None):
    """The weights that differ from their goldens, with the largest difference under each solver."""
    found = {}
    # Compiled once for all weights of an architecture, and step sizes of a method.
    get_model = get_model or functools.cache(zoo.get_model)
    for entry in entries:
        golden = json.loads((directory / f"{entry.name}.json").read_text())
        x = goldens.inputs(golden["inputs"])
        # Of images two tell a change as eight do, in a quarter of the time.
        rows = slice(2 if x.ndim == 4 else len(x))
        pretrained = zoo.get_model(entry.model, weights=entry.name)
        assert pretrained.get_layer("ode_block").solver == entry.solver
        for output in golden["outputs"]:
            solver = tfnode.solvers.deserialize(output["solver"])
            expected = np.array(output["logits"])
            model = get_model(entry.model, solver=solver.tableau.name)
            for ours, theirs in zip(model.trainable_weights, pretrained.trainable_weights):
                # A copy: JAX's `predict` gives the buffers of a model away.
                ours.assign(keras.ops.convert_to_numpy(theirs))
            model.get_layer("ode_block").step_size = solver.step_size
            error = np.abs(model.predict(x[rows], verbose=0) - expected[rows]).max()
            if not error <= TOLERANCE * np.abs(expected).max():
                found.setdefault(entry.name, {})[solver] = float(error)
    return found


# === The package's weights ===
def test_every_weight_has_a_golden_and_every_golden_a_weight():
    entries = manifest.read().weights
    stored = {path.stem: path for path in places.GOLDEN.glob("*.json")}
    assert set(stored) == set(entries)
    for name, path in stored.items():
        assert json.loads(path.read_text())["sha256"] == entries[name].sha256, name


def test_every_weight_answers_as_its_golden():
    assert differences(manifest.read().weights.values(), places.GOLDEN) == {}


# === Stand-ins ===
@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "GOLDEN", tmp_path / "golden")
    return StandInZoo(tmp_path, monkeypatch)


def read(name):
    return json.loads((places.GOLDEN / f"{name}.json").read_text())


def differing(get_model=None):
    return differences(manifest.read().weights.values(), places.GOLDEN, get_model)


def test_a_golden_is_written_and_holds(stand_in, capsys):
    name, saved = stand_in.add()
    other, _ = stand_in.add("concentric_spheres_3d", tfnode.solvers.Heun(1 / 3))
    assert write_golden.main([]) == 0
    paths = [places.GOLDEN / f"{n}.json" for n in (name, other)]
    assert capsys.readouterr().out.splitlines() == [f"Written: {path}" for path in paths]
    assert differing() == {}

    golden = read(name)
    assert golden["sha256"] == stand_in.content["weights"][name]["sha256"]
    solvers = [
        tfnode.solvers.Euler(1 / 8),
        tfnode.solvers.RK4(1 / 32),
        tfnode.solvers.Midpoint(1 / 16),
    ]
    assert [tfnode.solvers.deserialize(o["solver"]) for o in golden["outputs"]] == solvers
    x = np.random.RandomState(0).uniform(-2, 2, (8, 2)).astype("float32")
    for solver, output in zip(solvers, golden["outputs"]):
        expected = keras.ops.convert_to_numpy(tfnode.with_solver(saved, solver)(x))
        np.testing.assert_allclose(output["logits"], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "model, low, high, shape",
    [
        ("concentric_spheres_10d", -0.5, 0.5, (8, 10)),
        ("energy_landscape", -2, 2, (8, 2)),
        ("mnist", 0, 1, (8, 28, 28, 1)),
    ],
)
def test_inputs_lie_where_the_data_does(stand_in, model, low, high, shape):
    name, _ = stand_in.add(model)
    x = goldens.inputs(goldens.input_recipe(manifest.read().weights[name]))
    assert (x.shape, x.dtype) == (shape, np.float32)
    assert low <= x.min() < low + 0.2 * (high - low)
    assert high - 0.2 * (high - low) < x.max() <= high


def test_other_weights_differ_by_name(stand_in):
    stand_in.add("concentric_spheres_2d")
    name, _ = stand_in.add()
    write_golden.main([])
    # The file and its hash in the manifest, too.
    stand_in.add()
    assert list(differing()) == [name]
    assert len(differing()[name]) == 3


def test_the_tolerance_is_relative_to_the_largest_logit(stand_in):
    name, _ = stand_in.add()
    write_golden.main([])
    golden, get_model = read(name), functools.cache(zoo.get_model)
    logits = np.array(golden["outputs"][1]["logits"])
    for relative, differs in [(0.5e-4, False), (2e-4, True), (np.nan, True)]:
        changed = logits.copy()
        changed[3, 1] += relative * np.abs(logits).max()
        golden["outputs"][1]["logits"] = changed.tolist()
        (places.GOLDEN / f"{name}.json").write_text(json.dumps(golden))
        expected = {name: [tfnode.solvers.RK4(1 / 32)]} if differs else {}
        found = differing(get_model)
        assert {n: list(errors) for n, errors in found.items()} == expected, relative


def test_an_unknown_name_is_refused(stand_in, capsys):
    stand_in.add()
    with pytest.raises(SystemExit) as error:
        write_golden.main(["mnist_euler_fresh_v1"])
    assert error.value.code == 2
    assert "Received: name='mnist_euler_fresh_v1'" in capsys.readouterr().err
    assert not places.GOLDEN.exists()
