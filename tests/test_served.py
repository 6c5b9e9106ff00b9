"""Exported models outside of Keras: TensorFlow's C API in a process of its own, and ONNX Runtime.

TensorFlow Serving loads a SavedModel by the same C++ code as the C API. The process that does so
imports neither `tensorflow` nor this package.
"""

import contextlib
import functools
import importlib.util
import json
import pathlib
import shutil
import socket
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfnode
import zoo
from scripts.serving.transports import RestClient, ServingError, Target
from tfnode.export import solver_name, solver_slug, write_models_config
from tfnode.export.graphs import write_graphs
from tfnode.solvers import (
    RK4,
    RK38,
    BogackiShampine32,
    DormandPrince,
    Euler,
    Fehlberg21,
    Heun,
    Midpoint,
)

TESTS = pathlib.Path(__file__).parent
BATCH_SIZES = (1, 7, 256)

ADAPTIVE = [
    DormandPrince(1e-3, 1e-3),
    BogackiShampine32(1e-3, 1e-3, max_num_steps=100, per_sample=True),
    Fehlberg21(1e-3, 1e-3),
]
# Large models get few evaluations.
SOLVERS = {
    "concentric_spheres_2d": [Euler(1 / 8)],
    "concentric_spheres_3d": [RK4(1 / 4)],
    "concentric_spheres_10d": [RK38(1 / 4)],
    "concentric_spheres_900d": [Heun(1 / 2)],
    "energy_landscape": [Euler(1 / 8), RK4(1 / 16), *ADAPTIVE],
    "mnist": [Midpoint(1.0)],
    "cifar10": [Euler(1.0)],
    "cifar10_conv": [Euler(1.0)],
}
CASES = [
    pytest.param(name, solver, id=f"{name}-{solver_slug(solver)}")
    for name, chosen in SOLVERS.items()
    for solver in chosen
]

# What a process of the C API begins with: it is given a folder, and writes its results there.
PRELUDE = """
import json, pathlib, sys
import numpy as np
import capi

folder = pathlib.Path(sys.argv[1])
"""
EPILOGUE = """
assert not {"tensorflow", "keras", "tfnode", "zoo"} & sys.modules.keys()
"""
ANSWER_ALL = """
for inputs in sorted(folder.rglob("inputs.npz")):
    model = capi.SavedModel(next(inputs.parent.rglob("saved_model.pb")).parent)
    outputs = {}
    for size, x in np.load(inputs).items():
        (name,) = model.signatures["serving_default"][0]
        for key, array in model({name: x}).items():
            outputs[f"{key}/{size}"] = array
    np.savez(inputs.with_name("outputs.npz"), **outputs)

    one = np.load(inputs)["1"]
    wrong = {
        "a row without a batch": one[0],
        "a scalar": one.reshape(-1)[0],
        "a vector": one.reshape(-1),
        "a rank more": one[..., None],
        "another size": np.repeat(one, 2, axis=1),
    }
    said = {}
    for kind, x in wrong.items():
        try:
            said[kind] = f"answered {model({name: x})}"
        except RuntimeError as error:
            said[kind] = str(error)
    said["no rows"] = model({name: one[:0]})["logits"].shape
    inputs.with_name("wrong.json").write_text(json.dumps(said))
"""


def run(script, *arguments):
    """Runs a script that has the C API, and returns what it prints."""
    finished = subprocess.run(
        [sys.executable, "-c", PRELUDE + script + EPILOGUE, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=TESTS,
        timeout=300,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def samples(model, size):
    rng = np.random.default_rng(size)
    shape = (size, *model.input_shape[1:])
    if len(shape) == 4:
        return rng.uniform(size=shape).astype("float32")
    return (rng.normal(size=shape) / np.sqrt(shape[1])).astype("float32")


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """Each case's path, expected and received outputs, by one process for them all."""
    folder = tmp_path_factory.mktemp("served")
    expected, paths = {}, {}
    for name, chosen in SOLVERS.items():
        keras.utils.set_random_seed(0)
        model = zoo.get_model(name)
        inputs = {str(size): samples(model, size) for size in BATCH_SIZES}
        for solver in chosen:
            twin = tfnode.with_solver(model, solver)
            specs = [tf.TensorSpec((None, *model.input_shape[1:]))]
            predict = tf.function(functools.partial(twin, training=False), specs)
            path = folder / name / solver_slug(solver) / "1"
            write_graphs(path, {"serving_default": twin})
            np.savez(path.parent / "inputs.npz", **inputs)
            paths[name, solver] = path
            expected[name, solver] = {s: predict(x).numpy() for s, x in inputs.items()}
    run(ANSWER_ALL, folder)
    received = {case: dict(np.load(paths[case].parent / "outputs.npz")) for case in expected}
    return paths, expected, received


def softmax(logits):
    e = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def test_every_model_is_here():
    assert list(SOLVERS) == zoo.list_models()


@pytest.mark.parametrize("name, solver", CASES)
def test_the_c_api_answers_as_keras(name, solver, answers):
    _, expected, received = answers
    for size, logits in expected[name, solver].items():
        outputs = {
            key: received[name, solver][f"{key}/{size}"] for key in ("logits", "probabilities")
        }
        np.testing.assert_allclose(outputs["logits"], logits, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(outputs["probabilities"], softmax(logits), rtol=1e-5, atol=1e-5)
    assert received[name, solver].keys() == {
        f"{key}/{size}" for key in ("logits", "probabilities") for size in BATCH_SIZES
    }


@pytest.mark.parametrize("name, solver", CASES)
def test_a_request_of_a_wrong_shape_is_an_error_and_ends_nothing(name, solver, answers):
    """One of a wrong rank would end the process inside a convolution."""
    paths, expected, _ = answers
    said = json.loads((paths[name, solver].parent / "wrong.json").read_text())
    classes = expected[name, solver]["1"].shape[1]
    assert said.pop("no rows") == [0, classes]
    assert len(said) == 5
    for kind, message in said.items():
        assert "is not compatible with expected shape" in message, kind


# === Names ===
ASK_BY_NAMES = """
model = capi.SavedModel(folder)
inputs, outputs = model.signatures["serving_default"]
request = dict(np.load(folder / "inputs.npz"))
assert inputs.keys() == request.keys(), inputs
np.savez(folder / "outputs.npz", **model(request))
try:
    model({**request, "gr__e": request["gr__e"][:1]})
except RuntimeError as error:
    print(error)
"""


def test_the_c_api_asks_for_several_outputs_by_names_of_several_inputs(tmp_path):
    inputs = [keras.Input((2,), name=name) for name in ("größe", "self", "left")]
    z = tfnode.ODEBlock(keras.layers.Dense(2), RK4(1.0))(keras.layers.Average()(inputs))
    outputs = {"class": keras.layers.Dense(3)(z), "mean": keras.layers.Dense(1)(z)}
    model = keras.Model(inputs, outputs)
    (path,) = tfnode.export.export_saved_models(model, tmp_path, [RK4(1.0)])
    x = np.random.default_rng(0).normal(size=(3, 5, 2)).astype("float32")
    np.savez(path / "inputs.npz", **dict(zip(("gr__e", "input_self", "left"), x)))
    error = run(ASK_BY_NAMES, path)
    received, expected = np.load(path / "outputs.npz"), model.predict(list(x), verbose=0)
    assert set(received) == {"output_class", "mean"}
    np.testing.assert_allclose(received["output_class"], expected["class"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(received["mean"], expected["mean"], rtol=1e-5, atol=1e-6)
    assert "have the same number of rows" in error


# === Solvers ===
ASK_EVERY_SIGNATURE = """
model = capi.SavedModel(folder)
x = np.load(folder / "x.npy")
logits = {name: model({"state": x}, name)["logits"] for name in model.signatures}
np.savez(folder / "logits.npz", **logits)
"""


def test_the_c_api_chooses_the_solver_of_each_request(tmp_path):
    model = zoo.get_model("energy_landscape")
    chosen = (DormandPrince(2.5e-2, 2.5e-2), RK4(1 / 2))
    twins = {solver_name(solver): tfnode.with_solver(model, solver) for solver in chosen}
    names = {"serving_default": twins["rk4_2_steps"], **twins}
    path, x = tmp_path / "1", samples(model, 7)
    write_graphs(path, names)
    np.save(path / "x.npy", x)
    run(ASK_EVERY_SIGNATURE, path)
    received = np.load(path / "logits.npz")
    assert set(received) == {"serving_default", "rk4_2_steps", "dormand_prince_tol_2.5e-2"}
    for name, twin in names.items():
        np.testing.assert_allclose(received[name], twin(x), rtol=1e-5, atol=1e-5)


# === Many requests ===
MANY_REQUESTS = """
model = capi.SavedModel(folder)
rng = np.random.default_rng(0)
sizes = rng.choice([1, 2, 3, 7, 16, 32], 10_000)
x = rng.normal(size=(32, 2)).astype("float32")
expected = model({"state": x})["logits"]

def resident():
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20

worst = 0.0
for i, size in enumerate(sizes):
    if i == 1000:
        warm = resident()
    logits = model({"state": x[:size]})["logits"]
    assert logits.shape == (size, 3)
    worst = max(worst, abs(logits - expected[:size]).max())
print(worst, resident() - warm)
"""


@pytest.mark.skipif(not pathlib.Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_ten_thousand_requests_of_mixed_sizes_in_constant_memory(answers):
    path = answers[0]["energy_landscape", Euler(1 / 8)]
    worst, growth = map(float, run(MANY_REQUESTS, path).split())
    assert worst < 1e-5
    # 8 MiB would be 900 bytes a request.
    assert growth < 8


AT_ONCE = """
import concurrent.futures

model = capi.SavedModel(folder)
batches = np.random.default_rng(0).normal(size=(8, 16, 2)).astype("float32")
expected = [model({"state": x})["logits"] for x in batches]

def ask(k):
    answers = [model({"state": batches[k]})["logits"] for _ in range(25)]
    return all(np.array_equal(logits, expected[k]) for logits in answers)

def fail(_):
    try:
        model({"state": np.full((1, 2), np.nan, "float32")})
    except RuntimeError as error:
        return str(error)

with concurrent.futures.ThreadPoolExecutor(8) as executor:
    right = list(executor.map(ask, range(8)))
    # A request that fails disturbs no other.
    failed = executor.submit(fail, 0)
    right += executor.map(ask, range(8))
print(all(right))
print(failed.result())
"""


@pytest.mark.parametrize("solver", ADAPTIVE, ids=solver_slug)
def test_concurrent_requests_do_not_disturb_each_other(solver, answers):
    right, error = run(AT_ONCE, answers[0]["energy_landscape", solver]).split("\n", 1)
    assert right == "True"
    # INVALID_ARGUMENT, which is the client's fault.
    assert error.startswith("3: ")
    assert "input 'state' that is not finite" in error


# === ONNX Runtime ===
# Conversion imports half of TensorFlow: one process for all.
CONVERT = """
import sys
import tf2onnx.convert

for path in sys.argv[1:]:
    sys.argv = ["", "--saved-model", path, "--output", f"{path}/model.onnx", "--opset", "17"]
    tf2onnx.convert.main()
"""
CONVERTED = [
    ("energy_landscape", ADAPTIVE[1]),
    ("concentric_spheres_2d", Euler(1 / 8)),
    ("mnist", Midpoint(1.0)),
]


@pytest.fixture(scope="module")
def converted(answers):
    paths = [str(answers[0][case]) for case in CONVERTED]
    finished = subprocess.run(
        [sys.executable, "-c", CONVERT, *paths], capture_output=True, text=True, timeout=300
    )
    assert finished.returncode == 0, finished.stderr


@pytest.mark.skipif(
    not (importlib.util.find_spec("tf2onnx") and importlib.util.find_spec("onnxruntime")),
    reason="needs the extra `onnx`",
)
@pytest.mark.parametrize("name, solver", CONVERTED, ids=str)
def test_onnx_runtime_answers_as_keras(name, solver, answers, converted):
    import onnxruntime

    paths, expected, _ = answers
    path = paths[name, solver]
    session = onnxruntime.InferenceSession(path / "model.onnx")
    (name_of_input,) = (node.name for node in session.get_inputs())
    # By the rounding of another kernel a step may be rejected that was accepted: an adaptive
    # solution is known up to its tolerance.
    tolerance = solver.rtol if solver in ADAPTIVE else 1e-5
    for size, x in np.load(path.parent / "inputs.npz").items():
        logits, probabilities = session.run(["logits", "probabilities"], {name_of_input: x})
        np.testing.assert_allclose(
            logits, expected[name, solver][size], rtol=tolerance, atol=tolerance
        )
        np.testing.assert_allclose(probabilities, softmax(logits), rtol=1e-5, atol=1e-6)


# === The zoo ===
SAVED_MODELS = TESTS.parent / "saved_models"


def latest_versions():
    """The latest version of each configuration, for which the zoo has the weights."""
    versions = sorted(SAVED_MODELS.glob("*/*/[0-9]*"), key=lambda path: int(path.name))
    return {path.parent: path for path in versions}.values()


needs_exported_zoo = pytest.mark.skipif(
    not latest_versions(), reason="the models of saved_models/ are not there"
)


@needs_exported_zoo
def test_the_list_of_the_exported_zoo_is_that_of_its_directories(tmp_path):
    copy = shutil.copytree(SAVED_MODELS, tmp_path / "saved_models")
    write_models_config(copy)
    committed = (SAVED_MODELS / "models.config").read_text()
    assert (copy / "models.config").read_text() == committed


@needs_exported_zoo
def test_the_exported_zoo_answers_as_its_weights(tmp_path):
    get_model = functools.cache(zoo.get_model)
    expected = {}
    for path in latest_versions():
        name, slug, version = path.relative_to(SAVED_MODELS).parts
        card = json.loads((path / "assets.extra/validity.json").read_text())
        assert card["is_valid"]
        solver = tfnode.solvers.deserialize(card["solvers"][slug])
        model = tfnode.with_solver(get_model(name, weights="DEFAULT"), solver)
        case = tmp_path / name / slug
        shutil.copytree(path, case / version)
        inputs = {str(size): samples(model, size) for size in (1, 2)}
        expected[case] = {size: model(x) for size, x in inputs.items()}
        np.savez(case / "inputs.npz", **inputs)
    run(ANSWER_ALL, tmp_path)
    for case, answers in expected.items():
        received = np.load(case / "outputs.npz")
        for size, logits in answers.items():
            np.testing.assert_allclose(received[f"logits/{size}"], logits, rtol=1e-5, atol=1e-5)


# === TensorFlow Serving ===
def free_port():
    with socket.create_server(("localhost", 0)) as server:
        return server.getsockname()[1]


def patiently(ask, seconds):
    """Asks until there is an answer: a server takes a while to start."""
    while True:
        try:
            return ask()
        except ServingError:
            seconds -= 1
            if seconds < 0:
                raise
            time.sleep(1)


@pytest.mark.skipif(
    shutil.which("tensorflow_model_server") is None,
    reason="tensorflow_model_server is not on the PATH",
)
def test_tensorflow_serving(answers, tmp_path):
    paths, expected, _ = answers
    base, port = tmp_path / "energy_landscape", free_port()
    cases = [("energy_landscape", solver) for solver in (Euler(1 / 8), ADAPTIVE[0])]
    for case in cases:
        shutil.copytree(paths[case], base / solver_slug(case[1]) / "1")
    config = write_models_config(base, mount=str(base))
    options = {
        "port": free_port(),
        "rest_api_port": port,
        "model_config_file": config,
        "allow_version_labels_for_unavailable_models": "true",
        "enable_batching": "true",
        "enable_per_model_batching_parameters": "true",
    }
    flags = [f"--{name}={value}" for name, value in options.items()]
    server = subprocess.Popen(["tensorflow_model_server", *flags])
    try:
        for case in cases:
            name = f"energy_landscape_{solver_slug(case[1])}"
            target = Target(name, "localhost", port, "canary", None, "serving_default", timeout=30)
            x = np.load(paths[case].parent / "inputs.npz")["7"]
            with contextlib.closing(RestClient(target)) as client:
                found = patiently(functools.partial(client.probabilities, x), seconds=60)
            np.testing.assert_allclose(found, softmax(expected[case]["7"]), rtol=1e-4, atol=1e-5)
    finally:
        server.terminate()
        server.wait(30)
