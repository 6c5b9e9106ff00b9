"""The verdict on residual layers, of which small linear ones have every number known."""

import itertools
import math
import pathlib

import fences
import keras
import numpy as np
import pytest

import tfnode
from scripts.publishing import two_resnets
from tfnode import validity
from tfnode.models.residual import residual_model
from tfnode.tableaus import EULER, RK4
from tfnode.validity import check_resnet

X = np.linspace(-1, 1, 8, dtype="float32")[:, None]
SMOOTH = [0.1, 0.12, 0.14, 0.15]
ROUGH = [0.9, -0.4, 0.8, -0.5]


def linear(rates):
    """Layers `x -> x + rate * x`."""
    inputs = x = keras.Input((1,), name="x")
    for i, rate in enumerate(rates):
        kernel = keras.initializers.Constant(rate)
        x = keras.layers.Add(name=f"sum_{i}")(
            [x, keras.layers.Dense(1, use_bias=False, kernel_initializer=kernel)(x)]
        )
    return keras.Model(inputs, keras.layers.Rescaling(2.0)(x))


def solution(rates, tableau, step):
    """What a method makes of 1, with the rates interpolated, and the last one kept."""
    count, z = len(rates), 1.0
    field = lambda t, z: np.interp(t, range(count), rates) * z
    for t in np.arange(0, count, step):
        z = tfnode.integrate.runge_kutta.runge_kutta_step(field, t, z, step, tableau)
    return z


def checked(model, **options):
    options = {"task": "regression", "reference_steps": 8, "verbose": 0, **options}
    return check_resnet(model, (X, 2 * X), **options)


@pytest.fixture(scope="module")
def rough():
    return checked(linear(ROUGH))


@pytest.fixture(scope="module")
def smooth():
    return checked(linear(SMOOTH), threshold=0.06)


@pytest.mark.parametrize(("name", "rates"), [("smooth", SMOOTH), ("rough", ROUGH)])
def test_the_depth_is_halved_and_doubled(name, rates, request):
    report = request.getfixturevalue(name)
    own = math.prod(1 + rate for rate in rates)
    rows = (report.halved, 2, 2), (report.doubled, 8, 1 / 2)
    for row, depth, step in rows:
        assert (row.solver, row.num_steps, row.factor) == ("Euler", depth, step)
        # In units of the spread, which is that of all answers alike.
        gap = abs(solution(rates, EULER, step) / own - 1)
        assert row.gap == pytest.approx(gap, rel=1e-4)
    assert report.verdict.rows[0].num_steps == 4
    flow = report.verdict.rows[-1]
    gap = abs(solution(rates, RK4, flow.step_size) / own - 1)
    assert (flow.solver, flow.step_size) == ("RK4", 1 / 2)
    assert flow.gap == pytest.approx(gap, rel=1e-4)
    assert report.gap == max(row.gap for row in report.verdict.rows if row.is_better)


def test_the_verdict(smooth, rough):
    assert (smooth.is_ode, rough.is_ode) == (True, False)
    assert smooth.gap < 0.06 < rough.gap


@pytest.mark.parametrize(("name", "rates"), [("smooth", SMOOTH), ("rough", ROUGH)])
def test_the_stage_to_the_last_number(name, rates, request):
    (stage,) = request.getfixturevalue(name).stages
    assert (stage.start, stage.end, stage.depth) == ("x", "sum_3", 4)
    states = np.cumprod([1.0, *(1 + rate for rate in rates)])

    def changes(values):
        pairs = itertools.pairwise(values)
        return [abs(b - a) / math.sqrt((a**2 + b**2) / 2) for a, b in pairs]

    assert stage.weight_changes == pytest.approx(changes(rates), rel=1e-5)
    assert stage.residual_changes == pytest.approx(changes(np.diff(states)), rel=1e-5)
    assert stage.weight_rate == pytest.approx(4 * np.mean(changes(rates)), rel=1e-5)
    assert stage.residual_rate == pytest.approx(4 * np.mean(stage.residual_changes))
    ends = [solution(rates, RK4, 1 / 2)]
    way = abs(states[-1] - states[0])
    assert stage.distances[-1] == pytest.approx(abs(ends[0] - states[-1]) / way, rel=1e-4)
    assert len(stage.distances) == 4


def branch(x, width, shared=None):
    layers = shared or [keras.layers.Dense(width, "tanh"), keras.layers.Dense(width)]
    for layer in layers:
        x = layer(x)
    return x


def tiny(shared=False, depth=4, activation=None):
    """A classifier of residual layers, which share their weights or do not."""
    x = inputs = keras.Input((2,))
    x = keras.layers.Dense(8, name="stem")(x)
    layers = [keras.layers.Dense(8, "tanh"), keras.layers.Dense(8)] if shared else None
    for i in range(depth):
        x = keras.layers.Add(name=f"sum_{i}")([branch(x, 8, layers), x])
        if activation:
            x = keras.layers.Activation(activation, name=f"act_{i}")(x)
    model = keras.Model(inputs, keras.layers.Dense(3)(x))
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


@pytest.fixture(scope="module")
def reports():
    x = np.random.default_rng(0).normal(size=(32, 2)).astype("float32")
    data = [(x[:16], np.arange(16) % 3), (x[16:], np.arange(16) % 3)]
    keras.utils.set_random_seed(0)
    options = {"reference_steps": 2, "verbose": 0}
    return {s: check_resnet(tiny(s), data, **options) for s in (True, False)}


def test_frozen_layers_are_interpolated_as_the_others():
    inputs = y = keras.Input((3,))
    # With weights that are never trained between some that are.
    for i in range(3):
        normal = keras.layers.BatchNormalization(moving_mean_initializer="random_normal")(y)
        y = keras.layers.Add()([y, keras.layers.Dense(3, name=f"dense_{i}")(normal)])
    model = keras.Model(inputs, y)
    field = residual_model(model).stages[0].block.field
    z, found = np.ones((1, 3), "float32"), []
    for frozen in ([], [model.get_layer("dense_0")], [model.get_layer("dense_2")], [model]):
        for layer in frozen:
            layer.trainable = False
        found.append([np.asarray(field(np.float32(t), z)) for t in (0, 0.5, 1.75)])
        model.trainable = True
    np.testing.assert_array_equal(found[1:], [found[0]] * 3)


def test_shared_and_independent_weights(reports):
    (shared,), (independent,) = (reports[s].stages for s in (True, False))
    assert shared.weight_changes == (0.0,) * 3
    assert independent.weight_changes == pytest.approx([math.sqrt(2)] * 3, rel=0.15)
    assert independent.weight_rate == pytest.approx(4 * math.sqrt(2), rel=0.1)
    assert shared.residual_rate < 0.5 * independent.residual_rate
    assert shared.distances[-1] < independent.distances[-1]


def test_labels_batches_and_the_loss_of_the_model(reports):
    verdict = reports[True].verdict
    assert (verdict.task, verdict.measure, verdict.num_samples) == (
        "classification",
        "accuracy",
        32,
    )
    assert verdict.loss_gap is not None
    assert verdict.digest == tfnode.models.digest(tiny_of(0))


def tiny_of(seed):
    keras.utils.set_random_seed(seed)
    return tiny(True)


@pytest.mark.parametrize("activation", [None, "relu"])
def test_layers_are_found(activation):
    model = tiny(activation=activation)
    found = residual_model(model)
    kind = "act" if activation else "sum"
    assert [stage.names for stage in found.stages] == [("stem", *(f"{kind}_{i}" for i in range(4)))]
    x = np.random.default_rng(1).normal(size=(4, 2))
    np.testing.assert_allclose(found.model(x), model(x), rtol=1e-6, atol=1e-6)
    assert {id(v) for v in model.weights} <= {id(v) for v in found.model.weights}


def test_layers_that_are_named():
    class Layer(keras.layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.dense = keras.layers.Dense(4, "tanh")

        def build(self, shape):
            self.dense.build(shape)

        def call(self, x):
            return x + self.dense(x)

    layers = [keras.layers.Dense(4, name="stem"), *(Layer(name=f"layer_{i}") for i in range(3))]
    model = keras.Sequential([keras.Input((2,)), *layers, keras.layers.Dense(2)])
    with pytest.raises(ValueError, match=r"at least two residual layers .* Received: model"):
        residual_model(model)
    names = ["stem", "layer_0", "layer_1", "layer_2"]
    found = residual_model(model, names)
    assert [stage.names for stage in found.stages] == [tuple(names)]
    x = np.ones((1, 2))
    np.testing.assert_allclose(found.model(x), model(x), rtol=1e-6)
    with pytest.raises(ValueError, match=r"names of layers .* Received: states=\['layer_7'\]"):
        residual_model(model, [*names, "layer_7"])


def test_a_model_inside_a_model():
    inner = tiny()
    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.Softmax()(inner(inputs)))
    assert [len(stage.layers) for stage in residual_model(model).stages] == [4]


def test_one_of_the_applications():
    whole = keras.applications.ResNet50V2(weights=None, input_shape=(32, 32, 3), classes=4)
    assert [stage.names for stage in residual_model(whole).stages] == [
        tuple(f"conv{i}_block{k}_out" for k in range(1, depth + 2))
        for i, depth in ((3, 2), (4, 4), (5, 2))
    ]
    # A part, as to trace the whole takes long.
    start, end = (whole.get_layer(f"conv3_block{k}_out").output for k in (1, 3))
    part = keras.Model(start, end)
    x = np.random.default_rng(0).normal(size=(4, *start.shape[1:])).astype("float32")
    data = x, np.zeros_like(x)
    report = check_resnet(part, data, task="regression", reference_steps=2, verbose=0)
    (stage,) = report.stages
    # Random layers have nothing to do with each other.
    assert stage.weight_changes == pytest.approx([math.sqrt(2)], rel=0.01)
    assert not report.is_ode


@pytest.mark.parametrize("form", ["a dictionary", "integers"])
def test_inputs_are_those_that_the_model_takes(form):
    """Also where the first of the residual layers takes them."""
    model, x = linear(ROUGH), np.arange(-4, 4, dtype="int8")[:, None]
    if form == "a dictionary":
        model = keras.Model({"x": model.input}, model.output)
    options = {"task": "regression", "reference_steps": 8, "verbose": 0}
    report = check_resnet(model, ({"x": x} if form == "a dictionary" else x, 2.0 * x), **options)
    plain = check_resnet(linear(ROUGH), (x.astype("float32"), 2.0 * x), **options)
    assert (report.gap, report.stages) == (plain.gap, plain.stages)


def test_json_and_back(rough):
    again = validity.ResNetReport.from_json(rough.to_json())
    assert again == rough
    assert again.doubled == rough.doubled


def test_the_figure_holds_the_numbers(rough):
    depth, change, distance = rough.plot().axes
    assert depth.lines[0].get_xdata().tolist() == [2, 3, 4, 6, 8]
    assert len(depth.collections) == 1
    (stage,) = rough.stages
    assert change.lines[0].get_ydata().tolist() == list(stage.weight_changes)
    assert change.lines[1].get_ydata().tolist() == list(stage.residual_changes)
    assert distance.lines[0].get_ydata().tolist() == list(stage.distances)
    assert rough.plot("a title").get_suptitle() == "a title"


def around():
    """Something leads around the residual layers."""
    x = inputs = keras.Input((2,))
    for _ in range(2):
        x = x + keras.layers.Dense(2)(x)
    return keras.Model(inputs, keras.layers.Concatenate()([x, keras.layers.Dense(2)(inputs)]))


class Subclassed(keras.Model):
    def call(self, x):
        return x


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (around, "Nothing but the states"),
        (lambda: linear([0.1]), "at least two residual layers"),
        (Subclassed, "built"),
    ],
)
def test_models_that_are_refused(model, words):
    with pytest.raises(ValueError, match=rf"(?s){words}.* Received: .*model="):
        checked(model())


def test_a_model_without_a_graph_is_refused():
    model = Subclassed()
    model(X)
    with pytest.raises(ValueError, match=r"in a graph. Received: model="):
        checked(model)


# === The page ===
DOCS = pathlib.Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "is-my-resnet-an-ode.md").read_text(encoding="utf-8")


def test_the_python_of_the_page_runs():
    names = {}
    for code in fences.of("docs/is-my-resnet-an-ode.md", "python"):
        exec(code, names)
    assert [stage.depth for stage in names["report"].stages] == [4]


def test_the_command_of_the_page(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(two_resnets, "MODELS", {"alike": True})
    two_resnets.report(tmp_path, "a command", depth=2, epochs=1)
    made = {path.name for path in tmp_path.iterdir()}
    assert made == {"table.md", "alike.png", "alike.json"}
    assert "`.halved.accuracy`" in capsys.readouterr().out
