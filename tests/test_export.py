"""Exported SavedModels: what lies in them and beside them, what is refused, what is never lost."""

import functools
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from tensorflow.core.protobuf import saved_model_pb2

import tfnode
from tfnode import validity
from tfnode.export import export_saved_models, solver_name, solver_slug, write_models_config
from tfnode.export.cards import Configuration, default
from tfnode.export.graphs import write_graphs
from tfnode.export.names import interval_of
from tfnode.export.repositories import can_be_batched, next_version, versions
from tfnode.export.signatures import outputs_of, served_model
from tfnode.solvers import (
    RK4,
    BogackiShampine32,
    DormandPrince,
    Euler,
    Fehlberg21,
    Heun,
    Midpoint,
    RungeKutta,
)

X = np.random.default_rng(0).normal(size=(40, 2)).astype("float32")
CHECK = {"reference_steps": 8, "verbose": 0}


class Rotation(keras.layers.Layer):
    """The field of a rotation by one radian, of which Euler's method makes a spiral."""

    def call(self, z):
        return ops.stack([-z[:, 1], z[:, 0]], axis=1)


def classifier(solver, field=None, dtype="float32", outputs=3, activation=None, loss=None):
    """A small classifier; without a field of its own its trained solver hardly matters."""
    inputs = keras.Input((2,), name="point")
    field = field or keras.layers.Dense(2, "tanh", dtype=dtype)
    z = tfnode.ODEBlock(field, solver, name="ode", dtype=dtype)(inputs)
    head = keras.layers.Dense(outputs, activation, name="head", dtype=dtype)
    model = keras.Model(inputs, head(z), name="small")
    if loss is not None:
        model.compile(loss=loss)
    return model


def labels(model, x=X):
    """What the model itself predicts, so that its accuracy is 1."""
    return np.argmax(model(x), axis=-1)


def turning(solver, level):
    """Class 1 where the second coordinate exceeds a level at t = 1: here every solver matters."""
    model = classifier(solver, field=Rotation(), outputs=2)
    signs = np.array([-1.0, 1.0])
    model.get_layer("head").set_weights([np.stack([0 * signs, signs]), -level * signs])
    return model


def files(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def card(version):
    return json.loads((version / "assets.extra/validity.json").read_text())


def parsed(version):
    (meta_graph,) = (
        saved_model_pb2.SavedModel.FromString((version / "saved_model.pb").read_bytes())
    ).meta_graphs
    return meta_graph


def served(version, signature="serving_default"):
    """The signature as a function from an array to a dictionary of arrays."""
    loaded = tf.saved_model.load(str(version))
    function = loaded.signatures[signature]

    def call(x):
        assert loaded  # it owns the variables
        return {name: t.numpy() for name, t in function(point=tf.constant(x)).items()}

    return call


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A model, its data, and the base of two configurations."""
    keras.utils.set_random_seed(1)
    base = tmp_path_factory.mktemp("repository") / "small"
    model = classifier(RK4(1 / 8))
    data = X, labels(model)
    paths = export_saved_models(
        model, base, [Euler(1 / 8), RK4(1 / 4)], data, data_name="forty points", **CHECK
    )
    assert paths == [base / "euler_h0p125" / "1", base / "rk4_h0p25" / "1"]
    return model, data, base


# === A SavedModel ===
def test_what_is_written(exported):
    *_, base = exported
    assert sorted(path.name for path in base.iterdir()) == [
        ".lock",
        "euler_h0p125",
        "models.config",
        "rk4_h0p25",
    ]
    version = {
        "assets.extra/validity.json",
        "batching_params.pbtxt",
        "fingerprint.pb",
        "saved_model.pb",
        "variables/variables.data-00000-of-00001",
        "variables/variables.index",
    }
    for slug in ("euler_h0p125", "rk4_h0p25"):
        assert (
            set(files(base / slug / "1")) - {"assets.extra/tf_serving_warmup_requests"} == version
        )


@pytest.mark.parametrize(
    "slug, solver", [("euler_h0p125", Euler(1 / 8)), ("rk4_h0p25", RK4(1 / 4))]
)
def test_answers_are_those_of_keras(exported, slug, solver):
    model, _, base = exported
    twin = tfnode.with_solver(model, solver)
    answer = served(base / slug / "1")
    for batch_size in (1, 7, 256):
        x = np.random.default_rng(batch_size).normal(size=(batch_size, 2)).astype("float32")
        logits = twin(x)
        outputs = answer(x)
        assert set(outputs) == {"logits", "probabilities"}
        np.testing.assert_allclose(outputs["logits"], logits, rtol=1e-5, atol=1e-5)
        probabilities = ops.softmax(logits)
        np.testing.assert_allclose(outputs["probabilities"], probabilities, rtol=1e-5, atol=1e-6)


def test_the_signature_and_the_graph(exported):
    *_, base = exported
    meta_graph = parsed(base / "euler_h0p125" / "1")
    assert "serve" in meta_graph.meta_info_def.tags
    signature = meta_graph.signature_def["serving_default"]
    shapes = {
        name: [dim.size for dim in info.tensor_shape.dim]
        for infos in (signature.inputs, signature.outputs)
        for name, info in infos.items()
        if info.dtype == tf.float32.as_datatype_enum
    }
    assert shapes == {"point": [-1, 2], "logits": [-1, 3], "probabilities": [-1, 3]}
    served_functions = [
        function
        for function in meta_graph.graph_def.library.function
        if "restore" not in function.signature.name and "save" not in function.signature.name
    ]
    nodes = [node for function in served_functions for node in function.node_def]
    operations = {node.op for node in nodes}
    assert "StatelessWhile" in operations or "While" in operations
    assert not {op for op in operations if "Assign" in op or "Xla" in op}
    attributes = [*(f.attr for f in served_functions), *(node.attr for node in nodes)]
    assert not any("_XlaMustCompile" in a and a["_XlaMustCompile"].b for a in attributes)
    assert not any("_gradient_op_type" in a for a in attributes)


@pytest.mark.parametrize("from_logits", [True, False])
def test_labels_that_may_be_right_at_once_have_probabilities_of_their_own(tmp_path, from_logits):
    loss = keras.losses.BinaryCrossentropy(from_logits=from_logits)
    model = classifier(RK4(1 / 4), activation=None if from_logits else "sigmoid", loss=loss)
    y = (model(X) > (0.0 if from_logits else 0.5)).numpy().astype(int)
    (path,) = export_saved_models(model, tmp_path, [RK4(1 / 4)], (X, y), **CHECK)
    answers, outputs = served(path)(X), model(X).numpy()
    logits = outputs if from_logits else np.log(outputs / (1 - outputs))
    np.testing.assert_allclose(answers["logits"], logits, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(answers["probabilities"], 1 / (1 + np.exp(-logits)), rtol=1e-5)


@pytest.mark.parametrize("from_logits", [True, False])
def test_an_output_without_an_axis_of_classes_is_one_with_it(tmp_path, from_logits):
    inputs = keras.Input((2,), name="point")
    z = tfnode.ODEBlock(keras.layers.Dense(2, "tanh"), RK4(1 / 4))(inputs)
    head = keras.layers.Dense(1, None if from_logits else "sigmoid")
    model = keras.Model(inputs, keras.layers.Reshape(())(head(z)))
    model.compile(loss=keras.losses.BinaryCrossentropy(from_logits=from_logits))
    batches = [(X[:0], np.zeros(0)), (X, np.arange(len(X)) % 2)]
    (path,) = export_saved_models(model, tmp_path, [RK4(1 / 4)], batches, **CHECK)
    p = model(X).numpy()
    p = 1 / (1 + np.exp(-p)) if from_logits else p
    expected = np.stack([1 - p, p], axis=-1)
    np.testing.assert_allclose(served(path)(X)["probabilities"], expected, rtol=1e-5)


def test_a_number_that_is_not_finite_is_an_error(exported):
    *_, base = exported
    answer = served(base / "rk4_h0p25" / "1")
    x = X.copy()
    for bad in (np.nan, np.inf):
        x[3, 1] = bad
        with pytest.raises(tf.errors.InvalidArgumentError, match="input 'point' that is not"):
            answer(x)


def test_a_field_with_a_custom_gradient(tmp_path):
    class Custom(keras.layers.Layer):
        def call(self, z):
            return tf.custom_gradient(lambda z: (-z, lambda upstream: -upstream))(z)

    model = classifier(RK4(1 / 2), field=Custom())
    (path,) = export_saved_models(model, tmp_path, [RK4(1 / 2)], (X, labels(model)), **CHECK)
    np.testing.assert_allclose(served(path)(X)["logits"], model(X), rtol=1e-5, atol=1e-6)


def test_one_saved_model_with_a_signature_for_each_solver(tmp_path):
    model = classifier(RK4(1 / 8))
    # Names with every sign that one may have.
    chosen = [Midpoint(1 / 4), Fehlberg21(2.5e-2, 2.5e-2)]
    (path,) = export_saved_models(
        model, tmp_path, chosen, (X, labels(model)), as_signatures=True, **CHECK
    )
    assert path == tmp_path / "all_solvers" / "1"
    names = {
        "midpoint_4_steps": chosen[0],
        "midpoint_h0p25": chosen[0],
        "fehlberg21_tol_2.5e-2": chosen[1],
        "fehlberg21_rtol2p5em2": chosen[1],
        "serving_default": chosen[0],
    }
    loaded = tf.saved_model.load(str(path))
    assert loaded.signatures.keys() == names.keys()
    for signature, solver in names.items():
        expected = tfnode.with_solver(model, solver)(X)
        answer = loaded.signatures[signature](point=tf.constant(X))
        np.testing.assert_allclose(answer["logits"], expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(KeyError, match="midpoint_5_steps"):
        loaded.signatures["midpoint_5_steps"]
    content = card(path)
    slugs = {"midpoint_h0p25": chosen[0], "fehlberg21_rtol2p5em2": chosen[1]}
    assert content["solvers"] == {k: tfnode.solvers.serialize(v) for k, v in slugs.items()}
    assert content["names"] == dict(zip(slugs, ["midpoint_4_steps", "fehlberg21_tol_2.5e-2"]))
    assert content["default"] == "midpoint_h0p25"
    assert content["accuracies"].keys() >= slugs.keys()
    # A sample's answer under the second depends on its batch mates.
    assert not (path / "batching_params.pbtxt").exists()
    # The head's kernel is there once, although five signatures use it.
    shapes = [shape for _, shape in tf.train.list_variables(str(path / "variables" / "variables"))]
    assert shapes.count([2, 3]) == 1
    # Every way to ask is warm, and the two names of a solver have one loop.
    assert signatures_of_warmup(path) in (None, names.keys())
    nodes = [n for f in parsed(path).graph_def.library.function for n in f.node_def]
    assert len([n for n in nodes if n.op in ("While", "StatelessWhile")]) == 2


def signatures_of_warmup(version):
    """None without the package that they are written by."""
    path = version / "assets.extra/tf_serving_warmup_requests"
    if not path.exists():
        return None
    from tensorflow_serving.apis import prediction_log_pb2

    logs = [
        prediction_log_pb2.PredictionLog.FromString(record.numpy())
        for record in tf.data.TFRecordDataset(str(path))
    ]
    return {log.predict_log.request.model_spec.signature_name for log in logs}


def test_the_default_of_several_solvers_is_a_valid_one(tmp_path):
    # An ODE under RK4, of which one Euler step loses a tenth.
    model = turning(RK4(1 / 4), level=0.8)
    x = np.array([[1.0, 0.0]] * 9 + [[1.0, -0.1]], "float32")
    chosen, y = [Euler(1.0), RK4(1 / 4)], np.array([1] * 9 + [0])
    (path,) = export_saved_models(model, tmp_path, chosen, (x, y), as_signatures=True, **CHECK)
    content = card(path)
    assert (content["default"], content["is_valid"]) == ("rk4_h0p25", False)
    np.testing.assert_allclose(served(path)(x)["logits"], model(x), rtol=1e-5, atol=1e-6)
    # Without a verdict it is the first.
    unjudged = [Configuration(solver_slug(solver), solver, model) for solver in chosen]
    assert default(unjudged) is unjudged[0]


# === Adaptive steps ===
ADAPTIVE = [
    DormandPrince(1e-4, 1e-4, max_num_steps=50),
    DormandPrince(1e-4, 1e-4, max_num_steps=50, per_sample=True),
    Fehlberg21(1e-3, 1e-3, max_num_steps=50),
]
BOUNDED = np.random.default_rng(0).uniform(-0.5, 0.5, (8, 2)).astype("float32")


class Squares(keras.layers.Layer):
    """The field `z^2`, whose solution `z0 / (1 - t z0)` is infinite at t = 1 / z0."""

    def call(self, z):
        return ops.square(z)


@pytest.fixture(scope="module")
def adaptive(tmp_path_factory):
    """A model, and a graph with each of the adaptive solvers."""
    keras.utils.set_random_seed(2)
    model = classifier(RK4(1 / 4), field=Squares())
    folder = tmp_path_factory.mktemp("adaptive")
    for solver in ADAPTIVE:
        twin = tfnode.with_solver(model, solver)
        write_graphs(folder / solver_slug(solver), {"serving_default": twin})
    return model, [folder / solver_slug(solver) for solver in ADAPTIVE]


def test_adaptive_answers_are_those_of_keras(adaptive):
    model, paths = adaptive
    flow = model.get_layer("head")(BOUNDED / (1 - BOUNDED))
    for solver, path in zip(ADAPTIVE, paths):
        answer = served(path)
        expected = tfnode.with_solver(model, solver).predict_on_batch(BOUNDED)
        np.testing.assert_allclose(answer(BOUNDED)["logits"], expected, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(expected, flow, atol=20 * solver.rtol)
        with pytest.raises(tf.errors.InvalidArgumentError, match="max_num_steps"):
            answer(np.array([[0.1, 2.0]], "float32"))


def test_no_adaptive_graph_assigns_a_variable(adaptive):
    for path in adaptive[1]:
        library = parsed(path).graph_def.library.function
        for function in library:
            if "restore" not in function.signature.name:
                assert not {n.op for n in function.node_def if n.op.startswith("Assign")}


def test_a_stateless_call_assigns_nothing():
    """TensorFlow Probability's solver is guarded by a variable, which an export must not have."""
    model = classifier(DormandPrince(1e-4, 1e-4))
    block = model.get_layer("ode")
    expected = model(X)
    statistics = block.statistics
    model(10 * X[:1])
    before = [np.array(v) for v in model.non_trainable_variables]
    outputs, state = model.stateless_call(
        model.trainable_variables, model.non_trainable_variables, X
    )
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)
    for variable, value in zip(model.non_trainable_variables, before):
        np.testing.assert_array_equal(variable, value)
    # The statistics are those of the guard.
    names = [v.path for v in model.non_trainable_variables]
    (noted,) = (v for name, v in zip(names, state) if name.endswith("/statistics"))
    assert tuple(np.array(noted)) == (
        statistics.evaluations,
        statistics.accepted,
        statistics.rejected,
    )


# === Validity ===
@pytest.fixture(scope="module")
def bound(tmp_path_factory):
    """A model that is right under one step of Euler's method, and under no better solver.

    Euler's step takes (1, 0) to (1, 1), the flow to (cos 1, sin 1), below the level of 0.9.
    """
    model = turning(Euler(1.0), level=0.9)
    x = np.array([[1.0, 0.0]] * 10, "float32")
    return model, (x, np.ones(10, "int64"))


def test_the_card(exported):
    model, data, base = exported
    report = validity.check(model, data, solvers=[Euler(1 / 8), RK4(1 / 4)], **CHECK)
    content = card(base / "rk4_h0p25" / "1")
    assert content["model"] == "small"
    assert content["is_valid"] is True
    assert content["solvers"] == {"rk4_h0p25": tfnode.solvers.serialize(RK4(1 / 4))}
    assert content["names"] == {"rk4_h0p25": "rk4_4_steps"}
    assert content["default"] == "rk4_h0p25"
    verdict = json.loads(report.to_json())
    assert content["sweep"] == verdict.pop("rows")
    assert content["verdict"] == verdict
    (row,) = validity.sweep(model, data, [RK4(1 / 4)], verbose=0)
    assert content["accuracies"] == {
        "trained": 1.0,
        "reference": report.rows[-1].accuracy,
        "rk4_h0p25": row.accuracy,
    }
    assert content["data"] == {"name": "forty points", "num_samples": 40}
    versions = content["versions"]
    assert versions.keys() == {"python", "tfnode", "keras", "tensorflow", "numpy"}
    assert (versions["tfnode"], versions["tensorflow"]) == (tfnode.__version__, tf.__version__)


def test_a_model_that_is_bound_to_its_solver_is_refused(bound, tmp_path, capsys):
    model, data = bound
    with pytest.raises(ValueError, match=r"must be an ODE.*with a gap of 1.0000"):
        export_saved_models(
            model, tmp_path / "base", [Euler(1.0)], data, require_valid=True, **CHECK
        )
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == ("small is bound to its solver: gap 1.0000, threshold 0.02, 10 samples")
    assert printed[2].split() == ["*", "Euler", "1", "1.0000", "0.0000"]
    # Refuted before the finest RK4, of which errors are distances.
    assert "error" not in printed[1]
    assert printed[-1] == "gap: the difference in accuracy, as a fraction, from the first row"
    assert not (tmp_path / "base").exists()


def test_a_configuration_that_loses_accuracy_is_refused(tmp_path, capsys):
    # An ODE under RK4, as the flow takes (1, 0) above 0.8; one Euler step takes (1, -0.1) too.
    model = turning(RK4(1 / 4), level=0.8)
    x = np.array([[1.0, 0.0]] * 9 + [[1.0, -0.1]], "float32")
    data = x, np.array([1] * 9 + [0])
    options = {"require_valid": True, **CHECK}
    with pytest.raises(ValueError, match=r"euler_h1 with 0\.9000"):
        export_saved_models(model, tmp_path / "base", [RK4(1 / 8), Euler(1.0)], data, **options)
    assert capsys.readouterr().out.startswith("small is an ODE: gap 0.0000")
    assert not (tmp_path / "base").exists()
    paths = export_saved_models(model, tmp_path, [RK4(1 / 8), Euler(1.0)], data, **CHECK)
    assert [card(path)["is_valid"] for path in paths] == [True, False]
    config = (tmp_path / "models.config").read_text()
    # The valid one, by its two names.
    assert config.count('key: "stable"') == 2
    # A loss of 10 points is none above a threshold of 10.
    options["threshold"] = 0.1
    assert export_saved_models(model, tmp_path, [Euler(1.0)], data, **options)


# === Reports that are there ===
def test_a_report_takes_the_place_of_a_verdict(exported, tmp_path, monkeypatch):
    model, data, base = exported
    chosen = [Euler(1 / 8), RK4(1 / 4)]
    report = validity.check(model, data, solvers=chosen, **CHECK)

    def refused(*_, **__):
        raise AssertionError("nothing is judged again")

    monkeypatch.setattr(validity, "check", refused)
    monkeypatch.setattr(validity, "sweep", refused)
    read = validity.ValidityReport.from_json(report.to_json())
    few = tuple(array[:3] for array in data)
    paths = export_saved_models(model, tmp_path, chosen, few, data_name="forty points", report=read)
    for ours, folder in zip(paths, ("euler_h0p125", "rk4_h0p25"), strict=True):
        assert card(ours) == card(base / folder / "1")


def test_solvers_that_a_report_has_not_are_measured(exported, tmp_path):
    model, data, _ = exported
    report = validity.check(model, data, **CHECK)
    chosen = [RK4(1 / 8), Heun(1 / 3)]
    (path, other) = export_saved_models(model, tmp_path, chosen, data, report=report)
    assert card(path)["accuracies"]["rk4_h0p125"] == report.rows[0].accuracy
    row = validity.sweep(model, data, [Heun(1 / 3)], verbose=0)[0]
    assert card(other)["accuracies"][other.parent.name] == row.accuracy


def test_solvers_are_compared_on_the_same_data(tmp_path):
    """With half of the answers right on the report's data, and all on those of the export."""
    field = keras.layers.Rescaling(-1.0)
    inputs = keras.Input((1,))
    z = tfnode.ODEBlock(field, RK4(1 / 8))(inputs)
    model = keras.Model(inputs, keras.layers.Rescaling(1.0, offset=-0.25)(z))
    model.compile(loss=keras.losses.BinaryCrossentropy(from_logits=True))
    report = validity.check(model, (np.zeros((40, 1)), np.arange(40) % 2), **CHECK)
    assert (report.is_ode, report.rows[0].accuracy) == (True, 0.5)
    # Euler's method takes 1 to 0 in one step, and so to the other class.
    data = np.repeat([[1.0], [0.0]], 20, axis=0), np.repeat([1, 0], 20)
    chosen = [Heun(1 / 8), Euler(1.0)]
    options = {"report": report, "verbose": 0}
    paths = export_saved_models(model, tmp_path / "any", chosen, data, **options)
    assert [card(path)["is_valid"] for path in paths] == [True, False]
    with pytest.raises(ValueError, match=r"euler_h1 with 0\.5000"):
        export_saved_models(model, tmp_path / "valid", chosen, data, require_valid=True, **options)


def test_the_report_of_another_model_is_refused(exported, tmp_path):
    model, data, _ = exported
    report = validity.check(model, data, **CHECK)
    keras.utils.set_random_seed(2)
    for other in (classifier(RK4(1 / 8)), tfnode.with_solver(model, RK4(1 / 7))):
        with pytest.raises(ValueError, match="must be that of the model: of these weights and"):
            export_saved_models(other, tmp_path / "base", [RK4(1 / 4)], data, report=report)
    assert not (tmp_path / "base").exists()


# === Versions ===
def test_versions_go_up_and_are_never_overwritten(exported, tmp_path):
    model, _, _ = exported
    first = export_saved_models(model, tmp_path, [Euler(1.0)])
    before = files(first[0])
    second = export_saved_models(model, tmp_path, [Midpoint(1.0), Euler(1.0)])
    # One number for the whole call.
    assert second == [tmp_path / "midpoint_h1" / "2", tmp_path / "euler_h1" / "2"]
    with pytest.raises(ValueError, match=r"version=1, and .*euler_h1/1' exists"):
        export_saved_models(model, tmp_path, [Euler(1.0)], version=1)
    assert files(first[0]) == before
    (fifth,) = export_saved_models(model, tmp_path, [Euler(1.0)], version=5)
    assert fifth.name == "5"


def test_what_fails_half_way_leaves_nothing(exported, tmp_path, monkeypatch):
    model, data, _ = exported
    write, written = tfnode.export.warmup.write_warmup, []

    def fails_the_second_time(*arguments):
        if written:
            raise OSError("No space left on device")
        written.append(write(*arguments))

    monkeypatch.setattr(tfnode.export.warmup, "write_warmup", fails_the_second_time)
    with pytest.raises(OSError, match="No space left"):
        export_saved_models(model, tmp_path, [Euler(1 / 8), Euler(1 / 4)], data, **CHECK)
    assert written
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


# Exports twice, and waits in the middle of each until it is told to go on.
OTHER_PROCESS = """
import sys
import keras, tfnode
from tfnode.export import cards, export_saved_models

def waiting(*arguments, card=cards.card):
    print("writing", flush=True)
    sys.stdin.readline()
    return card(*arguments)

cards.card = waiting
euler = tfnode.solvers.Euler(1.0)
model = keras.Sequential([keras.Input((2,)), tfnode.ODEBlock(keras.layers.Dense(2), euler)])
for _ in range(2):
    export_saved_models(model, sys.argv[1], [euler])
"""


def test_two_processes_and_one_that_is_killed(tmp_path, monkeypatch):
    def export():
        (path,) = export_saved_models(classifier(RK4(1.0)), tmp_path, [Euler(1.0)])
        return path

    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    command = [sys.executable, "-c", OTHER_PROCESS, str(tmp_path)]
    with subprocess.Popen(command, **pipes) as other:
        assert other.stdout.readline() == "writing\n"
        with monkeypatch.context() as patch:
            patch.setattr(tfnode.files, "LOCK_SECONDS", 0.05)
            with pytest.raises(TimeoutError, match=f"held by process {other.pid} on .* since 20"):
                export()
        # What it was writing is still there.
        other.stdin.write("\n")
        other.stdin.flush()
        assert other.stdout.readline() == "writing\n"
        assert versions(tmp_path / "euler_h1") == [1]
        assert any(".writing-" in name for name in files(tmp_path))
        other.kill()
    assert export() == tmp_path / "euler_h1" / "2"
    assert versions(tmp_path / "euler_h1") == [1, 2]
    assert {name.split("/")[0] for name in files(tmp_path)} == {
        *(".lock", "euler_h1", "models.config")
    }
    assert not any(".writing-" in name for name in files(tmp_path))


# === The repository ===
CONFIGURATIONS = [
    (Euler(1 / 8), "euler_h0p125", "euler_8_steps"),
    (RK4(1 / 16), "rk4_h0p0625", "rk4_16_steps"),
    (RK4(1 / 12), "rk4_h0p083333336", "rk4_12_steps"),
    (Midpoint(1.0), "midpoint_h1", "midpoint_1_step"),
    (Euler(1 / 3), "euler_h0p33333334", "euler_3_steps"),
    # Not equal: the last one is shorter.
    (Euler(float(np.float32(0.605))), "euler_h0p605", "euler_step_0.605"),
    (Euler(0.33), "euler_h0p33", "euler_step_0.33"),
    (Euler(1e-5), "euler_h0p00001", "euler_100000_steps"),
    (Euler(32), "euler_h32", "euler_step_32"),
    (
        RungeKutta(1 / 4, tfnode.tableaus.BOGACKI_SHAMPINE32),
        "bogacki_shampine32_h0p25",
        "bogacki_shampine32_4_steps",
    ),
    (DormandPrince(1e-5, 1e-5), "dopri5_rtol1em5", "dormand_prince_tol_1e-5"),
    (
        DormandPrince(2.5e-4, 1e-6),
        "dopri5_rtol2p5em4_atol1em6",
        "dormand_prince_rtol_2.5e-4_atol_1e-6",
    ),
    (
        Fehlberg21(1e-3, 1e-3, max_num_steps=50),
        "fehlberg21_rtol1em3_steps50",
        "fehlberg21_tol_1e-3_at_most_50_steps",
    ),
    (
        BogackiShampine32(1, 1, per_sample=True),
        "bogacki_shampine32_rtol1e0_per_sample",
        "bogacki_shampine32_tol_1e0_per_sample",
    ),
]


@pytest.mark.parametrize("solver, slug, name", CONFIGURATIONS, ids=lambda value: str(value))
def test_names_of_configurations(solver, slug, name):
    assert solver_slug(solver) == slug
    assert solver_name(solver) == name
    # In a path, a URL, and as a name of a node in TensorFlow's graphs.
    assert re.fullmatch("[a-z][a-z0-9_.-]*", name)


def test_one_name_is_one_configuration():
    """Also of steps that are as near to each other as single precision has them."""
    quarter = np.float32(1 / 4)
    near = [np.nextafter(quarter, end, dtype="float32") for end in np.float32([0, 1])]
    found = [Euler(float(step)) for step in (quarter, *near)]
    assert solver_name(found[0]) == "euler_4_steps"
    slugs = {solver_slug(solver): solver_name(solver) for solver in found}
    assert len(slugs) == len(set(slugs.values())) == 3


@pytest.mark.parametrize(
    "intervals, save_at, name",
    [
        ([2.0], None, "rk4_8_steps"),
        ([-1.0], None, "rk4_4_steps"),
        ([1.0, 1.0], None, "rk4_4_steps"),
        # Each of them has steps of its own.
        ([1.0, 2.0], None, "rk4_step_0.25"),
        ([1.0], [0.3, 1.0], "rk4_step_0.25"),
    ],
)
def test_steps_are_counted_on_the_interval_of_the_blocks(intervals, save_at, name):
    field = keras.layers.Dense(2)
    model = keras.Sequential([keras.Input((2,))])
    for t1 in intervals:
        model.add(tfnode.ODEBlock(field, RK4(1 / 4), t1=t1, save_at=save_at))
    assert solver_name(RK4(1 / 4), interval_of(model)) == name


@functools.cache
def contents():
    """The files of a SavedModel that computes nothing, with its weights in two shards."""
    graph = saved_model_pb2.SavedModel(saved_model_schema_version=1)
    graph.meta_graphs.add().meta_info_def.tags.append("serve")
    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place, "variables")
        parts = [str(folder / name) for name in "ab"]
        for part, values in zip(parts, ([1.0, 2.0, 3.0, 4.0], "a text")):
            tf.raw_ops.SaveV2(
                prefix=part, tensor_names=[part], shape_and_slices=[""], tensors=[values]
            )
        tf.raw_ops.MergeV2Checkpoints(
            checkpoint_prefixes=parts, destination_prefix=str(folder / "variables")
        )
        weights = {f"variables/{path.name}": path.read_bytes() for path in folder.iterdir()}
    return {"saved_model.pb": graph.SerializeToString(), **weights}


def a_version(path, is_valid=None):
    """Looks like a SavedModel to who does not run it."""
    for name, content in contents().items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    if is_valid is not None:
        a_card(path, {"is_valid": is_valid, "verdict": {"is_ode": is_valid}})
    return path


def a_card(path, content):
    (path / "assets.extra").mkdir(exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    (path / "assets.extra/validity.json").write_text(text)


def test_models_config(tmp_path):
    pytest.importorskip("tensorflow_serving", reason="needs the extra `serving`")
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    root = tmp_path / "saved models"
    for version, is_valid in [("1", True), ("2", True), ("9", False), ("10", False)]:
        a_version(root / "mnist" / "euler_h0p5" / version, is_valid)
    a_version(root / "mnist" / "rk4_h0p25" / "3", is_valid=True)
    a_version(root / 'somebody\'s "own"' / "1")
    a_version(root / ".beside" / "rk4" / "1", is_valid=True)
    a_version(root / "mnist" / "no_version")
    nothing_that_is_a_version(root / "mnist" / "rk4_h0p25")
    path = write_models_config(root, mount="/srv/models")
    assert path == root / "models.config"
    config = text_format.Parse(path.read_text(), model_server_config_pb2.ModelServerConfig())
    entries = config.model_config_list.config
    assert [(e.name, e.base_path, dict(e.version_labels)) for e in entries] == [
        ("mnist_euler_h0p5", "/srv/models/mnist/euler_h0p5", {"stable": 2, "canary": 10}),
        ("mnist_rk4_h0p25", "/srv/models/mnist/rk4_h0p25", {"stable": 3, "canary": 3}),
        (
            'saved models_somebody\'s "own"',
            '/srv/models/somebody\'s "own"',
            {"canary": 1},
        ),
    ]
    for entry in entries:
        assert entry.model_platform == "tensorflow"
        assert entry.model_version_policy.WhichOneof("policy_choice") == "all"
    # The place on the server stays until another one is named.
    text = path.read_text()
    assert write_models_config(root).read_text() == text
    assert write_models_config(root, mount="/models").read_text() != text
    # Below `mnist` the same model has the same name.
    path = write_models_config(root / "mnist")
    config = text_format.Parse(path.read_text(), model_server_config_pb2.ModelServerConfig())
    entry = config.model_config_list.config[0]
    assert (entry.name, entry.base_path) == ("mnist_euler_h0p5", "/models/euler_h0p5")
    found = sorted(path.name for path in root.iterdir() if path.is_file())
    assert found == [".lock", "models.config"]
    # Without a version that is withdrawn.
    (root / "mnist" / "euler_h0p5" / "10" / "withdrawn").touch()
    path = write_models_config(root / "mnist")
    config = text_format.Parse(path.read_text(), model_server_config_pb2.ModelServerConfig())
    entry = config.model_config_list.config[0]
    assert list(entry.model_version_policy.specific.versions) == [1, 2, 9]
    assert dict(entry.version_labels) == {"stable": 2, "canary": 9}


def listed(path):
    """The models of a list: the directory, the policy and the labels of each name."""
    pattern = (
        r'name: "(.*)"\s+base_path: "(.*)"\s+model_platform: .*\s+'
        r"model_version_policy { (.*) }\s+((?:version_labels .*\s+)*)"
    )
    return {
        name: (place, policy, dict(re.findall(r'key: "(\w+)" value: (\d+)', labels)))
        for name, place, policy, labels in re.findall(pattern, path.read_text())
    }


def a_named_version(path, solver, **content):
    """One whose card names its solver as those of the zoo from before, or as `content` has it."""
    solvers = {solver_slug(solver): tfnode.solvers.serialize(solver)}
    verdict = {"is_valid": True, "verdict": {"is_ode": True}}
    a_card(a_version(path), {**verdict, "solvers": solvers, **content})


def test_a_model_is_listed_by_both_names(exported, tmp_path):
    *_, base = exported
    all_of_it = "all {}", {"stable": "1", "canary": "1"}
    assert listed(base / "models.config") == {
        "small_euler_8_steps": ("/models/euler_h0p125", *all_of_it),
        "small_euler_h0p125": ("/models/euler_h0p125", *all_of_it),
        "small_rk4_4_steps": ("/models/rk4_h0p25", *all_of_it),
        "small_rk4_h0p25": ("/models/rk4_h0p25", *all_of_it),
    }


def test_exports_from_before_have_a_name_too(tmp_path):
    a_named_version(tmp_path / "mnist" / "rk4_h0p083333336" / "1", RK4(1 / 12))
    found = listed(write_models_config(tmp_path))
    assert list(found) == ["mnist_rk4_12_steps", "mnist_rk4_h0p083333336"]
    assert found["mnist_rk4_12_steps"] == found["mnist_rk4_h0p083333336"]


def test_a_name_that_is_not_clear_is_not_listed(tmp_path):
    slug = "rk4_h0p25"
    names = {"names": {slug: "rk4_8_steps"}}
    # Its versions differ in the interval.
    a_named_version(tmp_path / "differ" / slug / "1", RK4(1 / 4))
    a_named_version(tmp_path / "differ" / slug / "2", RK4(1 / 4), **names)
    # Two directories would have it.
    a_named_version(tmp_path / "two" / slug / "1", RK4(1 / 4), **names)
    a_named_version(tmp_path / "two" / "rk4_h0p125" / "1", RK4(1 / 8))
    # A directory has it already.
    a_named_version(tmp_path / "taken" / slug / "1", RK4(1 / 4))
    a_version(tmp_path / "taken" / "rk4_4_steps" / "1")
    # The directory has a name that somebody gave it.
    a_named_version(tmp_path / "renamed" / "best" / "1", RK4(1 / 4))
    for i, name in enumerate(["a/b", "a:b", "", "größe", 1, None, ["a"]]):
        a_named_version(tmp_path / f"odd{i}" / slug / "1", RK4(1 / 4), names={slug: name})
    for i, content in enumerate([{"names": []}, {"names": {}}, {"solvers": {slug: {}}}]):
        a_named_version(tmp_path / f"wrong{i}" / slug / "1", RK4(1 / 4), **content)
    names = listed(write_models_config(tmp_path))
    assert set(names) == {
        "_".join(path.relative_to(tmp_path).parts[:2]) for path in tmp_path.glob("*/*/1")
    }


def test_a_version_that_is_withdrawn_is_not_served(tmp_path):
    folder = tmp_path / "mnist" / "rk4_h0p25"
    for version, is_valid in [("1", True), ("2", True), ("3", False)]:
        a_version(folder / version, is_valid)

    def found():
        return listed(write_models_config(tmp_path)).get("mnist_rk4_h0p25", (None,))[1:]

    assert found() == ("all {}", {"stable": "2", "canary": "3"})
    (folder / "2" / "withdrawn").touch()
    assert found() == ("specific { versions: 1 versions: 3 }", {"stable": "1", "canary": "3"})
    (folder / "3" / "withdrawn").touch()
    assert found() == ("specific { versions: 1 }", {"stable": "1", "canary": "1"})
    # A number stays that of one model.
    assert next_version([folder]) == 4
    (folder / "2" / "withdrawn").unlink()
    assert found() == ("specific { versions: 1 versions: 2 }", {"stable": "2", "canary": "2"})
    a_version(tmp_path / "cifar10" / "rk4_h0p25" / "1")
    for version in ("1", "2"):
        (folder / version / "withdrawn").touch()
    assert found() == ()


def nothing_that_is_a_version(folder):
    """Fills the directory of a configuration with what may have a number for a name."""
    (folder / "4").write_text("a file")
    (folder / "5").mkdir()
    for name in ("0", "07", "-8", "+9", "1_0", "11.0", "1e2", "\u0661\u0662", "99" * 10, "13 "):
        a_version(folder / name, is_valid=True)
    (a_version(folder / "14", is_valid=True) / "saved_model.pb").unlink()
    (a_version(folder / "15", is_valid=True) / "variables/variables.index").unlink()
    half = a_version(folder / "16", is_valid=True)
    (half / "variables/variables.data-00001-of-00002").unlink()
    (folder / "17").symlink_to(a_version(folder / ".elsewhere"), target_is_directory=True)
    (folder / "18").symlink_to("nowhere")


def test_the_next_version_is_one_that_nothing_has(tmp_path):
    folder = tmp_path / "euler_h1"
    a_version(folder / "3")
    nothing_that_is_a_version(folder)
    assert versions(folder) == [3]
    assert next_version([folder, tmp_path / "nowhere"]) == 19


def test_a_version_that_was_cut_short_has_no_label(exported, tmp_path):
    *_, base = exported
    folder = tmp_path / "mnist" / "euler_h0p125"
    good = [a_version(folder / "1", is_valid=True)]
    good.append(shutil.copytree(base / "euler_h0p125" / "1", folder / "2"))
    assert versions(folder) == [1, 2]
    for version in good:
        weights = [f"variables/{path.name}" for path in (version / "variables").iterdir()]
        for name in ("saved_model.pb", *weights):
            content = (version / name).read_bytes()
            for length in {0, 1, len(content) // 2, len(content) - 8}:
                cut = shutil.copytree(version, folder / "3")
                (cut / name).write_bytes(content[:length])
                assert versions(folder) == [1, 2], (name, length)
                shutil.rmtree(cut)
    cut = shutil.copytree(good[1], folder / "3")
    (cut / "saved_model.pb").write_bytes((cut / "saved_model.pb").read_bytes()[:1000])
    (_, labels), *_ = [entry[1:] for entry in listed(write_models_config(tmp_path)).values()]
    assert labels == {"stable": "2", "canary": "2"}


def test_weights_of_another_model_are_not_enough(exported, tmp_path):
    *_, base = exported
    shutil.copytree(base / "euler_h0p125" / "1", tmp_path / "1")
    (shard,) = tmp_path.glob("1/variables/variables.data-*")
    shard.write_bytes(bytes(100))
    assert versions(tmp_path) == []


CARDS = [
    ("not json", "Expecting value"),
    ("[" * 100_000, "recursion"),
    ('"is_valid"', "`is_valid` is neither true nor false"),
    ([True], "`is_valid` is neither true nor false"),
    ({}, "`is_valid` is neither true nor false"),
    ({"is_valid": 1, "verdict": {"is_ode": True}}, "`is_valid` is neither true nor false"),
    ({"is_valid": "yes", "verdict": {"is_ode": True}}, "`is_valid` is neither true nor false"),
    ({"is_valid": True}, "`is_ode` of the verdict is None"),
    ({"is_valid": True, "verdict": []}, "`is_ode` of the verdict is None"),
    ({"is_valid": True, "verdict": {"is_ode": "no"}}, "`is_ode` of the verdict is 'no'"),
    ({"is_valid": True, "verdict": {"is_ode": False}}, "`is_ode` of the verdict is False"),
]


@pytest.mark.parametrize("content, message", CARDS, ids=lambda value: str(value)[:40])
def test_a_card_that_is_not_what_it_should_be_is_not_trusted(content, message, tmp_path):
    folder = tmp_path / "mnist" / "euler_h1"
    a_version(folder / "1", is_valid=True)
    a_card(a_version(folder / "2"), content)
    a_version(tmp_path / "cifar10" / "euler_h1" / "3", is_valid=True)
    with pytest.warns(UserWarning, match=f"2/assets.extra/validity.json', of which .*{message}"):
        path = write_models_config(tmp_path)
    # The others have their labels.
    labels = re.findall(r'key: "(\w+)" value: (\d+)', path.read_text())
    assert labels == [("stable", "3"), ("canary", "3"), ("stable", "1"), ("canary", "2")]


def test_bytes_that_are_no_text_are_not_trusted_either(tmp_path):
    path = a_version(tmp_path / "euler_h1" / "1", is_valid=True)
    (path / "assets.extra/validity.json").write_bytes(b"\xff\xfe")
    with pytest.warns(UserWarning, match="of which 'utf-8' codec can't decode"):
        write_models_config(tmp_path)


def test_a_path_that_is_not_utf_8(tmp_path):
    name = os.fsdecode(b"caf\xe9")
    a_version(tmp_path / name / "euler_h1" / "1")
    with pytest.raises(ValueError, match=r"take paths in UTF-8\. Received: .*caf\\udce9"):
        write_models_config(tmp_path)
    assert not (tmp_path / "models.config").exists()
    with pytest.raises(ValueError, match="take paths in UTF-8"):
        write_models_config(tmp_path, mount=f"/{name}")
    with pytest.raises(ValueError, match="take paths in UTF-8"):
        export_saved_models(classifier(RK4(1.0)), tmp_path / name, [Euler(1.0)])


def test_a_repository_that_cannot_be_served(tmp_path):
    with pytest.raises(ValueError, match=r"without any\. Export a model"):
        write_models_config(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="Received: mount='models'"):
        write_models_config(tmp_path, mount="models")
    a_version(tmp_path / "a" / "b_c" / "1")
    a_version(tmp_path / "a_b" / "c" / "1")
    with pytest.raises(ValueError, match=r"Received: name='a_b_c' of .*a_b/c' .*a/b_c'"):
        write_models_config(tmp_path)
    assert not (tmp_path / "models.config").exists()


@pytest.mark.parametrize(
    "solver, is_batched",
    [
        (Euler(1 / 8), True),
        (DormandPrince(1e-4, 1e-4), False),
        (DormandPrince(1e-4, 1e-4, per_sample=True), True),
        (Fehlberg21(1e-4, 1e-4), False),
    ],
    ids=str,
)
def test_only_answers_that_depend_on_no_batch_mates_are_batched(solver, is_batched):
    assert can_be_batched(solver) is is_batched


# === Warm-up ===
def test_warmup_requests(exported):
    pytest.importorskip("tensorflow_serving", reason="needs the extra `serving`")
    from tensorflow_serving.apis import prediction_log_pb2

    _, (x, _), base = exported
    version = base / "rk4_h0p25" / "1"
    records = tf.data.TFRecordDataset(str(version / "assets.extra/tf_serving_warmup_requests"))
    logs = [prediction_log_pb2.PredictionLog.FromString(r.numpy()) for r in records]
    assert [log.WhichOneof("log_type") for log in logs] == ["predict_log"] * 2
    answer = served(version)
    for log, size in zip(logs, (1, 16)):
        request = log.predict_log.request
        assert request.model_spec.name == "small_rk4_h0p25"
        assert request.model_spec.signature_name == "serving_default"
        assert list(request.inputs) == ["point"]
        sent = tf.make_ndarray(request.inputs["point"])
        np.testing.assert_array_equal(sent, x[:size])
        assert answer(sent)["logits"].shape == (size, 3)


def test_without_the_package_there_is_a_warning_and_no_request(exported, tmp_path, monkeypatch):
    for name in [n for n in sys.modules if n.startswith("tensorflow_serving")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorflow_serving", None)
    model, data, _ = exported
    with pytest.warns(UserWarning, match="Install the extra `serving`"):
        (path,) = export_saved_models(model, tmp_path, [RK4(1.0)], data, **CHECK)
    assert set(files(path / "assets.extra")) == {"validity.json"}


# === Logits and probabilities ===
@pytest.mark.parametrize("outputs", [1, 3])
def test_a_model_that_ends_in_probabilities(outputs, tmp_path):
    loss = "binary_crossentropy" if outputs == 1 else "sparse_categorical_crossentropy"
    activation = "sigmoid" if outputs == 1 else "softmax"
    model = classifier(RK4(1.0), outputs=outputs, activation=activation, loss=loss)
    y = np.zeros(len(X), int)
    (path,) = export_saved_models(model, tmp_path, [RK4(1.0)], (X, y), **CHECK)
    answer = served(path)(X)
    p = np.array(model(X))
    expected = np.concatenate([1 - p, p], axis=1) if outputs == 1 else p
    np.testing.assert_allclose(answer["probabilities"], expected, rtol=1e-5)
    again = ops.sigmoid(answer["logits"]) if outputs == 1 else ops.softmax(answer["logits"])
    np.testing.assert_allclose(again, p, rtol=1e-5)


def test_probabilities_of_0_and_1_have_finite_logits(tmp_path):
    model = classifier(RK4(1.0), outputs=1, activation="sigmoid", loss="binary_crossentropy")
    model.layers[-1].set_weights([np.zeros_like(model.layers[-1].kernel), np.array([200.0])])
    (path,) = export_saved_models(model, tmp_path, [RK4(1.0)], (X, np.ones(len(X), int)), **CHECK)
    answer = served(path)(X[:1])
    np.testing.assert_array_equal(answer["probabilities"], [[0.0, 1.0]])
    # The largest probability below 1 in single precision is 1 - 2^-24.
    np.testing.assert_allclose(answer["logits"], [[24 * np.log(2)]], rtol=1e-6)
    model.layers[-1].bias.assign([-200.0])
    (path,) = export_saved_models(model, tmp_path, [RK4(1.0)], (X, np.ones(len(X), int)), **CHECK)
    answer = served(path)(X[:1])
    np.testing.assert_array_equal(answer["probabilities"], [[1.0, 0.0]])
    np.testing.assert_allclose(answer["logits"], [[-126 * np.log(2)]], rtol=1e-6)


def test_a_single_logit(tmp_path):
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model = classifier(RK4(1.0), outputs=1, loss=loss)
    y = np.zeros(len(X), int)
    (path,) = export_saved_models(model, tmp_path, [RK4(1.0)], (X, y), **CHECK)
    answer = served(path)(X)
    np.testing.assert_allclose(answer["logits"], model(X), rtol=1e-5, atol=1e-6)
    p = 1 / (1 + np.exp(-np.array(model(X))))
    np.testing.assert_allclose(answer["probabilities"], np.hstack([1 - p, p]), rtol=1e-5)


def test_several_inputs_keep_their_names(tmp_path):
    left, right = keras.Input((1,), name="left"), keras.Input((1,), name="right")
    z = tfnode.ODEBlock(keras.layers.Dense(2), RK4(1.0))(keras.layers.Concatenate()([left, right]))
    model = keras.Model({"right": right, "left": left}, keras.layers.Dense(3)(z), name="two")
    x = {"left": X[:, :1], "right": X[:, 1:]}
    y = np.argmax(model(x), axis=-1)
    (path,) = export_saved_models(model, tmp_path, [RK4(1.0)], (x, y), **CHECK)
    function = tf.saved_model.load(str(path))
    answer = function.signatures["serving_default"](left=x["left"], right=x["right"])
    np.testing.assert_allclose(answer["logits"], model(x), rtol=1e-5, atol=1e-6)


# === Any Keras model ===
class Classifier(keras.Model):
    """A subclassed model, of which a subclass says what it takes and gives."""

    def __init__(self, take=lambda x: x, give=lambda logits: logits):
        super().__init__(name="subclassed")
        self.block = tfnode.ODEBlock(keras.layers.Dense(2, "tanh"), RK4(1.0))
        self.head, self.take, self.give = keras.layers.Dense(3), take, give

    def call(self, x):
        return self.give(self.head(self.block(self.take(x))))


def functional(names, outputs=None, as_dictionary=False, name="functional"):
    """A model in which every input has a part of its own."""
    inputs = [keras.Input((2,), name=name) for name in names]
    parts = [ops.tanh(k * tensor) for k, tensor in enumerate(inputs, 1)]
    z = tfnode.ODEBlock(keras.layers.Dense(2, "tanh"), RK4(1.0), name="ode")(sum(parts))
    given = keras.layers.Dense(3, name="head")(z) if outputs is None else outputs(z)
    taken = dict(zip(names, inputs)) if as_dictionary else inputs if len(inputs) > 1 else inputs[0]
    return keras.Model(taken, given, name=name)


def sequential(name):
    block = tfnode.ODEBlock(keras.layers.Dense(2, "tanh"), RK4(1.0))
    return keras.Sequential([keras.Input((2,), name=name), block, keras.layers.Dense(3)])


def dense(units, name):
    return keras.layers.Dense(units, name=name)


def twice(z):
    head = dense(3, "head")
    return [head(z), head(-z)]


# A model, its inputs, and their names in the signature, in the order of Keras.
KINDS = {
    "sequential": (lambda: sequential("point"), X, ["point"]),
    "subclassed, of a dictionary": (
        lambda: Classifier(lambda x: x["größe"] - x["class"]),
        {"größe": X, "class": 2 * X},
        ["input_class", "gr__e"],
    ),
    "subclassed, of a list": (
        lambda: Classifier(lambda x: x[0] - x[1]),
        [X, 2 * X],
        ["input_0", "input_1"],
    ),
    "a dictionary": (
        lambda: functional(["b", "a"], as_dictionary=True),
        {"b": X, "a": 2 * X},
        ["a", "b"],
    ),
    "a list, by names": (lambda: functional(["b", "a"]), {"a": 2 * X, "b": X}, ["b", "a"]),
    # Of two that differ in signs or in their case the one that fits keeps its name.
    "a list of names that do not fit": (
        lambda: functional(["a b", "a_b", "self", "x", "X", "1st", "日本"], name="x"),
        [k * X for k in range(1, 8)],
        ["a_b_2", "a_b", "input_self", "x", "X_2", "input_1st", "input___"],
    ),
}
# A model, and the names of its outputs in the signature, in the order of Keras.
OUTPUTS = {
    "one": (lambda: functional(["x"]), ["head"]),
    "a dictionary": (
        lambda: functional(["x"], lambda z: {"größe": dense(3, "a")(z), "def": dense(1, "b")(z)}),
        ["output_def", "gr__e"],
    ),
    "nested": (
        lambda: functional(["x"], lambda z: {"a": [dense(3, "b")(z), dense(2, "c")(z)]}),
        ["a_0", "a_1"],
    ),
    "a list": (
        lambda: functional(["x"], lambda z: [dense(3, "second")(z), dense(1, "first")(z)]),
        ["second", "first"],
    ),
    "one layer twice": (lambda: functional(["x"], twice), ["output_0", "output_1"]),
    "subclassed, one": (Classifier, ["output_0"]),
    "subclassed, a dictionary": (
        lambda: Classifier(give=lambda logits: {"b": logits, "a": -logits}),
        ["a", "b"],
    ),
    "subclassed, a list": (
        lambda: Classifier(give=lambda logits: (logits, -logits)),
        ["output_0", "output_1"],
    ),
}


def warmup_of(version):
    """The inputs of the last warm-up request; None without the package or the file."""
    pytest.importorskip("tensorflow_serving", reason="needs the extra `serving`")
    from tensorflow_serving.apis import prediction_log_pb2

    path = version / "assets.extra/tf_serving_warmup_requests"
    if not path.exists():
        return None
    *_, record = tf.data.TFRecordDataset(str(path))
    log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
    return {k: tf.make_ndarray(v) for k, v in log.predict_log.request.inputs.items()}


def asked(version, inputs):
    """What a loaded version answers."""
    loaded = tf.saved_model.load(str(version))
    tensors = {name: tf.constant(array) for name, array in inputs.items()}
    return {k: v.numpy() for k, v in loaded.signatures["serving_default"](**tensors).items()}


@pytest.mark.parametrize("kind", KINDS)
def test_any_model_is_judged_and_served(kind, tmp_path):
    make, x, names = KINDS[kind]
    model = make()
    expected = ops.convert_to_numpy(model(x))
    labels = expected.argmax(axis=-1)
    (path,) = export_saved_models(model, tmp_path, [RK4(1.0)], (x, labels), **CHECK)
    assert card(path)["is_valid"] is True
    assert card(path)["names"] == {"rk4_h1": "rk4_1_step"}
    assert list(card(path)["inputs"]) == names
    # The warm-up requests have the names of the signature, and the arrays in its order.
    inputs = warmup_of(path)
    assert inputs.keys() == set(names)
    answer = asked(path, inputs)
    np.testing.assert_allclose(answer["logits"], expected[:16], rtol=1e-5, atol=1e-6)
    assert answer.keys() == {"logits", "probabilities"}


class Table(keras.layers.Layer):
    """A table of TensorFlow's own."""

    def __init__(self):
        super().__init__()
        values = tf.lookup.KeyValueTensorInitializer(["a", "b"], np.array([1, 2]))
        self.table = tf.lookup.StaticHashTable(values, default_value=0)

    def call(self, x):
        return self.table.lookup(x)


# A layer with a vocabulary, and its inputs: two that it knows and one that it does not.
LOOKUPS = {
    "strings": (
        lambda: keras.layers.StringLookup(vocabulary=["a", "b"]),
        np.array([["a"], ["b"], ["c"]]),
    ),
    "integers": (
        lambda: keras.layers.IntegerLookup(vocabulary=[10, 20]),
        np.array([[10], [20], [7]]),
    ),
    "text": (
        lambda: keras.layers.TextVectorization(vocabulary=["a", "b"], output_sequence_length=2),
        np.array([["a"], ["b a"], ["c"]]),
    ),
    "TensorFlow's own": (Table, np.array([["a"], ["b"], ["c"]])),
}


@pytest.mark.parametrize("kind", LOOKUPS)
def test_a_model_with_a_vocabulary_is_served(kind, tmp_path):
    make, x = LOOKUPS[kind]
    inputs = keras.Input((1,), dtype="int64" if kind == "integers" else "string", name="word")
    embedded = keras.layers.Embedding(4, 3)(make()(inputs))
    z = tfnode.ODEBlock(keras.layers.Dense(3, "tanh"), RK4(1.0))(embedded)
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(z)))
    expected = model(tf.constant(x)).numpy()
    assert len(np.unique(expected, axis=0)) == 3
    data = (x, expected.argmax(axis=-1))
    (path,) = export_saved_models(model, tmp_path, [RK4(1.0)], data, **CHECK)
    inputs = warmup_of(path)
    assert inputs["word"].shape == (3, 1)
    np.testing.assert_allclose(asked(path, inputs)["logits"], expected, rtol=1e-5)
    # A weight lies there once.
    weights = tf.train.list_variables(str(path / "variables" / "variables"))
    assert [shape for _, shape in weights].count([4, 3]) == 1


@pytest.mark.parametrize("kind", OUTPUTS)
def test_names_of_outputs(kind):
    make, names = OUTPUTS[kind]
    model = make()
    expected = keras.tree.flatten(model(X))
    functional_model = served_model(model, RK4(1.0))
    assert list(outputs_of(functional_model)) == names
    for ours, theirs in zip(keras.tree.flatten(functional_model(X)), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("kind", ["a dictionary", "a list", "subclassed, a dictionary"])
def test_outputs_without_a_verdict_have_their_names(kind, tmp_path):
    make, names = OUTPUTS[kind]
    model = make()
    expected = keras.tree.map_structure(ops.convert_to_numpy, model(X))
    (path,) = export_saved_models(model, tmp_path, [RK4(1.0)])
    answer = asked(path, {next(iter(card(path)["inputs"])): X})
    assert answer.keys() == set(names)
    for name, array in zip(names, keras.tree.flatten(expected), strict=True):
        np.testing.assert_allclose(answer[name], array, rtol=1e-5, atol=1e-6)
    content = card(path)
    assert list(content["outputs"]) == names
    assert (content["is_valid"], content["verdict"], content["sweep"]) == (False, None, [])
    assert content["accuracies"] == {}
    assert "stable" not in (tmp_path / "models.config").read_text()
    assert warmup_of(path) is None


def test_several_outputs_with_data_have_warm_up_requests_and_no_verdict(tmp_path):
    model = OUTPUTS["a list"][0]()
    y = np.zeros(len(X), int)
    (path,) = export_saved_models(model, tmp_path, [RK4(1.0)], (X, [y, y]))
    np.testing.assert_array_equal(warmup_of(path)["x"], X[:16])
    assert card(path)["verdict"] is None
    for data in ((X, [y, y]), None):
        with pytest.raises(ValueError, match="A verdict is one on data, and on a class"):
            export_saved_models(model, tmp_path, [RK4(1.0)], data, require_valid=True)


@pytest.mark.parametrize("loss", ["mse", None])
def test_a_regression_with_data_has_warm_up_requests_and_no_verdict(loss, tmp_path, monkeypatch):
    model = classifier(RK4(1.0), outputs=1, loss=loss)
    data = X, np.linspace(0, 1, len(X))
    monkeypatch.setattr(validity, "check", None)
    (path,) = export_saved_models(model, tmp_path, [RK4(1.0)], data)
    np.testing.assert_array_equal(warmup_of(path)["point"], X[:16])
    assert (card(path)["is_valid"], card(path)["verdict"]) == (False, None)
    answer = asked(path, {"point": X})
    np.testing.assert_allclose(answer["head"], model(X), rtol=1e-5, atol=1e-6)


def test_a_row_that_fails_is_nan_in_every_output(tmp_path):
    model = functional(["x"], lambda z: {"a": dense(3, "b")(z), "c": ops.argmax(z, axis=-1)})
    solver = BogackiShampine32(1e-3, 1e-3, per_sample=True)
    (path,) = export_saved_models(model, tmp_path, [solver])
    answer = asked(path, {"x": np.array([[0.0, 1.0], [np.nan, 1.0]], "float32")})
    assert np.isfinite(answer["a"]).tolist() == [[True] * 3, [False] * 3]
    assert answer["c"].shape == (2,)


class Branching(Classifier):
    def call(self, x):
        return super().call(x if float(ops.sum(x)) > 0 else -x)


class Shifted(Classifier):
    def call(self, x, shift):
        return super().call(x + shift)


@pytest.mark.parametrize(
    "model, inputs, message",
    [
        (Classifier, (), "must have been called"),
        (Branching, (X,), "must have been called.* it runs on symbolic inputs"),
        (Shifted, (X, X), "must run on symbolic inputs.* shapes \\(40, 2\\), fails with TypeError"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_models_that_are_no_graph_are_refused_before_any_work(model, inputs, message, tmp_path):
    model = model()
    if inputs:
        model(*inputs)
    with pytest.raises(ValueError, match=f"(?s){message}"):
        export_saved_models(model, tmp_path / "base", [RK4(1.0)], (X, X[:, 0]), **CHECK)
    assert not (tmp_path / "base").exists()


# === What is refused ===
@pytest.mark.parametrize(
    "options, message",
    [
        ({"solvers": []}, "Received: solvers=\\[\\]"),
        ({"solvers": [Euler(0.5), "euler", Euler(0.5)]}, "'euler_h0p5' for Euler"),
        ({"solvers": [Euler(2.0)]}, "step_size=2.0"),
        ({"solvers": ["nonsense"]}, "solver='nonsense'"),
        ({"version": 0}, "Received: version=0"),
        ({"version": "1"}, "Received: version='1'"),
        ({"repository": "elsewhere"}, "with repository='elsewhere'"),
        ({"data": (X, X), "require_valid": True}, "Received: targets of a regression for model="),
        ({"data": (X[:0], np.zeros(0, int))}, "at least one sample"),
        ({"data": []}, "at least one sample"),
        ({"data": iter([(X, X[:, 0])])}, "an iterator, which ends"),
        ({"version": 2**63}, "from 1 to 9223372036854775807. Received: version=92233"),
        ({"model": keras.layers.Dense(1)}, "Received: model=<Dense"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_arguments_that_are_refused(options, message, tmp_path):
    model = classifier(RK4(1.0), outputs=2)
    arguments = {"model": model, "solvers": [Euler(1.0)], "data": (X, labels(model))}
    with pytest.raises(ValueError, match=message):
        export_saved_models(base=tmp_path / "base", **{**arguments, **options, **CHECK})
    assert not (tmp_path / "base").exists()


@pytest.mark.parametrize("dtype", ["float64", "mixed_bfloat16"])
def test_only_single_precision_is_served(dtype, tmp_path):
    model = classifier(RK4(1.0), dtype=dtype)
    with pytest.raises(ValueError, match=f"has the dtype policy '{dtype}'. Build the model"):
        export_saved_models(model, tmp_path, [RK4(1.0)], (X, np.zeros(40, int)), **CHECK)


@pytest.mark.parametrize(
    "outputs, activation, loss, message",
    [
        (3, "softmax", None, "which is not compiled, and outputs in"),
        (1, None, None, "which is not compiled, and outputs in"),
        (3, None, ["sparse_categorical_crossentropy"], "whose loss 'sparse_.*' takes prob"),
        (1, None, "binary_crossentropy", "whose loss 'binary_crossentropy' takes prob"),
    ],
)
def test_outputs_that_may_be_either(outputs, activation, loss, message, tmp_path):
    model = classifier(RK4(1.0), outputs=outputs, activation=activation, loss=loss)
    with pytest.raises(ValueError, match=message):
        export_saved_models(model, tmp_path, [RK4(1.0)], (X, np.zeros(40, int)), **CHECK)


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_base_that_cannot_be_written_to_is_refused_before_the_verdict(place, tmp_path):
    (tmp_path / "file").touch()
    model = classifier(RK4(1.0))
    # No labels: a verdict would fail.
    with pytest.raises(ValueError, match="`base` must be a directory that can be written to"):
        export_saved_models(model, tmp_path / place, [Euler(1.0)], (X, None), **CHECK)


def test_other_backends_have_no_saved_models(tmp_path, monkeypatch):
    model = classifier(RK4(1.0))
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(ValueError, match=r"KERAS_BACKEND='torch'\. Save weights instead"):
        export_saved_models(model, tmp_path, [RK4(1.0)], (X, np.zeros(40, int)), **CHECK)
