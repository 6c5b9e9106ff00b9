"""Sweep, verdict, convergence and certificate, on linear models whose every number is known."""

import dataclasses
import itertools
import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from linear_models import FLOW, ORDERS, X, Y, growth, linear, predicted

import tfnode
import zoo
from tfnode import solvers, validity
from tfnode.models import digest, held_blocks, reached_blocks
from tfnode.solvers import RK4, DormandPrince, Euler, Heun, Midpoint
from tfnode.validity.trials import Trial, fine_trial, sweep_trials, training_trial


def expected_rows(methods, step_size, factors=(0.5, 0.75, 1.0, 1.5, 2.0)):
    """Solver, factor, steps, accuracy."""
    return [
        (m, f, math.ceil(1 / (f * step_size)), (predicted(ORDERS[m], f * step_size) == Y).mean())
        for m, f in itertools.product(methods, factors)
        if f * step_size <= 1
    ]


@pytest.mark.parametrize(
    ("solver", "methods"),
    [
        (Euler(1 / 2), ("Euler", "Midpoint", "RK4")),
        (Euler(1.0), ("Euler", "Midpoint", "RK4")),  # 1.5 and 2 are longer than the interval
        (Heun(1 / 4), ("Heun", "RK4")),
        (RK4(1 / 2), ("RK4",)),
    ],
    ids=str,
)
def test_the_sweep_of_the_paper(solver, methods):
    rows = validity.sweep(linear(solver), (X, Y))
    found = [(r.solver, r.factor, r.num_steps, r.accuracy) for r in rows]
    assert found == expected_rows(methods, solver.step_size)
    for row in rows:
        assert row.step_size == row.factor * solver.step_size
        stages = {"Euler": 1, "Midpoint": 2, "Heun": 2, "RK4": 4}[row.solver]
        assert row.nfe == stages * row.num_steps
        assert row.is_training == (row.solver == methods[0] and row.factor == 1)
        excess = growth(ORDERS[row.solver], row.step_size) * X[:, 0] - 0.25
        loss = np.log1p(np.exp(-2 * excess * (2 * Y - 1))).mean()
        assert row.loss == pytest.approx(loss, rel=1e-5)


def test_solvers_and_factors_of_ones_own():
    model = linear(Euler(1 / 4), compile=False)
    rows = validity.sweep(model, (X, Y), solvers=["midpoint", RK4(1 / 3)], factors=[2, 8])
    assert [(r.solver, r.factor, r.num_steps, r.loss) for r in rows] == [
        ("Midpoint", 2.0, 2, None),
        ("RK4", None, 3, None),
    ]


# The midpoint method at 1/2 changes most of the better solvers; at 1 it changes more, and is worse.
def test_the_report_to_the_last_number():
    report = validity.check(linear(Euler(1 / 2)), (X, Y))
    flow = (FLOW * X[:, 0] > 0.25).astype("int64")
    midpoint = predicted(2, 1 / 2)
    assert ((flow != Y).sum(), (midpoint != Y).sum(), (predicted(2, 1.0) != Y).sum()) == (3, 4, 5)
    assert (report.is_ode, report.gap, report.changed) == (False, 0.2, 0.2)
    assert report.class_gaps == {0: 0.4, 1: 0.0}
    assert (report.task, report.measure, report.num_samples) == ("classification", "accuracy", 20)
    assert report.reference_error < 1e-5
    own = report.rows[0]
    # A common factor of the state is a relative change of rms(X) / std(X).
    relative = abs(0.25 / FLOW - 1) * math.sqrt((X**2).mean()) / X.std()
    assert (own.is_training, own.gap, own.changed) == (True, 0.0, 0.0)
    assert own.error == pytest.approx(relative, rel=1e-4)
    last = report.rows[-1]
    assert (last.solver, last.num_steps, last.error, last.gap) == ("RK4", 256, 0.0, 0.15)
    assert report.loss_gap == max(abs(r.loss - own.loss) for r in report.rows if r.is_better)
    better = {(r.solver, r.factor) for r in report.rows if r.is_better}
    errors = {
        (m, f): abs(growth(ORDERS[m], f / 2) - FLOW) <= abs(0.25 - FLOW)
        for m, f in itertools.product(("Euler", "Midpoint", "RK4"), (0.5, 0.75, 1.0, 1.5, 2.0))
    }
    assert better == {key for key, smaller in errors.items() if smaller} | {("RK4", None)}
    assert ("Midpoint", 1.5) in better
    assert ("Midpoint", 2.0) not in better


def test_fewer_reference_steps():
    report = validity.check(linear(Euler(1 / 2)), (X, Y), reference_steps=8)
    assert (report.rows[-1].num_steps, report.rows[-1].step_size) == (8, 1 / 8)
    # RK4 at twice the step is a row of the sweep here.
    assert [(r.solver, r.num_steps) for r in report.rows].count(("RK4", 4)) == 1
    coarse, fine = growth(4, 1 / 4), growth(4, 1 / 8)
    scale = math.sqrt((X**2).mean()) / X.std()
    assert report.reference_error == pytest.approx(abs(coarse / fine - 1) * scale, rel=2e-2)


def test_no_step_is_tried_twice_for_the_rounding_of_a_weight():
    # 1/5 is rounded up in single precision, so that a quarter of it is above 1/20.
    report = validity.check(linear(RK4(1 / 5)), (X, Y), reference_steps=20)
    steps = [row.num_steps for row in report.rows]
    assert steps == [5, 10, 7, 4, 3, 20]
    assert report.rows[-1].step_size == float(np.float32(1 / 5)) / 4


@pytest.mark.parametrize(("threshold", "is_ode"), [(0.2, True), (0.1999, False)])
def test_a_gap_of_the_threshold_is_within_it(threshold, is_ode):
    for metric in (None, "accuracy"):
        report = validity.check(linear(Euler(1 / 2)), (X, Y), threshold, metric=metric)
        assert report.is_ode is is_ode


@pytest.mark.parametrize("count", [50, 100])
def test_the_accuracy_as_a_metric_is_the_accuracy(count):
    """One of the samples changes its class, which is just as much as may."""
    x, y = np.zeros((count, 1)), np.zeros(count, int)
    x[0] = 1
    model = linear(Euler(1 / 2))
    gaps = [validity.check(model, (x, y), 1 / count, metric=m).gap for m in (None, "accuracy")]
    assert gaps[0] == gaps[1]


@pytest.mark.parametrize("step", [0.7, 0.9, 0.3])
def test_a_method_of_the_same_order_at_the_same_step_counts(step):
    """Also where the weight that holds the step rounds it down."""
    inputs = keras.Input((1,))
    z = tfnode.ODEBlock(keras.layers.Rescaling(-4.0), Midpoint(step), t1=step)(inputs)
    model = keras.Model(inputs, keras.layers.Rescaling(1.0)(z))
    report = validity.check(model, (X, Y), solvers=[Heun(step)], reference_steps=8)
    assert [row.is_better for row in report.rows if row.solver == "Heun"] == [True]


def test_the_same_from_a_shuffled_dataset_with_a_remainder():
    model = linear(Euler(1 / 2))
    data = tf.data.Dataset.from_tensor_slices((X, Y)).shuffle(20, seed=1).batch(7)
    shuffled, arrays = validity.check(model, data), validity.check(model, (X, Y))
    for name in ("is_ode", "gap", "changed", "class_gaps", "num_samples"):
        assert getattr(shuffled, name) == getattr(arrays, name)
    for a, b in zip(shuffled.rows, arrays.rows, strict=True):
        assert (a.accuracy, a.gap, a.changed) == (b.accuracy, b.gap, b.changed)
        assert a.loss == pytest.approx(b.loss, rel=1e-6)


@pytest.mark.parametrize("compile", [True, False])
@pytest.mark.parametrize(
    "labels", [Y, Y[:, None], np.eye(2)[Y], Y.astype("uint8")], ids=["1d", "2d", "one-hot", "uint8"]
)
def test_kinds_of_labels(labels, compile):
    model = linear(Euler(1 / 2), compile=compile)
    if compile and labels.dtype == float:
        model.compile(loss=keras.losses.CategoricalCrossentropy(from_logits=True))
    report = validity.check(model, (X, labels))
    assert (report.task, report.gap, report.class_gaps) == ("classification", 0.2, {0: 0.4, 1: 0.0})
    assert (report.loss_gap is None) is not compile


@pytest.mark.parametrize("labels", [Y, Y[:, None].astype(float)], ids=["integers", "floats"])
def test_a_single_output(labels):
    model = linear(Euler(1 / 2), outputs=1)
    assert validity.check(model, (X, labels)).gap == 0.2
    # Not compiled it is a probability, and the threshold 1/2.
    shifted = linear(Euler(1 / 2), level=-0.25, outputs=1, compile=False)
    assert validity.check(shifted, (X, labels), task="classification").gap == 0.2


def test_an_output_in_a_dictionary_is_refused():
    model = linear(Euler(1 / 2))
    named = keras.Model(model.inputs, {"scores": model.output})
    with pytest.raises(ValueError, match=r"in no list or dictionary\. Received: a dict of 1"):
        validity.check(named, (X, Y))


def test_regression_is_judged_by_its_outputs():
    x = np.array([[-1.0], [1.0]])
    model = keras.Sequential([keras.Input((1,)), linear(Euler(1 / 2)).get_layer("ode")])
    report = validity.check(model, (x, x), threshold=0.1)
    assert (report.task, report.measure, report.changed, report.class_gaps) == (
        *("regression", "outputs"),
        *(None, None),
    )
    # The outputs are plus and minus the growth, of which the midpoint method at 3/4 has the largest
    # of those that are closer to the flow than Euler's at 1/2.
    assert report.gap == pytest.approx(growth(2, 3 / 4) / 0.25 - 1, rel=1e-5)
    assert not report.is_ode
    model.compile(loss="mse")
    rows = validity.sweep(model, (x, x), factors=(1,), metric="mae")
    assert [row.metric for row in rows] == pytest.approx(
        [1 - growth(order, 1 / 2) for order in (1, 2, 4)], rel=1e-5
    )
    report = validity.check(model, (x, x), metric=keras.metrics.MeanAbsoluteError(name="error"))
    assert report.measure == "error"
    assert report.gap == pytest.approx(growth(2, 3 / 4) - 0.25, rel=1e-5)


def test_the_loss_tells_the_task_before_the_labels():
    model = linear(Euler(1 / 2))
    model.compile(loss="mse")
    one_hot = np.eye(2)[Y]
    assert validity.check(model, (X, one_hot)).task == "regression"
    assert validity.check(model, (X, one_hot), task="classification").task == "classification"


@keras.saving.register_keras_serializable("tfnode_tests")
class Square(keras.layers.Layer):
    def call(self, z):
        return z * z


def test_a_flow_that_blows_up_is_no_ode():
    # From 2 the flow leaves the numbers at t = 1/2; one Euler step takes it to 6.
    inputs = keras.Input((1,))
    z = tfnode.ODEBlock(Square(), Euler(1.0))(inputs)
    model = keras.Model(inputs, keras.layers.Concatenate()([keras.layers.Rescaling(-1.0)(z), z]))
    report = validity.check(model, (2 * np.ones((3, 1)), np.ones(3, int)))
    assert (report.is_ode, report.gap, report.changed) == (False, 1.0, 1.0)
    plain = json.loads(report.to_json())
    assert plain["gap"] == 1.0
    assert plain["rows"][0]["error"] is None
    regression = validity.check(model, (2 * np.ones((3, 1)), np.ones((3, 2))), task="regression")
    assert (regression.is_ode, json.loads(regression.to_json())["gap"]) == (False, None)


class CountedLinear(keras.layers.Layer):
    calls = 0

    def call(self, z):
        type(self).calls += 1
        return -z


def test_the_model_is_untouched_and_each_method_traced_once():
    inputs = keras.Input((1,))
    z = tfnode.ODEBlock(CountedLinear(), Euler(1 / 2), name="ode")(inputs)
    model = keras.Model(inputs, z)
    model.compile(loss="mse")
    before = [w.numpy() for w in model.weights]
    calls = []
    for factors in [(1,), (0.25, 0.5, 0.75, 1, 1.5, 2)]:
        CountedLinear.calls = 0
        validity.sweep(model, (X, X), factors=factors)
        calls.append(CountedLinear.calls)
    assert calls[0] == calls[1] > 0
    assert model.get_layer("ode").solver == Euler(1 / 2)
    for weight, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight, value)
    assert model.compiled


def test_several_blocks_inputs_and_an_unrolled_one():
    inputs = {name: keras.Input((1,), name=name) for name in "ab"}
    field = keras.layers.Rescaling(-1.0)
    options = {"unroll": True, "gradient": "backprop"}
    a = tfnode.ODEBlock(field, Euler(1 / 2), **options)(inputs["a"])
    b = tfnode.ODEBlock(field, Euler(1 / 4), t1=2.0)(inputs["b"])
    model = keras.Model(inputs, keras.layers.Add()([a, b]))
    model.compile(loss="mse")
    rows = validity.sweep(model, ({"a": X, "b": 0 * X}, 0 * X), solvers=["midpoint"])
    # The steps of the first block, and of the second at half the step on twice the interval.
    assert [(r.factor, r.num_steps, r.nfe) for r in rows] == [
        (0.5, 4 + 16, 40),
        (0.75, 3 + 11, 28),
        (1.0, 2 + 8, 20),
        (1.5, 2 + 6, 16),
        (2.0, 1 + 4, 10),
    ]
    losses = [growth(2, f / 2) ** 2 * (X**2).mean() for f in (0.5, 0.75, 1, 1.5, 2)]
    assert [row.loss for row in rows] == pytest.approx(losses, rel=1e-5)


def test_adaptive_solvers_are_tried_at_tolerances_and_against_fine_rk4():
    model = linear(DormandPrince(rtol=1e-3, atol=1e-4))
    reached = reached_blocks(model, X)
    training = training_trial(model, reached)
    trials = sweep_trials(reached, training, None, None)
    assert [(t.factor, t.solvers[0].rtol, t.solvers[0].atol) for t in trials] == [
        (f, pytest.approx(f * 1e-3), pytest.approx(f * 1e-4)) for f in (0.1, 1.0, 10.0)
    ]
    assert trials[1] == training
    assert fine_trial(reached, training, 0.5, 256).solvers == (RK4(1 / 256),)
    with pytest.raises(ValueError, match="chooses its own steps"):
        sweep_trials(reached, training, ["rk4"], None)


def test_no_tolerance_is_tried_below_what_the_dtype_can_meet():
    model = linear(DormandPrince(rtol=1e-3, atol=5e-6))
    reached = reached_blocks(model, X)
    floor = reached[0].block.min_tolerance
    trials = sweep_trials(reached, training_trial(model, reached), None, None)
    assert [(t.solvers[0].rtol, t.solvers[0].atol) for t in trials] == [
        (pytest.approx(1e-4), floor),
        (pytest.approx(1e-3), pytest.approx(5e-6)),
        (pytest.approx(1e-2), pytest.approx(5e-5)),
    ]
    assert all(tfnode.with_solver(model, t.solvers[0]) for t in trials)
    at_floor = linear(DormandPrince(rtol=floor, atol=floor))
    reached = reached_blocks(at_floor, X)
    trials = sweep_trials(reached, training_trial(at_floor, reached), None, None)
    assert [t.factor for t in trials] == [1.0, 10.0]
    assert validity.check(at_floor, (X, Y), verbose=0).is_ode


@pytest.mark.parametrize(
    ("solver", "step_size"),
    [(Euler(1 / 8), 1 / 256), (RK4(1 / 8), 1 / 256), (RK4(1 / 128), 1 / 512)],
)
def test_the_reference_is_finer_than_everything_of_its_order(solver, step_size):
    model = linear(solver)
    training = Trial((solver,), 1.0)
    assert fine_trial(reached_blocks(model, X), training, 0.5, 256).solvers == (RK4(step_size),)


def test_progress_is_shown_on_demand(capsys):
    model = linear(Euler(1 / 2))
    validity.sweep(model, (X, Y))
    assert capsys.readouterr().out == ""
    validity.sweep(model, (X, Y), verbose=1)
    assert "15/15" in capsys.readouterr().out


def two_methods():
    inputs = keras.Input((1,))
    field = keras.layers.Rescaling(-1.0)
    return keras.Model(inputs, tfnode.ODEBlock(field, "rk4")(tfnode.ODEBlock(field)(inputs)))


def two_outputs():
    model = linear(Euler(1 / 2))
    return keras.Model(model.inputs, [*model.outputs, model.get_layer("ode").output])


def endless():
    return tf.data.Dataset.from_tensors((X, Y)).repeat()


@pytest.mark.parametrize(
    ("model", "data", "options", "message"),
    [
        (None, (X, Y + 6), {}, r"classes from 0 to 1.*in \[6, 7\].*belong together"),
        (None, (X, Y + 0.5), {}, r"classes from 0 to 1"),
        (None, (X, np.ones((20, 2))), {}, "or one-hot rows"),
        (None, (X, np.ones((20, 3))), {"task": "regression"}, "shape of the outputs"),
        (None, (X, Y[1:]), {}, r"same length.*lengths \[19, 20\]"),
        (None, (X[:0], Y[:0]), {}, "at least one sample"),
        (None, (X, Y, Y, Y), {}, r"a tuple `\(x, y\)` or"),
        (None, [X, Y], {}, "batch of type ndarray"),
        (None, endless, {}, "come to an end"),
        (None, (X, Y), {"task": "ranking"}, "task='ranking'"),
        (None, (X, Y), {"verbose": 2}, "verbose=2"),
        (None, (X, Y), {"reference_steps": 1}, "reference_steps=1"),
        (None, (X, Y), {"threshold": 2}, r"a number in \[0, 1\)\. Received: threshold=2"),
        (None, (X, Y), {"threshold": -0.1}, "threshold=-0.1"),
        (two_methods, (X, X), {}, "must have the same method"),
        (
            two_outputs,
            (X, Y),
            {},
            "must have one output to be judged by, in no .* Received: a list of 2",
        ),
        (
            lambda: keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)]),
            (X, X),
            {},
            "must have an `ODEBlock`.*without any block.*check_resnet",
        ),
        (lambda: keras.Sequential([tfnode.ODEBlock(Square())]), (X, X), {}, "must be built"),
    ],
)
def test_misuse(model, data, options, message):
    model = linear(Euler(1 / 2)) if model is None else model()
    with pytest.raises(ValueError, match=message) as error:
        validity.check(model, data() if callable(data) else data, **options)
    assert "Received: " in str(error.value)


def test_nothing_to_measure():
    model = keras.Sequential([keras.Input((1,)), linear(Euler(1 / 2)).get_layer("ode")])
    with pytest.raises(ValueError, match=r"needs something to measure.*Compile the model"):
        validity.sweep(model, (X, X))


@pytest.mark.parametrize("solver", [Euler(1 / 8), Midpoint(1 / 8), RK4(1 / 8)], ids=str)
def test_the_fitted_order_is_the_methods(solver):
    model = linear(solver, dtype="float64")
    result = validity.convergence_test(model, (X, Y))
    assert result.expected_order == solver.order
    assert result.order == pytest.approx(solver.order, abs=0.06)
    assert [row.num_steps for row in result.rows] == [1, 2, 4, 8, 16, 32, 64]
    assert not result.error_optimum_at_training_step
    for row in result.rows:
        change = abs(growth(solver.order, row.step_size) / FLOW - 1)
        error = change * math.sqrt((X**2).mean()) / X.std()
        assert row.error == pytest.approx(error, rel=2e-2)


def test_a_solver_bound_model_is_best_at_its_step():
    # Euler at 1/2 multiplies by 1/4, at 1 by -2, finer steps and the flow by less than 1/8.
    model = keras.Sequential([keras.Input((1,)), linear(Euler(1 / 2), rate=-3.0).get_layer("ode")])
    model.compile(loss="mse")
    bound = validity.convergence_test(model, (X, X / 4))
    assert (bound.rows[1].factor, bound.rows[1].loss) == (1.0, pytest.approx(0, abs=1e-12))
    assert bound.loss_optimum_at_training_step is True
    assert bound.error_optimum_at_training_step is False
    assert bound.reference_loss == pytest.approx((X**2).mean() * (math.exp(-3) - 0.25) ** 2)
    flow = validity.convergence_test(model, (X, X * math.exp(-3)))
    assert flow.loss_optimum_at_training_step is False
    uncompiled = keras.Sequential([keras.Input((1,)), model.layers[0]])
    assert validity.convergence_test(uncompiled, (X, X)).loss_optimum_at_training_step is None


@pytest.mark.parametrize("outputs", [1, 2])
def test_the_certificate_by_hand(outputs):
    certificate = validity.certify(linear(Euler(1 / 2), outputs=outputs), (X, Y))
    scale = outputs  # the lead is the difference of the two logits
    at_h, half, quarter = (growth(1, h) * X[:, 0] for h in (1 / 2, 1 / 4, 1 / 8))
    errors = np.maximum(2 * (half - at_h), half - at_h + 2 * (quarter - half))
    errors = np.maximum(errors, FLOW * X[:, 0] - at_h)
    margins = np.abs(at_h - 0.25)
    np.testing.assert_allclose(certificate.margins, scale * margins, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(certificate.errors, scale * errors, rtol=1e-4, atol=1e-6)
    certified = margins > 2 * errors
    assert certificate.certified == tuple(certified)
    assert certificate.fraction == certificate.accuracy == certified.mean() == 0.25
    assert certificate.num_samples == 20
    changed = (FLOW * X[:, 0] > 0.25) != Y
    assert changed.sum() == 3
    assert not (changed & certified).any()
    assert json.loads(certificate.to_json())["certified"] == certified.tolist()
    assert validity.Certificate.from_json(certificate.to_json()) == certificate


def test_what_does_not_count_is_not_certified_either():
    """As in `check`: the certified accuracy is a bound from below of that of better solvers."""
    weights = np.arange(20) % 3.0
    certificate = validity.certify(linear(Euler(1 / 2)), (X, Y, weights))
    alike = validity.certify(linear(Euler(1 / 2)), (X, Y))
    assert certificate.certified == alike.certified
    certified = np.array(alike.certified)
    assert certificate.fraction == pytest.approx((certified * weights).sum() / weights.sum())
    report = validity.check(linear(Euler(1 / 2)), (X, Y, weights))
    assert certificate.accuracy <= min(row.accuracy for row in report.rows if row.is_better)
    none = validity.certify(linear(Euler(1 / 2)), (X, 1 - Y, np.where(certified, 0.0, 1.0)))
    assert (none.fraction, none.accuracy, sum(none.certified)) == (0.0, 0.0, 5)


def test_a_twin_has_the_finest_step_of_each_block():
    z = inputs = keras.Input((1,))
    for h in (1 / 4, 1 / 550):
        z = tfnode.ODEBlock(keras.layers.Rescaling(-1.0), RK4(h))(z)
    model = keras.Model(inputs, z)
    report = validity.check(
        model, (X, X), task="regression", solvers=[RK4(1 / 600)], reference_steps=8
    )
    (row,) = (row for row in report.rows if row.step_size == 1 / 600)
    assert (report.is_ode, row.num_steps) == (True, 1200)


def test_a_threshold_of_no_accuracy_is_refused_before_the_work(monkeypatch):
    monkeypatch.setattr("tfnode.validity.verdict.evaluate", None)
    with pytest.raises(ValueError, match=r"threshold=1.5"):
        validity.check(linear(Euler(1 / 2)), (X, Y), threshold=1.5)


def test_outputs_that_are_not_finite_are_not_certified():
    certificate = validity.certify(with_nan_weights(), (np.ones((2, 2)), [0, 1]))
    assert certificate.certified == (False, False)
    assert certificate.accuracy == 0.0
    assert json.loads(certificate.to_json())["margins"] == [None, None]


def test_solutions_that_blow_up_are_not_certified():
    z = inputs = keras.Input((1,))
    for _ in range(3):
        z = tfnode.ODEBlock(Square(), Euler(1 / 8), t1=4.0)(z)
    model = keras.Model(inputs, keras.layers.Concatenate()([keras.layers.Rescaling(-1.0)(z), z]))
    certificate = validity.certify(model, (np.array([[1.0], [-0.1]]), [1, 0]))
    assert certificate.certified == (False, True)


class Hidden(keras.layers.Layer):
    """A field that is 0 at every multiple of 1/8, and 1 on average."""

    def call(self, t, z):
        return keras.ops.zeros_like(z) + 2 * keras.ops.sin(8 * math.pi * t) ** 2


def test_a_field_between_the_steps_is_not_missed():
    inputs = keras.Input((1,))
    z = tfnode.ODEBlock(Hidden(), Euler(1 / 2), time_dependent=True)(inputs)
    outputs = keras.layers.Rescaling(1.0, offset=0.5)(z)
    certificate = validity.certify(
        keras.Model(inputs, outputs), (np.array([[-0.75], [3.0]]), [0, 1])
    )
    # Euler changes nothing at 1/2, 1/4 and 1/8; the flow takes both states up by 1.
    np.testing.assert_allclose(certificate.margins, [0.75, 3.0], rtol=1e-6)
    np.testing.assert_allclose(certificate.errors, [1.0, 1.0], rtol=1e-5)
    assert certificate.certified == (False, True)


@pytest.mark.parametrize("function", [validity.certify, validity.convergence_test])
def test_what_halves_a_step_needs_one(function, monkeypatch):
    monkeypatch.setattr(tfnode.ODEBlock, "solver", property(lambda self: DormandPrince()))
    with pytest.raises(ValueError, match="needs a step size to halve"):
        function(linear(Euler(1 / 2)), (X, Y))


@pytest.mark.parametrize(
    ("gaps", "critical"),
    [
        ({1: 0.3, 2: 0.0, 4: 0.2, 8: 0.0}, (4, 8)),
        ({1: 0.0, 2: 0.0}, (None, 1)),
        ({1: 0.3, 2: 0.3}, (2, None)),
        ({1: 0.3, 2: 0.1}, (1, 2)),
        ({1: math.nan, 2: 0.0}, (1, 2)),
        ({1: 0.0, 2: math.nan}, (2, None)),
        ({1: math.inf, 2: 0.0}, (1, 2)),
    ],
)
def test_a_step_is_valid_if_every_finer_one_is(gaps, critical):
    assert validity.critical_step(gaps, threshold=0.1) == critical


# === No evidence is no agreement ===
@pytest.mark.parametrize(
    ("gaps", "threshold", "wrong"),
    [
        ({}, 0.1, "gaps"),
        ({"eight": 0.0}, 0.1, "gaps"),
        ({8: "large"}, 0.1, "gaps"),
        ({8: [0.0, 0.1]}, 0.1, "gaps"),
        ({1: -0.3, 2: -0.2, 4: 0.0}, 0.1, "gaps"),
        ({1: 0.0}, math.nan, "threshold"),
        ({1: 0.0}, math.inf, "threshold"),
        ({1: 0.0}, -0.1, "threshold"),
    ],
)
def test_a_critical_step_of_nothing_is_refused(gaps, threshold, wrong):
    with pytest.raises(ValueError, match=f"Received: {wrong}="):
        validity.critical_step(gaps, threshold)


def with_nan_weights():
    inputs = keras.Input((2,))
    outputs = keras.layers.Dense(2)(tfnode.ODEBlock(keras.layers.Dense(2, "tanh"))(inputs))
    model = keras.Model(inputs, outputs)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    for weight in model.trainable_weights:
        weight.assign(np.full(weight.shape, np.nan))
    return model


@pytest.mark.parametrize("metric", [None, "sparse_categorical_accuracy"])
@pytest.mark.parametrize("stop_early", [False, True])
def test_outputs_that_are_never_finite_are_no_ode(metric, stop_early):
    x, y = np.ones((8, 2)), np.arange(8) % 2
    report = validity.check(with_nan_weights(), (x, y), metric=metric, stop_early=stop_early)
    assert not report.is_ode
    assert report.gap == (1.0 if metric is None else math.inf)
    assert report.class_gaps == {0: 1.0, 1: 1.0}


def test_a_sample_that_is_not_finite_counts_as_a_gap():
    """Of four samples one leaves the numbers under every solver, and is right under none."""
    model = linear(RK4(1 / 8), rate=8.0)
    x = np.ones((4, 1))
    x[0] = 3e38
    report = validity.check(model, (x, np.ones(4, int)), task="classification")
    assert report.gap == 0.25
    assert report.class_gaps == {1: 0.25}


def test_a_loss_that_is_not_a_number_is_no_optimum():
    x, y = np.ones((8, 2)), np.arange(8) % 2
    result = validity.convergence_test(with_nan_weights(), (x, y))
    assert result.loss_optimum_at_training_step is None
    assert not result.error_optimum_at_training_step
    assert result.order is None


@pytest.mark.parametrize(
    "run",
    [
        lambda model: validity.sweep(model, (X, Y), solvers=[]),
        lambda model: validity.sweep(model, (X, Y), factors=[]),
        lambda model: validity.sweep(model, (X, Y), solvers=[RK4(5.0)]),
        lambda model: validity.sweep(model, (X, Y), solvers=["rk4"], factors=[100.0]),
        lambda model: validity.convergence_test(model, (X, Y), factors=[]),
        lambda model: validity.convergence_test(model, (X, Y), factors=[1.0]),
        lambda model: validity.convergence_test(model, (X, Y), factors=[64.0]),
        lambda model: validity.convergence_test(model, (X, Y), factors=[math.nan]),
        lambda model: validity.convergence_test(model, (X, Y), margin=math.nan),
        lambda model: validity.check(model, (X, X), threshold=math.inf, task="regression"),
        lambda model: validity.check(model, (X, X), threshold=math.nan, task="regression"),
    ],
)
def test_what_would_compare_with_nothing_is_refused(run):
    with pytest.raises(ValueError, match="Received: "):
        run(linear(Euler(1 / 2)))


@pytest.fixture(scope="module")
def landscape():
    x, y = tfnode.datasets.load("energy_landscape/three_minima", "test", as_numpy=True)
    return x[:500], y[:500]


@pytest.fixture(scope="module")
def trained():
    """Models of the energy landscape that were trained with 2 and 256 Euler steps, for seconds."""

    def train(num_steps, iterations):
        keras.utils.set_random_seed(0)
        model = zoo.get_model("energy_landscape", solver="euler", step_size=1 / num_steps)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(5e-3), loss, jit_compile=True, steps_per_execution=50)
        data = tfnode.datasets.load("energy_landscape/three_minima", "train", 128)
        model.fit(data.repeat().take(iterations), shuffle=False, verbose=0)
        return model

    return {2: train(2, 1000), 256: train(256, 150)}


@pytest.fixture(scope="module")
def reports(trained, landscape):
    return {num_steps: validity.check(model, landscape) for num_steps, model in trained.items()}


def test_a_small_step_is_an_ode(trained, landscape, reports):
    model, report = trained[256], reports[256]
    assert report.is_ode
    assert report.gap <= 0.005
    assert report.rows[0].accuracy > 0.45
    x, _ = landscape
    assert validity.crossings(model, x[:100]).count == 0


def test_a_large_step_is_none(trained, landscape, reports):
    model, report = trained[2], reports[2]
    assert not report.is_ode
    assert report.rows[0].accuracy > 0.7
    assert report.gap > 0.2
    assert validity.convergence_test(model, landscape).loss_optimum_at_training_step
    x, _ = landscape
    assert validity.crossings(model, x[:100]).count > 100


@pytest.mark.parametrize("num_steps", [2, 256])
def test_no_certified_sample_changes_its_class(trained, landscape, reports, num_steps):
    model, (x, _) = trained[num_steps], landscape
    certified = np.array(validity.certify(model, landscape).certified)
    own = np.argmax(model.predict(x, 1000, verbose=0), -1)
    rows = [row for row in reports[num_steps].rows if row.is_better]
    better_ones = [solvers.get(row.solver.lower(), row.step_size) for row in rows]
    twins = {}
    every = (*better_ones, RK4(1 / 100), RK4(1 / 1024), Midpoint(1 / 512))
    # One graph for each method, whose finest step is the bound of its loop.
    for solver in sorted(every, key=lambda solver: solver.step_size):
        if type(solver) not in twins:
            twins[type(solver)] = tfnode.with_solver(model, solver)
            twins[type(solver)].compile(jit_compile=False)
        held_blocks(twins[type(solver)])[0].solver = solver
        better = twins[type(solver)].predict(x, 1000, verbose=0)
        assert not (certified & (own != np.argmax(better, -1))).any()
    assert certified.mean() > 0.9 if num_steps == 256 else 0 < certified.mean() < 0.5


# === Reports ===
def test_a_report_is_read_from_what_it_wrote():
    for level in (0.25, 0.4):
        report = validity.check(linear(Euler(1.0), level), (X, Y), reference_steps=16, verbose=0)
        assert validity.ValidityReport.from_json(report.to_json()) == report
    # A gap that JSON cannot hold is infinite, one that there was none of is none.
    text = dataclasses.replace(report, gap=math.inf, class_gaps=None).to_json()
    read = validity.ValidityReport.from_json(text)
    assert (read.gap, read.class_gaps) == (math.inf, None)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"gap": 1, "class_gaps": null, "rows": [1]}'])
def test_what_is_not_a_report_is_refused(text):
    with pytest.raises(ValueError, match=r"ValidityReport.to_json` wrote. Received: "):
        validity.ValidityReport.from_json(text)


def test_further_solvers_are_rows_that_count():
    model = linear(Euler(1 / 2), level=0.36)
    further = [Heun(1 / 3), RK4(1 / 4), Euler(1.0)]
    report = validity.check(model, (X, Y), reference_steps=16, verbose=0, solvers=further)
    plain = validity.check(model, (X, Y), reference_steps=16, verbose=0)
    known = {(row.solver, row.step_size) for row in plain.rows}
    new = [row for row in report.rows if (row.solver, row.step_size) not in known]
    assert [(row.solver, row.step_size, row.is_better) for row in new] == [("Heun", 1 / 3, True)]
    assert report.rows[-2:] == plain.rows[-2:]
    assert report.digest == plain.digest


def test_a_check_may_end_with_the_solvers_that_refute():
    """At a level between Euler's solution and the flow's, every better solver tells."""
    model = linear(Euler(1.0), level=0.25)
    x, y = np.ones((4, 1)), np.zeros(4, int)
    whole = validity.check(model, (x, y), reference_steps=16, verbose=0)
    early = validity.check(model, (x, y), reference_steps=16, verbose=0, stop_early=True)
    assert (early.is_ode, early.gap) == (whole.is_ode, whole.gap) == (False, 1.0)
    assert (early.reference_error, early.rows[0].error) == (None, None)
    better = {(row.solver, row.step_size) for row in whole.rows[:-2] if row.is_better}
    assert {(row.solver, row.step_size) for row in early.rows} == better
    # One that they do not refute is judged as ever, on data that is read once.
    model = linear(RK4(1 / 4), level=0.25)
    batches = iter([(x, y), (x, 1 - y)])
    early = validity.check(model, batches, reference_steps=16, verbose=0, stop_early=True)
    assert early == validity.check(model, [(x, y), (x, 1 - y)], reference_steps=16, verbose=0)
    assert (early.is_ode, early.num_samples) == (True, 8)


def test_a_digest_is_that_of_weights_and_solver():
    model = linear(solvers.BogackiShampine32(1e-3, 1e-3))
    before = digest(model)
    model(X)
    model.get_layer("ode").adaption_memory.assign(np.ones(8))
    assert digest(model) == before == digest(linear(solvers.BogackiShampine32(1e-3, 1e-3)))
    model.get_layer("ode").rtol = 2e-3
    assert digest(model) != before
    model.get_layer("ode").rtol = 1e-3
    assert digest(model) == before
    model.get_layer("logits").set_weights([w + 1 for w in model.get_layer("logits").get_weights()])
    assert digest(model) != before
