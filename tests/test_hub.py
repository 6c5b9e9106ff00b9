"""Models on the hub: pushed, fetched by their hash, and refused, against a hub on the loopback."""

import io
import json
import pickle
import sys
import zipfile

import h5py
import keras
import numpy as np
import pytest

import tfnode
import zoo
from tfnode.solvers import RK4, Euler
from zoo import hub as zoo_hub
from zoo import sharing

pytest.importorskip("huggingface_hub", reason="the extra `hub` is not installed")

import fake_hub

MINE = "hf://user/mine"
X = np.random.default_rng(0).uniform(-1, 1, (4, 2)).astype("float32")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.delenv("TFNODE_OFFLINE", raising=False)
    with fake_hub.serving(monkeypatch, tmp_path / "cache") as served:
        yield served


def files_of(hub, repository="user/mine"):
    return hub.repositories[repository][-1]


def own_model(*layers):
    """A model that is not the zoo's."""
    block = tfnode.ODEBlock(keras.layers.Dense(2, "tanh"), RK4(1 / 4))
    return keras.Sequential([keras.Input((2,)), block, *layers])


def describe(content, architecture=None):
    return zoo_hub.Description.of(content, architecture).to_json().encode()


# === Pushed and fetched ===
def test_a_model_of_the_zoo_is_its_weights(hub):
    model = zoo.get_model("energy_landscape", solver=RK4(1 / 4), classes=5)
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    address = zoo.push(model, MINE)
    assert sorted(files_of(hub)) == ["README.md", "model.weights.h5", "tfnode.json"]
    # Without the optimizer.
    assert len(files_of(hub)["model.weights.h5"]) < 70_000
    assert address == f"{MINE}@{hub.commit_of('user/mine', 'main')[0]}"
    for name in (MINE, address):
        found = zoo.get_model(name)
        assert (found.name, found.get_layer("ode_block").solver) == (model.name, RK4(1 / 4))
        np.testing.assert_array_equal(found(X), model(X))


@pytest.mark.parametrize("frozen", ["all", "the block"])
def test_what_is_frozen_is_pushed_with_the_rest(hub, frozen):
    model = zoo.get_model("energy_landscape", solver=RK4(1 / 4))
    (model if frozen == "all" else model.get_layer("ode_block")).trainable = False
    zoo.push(model, MINE)
    assert "model.weights.h5" in files_of(hub)
    np.testing.assert_array_equal(zoo.get_model(MINE)(X), model(X))


def test_it_takes_what_the_zoo_takes(hub):
    model = zoo.get_model("energy_landscape", solver=RK4(1 / 4))
    zoo.push(model, MINE)
    other = zoo.get_model(MINE, solver="euler", step_size=1 / 8, classes=7)
    assert (other.get_layer("ode_block").solver, other.output_shape) == (Euler(1 / 8), (None, 7))
    np.testing.assert_array_equal(other.trainable_weights[0], model.trainable_weights[0])
    features = zoo.get_model(MINE, include_top=False)
    np.testing.assert_array_equal(model.get_layer("logits")(features(X)), model(X))


def test_any_other_model_is_whole(hub):
    model = own_model(keras.layers.Dense(3))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    report = tfnode.validity.check(model, (X, np.zeros(4, int)), reference_steps=8, verbose=0)
    zoo.push(model, MINE, report=report)
    assert sorted(files_of(hub)) == ["README.md", "model.keras", "tfnode.json"]
    card = files_of(hub)["README.md"].decode()
    assert f'model = zoo.get_model("{MINE}")' in card
    assert f"gap {report.gap:.4f}, threshold 0.02, 4 samples" in card
    found = zoo.get_model(MINE)
    np.testing.assert_array_equal(found(X), model(X))
    assert found.loss.get_config()["from_logits"] is True
    with pytest.raises(ValueError, match="A whole model is loaded as it is"):
        zoo.get_model(MINE, classes=5)


@pytest.mark.parametrize("name", ["concentric_spheres_2d", "cifar10_conv"])
def test_the_zoos_architectures_are_known(name):
    model = zoo.get_model(name, solver=RK4(1 / 3), dtype="mixed_bfloat16")
    found = sharing._of_zoo(model)
    for ours, theirs in zip(found.weights, model.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_changed_architecture_is_none_of_the_zoos():
    model = zoo.get_model("energy_landscape")
    model.get_layer("ode_block").field.layers[0].activation = keras.activations.tanh
    assert sharing._of_zoo(model) is None


def test_a_commit_stays_what_it_was_and_a_card_of_ones_own_too(hub):
    first = zoo.get_model("energy_landscape")
    address = zoo.push(first, MINE)
    hub.add("user/mine", README__md=b"---\nlicense: mit\n---\nMine.")
    second = zoo.get_model("energy_landscape", seed=7)
    zoo.push(second, MINE)
    assert files_of(hub)["README.md"].endswith(b"Mine.")
    np.testing.assert_array_equal(zoo.get_model(address)(X), first(X))
    np.testing.assert_array_equal(zoo.get_model(MINE)(X), second(X))


def test_a_fetched_commit_needs_no_network(hub, monkeypatch):
    address = zoo.push(zoo.get_model("energy_landscape"), MINE, private=True)
    assert hub.visibility == {"user/mine": "private"}
    zoo.get_model(address)
    asked = len(hub.asked)
    monkeypatch.setenv("TFNODE_OFFLINE", "1")
    zoo.get_model(address)
    assert len(hub.asked) == asked
    with pytest.raises(OSError, match=r"be in reach, and hold 'tfnode.json'. Received: 'hf://"):
        zoo.get_model("hf://user/other")


# === Refused when it is fetched ===
def test_a_file_of_another_hash_is_not_opened(hub):
    zoo.push(zoo.get_model("energy_landscape"), MINE)
    content = files_of(hub)["model.weights.h5"]
    hub.add("user/mine", **{"model.weights.h5": content[:-1] + b"x"})
    with pytest.raises(ValueError, match=r"expected sha256=.*, found sha256=.* It was not opened"):
        zoo.get_model(MINE)


def weights_with(change):
    """A weight file of the energy landscape, changed."""
    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        change(file)
    return memory.getvalue()


def archive(**members):
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as written:
        for name, content in members.items():
            written.writestr(name.replace("__", "."), content)
    return memory.getvalue()


EMPTY = weights_with(lambda file: file.create_group("layers"))
LINKED = weights_with(lambda file: file.update({"a": h5py.ExternalLink("/etc/passwd", "/")}))
WHOLE_FILES = {
    "a pickle": pickle.dumps({"weights": [1.0]}),
    "nothing": b"",
    "a pickle inside": archive(
        metadata__json=b"{}", config__json=b"{}", model__weights__h5=EMPTY, state__pkl=b""
    ),
    "a link": archive(metadata__json=b"{}", config__json=b"{}", model__weights__h5=LINKED),
    "weights alone": archive(model__weights__h5=EMPTY),
}


@pytest.mark.parametrize("what", WHOLE_FILES)
def test_a_whole_model_that_is_none_is_refused(hub, what):
    content = WHOLE_FILES[what]
    hub.add("user/mine", tfnode__json=describe(content), model__keras=content)
    with pytest.raises(ValueError, match=r"no pickle and no Lambda is ever opened. Received: 'hf"):
        zoo.get_model(MINE)


def test_a_lambda_is_neither_fetched_nor_pushed(hub, tmp_path):
    model = own_model(keras.layers.Lambda(lambda z: z + 1))
    model.save(tmp_path / "model.keras")
    content = (tmp_path / "model.keras").read_bytes()
    hub.add("user/mine", tfnode__json=describe(content), model__keras=content)
    for call in (lambda: zoo.get_model(MINE), lambda: zoo.push(model, "hf://user/new")):
        with pytest.raises(ValueError, match=r"(?s)no Lambda is ever opened.*(?:[Uu]nsafe|lambda)"):
            call()
    assert "user/new" not in hub.repositories


@pytest.mark.parametrize(
    "change, part",
    [
        ({"format": 2}, "format=2"),
        ({"sha256": "0" * 63}, "sha256='000"),
        ({"sha256": None}, "TypeError"),
        ({"bytes": True}, "bytes=True"),
        ({"architecture": {"model": "energy_landscape"}}, "KeyError"),
        ({"architecture": {"model": 1, "classes": 3, "solver": {}}}, "model=1"),
    ],
)
def test_a_description_that_is_none_is_refused(hub, change, part):
    described = {**json.loads(describe(b"")), **change}
    hub.add("user/mine", tfnode__json=json.dumps(described).encode(), model__keras=b"")
    with pytest.raises(ValueError, match=r"must be what `zoo.push` writes. Received: ") as error:
        zoo.get_model(MINE)
    assert part in str(error.value)
    assert not [path for _, path in hub.asked if path.endswith("model.keras")]


@pytest.mark.parametrize(
    "change, part",
    [
        ({"model": "resnet50"}, "must be one of"),
        ({"classes": 10**9}, "1000000000 classes in"),
        ({"classes": 0}, "0 classes in"),
        ({"solver": {"class_name": "os.system", "config": {}}}, "class_name"),
    ],
)
def test_an_architecture_that_is_none_is_refused(hub, change, part):
    given = {"model": "energy_landscape", "classes": 3, "solver": tfnode.solvers.serialize(RK4())}
    about = describe(EMPTY, zoo_hub.Architecture(**{**given, **change}))
    hub.add("user/mine", tfnode__json=about, **{"model.weights.h5": EMPTY})
    with pytest.raises(ValueError, match="must describe a model of the zoo") as error:
        zoo.get_model(MINE)
    assert part in str(error.value)


# === Refused before ===
@pytest.mark.parametrize(
    "address",
    ["hf://", "hf://mine", "hf://a/b/c", "hf://a/b@", "hf://../b", "hf://a/b?c", "hf://a/ö"],
)
def test_an_address_that_is_none(hub, address):
    with pytest.raises(ValueError, match=r"named by its repository.* Received: name='hf://"):
        zoo.get_model(address)
    assert hub.asked == []


@pytest.mark.parametrize("address", ["user/mine", "hf://mine", f"{MINE}@main"])
def test_a_place_to_push_to_that_is_none(hub, address):
    with pytest.raises(ValueError, match=r"and to no revision of it. Received: address="):
        zoo.push(zoo.get_model("energy_landscape"), address)
    assert hub.asked == []


def test_a_model_on_the_hub_has_weights_of_its_own(hub):
    with pytest.raises(ValueError, match=r"has weights of its own. Received: weights='DEFAULT'"):
        zoo.get_model(MINE, weights="DEFAULT")
    with pytest.raises(ValueError, match="`classes` must be"):
        zoo.get_model(MINE, classes=0)
    assert hub.asked == []


# === What the hub says ===
def test_what_is_not_there_and_what_may_not_be_written(hub, monkeypatch):
    with pytest.raises(OSError, match=r"hold 'tfnode.json'. Received: 'hf://user/mine' \(Repo"):
        zoo.get_model(MINE)
    hub.add("user/mine", README__md=b"")
    with pytest.raises(OSError, match=r"hold 'tfnode.json'. Received: 'hf://user/mine' \(RemoteE"):
        zoo.get_model(MINE)
    with pytest.raises(OSError, match=r"Received: 'hf://user/mine@v2' \(Revision"):
        zoo.get_model(f"{MINE}@v2")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(
        OSError, match=r"may be written to. Received: 'hf://user/new' .*'401 Unauthorized"
    ) as error:
        zoo.push(zoo.get_model("energy_landscape"), "hf://user/new")
    assert "hf_wrong" not in str(error.value)


def test_no_hub_answers(hub, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(OSError, match=r"may be written to. .*\(ConnectError"):
        zoo.push(zoo.get_model("energy_landscape"), MINE)


def test_without_the_package(monkeypatch):
    for name in [n for n in sys.modules if n.partition(".")[0] == "huggingface_hub"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"pip install 'tfnode\[hub\]'"):
        zoo.get_model(MINE)
