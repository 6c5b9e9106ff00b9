"""One judge for the verdict, the callbacks and export: what labels mean, the loss tells."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from frozen_models import by_hand

import tfnode
from tfnode import validity
from tfnode.callbacks.batches import endless_batches
from tfnode.models.judge import Judge, largest_gap, relative_distance
from tfnode.solvers import RK4, Euler

losses = keras.losses
RNG = np.random.default_rng(0)
N = 60
OUTPUTS = RNG.normal(size=(N, 3)).astype("float32")
REFERENCE = OUTPUTS + RNG.normal(scale=0.3, size=OUTPUTS.shape).astype("float32")
SIGNS = np.where(RNG.uniform(size=(N, 3)) > 0.4, OUTPUTS > 0, OUTPUTS < 0).astype("float32")
CLASSES = np.where(RNG.uniform(size=N) > 0.3, OUTPUTS.argmax(axis=1), 0)


def judge(loss, y, outputs=OUTPUTS, **options):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(outputs.shape[-1])])
    model.compile("sgd", loss)
    return Judge(model, y, outputs, **options)


def named(loss):
    return loss if isinstance(loss, str) else getattr(loss, "__name__", type(loss).__name__)


def sigmoid(z):
    return 1 / (1 + np.exp(-z.astype("float64")))


def own(y, p):
    """A loss of one's own, on logits."""
    return losses.binary_crossentropy(y, p, from_logits=True)


class Own(losses.Loss):
    """Another, of which nothing is known."""

    def call(self, y, p):
        return keras.ops.square(y - p)


# === What is right, and how far outputs lie apart ===
def test_classes_from_logits():
    found = judge(losses.SparseCategoricalCrossentropy(from_logits=True), CLASSES)
    assert found.accuracy(OUTPUTS) == (OUTPUTS.argmax(axis=1) == CLASSES).mean()
    p, q = (np.exp(o) / np.exp(o).sum(axis=1, keepdims=True) for o in (OUTPUTS, REFERENCE))
    expected = np.abs(p - q).sum(axis=1).mean() / 2
    assert found.change(OUTPUTS, REFERENCE) == pytest.approx(expected, rel=1e-6)


def test_labels_of_several_questions():
    found = judge(losses.BinaryCrossentropy(from_logits=True), SIGNS)
    assert found.accuracy(OUTPUTS) == pytest.approx(((OUTPUTS > 0) == (SIGNS > 0)).mean())
    expected = np.abs(sigmoid(OUTPUTS) - sigmoid(REFERENCE)).mean()
    assert found.change(OUTPUTS, REFERENCE) == pytest.approx(expected, rel=1e-6)
    # Probabilities lie on the other side of 1/2.
    found = judge("binary_crossentropy", SIGNS, sigmoid(OUTPUTS))
    assert found.accuracy(sigmoid(OUTPUTS)) == pytest.approx(((OUTPUTS > 0) == SIGNS).mean())


@pytest.mark.parametrize("loss", ["hinge", "squared_hinge", losses.Hinge()], ids=named)
@pytest.mark.parametrize("negative", [-1.0, 0.0])
def test_hinge_losses_take_signs(loss, negative):
    single, y = OUTPUTS[:, :1], np.where(SIGNS[:, :1] > 0, 1.0, negative)
    found = judge(loss, y, single)
    assert found.accuracy(single) == pytest.approx(((single > 0) == (y > 0)).mean())
    flips = ((single > 0) != (REFERENCE[:, :1] > 0)).mean()
    assert found.change(single, REFERENCE[:, :1]) == pytest.approx(flips)


def test_a_class_that_the_loss_ignores_does_not_count():
    y = np.where(np.arange(N) % 2, 255, CLASSES)
    loss = losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)
    found = judge(loss, y)
    assert found.accuracy(OUTPUTS) == (OUTPUTS.argmax(axis=1) == y)[y != 255].mean()
    with pytest.raises(ValueError, match=r"an answer that counts.*not all labels ignored"):
        judge(loss, np.full(N, 255))


def test_samples_count_by_their_weights():
    weights = RNG.uniform(size=N)
    loss = losses.SparseCategoricalCrossentropy(from_logits=True)
    found = judge(loss, CLASSES, weights=weights)
    right = OUTPUTS.argmax(axis=1) == CLASSES
    assert found.accuracy(OUTPUTS) == pytest.approx(np.average(right, weights=weights))
    with pytest.raises(ValueError, match=r"an answer that counts: not all sample weights are 0"):
        judge(loss, CLASSES, weights=np.zeros(N))
    for bad in (np.full(N, np.nan), -weights, np.full(N, 1e308)):
        with pytest.raises(ValueError, match=r"Sample weights must be finite and not negative"):
            judge(loss, CLASSES, weights=bad)


@pytest.mark.parametrize("loss", ["mse", losses.Huber(), own, Own()], ids=named)
def test_all_else_is_compared_by_its_outputs(loss):
    """A loss of one's own may take logits or probabilities; nobody can tell which."""
    single = OUTPUTS[:, :1]
    found = judge(loss, SIGNS[:, :1], single)
    assert (found.task, found.accuracy(single)) == ("regression", None)
    change = np.sqrt(((single - REFERENCE[:, :1]) ** 2).mean()) / REFERENCE[:, :1].std()
    assert found.change(single, REFERENCE[:, :1]) == pytest.approx(change, rel=1e-6)


def test_classes_under_a_loss_of_ones_own():
    found = judge(Own(), CLASSES)
    assert found.accuracy(OUTPUTS) == (OUTPUTS.argmax(axis=1) == CLASSES).mean()
    flips = (OUTPUTS.argmax(axis=1) != REFERENCE.argmax(axis=1)).mean()
    assert found.change(OUTPUTS, REFERENCE) == pytest.approx(flips)


def test_outputs_that_are_not_finite_are_no_agreement():
    bad = np.full_like(OUTPUTS, np.nan)
    for loss, y in (("mse", OUTPUTS), ("sparse_categorical_crossentropy", CLASSES)):
        assert np.isnan(judge(loss, y).change(bad, bad))
    assert judge("sparse_categorical_crossentropy", CLASSES).accuracy(bad) == 0


# === The callbacks ===
X = RNG.normal(size=(64, 2)).astype("float32")
Y = (X[:, 0] * X[:, 1] > 0).astype("int32")


def model(loss, outputs=2, **options):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((2,), name="x")
    z = tfnode.ODEBlock(keras.layers.Dense(2, "tanh"), Euler(1 / 4))(inputs)
    built = keras.Model(inputs, keras.layers.Dense(outputs)(z))
    built.compile(keras.optimizers.SGD(0.0), loss, **options)
    return built


SPARSE = losses.SparseCategoricalCrossentropy(from_logits=True)
MANY = np.stack([X[:, 0] > 0, X[:, 1] > 0, X[:, 0] > 1], 1).astype("float32")


@pytest.mark.parametrize(
    "loss, y",
    [
        (SPARSE, Y),
        (losses.BinaryCrossentropy(from_logits=True), MANY),
        ("hinge", 2.0 * Y[:, None] - 1),
        ("mse", X),
        (own, Y[:, None].astype("float32")),
    ],
    ids=["classes", "labels", "hinge", "regression", "own"],
)
def test_a_check_and_a_verdict_judge_alike(loss, y):
    built = model(loss, 2 if loss == SPARSE else np.shape(y)[-1])
    step_adaption = tfnode.StepAdaption((X, y), every=1, batch_size=64, initial_step_size=1 / 4)
    by_hand(built, step_adaption, 1)
    (record,) = step_adaption.history
    reference = tfnode.adaption.reference_solver(Euler(1 / 4))
    same = tfnode.with_solver(built, Euler(1 / 4))
    same.compile("sgd", loss)
    report = validity.check(same, (X, y), solvers=[reference], reference_steps=8, verbose=0)
    (row,) = [row for row in report.rows if row.step_size == reference.step_size]
    assert record["train_accuracy"] == pytest.approx(report.rows[0].accuracy)
    assert record["reference_accuracy"] == pytest.approx(row.accuracy)
    if report.task == "classification":
        assert record["gap"] == pytest.approx(row.gap)
    else:
        assert record["train_accuracy"] is None
        # One is over the spread under the better solver, the other over that of the training's.
        mine, better = (
            np.asarray(tfnode.with_solver(built, s)(X)) for s in (Euler(1 / 4), reference)
        )
        change = relative_distance(mine, better)
        assert record["gap"] == record["change"] == pytest.approx(change, rel=1e-4)
        assert row.gap == pytest.approx(relative_distance(better, mine), rel=1e-4)


def test_regression_that_is_bound_to_its_solver_shrinks_the_step():
    """One step of Euler's method takes x to -x, which no flow of a real eigenvalue does."""
    keras.utils.set_random_seed(0)
    block = tfnode.ODEBlock(keras.layers.Dense(2, use_bias=False), Euler(1.0), name="ode")
    built = keras.Sequential([keras.Input((2,)), block])
    block.field.set_weights([-2 * np.eye(2, dtype="float32")])
    built.compile(keras.optimizers.SGD(0.0), "mse")
    step_adaption = tfnode.StepAdaption((X, -X), every=1, batch_size=64, initial_step_size=1.0)
    built.fit(X, -X, batch_size=64, verbose=0, callbacks=[step_adaption])
    (record,) = step_adaption.history
    assert (record["action"], record["train_accuracy"]) == ("shrink", None)
    assert not validity.check(built, (X, -X), reference_steps=8, verbose=0).is_ode


class Begun(keras.callbacks.Callback):
    """Notes that a batch was begun."""

    def on_train_batch_begin(self, batch, logs=None):
        raise AssertionError("an iteration was begun")


def two_outputs():
    keras.utils.set_random_seed(1)
    inputs = keras.Input((2,))
    z = tfnode.ODEBlock(keras.layers.Dense(2))(inputs)
    layers = {name: keras.layers.Dense(2, name=name)(z) for name in "uv"}
    built = keras.Model(inputs, layers)
    built.compile("sgd", {"u": SPARSE, "v": SPARSE})
    return built


BOTH = {"u": Y, "v": Y}


@pytest.mark.parametrize(
    "built, data, message",
    [
        (two_outputs, (X, BOTH), "with one array of labels"),
        (two_outputs, [(X, BOTH)], "must have one output to be judged by"),
        (two_outputs, (X, Y), "must have one output to be judged by"),
        (lambda: model(SPARSE), ((X, Y), (X, Y)), "Pass batches as a list"),
        (lambda: model(SPARSE), (X, Y + 1), "Labels must be classes from 0 to 1"),
        (lambda: model(SPARSE), (X[:0], Y[:0]), "at least one sample"),
        (lambda: model(SPARSE), (X, Y, np.zeros(64)), "an answer that counts"),
        (lambda: model("mse"), (X, Y), "targets of a regression must have the shape"),
    ],
)
def test_what_cannot_be_judged_is_refused_before_the_first_iteration(built, data, message):
    built = built()
    y = BOTH if len(built.outputs) > 1 else X if built.loss == "mse" else Y
    with pytest.raises(ValueError, match=message):
        built.fit(X, y, verbose=0, callbacks=[tfnode.StepAdaption(data), Begun()])
    if "batch" not in message:
        with pytest.raises(ValueError, match=message):
            validity.check(built, data, reference_steps=8, verbose=0)


def adapted(built, data):
    built.fit(X, Y, verbose=0, callbacks=[tfnode.StepAdaption(data, every=1)])


@pytest.mark.parametrize(
    "judging, remedy",
    [
        (validity.sweep, 'pass task="regression"'),
        (validity.certify, 'call `check` with task="regression"'),
        (adapted, "compile the model with a loss for regression"),
    ],
)
def test_who_asks_can_follow_the_advice(judging, remedy):
    """Labels that are no classes come in the second batch."""
    with pytest.raises(ValueError, match=f"If the labels are not classes, {remedy}"):
        judging(model(SPARSE), [(X, Y), (X, Y + 1)])


# === Data in every form that fit takes ===
WEIGHTS = np.arange(64.0)
TWO = {"a": X, "b": X[:, :1]}


PAIR = [X, X[:, :1]]


def two_inputs(in_a=dict):
    keras.utils.set_random_seed(1)
    inputs = {"a": keras.Input((2,), name="a"), "b": keras.Input((1,), name="b")}
    together = keras.layers.Concatenate()(list(inputs.values()))
    z = tfnode.ODEBlock(keras.layers.Dense(3))(together)
    inputs = inputs if in_a is dict else list(inputs.values())
    built = keras.Model(inputs, keras.layers.Dense(2)(z))
    built.compile("sgd", SPARSE)
    return built


def two_in_a_list():
    return two_inputs(in_a=list)


def dataset(*parts):
    return tf.data.Dataset.from_tensor_slices(parts)


@pytest.mark.parametrize(
    "build, data",
    [
        (lambda: model(SPARSE), (X, Y, WEIGHTS)),
        (lambda: model(SPARSE), [(X[:32], Y[:32]), (X[32:], Y[32:])]),
        (lambda: model(SPARSE), dataset(X, Y, WEIGHTS).batch(32)),
        (lambda: model(SPARSE), (X, Y.tolist())),
        (two_inputs, (TWO, Y)),
        (two_inputs, dataset(TWO, Y).batch(32)),
        (two_in_a_list, (PAIR, Y, WEIGHTS)),
        (two_in_a_list, dataset(tuple(PAIR), Y).batch(32)),
    ],
    ids=[
        *("weights", "list", "weighted batches", "numbers", "dictionary"),
        *("batches of dictionaries", "a weighted list of two", "batches of pairs"),
    ],
)
def test_data_in_every_form(build, data):
    built = build()
    x = {dict: TWO, list: PAIR}.get(type(built.input), X)
    step_adaption = tfnode.StepAdaption(data, every=1, batch_size=32)
    by_hand(built, step_adaption, 2)
    assert len(step_adaption.history) == 2
    report = validity.check(built, data, reference_steps=8, verbose=0)
    assert report.num_samples == 64
    right = np.asarray(built(x)).argmax(axis=1) == Y
    weighted = len(getattr(data, "element_spec", data)) == 3
    expected = np.average(right, weights=WEIGHTS if weighted else None)
    assert report.rows[0].accuracy == pytest.approx(expected)


def test_no_check_rests_on_an_empty_batch_or_a_small_one():
    def stream():
        while True:
            yield X[:32], Y[:32]
            yield X[:0], Y[:0]
            yield X[32:40], Y[32:40]

    found = endless_batches(stream(), 128)
    sizes = [len(y) for (_, y, _), _ in zip(found, range(20))]
    assert sizes == [32] * 20
    # The joined rows come in their order, and none is lost.
    found = endless_batches([(X[:32], Y[:32]), (X[32:40], Y[32:40])], 128)
    drawn = np.concatenate([x for (x, _, _), _ in zip(found, range(5))])
    np.testing.assert_array_equal(drawn, np.concatenate([X[:40]] * 4))


@pytest.mark.parametrize("where", ["weights", "inputs", "labels"])
def test_a_model_that_says_nothing_is_no_ode(where, tmp_path):
    x, y = X.copy(), Y
    built = model("mse" if where == "labels" else SPARSE)
    if where == "weights":
        for weight in built.trainable_weights:
            weight.assign(np.full(weight.shape, np.nan))
    elif where == "inputs":
        x[:] = np.nan
    else:
        y = np.full((64, 2), np.nan)
    if where != "weights":
        with pytest.raises(ValueError, match=f"{where.title()} must be finite"):
            validity.check(built, (x, y), reference_steps=8, verbose=0)
        return
    report = validity.check(built, (x, y), reference_steps=8, verbose=0)
    assert (report.is_ode, report.gap) == (False, 1.0)
    options = {"require_valid": True, "reference_steps": 8, "verbose": 0}
    with pytest.raises(ValueError, match=r"must be an ODE|finite"):
        tfnode.export.export_saved_models(built, tmp_path, [RK4(1 / 4)], (x, y), **options)


class Once:
    """Batches of which only the first may be read."""

    def __init__(self, batch):
        self._batch = batch

    def __iter__(self):
        yield self._batch
        raise AssertionError("the second batch was read")


@pytest.mark.parametrize(
    "judging", [validity.check, validity.sweep, validity.convergence_test, validity.certify]
)
@pytest.mark.parametrize(
    "labels", [Y + 7, Y.astype(str), Y[:, None, None]], ids=["range", "kind", "shape"]
)
def test_labels_are_refused_before_anything_is_evaluated(judging, labels):
    with pytest.raises(ValueError, match=r"Labels must be .*Received: y"):
        judging(model(SPARSE), Once((X, labels)))


def with_one(value):
    x = X.copy()
    x[3, 1] = value
    return x


@pytest.mark.parametrize(
    "judging", [validity.check, validity.sweep, validity.convergence_test, validity.certify]
)
def test_inputs_that_are_not_finite_are_refused_before_anything_is_evaluated(judging):
    with pytest.raises(ValueError, match=r"x with 1 values .* 1 of the 64 .* the first batch"):
        judging(model(SPARSE), Once((with_one(np.nan), Y)))


def test_inputs_that_are_not_finite_are_refused_at_their_batch():
    data = [(X, Y), (X, Y), (with_one(np.inf), Y), None]
    with pytest.raises(ValueError, match=r"of the batch at index 2, whose outputs are not finite"):
        validity.sweep(model(SPARSE), data, ["rk4"], [1.0])


def test_inputs_that_a_model_masks_are_judged():
    inner = model(SPARSE)
    inputs = keras.Input((2,))
    built = keras.Model(inputs, inner(keras.ops.nan_to_num(inputs)))
    built.compile("sgd", SPARSE)
    (row,), (masked,) = (
        validity.sweep(judged, (x, Y), ["rk4"], [1.0])
        for judged, x in ((inner, with_one(0.0)), (built, with_one(np.nan)))
    )
    assert row.loss == pytest.approx(masked.loss, rel=1e-6)


def test_of_some_samples_none_may_count():
    """A first batch of ignored labels is no reason to refuse the data."""
    loss = losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)
    ignored, batch = (X[:4], np.full(4, 255)), (X, Y)
    judged = model(loss)
    rows = [validity.sweep(judged, data, ["rk4"], [1.0]) for data in ([ignored, batch], [batch])]
    assert rows[0][0].accuracy == rows[1][0].accuracy


# === Names that Keras's `compile` takes by the shapes, and what cannot be measured ===
def halves(labels, level, loss="ce"):
    """Answers that one step of Euler's method gives otherwise than a flow does."""
    inputs = keras.Input((len(level),))
    z = tfnode.ODEBlock(keras.layers.Rescaling(-1.0), Euler(1.0))(inputs)
    built = keras.Model(inputs, keras.layers.Rescaling(1.0, offset=level)(z))
    built.compile("adam", loss)
    return built, (np.ones((4, len(level)), "float32"), labels)


@pytest.mark.parametrize(
    "labels, level",
    [
        (np.zeros(4, int), [0.25]),
        (np.zeros((4, 1)), [0.25]),
        (np.zeros(4, int), [0.5, 0.25]),
        (np.zeros((4, 1), int), [0.5, 0.25]),
        (np.eye(2)[np.zeros(4, int)], [0.5, 0.25]),
    ],
    ids=["binary", "a column", "sparse", "a sparse column", "one-hot"],
)
def test_names_mean_what_they_mean_to_compile(labels, level):
    built, data = halves(labels, level)
    reports = [
        validity.check(built, data, metric=metric, reference_steps=8, verbose=0)
        for metric in (None, "accuracy", "acc")
    ]
    assert [report.measure for report in reports] == ["accuracy", "accuracy", "acc"]
    for report in reports[1:]:
        assert report.gap == reports[0].gap
        assert [row.metric for row in report.rows] == [row.accuracy for row in report.rows]
    assert reports[0].rows[0].loss == pytest.approx(
        built.evaluate(data[0], labels.reshape(len(labels), -1), verbose=0)
    )


def test_an_accuracy_by_its_name_sees_a_change_of_class():
    built, data = halves(np.zeros((4, 1)), [0.25], "binary_crossentropy")
    report = validity.check(built, data, metric="accuracy", reference_steps=8, verbose=0)
    assert (report.is_ode, report.gap) == (False, 1.0)


def failing(y_true, y_pred):
    raise RuntimeError("never")


@pytest.mark.parametrize("judging", [validity.check, validity.sweep])
@pytest.mark.parametrize(
    "loss, y, metric, message",
    [
        (SPARSE, Y, failing, "`metric` must take the labels .* Received: metric='failing'"),
        (failing, Y, None, "The loss of the model must take .* Received: loss='failing'"),
        ("mse", X, "accuracy", "of classes. Received: metric='accuracy' in a regression"),
    ],
    ids=["metric", "loss", "regression"],
)
def test_what_cannot_be_measured_is_refused_on_the_first_batch(judging, loss, y, metric, message):
    with pytest.raises(ValueError, match=message):
        judging(model(loss), Once((X, y)), metric=metric)


@pytest.mark.parametrize(
    "kind, y",
    [
        (losses.BinaryCrossentropy, SIGNS),
        (losses.Hinge, 2 * SIGNS - 1),
        (losses.MeanSquaredError, CLASSES[:, None].astype("float32")),
        (Own, SIGNS[:, :1]),
    ],
    ids=named,
)
@pytest.mark.parametrize("name", ["bce", "mean_hinge", "binary_crossentropy"])
def test_the_name_that_a_user_gives_a_loss_decides_nothing(kind, y, name):
    given = kind()
    given.name = name
    outputs = OUTPUTS[:, : y.shape[-1]]
    found, expected = judge(given, y, outputs), judge(kind(), y, outputs)
    for property_ in ("task", "has_labels", "threshold"):
        assert getattr(found, property_) == getattr(expected, property_)


def test_the_name_that_a_user_gives_a_metric_is_shown():
    found = judge("mse", OUTPUTS, metric=keras.metrics.MeanAbsoluteError(name="error"))
    assert found.metric_name == "error"


# === Weights, in every shape that fits ===
STEPS = RNG.normal(size=(8, 4, 3)).astype("float32")
BETTER = STEPS + RNG.normal(scale=0.3, size=STEPS.shape).astype("float32")
STEP_CLASSES = RNG.integers(0, 3, size=(8, 4))
COUNTS = RNG.uniform(size=(8, 4)) * (RNG.uniform(size=(8, 4)) > 0.3)


def scaled(y_true, y_pred):
    return keras.losses.mean_squared_error(y_true, y_pred)


@pytest.mark.parametrize("metric", ["mae", scaled], ids=named)
@pytest.mark.parametrize("loss", [losses.MeanSquaredError(), "mse", scaled], ids=named)
@pytest.mark.parametrize("shape", [(8,), (8, 1), (8, 4), (8, 4, 1)])
def test_weights_of_all_shapes_count_as_in_keras(loss, metric, shape):
    counts = COUNTS if len(shape) > 1 and shape[1] == 4 else COUNTS[:, :1]
    rows = np.broadcast_to(counts, (8, 4))
    found = judge(loss, BETTER, STEPS, weights=counts.reshape(shape), metric=metric)
    scores = found.scores(STEPS)
    squares = ((STEPS - BETTER) ** 2).mean(axis=-1)
    assert scores["loss"] == pytest.approx((squares * rows).mean(), rel=1e-5)
    values = squares if metric == scaled else np.abs(STEPS - BETTER).mean(axis=-1)
    assert scores["metric"] == pytest.approx(np.average(values, weights=rows), rel=1e-5)


@pytest.mark.parametrize("shape", [(8,), (8, 1), (8, 4), (8, 4, 1)])
def test_weights_of_all_shapes_count_for_the_classes(shape):
    counts = COUNTS if len(shape) > 1 and shape[1] == 4 else COUNTS[:, :1]
    found = judge(SPARSE, STEP_CLASSES, STEPS, weights=counts.reshape(shape))
    right = STEPS.argmax(axis=-1) == STEP_CLASSES
    assert found.accuracy(STEPS) == pytest.approx(
        np.average(right, weights=np.broadcast_to(counts, (8, 4)))
    )


def test_weights_count_for_each_of_several_labels():
    weights = RNG.uniform(size=N)
    found = judge("binary_crossentropy", SIGNS, sigmoid(OUTPUTS), weights=weights[:, None])
    right = ((OUTPUTS > 0) == (SIGNS > 0)).mean(axis=-1)
    assert found.accuracy(sigmoid(OUTPUTS)) == pytest.approx(np.average(right, weights=weights))


@pytest.mark.parametrize("shape", [(7,), (1, 4), (8, 3), (8, 4, 3), (8, 4, 1, 1), ()])
@pytest.mark.parametrize("loss, y", [("mse", STEPS), (SPARSE, STEP_CLASSES)], ids=named)
def test_weights_that_fit_no_answers_are_refused(loss, y, shape):
    with pytest.raises(ValueError, match=r"Sample weights must be one for .* Received: weights of"):
        judge(loss, y, STEPS, weights=np.ones(shape))


def test_a_distance_is_that_of_the_samples_that_count():
    found = judge("mse", STEPS, STEPS, weights=np.repeat([1.0, 0.0], [5, 3]))
    expected = judge("mse", STEPS[:5], STEPS[:5]).change(STEPS[:5], BETTER[:5])
    assert found.change(STEPS, BETTER) == pytest.approx(expected, rel=1e-12)
    # Twice the weight is twice the sample.
    double = judge("mse", STEPS, STEPS, weights=np.repeat([1.0, 2.0], [5, 3]))
    both = [np.concatenate([a, a[5:]]) for a in (STEPS, BETTER)]
    expected = judge("mse", both[0], both[0]).change(*both)
    assert double.change(STEPS, BETTER) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("scale", [1e-300, 1e-170, 1e-30, 1e200, 1e307])
@pytest.mark.parametrize(
    "weights", [None, np.repeat([1.0, 0.5], [5, 3])], ids=["alike", "weighted"]
)
def test_a_distance_depends_on_no_scale(scale, weights):
    found = judge("mse", STEPS, STEPS, weights=weights)
    base, better = STEPS.astype("float64"), BETTER.astype("float64")
    expected = found.distance(base, better)
    assert 0 < expected < 1
    assert found.distance(scale * base, scale * better) == pytest.approx(expected, rel=1e-9)
    assert found.distance(scale * base, scale * base) == 0


@pytest.mark.parametrize("scale", [1e-170, 1e200])
def test_a_verdict_depends_on_no_scale(scale):
    inputs = keras.Input((1,), dtype="float64")
    field = keras.layers.Rescaling(-1.0, dtype="float64")
    z = tfnode.ODEBlock(field, Euler(1 / 2), dtype="float64")(inputs)
    last = keras.layers.Dense(1, use_bias=False, dtype="float64")
    built = keras.Model(inputs, last(z))
    last.set_weights([np.array([[scale]])])
    x = np.linspace(0.5, 2, 8)[:, None]
    report = validity.check(built, (x, x), reference_steps=8, verbose=0, task="regression")
    # RK4 gives 1/e for Euler's 1/4; the unit is the spread of the outputs.
    expected = (np.exp(-1) - 1 / 4) / (1 / 4) * np.sqrt((x**2).mean()) / x.std()
    assert report.rows[-1].gap == pytest.approx(expected, rel=1e-3)
    assert not report.is_ode


@pytest.mark.parametrize("gaps", [[0.0, np.nan], [np.nan, 0.0], [0.5, np.nan, 0.1]])
def test_a_gap_that_is_not_a_number_is_the_largest(gaps):
    assert largest_gap(gaps) == np.inf


def test_what_does_not_count_is_no_gap_of_a_regression():
    """The last sample alone depends on the solver."""
    inputs = keras.Input((1,))
    built = keras.Model(inputs, tfnode.ODEBlock(Decay(), Euler(1 / 4))(inputs))
    built.compile("adam", "mse")
    x, y = np.array([[0.0], [1.0], [2.0], [9.0]]), np.zeros((4, 1))
    options = {"reference_steps": 8, "verbose": 0}
    assert validity.check(built, (x, y, None), **options).gap > 0.01
    assert validity.check(built, (x, y, np.array([1.0, 1.0, 1.0, 0.0])), **options).gap == 0


class Decay(keras.layers.Layer):
    def call(self, z):
        return keras.ops.where(z > 5, -3 * z, 0 * z)


def test_a_function_of_all_samples_takes_no_weights():
    def worst(y_true, y_pred):
        return keras.ops.max(keras.ops.abs(y_true - y_pred))

    report = validity.check(model("mse"), (X, X), metric=worst, reference_steps=8, verbose=0)
    assert report.measure == "worst"
    with pytest.raises(ValueError, match=r"`metric` must .* a number for every row of outputs"):
        validity.check(model("mse"), Once((X, X, np.ones(64))), metric=worst)


def test_weights_that_fit_no_answers_are_refused_before_anything_is_evaluated():
    with pytest.raises(ValueError, match="Sample weights must be one for each sample"):
        validity.check(model(SPARSE), Once((X, Y, np.ones((64, 2)))))


@pytest.mark.parametrize("loss, y", [(SPARSE, Y), ("mse", X)], ids=["classes", "regression"])
def test_a_check_on_a_batch_of_which_nothing_counts_is_left_out(loss, y):
    weights = np.ones(32)
    data = [(X[:32], y[:32], weights), (X[32:], y[32:], 0 * weights)]
    built = model(loss)
    step_adaption = tfnode.StepAdaption(data, every=1, initial_step_size=1 / 4)
    built.fit(X, y, batch_size=16, verbose=0, callbacks=[step_adaption])
    # The first batch was drawn to look at.
    assert [record["iteration"] for record in step_adaption.history] == [2, 4]
    assert np.isfinite(step_adaption.nfe_per_iteration_with_checks)


# === Masks ===
def fitted(built, data, **options):
    step_adaption = tfnode.StepAdaption(data, every=1, **options)
    built.fit(X, Y, batch_size=16, verbose=0, callbacks=[step_adaption])


def test_a_start_from_what_is_not_finite_is_refused():
    with pytest.raises(ValueError, match=r"x with 1 values .* of the first batch"):
        fitted(model(SPARSE), [(with_one(np.nan), Y)])
    built = model(SPARSE)
    for weight in built.trainable_weights:
        weight.assign(np.full(weight.shape, np.nan))
    with pytest.raises(ValueError, match=r"whose field is not finite .* NaN in the weights"):
        fitted(built, [(X, Y)])
    inputs = keras.Input((2,))
    built = keras.Model(inputs, built.layers[-2](keras.layers.Rescaling(np.nan)(inputs)))
    built.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"reached by states that are not finite"):
        fitted(built, [(X, X)])


@pytest.mark.parametrize("policy", ["paper", "damped"])
def test_a_check_on_inputs_that_are_not_finite_is_refused(policy):
    with pytest.raises(ValueError, match=r"x with 1 values .* of the batch at index 1"):
        fitted(model(SPARSE), [(X, Y), (with_one(np.nan), Y)], policy=policy)


FORMS = {"weights": np.ones(64), "a column": np.ones((64, 1)), "none": None}


@pytest.mark.parametrize("judging", [validity.sweep, adapted])
@pytest.mark.parametrize(
    "first, second, words",
    [
        ("weights", "a column", r"weights of shape \(64, 1\) after some of shape \(64,\)"),
        ("weights", "none", r"no weights after some of shape \(64,\)"),
        ("none", "weights", r"weights of shape \(64,\) after some without"),
    ],
)
def test_weights_of_other_forms_are_refused_at_their_batch(judging, first, second, words):
    def data():
        yield X, Y, FORMS[first]
        yield X, Y, FORMS[second]
        raise AssertionError("a third batch was asked for")

    with pytest.raises(ValueError, match=f"batches must be alike .* data with {words}. Give"):
        judging(model(SPARSE), data())


def test_batches_that_are_joined_must_be_alike():
    batch = lambda n, width: (np.ones((n, width)), np.ones(n))
    for widths in ((2, 3, 3), (2, 2, 3)):
        found = endless_batches(list(map(batch, (8, 3, 6), widths)), 8)
        next(found)
        if widths == (2, 3, 3):
            np.testing.assert_array_equal(next(found)[0], np.ones((8, 3)))
            continue
        with pytest.raises(
            ValueError, match=r"inputs of shape \(6, 3\) after some of shape \(3, 2\)"
        ):
            next(found)


def padded():
    """A model that is right at the first step of each sequence, but under Euler's method only.

    All others are padded, and right under any solver.
    """
    inputs = keras.Input((5,), dtype="int32")
    embedding = keras.layers.Embedding(2, 1, mask_zero=True)
    z = tfnode.ODEBlock(keras.layers.Rescaling(-1.0), Euler(1.0))(embedding(inputs))
    embedding.set_weights([np.array([[-5.0], [1.0]])])
    dense = keras.layers.Dense(2)
    built = keras.Model(inputs, dense(z))
    dense.set_weights([np.array([[10.0, 0.0]]), np.array([-2.5, 0.0])])
    built.compile(keras.optimizers.SGD(0.0), SPARSE, weighted_metrics=["accuracy"])
    x = np.zeros((4, 5), "int32")
    x[:, 0] = 1
    return built, (x, np.ones((4, 5), int))


@pytest.mark.parametrize("weights", [None, COUNTS[:4, :1] + np.ones(5)], ids=["alike", "weighted"])
def test_what_is_masked_does_not_count(weights):
    built, data = padded()
    data = (*data, weights)
    report = validity.check(built, data, metric="accuracy", reference_steps=8, verbose=0)
    loss, accuracy = built.evaluate(*data[:2], sample_weight=weights, verbose=0)
    first = report.rows[0]
    assert (first.accuracy, first.metric, accuracy, report.gap) == (1.0, 1.0, 1.0, 1.0)
    assert first.loss == pytest.approx(loss, rel=1e-5)


def test_a_check_in_training_leaves_out_what_is_masked():
    built, data = padded()
    step_adaption = tfnode.StepAdaption(data, every=1, batch_size=4, initial_step_size=1.0)
    built.fit(*data, batch_size=4, verbose=0, callbacks=[step_adaption])
    (record,) = step_adaption.history
    assert (record["train_accuracy"], record["gap"]) == (1.0, 1.0)


def test_a_mask_that_fits_no_answers_is_refused():
    with pytest.raises(ValueError, match=r"Masks must be one for each .* Received: mask of shape"):
        judge(SPARSE, STEP_CLASSES, STEPS, mask=np.ones((8, 3), bool))


@pytest.mark.parametrize("axis", ["outputs", "labels"])
def test_batches_of_other_lengths_are_refused_at_the_second(axis):
    inputs = keras.Input((None, 2))
    z = tfnode.ODEBlock(keras.layers.Dense(2, "tanh"), Euler(1 / 2))(inputs)
    built = keras.Model(inputs, z)
    built.compile("adam", SPARSE)

    def batches():
        for length in (3, 4):
            y = np.zeros((2, length if axis == "labels" else 3), int)
            yield np.ones((2, length if axis == "outputs" else 3, 2), "float32"), y
        raise AssertionError("a third batch was asked for")

    with pytest.raises(ValueError, match=rf"batches must be alike.*{axis} of shape \(2, 4"):
        validity.check(built, batches(), reference_steps=8, verbose=0)


def test_outputs_that_differ_by_their_rounding_alone_are_measured_by_their_size():
    """Samples of one direction, whose normalized states are one up to rounding."""
    inputs = keras.Input((3,))
    block = tfnode.ODEBlock(keras.layers.Rescaling(-1.0), RK4(1 / 8))
    built = keras.Model(inputs, keras.layers.UnitNormalization()(block(inputs)))
    x = np.arange(1, 30)[:, None] * np.array([[0.3, 0.7, 0.1]])
    outputs = np.asarray(built(x))
    assert 0 < outputs.std(axis=0).max() < 1e-6
    report = validity.check(built, (x, outputs), task="regression", reference_steps=16, verbose=0)
    assert report.is_ode
    assert report.gap < 1e-6
    assert relative_distance(np.array([[1], [3]]), np.array([[0], [2]])) == 1.0
    # A spread of many roundings counts.
    spread = np.float32([[1.0], [1.0 + 2.0**-14]])
    assert relative_distance(spread[::-1], spread) == pytest.approx(2.0)


@pytest.mark.parametrize("axes", [(), (1,)])
def test_smoothed_labels_of_yes_and_no(axes):
    soft = np.where(np.arange(8) % 2, 0.9, 0.1).reshape(8, *axes)
    outputs = np.float32(np.linspace(-1, 1, 8))[:, None]
    loss = losses.BinaryCrossentropy(from_logits=True)
    found = judge(loss, soft, outputs)
    assert found.labels.tolist() == (np.arange(8) % 2).tolist()
    hard = judge(loss, np.round(soft), outputs)
    assert found.is_right(outputs).tolist() == hard.is_right(outputs).tolist()
    with pytest.raises(ValueError, match=r"Labels must be classes from 0 to 1.* Received: "):
        judge(loss, soft + 0.2, outputs)
