"""Models with weights by name and by path: loaded, exchanged, listed, refused."""

import hashlib
import os
import pickle
import re

import h5py
import numpy as np
import pytest
from stand_ins import StandInZoo

import tfnode
import zoo
from tfnode.models import digest
from zoo import facts, loading, manifest, reports, weights

Euler, RK4 = tfnode.solvers.Euler, tfnode.solvers.RK4


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    return StandInZoo(tmp_path, monkeypatch)


def solver_of(model):
    return model.get_layer("ode_block").solver


def assert_same_weights(model, other):
    pairs = list(zip(model.trainable_weights, other.trainable_weights))
    assert len(pairs) == 8
    for a, b in pairs:
        np.testing.assert_array_equal(a.numpy(), b.numpy())


# === By name ===
@pytest.mark.parametrize("model", zoo.list_models())
def test_every_model_by_name_and_by_default(stand_in, model):
    name, saved = stand_in.add(model)
    stand_in.content["default"] = {model: name}
    stand_in.write()
    x = np.random.default_rng(0).uniform(size=(2, *saved.input_shape[1:])).astype("float32")
    for key in (name, "DEFAULT"):
        loaded = zoo.get_model(model, weights=key)
        assert loaded.name == model
        assert solver_of(loaded) == Euler(1 / 8)
        np.testing.assert_array_equal(loaded(x), saved(x))


@pytest.mark.parametrize(
    "solver",
    [
        tfnode.solvers.RK38(1 / 6),
        tfnode.solvers.Euler(1 / 3),
        tfnode.solvers.Midpoint(1 / 5000),
        tfnode.solvers.BogackiShampine32(rtol=1e-3, atol=1e-4),
    ],
)
def test_the_model_has_the_solver_of_its_training(stand_in, solver):
    name, saved = stand_in.add(solver=solver)
    loaded = zoo.get_model("energy_landscape", weights=name)
    assert solver_of(loaded) == solver_of(saved)
    assert type(solver_of(loaded)) is type(solver)
    assert_same_weights(loaded, saved)


@pytest.mark.parametrize(
    "arguments, expected",
    [
        ({"solver": "rk4"}, RK4()),
        ({"solver": "rk4", "step_size": 1 / 4}, RK4(1 / 4)),
        ({"solver": RK4(1 / 16)}, RK4(1 / 16)),
        ({"solver": tfnode.solvers.serialize(RK4(1 / 16))}, RK4(1 / 16)),
        ({"step_size": 1 / 2}, Euler(1 / 2)),
        # Below the step that the loop of a step of 1/8 can be given.
        ({"step_size": 1 / 4096}, Euler(1 / 4096)),
        ({"solver": "euler"}, Euler()),
        ({"solver": Euler(1 / 8)}, Euler(1 / 8)),
    ],
)
def test_the_solver_is_exchanged_after_loading(stand_in, arguments, expected):
    name, saved = stand_in.add()
    loaded = zoo.get_model("energy_landscape", weights=name, **arguments)
    assert solver_of(loaded) == expected
    assert_same_weights(loaded, saved)


def test_an_exchanged_solver_is_the_one_that_integrates(stand_in):
    name, saved = stand_in.add()
    loaded = zoo.get_model("energy_landscape", weights=name, solver="rk4", step_size=1 / 2)
    x = np.ones((2, 2), "float32")
    np.testing.assert_array_equal(loaded(x), tfnode.with_solver(saved, RK4(1 / 2))(x))
    assert np.abs(np.array(loaded(x)) - np.array(saved(x))).max() > 1e-3


def test_an_adaptive_solver_has_no_step_size(stand_in):
    name, _ = stand_in.add(solver=tfnode.solvers.BogackiShampine32())
    with pytest.raises(ValueError, match="An adaptive solver chooses its own steps"):
        zoo.get_model("energy_landscape", weights=name, step_size=0.5)
    model = zoo.get_model("energy_landscape", weights=name, solver="rk4", step_size=0.5)
    assert solver_of(model) == RK4(0.5)


def test_the_name_of_another_model_is_refused(stand_in):
    name, _ = stand_in.add("concentric_spheres_2d")
    own, _ = stand_in.add("concentric_spheres_3d")
    with pytest.raises(ValueError, match="`weights` must be None") as error:
        zoo.get_model("concentric_spheres_3d", weights=name)
    assert f"Received: weights={name!r} for the model 'concentric_spheres_3d'" in str(error.value)
    assert f"one of the names [{own!r}]" in str(error.value)


@pytest.mark.parametrize("key", ["DEFAULT", "default", "energy_landscape_euler_fresh_v2", "", 1])
def test_an_unknown_name_is_refused(stand_in, key):
    name, _ = stand_in.add()
    with pytest.raises(ValueError, match="`weights` must be None") as error:
        zoo.get_model("energy_landscape", weights=key)
    assert f"[{name!r}]" in str(error.value)
    assert f"Received: weights={key!r}" in str(error.value)


def test_a_solver_that_is_not_valid_is_refused_before_anything_is_fetched(stand_in):
    name, _ = stand_in.add(shipped=False)
    with pytest.raises(ValueError, match="A solver is one of the names"):
        zoo.get_model("energy_landscape", weights=name, solver="leapfrog")


def test_what_does_not_ship_is_fetched(stand_in, monkeypatch):
    name, saved = stand_in.add(shipped=False)
    with pytest.raises(FileNotFoundError, match="Set TFNODE_ZOO_URL"):
        zoo.get_model("energy_landscape", weights=name)
    monkeypatch.setenv("TFNODE_ZOO_URL", stand_in.server.as_uri())
    assert_same_weights(zoo.get_model("energy_landscape", weights=name), saved)
    assert (stand_in.home / f"{name}.weights.h5").is_file()


def replace(path, content):
    path.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def test_a_changed_file_is_not_opened(stand_in, monkeypatch):
    name, _ = stand_in.add()
    path = stand_in.shipped / f"{name}.weights.h5"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    found = replace(path, bytes(content))
    monkeypatch.setattr(h5py, "File", None)
    with pytest.raises(ValueError, match="must have the hash of the manifest") as error:
        zoo.get_model("energy_landscape", weights=name)
    assert f"found sha256={found}" in str(error.value)
    assert stand_in.content["weights"][name]["sha256"] in str(error.value)


# === By path ===
def test_a_solver_and_a_path(tmp_path):
    path = tmp_path / "model.weights.h5"
    saved = zoo.get_model("energy_landscape", solver=RK4(1 / 4))
    saved.save_weights(path)
    loaded = zoo.get_model("energy_landscape", weights=path, solver="rk4")
    assert solver_of(loaded) == RK4(1 / 4)
    assert_same_weights(loaded, saved)


def test_the_file_of_a_training_holds_an_optimizer_too(tmp_path):
    path = tmp_path / "model.weights.h5"
    recipe, saved = zoo.get_recipe("energy_landscape"), zoo.get_model("energy_landscape")
    saved.compile(recipe.build_optimizer(), recipe.build_loss())
    saved.train_on_batch(np.ones((4, 2), "float32"), np.zeros(4))
    saved.save_weights(path)
    assert_same_weights(zoo.get_model("energy_landscape", weights=path), saved)


class Surprise:
    """Unpickling an instance would write a file."""

    def __init__(self, path):
        self._path = path

    def __reduce__(self):
        return (type(self._path).touch, (self._path,))


@pytest.mark.parametrize("by_name", [False, True])
@pytest.mark.parametrize("kind", ["a pickle", "garbage", "empty", "cut short", "HDF5 of others"])
def test_what_holds_no_weights_is_refused(stand_in, tmp_path, kind, by_name):
    name, _ = stand_in.add()
    path = stand_in.shipped / f"{name}.weights.h5"
    if kind == "HDF5 of others":
        with h5py.File(path, "w") as file:
            file["a"] = np.ones(3)
    else:
        contents = {
            "a pickle": pickle.dumps(Surprise(tmp_path / "surprise")),
            "garbage": b"garbage" * 1000,
            "empty": b"",
            "cut short": path.read_bytes()[:10_000],
        }
        path.write_bytes(contents[kind])
    # Even if the manifest has the hash of it.
    stand_in.change(name, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(ValueError, match="Weights are read from a whole HDF5 file") as error:
        zoo.get_model("energy_landscape", weights=name if by_name else path)
    source = path.name if by_name else str(path)
    assert f"weights={source!r}, {path.stat().st_size} bytes" in str(error.value)
    assert repr(path.read_bytes()[:8]) in str(error.value)
    assert not (tmp_path / "surprise").exists()


@pytest.mark.parametrize(
    "model, other",
    [
        ("concentric_spheres_2d", "concentric_spheres_3d"),
        ("energy_landscape", "mnist"),
        ("cifar10", "mnist"),
    ],
)
def test_another_architecture_is_refused(tmp_path, model, other):
    path = tmp_path / "model.weights.h5"
    saved = zoo.get_model(other)
    saved.save_weights(path)
    with pytest.raises(ValueError, match=f"A weight file of '{model}' must hold") as error:
        zoo.get_model(model, weights=path)
    assert f"weights={str(path)!r}" in str(error.value)
    for built in (saved, zoo.get_model(model)):
        assert str(sorted(tuple(w.shape) for w in built.trainable_weights)) in str(error.value)


@pytest.mark.parametrize(
    "group", ["dense", "dense/vars", "ode_block", "ode_block/field", "ode_block/field/layers"]
)
def test_weights_in_other_places_are_refused(tmp_path, group):
    path = tmp_path / "model.weights.h5"
    zoo.get_model("energy_landscape").save_weights(path)
    with h5py.File(path, "a") as file:
        file.move(f"layers/{group}", "layers/elsewhere")
    with pytest.raises(ValueError, match="A weight file must fit the model 'energy_landscape'"):
        zoo.get_model("energy_landscape", weights=path)


@pytest.mark.parametrize(
    "saved, solver",
    [("euler", tfnode.solvers.BogackiShampine32()), (tfnode.solvers.BogackiShampine32(), "euler")],
)
def test_another_kind_of_solver_is_refused(tmp_path, saved, solver):
    path = tmp_path / "model.weights.h5"
    zoo.get_model("energy_landscape", solver=saved).save_weights(path)
    with pytest.raises(ValueError, match="the step size of a block with fixed steps, or the two"):
        zoo.get_model("energy_landscape", weights=path, solver=solver)


def deep(layers, _):
    for _ in range(3000):
        layers = layers.create_group("g")


def circular(layers, _):
    layers["itself"] = layers


def wide(layers, _):
    for i in range(3000):
        layers.create_group(str(i))


def bomb(layers, _):
    # Zeros that are not stored at all.
    layers.create_dataset("ode_block/adaption_memory", (10**6, 10**6), chunks=True)


def link_out(layers, other):
    layers["x"] = h5py.ExternalLink(str(other), "/layers")


def link_within(layers, _):
    layers["x"] = h5py.SoftLink("/layers/dense")


def stored_elsewhere(layers, other):
    layers.create_dataset("x", (8,), "u1", external=str(other))


def put_together(layers, other):
    layout = h5py.VirtualLayout((8,), "u1")
    layout[:] = h5py.VirtualSource(str(other), "x", (8,))
    layers.create_virtual_dataset("x", layout)


@pytest.mark.parametrize(
    "plant, message",
    [
        *(
            (plant, "beyond the depth and the number of weights")
            for plant in (deep, circular, wide)
        ),
        (bomb, "beyond the size of weights"),
        *((plant, "is a link, which a weight file never has") for plant in (link_out, link_within)),
        *((plant, "has its data in another file") for plant in (stored_elsewhere, put_together)),
    ],
)
def test_a_file_that_is_not_only_weights_is_refused_at_once(tmp_path, plant, message):
    path, other = tmp_path / "model.weights.h5", tmp_path / "other.weights.h5"
    model = zoo.get_model("energy_landscape")
    model.save_weights(path)
    model.save_weights(other)
    with h5py.File(path, "a") as file:
        plant(file["layers"], other)
    with pytest.raises(ValueError, match=message):
        loading.load(model, path)


def test_a_file_that_is_far_too_large_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "model.weights.h5"
    path.touch()
    os.truncate(path, 2**40)
    with pytest.raises(ValueError, match=r"has at most \d+ bytes, with an optimizer too"):
        zoo.get_model("energy_landscape", weights=path)


def test_what_is_loaded_is_what_was_looked_at(tmp_path, monkeypatch):
    """Another file takes the place of the first between the look and the loading."""
    path, other = tmp_path / "model.weights.h5", tmp_path / "other.weights.h5"
    good, bad = (zoo.get_model("energy_landscape", seed=seed) for seed in (0, 1))
    good.save_weights(path)
    bad.save_weights(other)
    look = loading._check_shapes
    exchange = lambda *arguments: (look(*arguments), other.replace(path))
    monkeypatch.setattr(loading, "_check_shapes", exchange)
    assert_same_weights(zoo.get_model("energy_landscape", weights=path), good)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(tmp_path, value):
    path = tmp_path / "model.weights.h5"
    model = zoo.get_model("energy_landscape")
    model.trainable_weights[0].assign(np.full((2, 48), value))
    model.save_weights(path)
    with pytest.raises(ValueError, match="Weights must be finite numbers"):
        zoo.get_model("energy_landscape", weights=path)


@pytest.mark.parametrize("file", ["model.h5", "model.keras", "model.pkl", "a.weights.h5/"])
def test_a_file_of_another_kind_is_refused(tmp_path, file):
    path = tmp_path / file
    path.mkdir() if file.endswith("/") else path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"whose name ends in `\.weights\.h5`") as error:
        zoo.get_model("energy_landscape", weights=path)
    assert f"Received: weights={str(path)!r}" in str(error.value)


# === For data of one's own ===
def test_other_classes_leave_the_last_layer_fresh(stand_in):
    name, saved = stand_in.add(solver=RK4(1 / 4))
    model = zoo.get_model("energy_landscape", weights=name, classes=5, seed=1)
    assert (model.output_shape, solver_of(model)) == ((None, 5), RK4(1 / 4))
    *body, kernel, bias = model.trainable_weights
    for ours, theirs in zip(body, saved.trainable_weights):
        np.testing.assert_array_equal(ours, theirs)
    fresh = zoo.get_model("energy_landscape", classes=5, seed=1)
    np.testing.assert_array_equal(kernel, fresh.trainable_weights[-2])
    assert not np.any(bias)


def test_the_models_own_classes_keep_the_last_layer(stand_in):
    name, saved = stand_in.add()
    model = zoo.get_model("energy_landscape", weights=name, solver="rk4", classes=3)
    assert_same_weights(model, saved)


def test_a_file_has_the_classes_that_are_asked_for(tmp_path):
    path = tmp_path / "mine.weights.h5"
    saved = zoo.get_model("energy_landscape", classes=5)
    saved.save_weights(path)
    assert_same_weights(zoo.get_model("energy_landscape", weights=path, classes=5), saved)
    with pytest.raises(ValueError, match="must hold weights of the shapes"):
        zoo.get_model("energy_landscape", weights=path)


def test_features_are_what_the_last_layer_is_given(stand_in):
    name, saved = stand_in.add("concentric_spheres_3d")
    features = zoo.get_model("concentric_spheres_3d", weights=name, include_top=False)
    assert (features.name, features.output_shape) == ("concentric_spheres_3d_features", (None, 3))
    x = np.random.default_rng(0).uniform(-0.5, 0.5, (4, 3)).astype("float32")
    np.testing.assert_array_equal(saved.get_layer("logits")(features(x)), saved(x))
    assert len(features.trainable_weights) == 6


# === Listed ===
def test_the_table_of_pretrained_weights(stand_in, capsys):
    assert zoo.list_models(pretrained=True) == []
    assert str(zoo.list_models(pretrained=True)) == "There are no such pretrained weights."
    first, _ = stand_in.add()
    changes = {"is_ode": True, "rk4_steps": 32, "test_samples": 1000}
    second, _ = stand_in.add("mnist", RK4(1 / 4), "damped_v12", **changes)
    stand_in.content["default"] = {"mnist": second}
    stand_in.write()
    found = zoo.list_models(pretrained=True)
    assert found == [first, second]
    assert capsys.readouterr().out == ""
    header, *rows = str(found).splitlines()
    assert re.split("  +", header) == [
        *("weights", "solver", "steps", "evaluations", "accuracy", "under RK4", "gap", "samples"),
        "verdict",
    ]
    numbers = ["98.50%", "75.00%", "23.50%"]
    assert [re.split("  +", row) for row in rows] == [
        [first, "Euler", "8", "8", *numbers, "all", "not an ODE"],
        [second, "RK4", "4", "16", *numbers, "first 1000", "an ODE", "DEFAULT"],
    ]
    # The columns stand below one another.
    ends = [
        line.index(cell) + len(cell)
        for line, cell in zip([header, *rows], ("gap", *2 * ["23.50%"]))
    ]
    assert len(set(ends)) == 1


@pytest.mark.parametrize(
    "pattern, names",
    [
        ("mnist*", ["mnist_rk4_damped_v12"]),
        ("mnist", ["mnist_rk4_damped_v12"]),
        ("*_fresh_v?", ["energy_landscape_euler_fresh_v1"]),
        ("MNIST*", []),
        ("", ["energy_landscape_euler_fresh_v1", "mnist_rk4_damped_v12"]),
    ],
)
def test_listed_by_a_pattern(stand_in, pattern, names):
    stand_in.add()
    stand_in.add("mnist", RK4(1 / 4), "damped_v12")
    assert zoo.list_models(pattern, pretrained=True) == names


def test_a_pattern_of_models():
    assert zoo.list_models("*_1?d") == ["concentric_spheres_10d"]
    assert zoo.list_models("nothing*") == []
    with pytest.raises(ValueError, match="pass `pretrained` by its name"):
        zoo.list_models(True)


def test_records_are_what_the_table_and_the_manifest_say(stand_in):
    first, _ = stand_in.add()
    second, _ = stand_in.add("mnist", RK4(1 / 4), "damped_v12", test_samples=1000)
    third, _ = stand_in.add(solver=tfnode.solvers.BogackiShampine32(1e-3, 1e-3))
    stand_in.content["default"] = {"mnist": second}
    stand_in.write()
    records = zoo.list_models(pretrained=True).records
    assert [record["weights"] for record in records] == [first, second, third]
    assert [record["default"] for record in records] == [False, True, False]
    assert [[r["steps"], r["step_size"], r["nfe"]] for r in records] == [
        [8, 1 / 8, 8],
        [4, 1 / 4, 16],
        [None, None, None],
    ]
    assert [record["test_samples"] for record in records] == [None, 1000, None]
    assert {record["accuracy_under_rk4"] for record in records} == {0.75}


def test_what_is_known_of_weights(stand_in):
    name, _ = stand_in.add("mnist", RK4(1 / 4), test_samples=1000)
    stand_in.content["default"] = {"mnist": name}
    stand_in.write()
    found = zoo.get_weights(name)
    assert found == zoo.get_weights("mnist")
    assert found.metrics == {"accuracy": 0.985, "accuracy_under_rk4": 0.75, "gap": 0.235}
    assert found.classes == tuple("0123456789")
    assert found.inputs.startswith("Images `(28, 28, 1)`, float32 in [0, 1]")
    assert (found.split, found.recipe) == ("test[:1000]", {"iterations": 10})
    with pytest.raises(ValueError, match=r"Received: name='cifar10'\. .*zoo list --pretrained"):
        zoo.get_weights("cifar10")


def test_preprocessing_makes_inputs_of_raw_data():
    x = np.random.default_rng(0).integers(0, 256, (2, 28, 28, 1), "uint8")
    prepared = zoo.get_weights("mnist").preprocessing()(x)
    np.testing.assert_allclose(prepared, x / np.float32(255), rtol=1e-6)
    points = np.random.default_rng(0).normal(size=(2, 2)).astype("float32")
    np.testing.assert_array_equal(
        zoo.get_weights("energy_landscape").preprocessing()(points), points
    )


@pytest.mark.parametrize("model", zoo.list_models())
def test_every_logit_has_a_class(model):
    assert len(facts.of(model).classes) == zoo.get_model(model).output_shape[-1]


def test_the_packages_own_weights_ship():
    entries = zoo.manifest.read().weights
    assert zoo.list_models(pretrained=True) == list(entries)
    shipped = {path.name for path in weights.SHIPPED.glob("*")}
    assert shipped == {entry.file for entry in entries.values()}


# === Reports ===
PUBLISHED = manifest.read()
REPORTED = [
    e for e in PUBLISHED.weights.values() if (reports.DIRECTORY / f"{e.name}.json").exists()
]


def test_what_is_served_has_a_report():
    assert set(PUBLISHED.default.values()) <= {entry.name for entry in REPORTED}
    assert len(REPORTED) == len(PUBLISHED.weights)


@pytest.mark.parametrize("entry", REPORTED, ids=lambda entry: entry.name)
def test_a_report_is_that_of_the_manifest_and_of_the_weights(entry):
    report = zoo.get_report(entry.model, entry.name)
    assert (report.is_ode, report.gap) == (entry.is_ode, pytest.approx(entry.gap, abs=1e-9))
    assert report.rows[0].accuracy == pytest.approx(entry.accuracy["train_solver"])
    assert report.rows[-1].accuracy == pytest.approx(entry.accuracy["rk4_fine"])
    assert report.rows[-1].num_steps == entry.rk4_steps
    assert report.digest == digest(zoo.get_model(entry.model, weights=entry.name))


def test_weights_without_a_report(stand_in):
    name, _ = stand_in.add()
    with pytest.raises(FileNotFoundError, match=f"published with a report. Received.*{name}"):
        zoo.get_report("energy_landscape", name)
