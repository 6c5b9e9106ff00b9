"""The manifest of the pretrained weights: read whole, or refused by the name of what is wrong."""

import dataclasses
import json

import pytest
from stand_ins import StandInZoo

import tfnode
import zoo
from zoo import manifest

NAME = "energy_landscape_euler_fresh_v1"
KEYS = {field.name for field in dataclasses.fields(zoo.WeightsEntry)} - {"name"}


@pytest.fixture(autouse=True)
def _fresh_keras():
    """No Keras here: its clean-up between tests would take longer than the tests."""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """A manifest with one entry, of no file."""
    stand_in = StandInZoo(tmp_path, monkeypatch)
    stand_in.declare(NAME, b"weights")
    return stand_in


def test_the_packages_manifest_fits_the_models():
    content = manifest.read()
    assert set(content.default) <= set(zoo.list_models())
    assert all(content.weights[name].is_ode for name in content.default.values())
    for entry in content.weights.values():
        # An entry of an unknown model raises here.
        assert entry.dataset == zoo.get_recipe(entry.model).dataset
        model = zoo.get_model(entry.model)
        assert entry.parameters == sum(w.numpy().size for w in model.trainable_weights)


def test_an_empty_manifest(stand_in):
    stand_in.content["weights"].clear()
    stand_in.write()
    assert manifest.read() == manifest.Manifest({}, {})


def test_an_entry_is_read_and_written_back(stand_in):
    entry = manifest.read().weights[NAME]
    assert (entry.name, entry.model, entry.is_ode) == (NAME, "energy_landscape", False)
    assert entry.solver == tfnode.solvers.Euler(1 / 8)
    assert entry.accuracy == {"train_solver": 0.985, "rk4_fine": 0.75}
    assert entry.get_config() == stand_in.content["weights"][NAME]
    assert zoo.WeightsEntry.from_config(NAME, entry.get_config()) == entry
    with pytest.raises(dataclasses.FrozenInstanceError):
        entry.seed = 1


def test_another_file_can_be_read(tmp_path, stand_in):
    path = tmp_path / "other.json"
    path.write_text('{"weights": {}, "default": {}}')
    assert manifest.read(path).weights == {}
    assert len(manifest.read().weights) == 1


@pytest.mark.parametrize("key", sorted(KEYS))
def test_a_missing_key_is_named(stand_in, key):
    del stand_in.content["weights"][NAME][key]
    stand_in.write()
    match = rf"entry '{NAME}' .* missing keys \['{key}'\], unknown keys \[\]"
    with pytest.raises(ValueError, match=match):
        manifest.read()


# The name is the key of the entry, and is not repeated.
@pytest.mark.parametrize("key", ["url", "name"])
def test_an_unknown_key_is_named(stand_in, key):
    stand_in.change(NAME, **{key: "energy_landscape"})
    match = rf"entry '{NAME}' .* missing keys \[\], unknown keys \['{key}'\]"
    with pytest.raises(ValueError, match=match):
        manifest.read()


@pytest.mark.parametrize("content", [{}, {"weights": {}}, [], {"weights": {}, "defaults": {}}])
def test_the_keys_of_the_whole(stand_in, content):
    stand_in.manifest.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"The manifest must .* missing keys \['default'"):
        manifest.read()


@pytest.mark.parametrize("key", ["weights", "default"])
def test_both_parts_are_dictionaries(stand_in, key):
    stand_in.content[key] = []
    stand_in.write()
    with pytest.raises(ValueError, match=rf"`{key}` .* must be a dictionary. Received"):
        manifest.read()


def test_an_entry_must_be_a_dictionary(stand_in):
    stand_in.content["weights"][NAME] = "a file"
    stand_in.write()
    with pytest.raises(ValueError, match=f"'{NAME}' must be a dictionary"):
        manifest.read()


@pytest.mark.parametrize(
    "key, value",
    [
        ("model", 1),
        ("model", "mnist"),
        ("file", "../energy_landscape_euler_fresh_v1.weights.h5"),
        ("file", "energy_landscape_euler_fresh_v2.weights.h5"),
        ("file", "energy_landscape_euler_fresh_v1.pkl"),
        ("sha256", "0" * 63),
        ("sha256", "G" * 64),
        ("sha256", None),
        ("bytes", 0),
        ("bytes", 1.5),
        ("parameters", True),
        ("dataset", None),
        ("accuracy", 0.9),
        ("accuracy", {"train_solver": 0.9}),
        ("accuracy", {"train_solver": 0.9, "rk4_fine": 98.5}),
        ("accuracy", {"train_solver": 0.9, "rk4_fine": float("nan")}),
        ("accuracy", {"train_solver": 0.9, "rk4_fine": 0.9, "midpoint": 0.9}),
        ("rk4_steps", 1),
        ("is_ode", "yes"),
        ("gap", -0.1),
        ("gap", None),
        ("solver", "euler"),
        ("solver", {"class_name": "Leapfrog", "config": {}}),
        ("solver", {"class_name": "Euler", "config": {"steps": 8}}),
        ("solver", {"class_name": "Euler", "config": {"step_size": 0}}),
        ("seed", -1),
        ("recipe", {}),
        ("recipe", {"iterations": "many"}),
        ("versions", "3.15"),
        ("machine", None),
        ("licence", "MIT"),
        ("note", None),
    ],
)
def test_a_value_that_is_not_valid_is_named(stand_in, key, value):
    stand_in.change(NAME, **{key: value})
    # A wrong model shows in the name, which starts with it.
    wrong = "name" if (key, value) == ("model", "mnist") else key
    with pytest.raises(ValueError, match=f"`{wrong}` of a weight must be") as error:
        manifest.read()
    assert f"Received: {wrong}=" in str(error.value)
    assert NAME in str(error.value)


@pytest.mark.parametrize(
    "name",
    [
        "energy_landscape_euler_v1",
        "energy_landscape_rk4_fresh_v1",
        "energy_landscape_euler_fresh",
        "energy_landscape_euler_fresh_v0",
        "energy_landscape_Euler_fresh_v1",
        "landscape_euler_fresh_v1",
        "../energy_landscape_euler_fresh_v1",
    ],
)
def test_names_have_one_form(stand_in, name):
    stand_in.declare(name, b"weights")
    with pytest.raises(ValueError, match="`name` of a weight must be `<model>_<solver>_<how>_v<N>"):
        manifest.read()


@pytest.mark.parametrize(
    "default",
    [{"energy_landscape": "no_such_v1"}, {"energy_landscape": ["a list"]}, {"mnist": None}],
)
def test_a_default_is_one_of_the_models_weights(stand_in, default):
    # The name of another model's weights is no better.
    stand_in.content["default"] = {model: value or NAME for model, value in default.items()}
    stand_in.write()
    with pytest.raises(ValueError, match="The default of a model must be one of its weights"):
        manifest.read()


@pytest.mark.parametrize("model", ["../zoo", "/zoo", "zoo/..", "..", "zoo\\", "Zoo", ""])
def test_a_model_whose_files_would_lie_elsewhere_is_refused(stand_in, model):
    stand_in.declare(f"{model}_euler_fresh_v1", b"weights", model=model)
    with pytest.raises(ValueError, match="`model` of a weight must be a name of small letters"):
        manifest.read()
