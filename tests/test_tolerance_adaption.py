"""`ToleranceAdaption` through `fit`, against the paper's rule written out once more."""

import dataclasses
import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from frozen_models import Notes, columns, rounded
from problems import CountingField

import tfnode
from tfnode import solvers
from tfnode.models import held_blocks

KEYS = (
    "iteration",
    "tolerance",
    "nfe",
    "train_accuracy",
    "reference_accuracy",
    "gap",
    "change",
    "action",
)
# Twenty states that decay by exp(-3); class 1 is predicted for those that end above `level`. At a
# fiftieth below exp(-3) these are half of them.
LENGTH = 3.0
X = np.linspace(0.5, 1.5, 21)[:-1, None]
ZEROS = np.zeros(20, "int64")
LEVEL = 0.98 * math.exp(-LENGTH)
# Ten epsilons of single precision.
FLOOR = 10 * 2.0**-23


def frozen(solver, t1=(LENGTH,), level=LEVEL, dtype="float32", **options):
    """A frozen model with a block for each `t1`, whose field `-z` counts what it runs."""
    field = CountingField()
    field.dtype_policy = keras.DTypePolicy(dtype)
    z = inputs = keras.Input((1,), dtype=dtype)
    for i, end in enumerate(t1):
        # Under backprop nothing runs twice.
        options_of_block = {"gradient": "backprop", "name": f"ode_{i}", "dtype": dtype}
        z = tfnode.ODEBlock(field, solver, t1=end, **options_of_block)(z)
    logits = keras.layers.Dense(2, name="logits", dtype=dtype)
    model = keras.Model(inputs, logits(z))
    logits.set_weights([np.array([[-1.0, 1.0]]), np.array([level, -level])])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.0), loss, **options)
    return model, field


def fit(model, callback, scales=(1, 1), more=()):
    """Trains an iteration on `X` times each of the scales, whose evaluations differ."""
    x = np.concatenate([scale * X for scale in scales]).astype(model.input.dtype)
    batches = tf.data.Dataset.from_tensor_slices((x, np.tile(ZEROS, len(scales)))).batch(20)
    return model.fit(batches, verbose=0, shuffle=False, callbacks=[callback, *more])


def evaluations_of_a_look(model):
    """Those of a forward pass on `X`, such as finds the blocks when training begins."""
    model(X.astype(model.input.dtype))
    return sum(block.nfe for block in held_blocks(model))


def started(model, **arguments):
    """A callback at the beginning of a training that does not come."""
    callback = tfnode.ToleranceAdaption((X, ZEROS), batch_size=20, **arguments)
    callback.set_model(model)
    callback.on_train_begin()
    return callback


def softmax(logits):
    e = np.exp(logits.astype("float64"))
    return e / e.sum(axis=-1, keepdims=True)


class Paper:
    """Supplement B.6 in plain words, on twins of a frozen model that run eagerly."""

    def __init__(self, model, dtype):
        self._model, self._dtype = model, dtype
        self._solver = held_blocks(model)[0].solver
        self._floor = FLOOR if dtype == "float32" else 10 * 2.0**-52
        self._round = rounded if dtype == "float32" else float
        self._known = {}
        # What the better solvers of the checks were asked for: tolerance and evaluations.
        self.references = []

    def run(self, method, tolerance, scale=1, training=False):
        """Logits, accuracy and evaluations."""
        key = (method, tolerance, scale, training)
        if key not in self._known:
            solver = method(tolerance, tolerance, per_sample=self._solver.per_sample)
            twin = tfnode.with_solver(self._model, solver)
            logits = np.asarray(twin((scale * X).astype(self._dtype), training=training))
            accuracy = float(np.mean(logits[:, 0] >= logits[:, 1]))
            self._known[key] = logits, accuracy, sum(block.nfe for block in held_blocks(twin))
        return self._known[key]

    def reference(self, tolerance, train_nfe):
        """Dormand-Prince at a fifth; or itself at a tenth, and again while it sees no more."""
        is_itself = isinstance(self._solver, solvers.DormandPrince)
        found, nfe = tolerance, 0
        while found > self._floor and nfe <= train_nfe:
            found = max(self._round(found / (10 if is_itself else 5)), self._floor)
            logits, accuracy, nfe = self.run(solvers.DormandPrince, found)
            self.references.append((found, nfe))
            if not is_itself:
                break
        return logits, accuracy

    def check(self, tolerance, recent):
        """The record of a check, without its iteration, and the next tolerance."""
        method = type(self._solver)
        logits, accuracy, nfe = self.run(method, tolerance)
        better_logits, better_accuracy = self.reference(tolerance, nfe)
        change = np.abs(softmax(logits) - softmax(better_logits)).sum(axis=-1).mean() / 2
        record = (tolerance, nfe, accuracy, better_accuracy, change)
        looser = self._round(1.1 * tolerance)
        # The accuracies are multiples of 1/20, and 0.1 between two of them is no gap.
        if abs(accuracy - better_accuracy) > 0.1 + 1e-9:
            return (*record, "shrink"), max(self._round(tolerance / 2), self._floor)
        was_constant = len(set(recent[-5:])) == 1
        if was_constant or abs(self.run(method, looser)[1] - better_accuracy) > 0.1 + 1e-9:
            return (*record, "keep"), tolerance
        return (*record, "grow"), looser

    def train(self, tolerance, scales, every):
        """The records, and evaluations, loss and resulting tolerance of each iteration."""
        records, evaluations, losses, tolerances = [], [], [], []
        tolerance = self._round(tolerance)
        for i, scale in enumerate(scales, 1):
            logits, _, nfe = self.run(type(self._solver), tolerance, scale, training=True)
            evaluations.append(nfe)
            losses.append(np.logaddexp(0, (logits[:, 1] - logits[:, 0]).astype("float64")).mean())
            if i % every == 0:
                record, tolerance = self.check(tolerance, evaluations)
                records.append((i, *record))
            tolerances.append(tolerance)
        return records, evaluations, losses, tolerances


@dataclasses.dataclass(frozen=True)
class Case:
    """A training, and what it must show: the actions, and the tolerances of better solvers."""

    solver: solvers.AdaptiveSolver
    initial: float
    scales: tuple
    actions: tuple
    factors: tuple
    length: float = LENGTH
    dtype: str = "float32"


CASES = {
    "fehlberg21": Case(solvers.Fehlberg21(per_sample=True), 1e-3, (1, 1), ("shrink",), (0.2,)),
    "bogacki_shampine32": Case(
        solvers.BogackiShampine32(per_sample=True),
        0.005,
        (1, 1, 50, 1, 1, 1, 1, 1, 1, 1, 1, 1),
        ("shrink", "shrink", "grow", "grow", "keep", "keep"),
        (0.2, 0.1, 0.05, 0.055, 0.0605, 0.0605),
        dtype="float64",
    ),
    # A gap at the looser tolerance, though the evaluations vary.
    "dormand_prince54": Case(
        solvers.DormandPrince(), 0.27, (1, 1, 50, 1), ("shrink", "keep"), (0.1, 0.05)
    ),
    # As many evaluations at 0.1 as at 1e-4; the same in all of the training, too.
    "short": Case(
        solvers.DormandPrince(per_sample=True),
        0.1,
        (1, 1),
        ("keep",),
        (0.1, 0.01, 1e-3, 1e-4),
        length=0.5,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_rule_is_that_of_the_paper(name):
    case = CASES[name]
    level = 0.98 * math.exp(-case.length)
    model, field = frozen(case.solver, (case.length,), level, case.dtype)
    callback = tfnode.ToleranceAdaption(
        (X.astype(case.dtype), ZEROS), every=2, initial_tolerance=case.initial, batch_size=20
    )
    notes, look = Notes(), evaluations_of_a_look(model)
    field.executions.assign(0)
    fit(model, callback, case.scales, more=[notes])
    executions = int(field.executions) - look

    paper = Paper(model, case.dtype)
    records, evaluations, losses, tolerances = paper.train(case.initial, case.scales, every=2)
    assert [tuple(record) for record in callback.history] == [KEYS] * len(records)
    for record, expected in zip(callback.history, records):
        gap = abs(record["train_accuracy"] - record["reference_accuracy"])
        assert record.pop("gap") == gap
        *numbers, action = record.values()
        assert numbers == pytest.approx(expected[:-1], rel=1e-5, abs=1e-6)
        assert action == expected[-1]
    # The case is what it is meant to be.
    assert columns(callback, "action") == [(action,) for action in case.actions]
    found = [tolerance / case.initial for tolerance, _ in paper.references]
    assert found == pytest.approx(case.factors, rel=1e-6)

    n = len(case.scales)
    assert callback.nfe_per_iteration == sum(evaluations) / n
    assert n * callback.nfe_per_iteration_with_checks == executions
    assert [logs["nfe"] for logs in notes.logs] == evaluations
    assert [logs["tolerance"] for logs in notes.logs] == pytest.approx(tolerances, rel=1e-7)
    gaps = np.repeat([math.nan, *(abs(r[3] - r[4]) for r in records)], 2)
    found = [logs["accuracy_gap"] for logs in notes.logs]
    assert found == pytest.approx(gaps[1 : n + 1], abs=1e-6, nan_ok=True)
    # Each iteration was trained at the tolerance in force; `fit` logs the mean up to here.
    means = np.cumsum(losses) / np.arange(1, n + 1)
    assert [logs["loss"] for logs in notes.logs] == pytest.approx(means, rel=1e-5)
    assert held_blocks(model)[0].solver.rtol == held_blocks(model)[0].solver.atol == tolerances[-1]


TFP = solvers.DormandPrince(1e-3, 1e-4)


@pytest.mark.parametrize(
    "solver, dtype, arguments, expected",
    [
        # The paper's start, 1e-6, is out of reach in single precision.
        (solvers.Fehlberg21(), "float32", {}, FLOOR),
        (TFP, "float32", {}, FLOOR),
        (TFP, "float32", {"initial_tolerance": 1e-9}, FLOOR),
        (TFP, "float32", {"initial_tolerance": 1e-3}, rounded(1e-3)),
        (TFP, "float32", {"initial_tolerance": 2.0}, 1.0),
        (TFP, "float64", {}, 1e-6),
        (solvers.Fehlberg21(), "float64", {"initial_tolerance": 1e-20}, 10 * 2.0**-52),
    ],
)
def test_the_first_tolerance(solver, dtype, arguments, expected):
    model, _ = frozen(solver, (1.0, 2.0), dtype=dtype)
    started(model, **arguments)
    for block in held_blocks(model):
        assert (block.solver.rtol, block.solver.atol) == (expected, expected)


def test_the_floor_and_a_second_fit(capfd):
    # Between what the pair 3(2) gives at the floor and what Dormand-Prince does.
    model, _ = frozen(solvers.BogackiShampine32(per_sample=True), level=0.0497862)
    ones = np.ones((20, 1), "float32")
    callback = tfnode.ToleranceAdaption((ones, ZEROS), every=1, initial_tolerance=2e-6, verbose=1)
    fit(model, callback, (1,))
    fit(model, callback, (1,))  # goes on from the present tolerance
    assert columns(callback, "tolerance", "train_accuracy", "reference_accuracy", "action") == [
        (rounded(2e-6), 1, 0, "shrink"),
        (FLOOR, 1, 0, "keep"),
    ]
    lines = [line for line in capfd.readouterr().out.splitlines() if line]
    assert lines == [
        "Iteration 1: ToleranceAdaption shrinks the tolerance from 2e-06 to 1.192e-06 (gap 1.000)."
    ]


def test_a_restored_callback_goes_on_as_the_first_one():
    case = CASES["bogacki_shampine32"]
    x, scales = X.astype("float64"), case.scales

    def new():
        return tfnode.ToleranceAdaption(
            (x, ZEROS), every=2, initial_tolerance=case.initial, batch_size=20
        )

    straight, first, second = new(), new(), new()
    fit(frozen(case.solver, dtype="float64")[0], straight, scales)
    model, _ = frozen(case.solver, dtype="float64")
    fit(model, first, scales[:5])
    second.set_state(json.loads(json.dumps(first.get_state())))
    fit(model, second, scales[5:])
    assert second.history == straight.history
    assert second.nfe_per_iteration == straight.nfe_per_iteration
    assert second.nfe_per_iteration_with_checks == straight.nfe_per_iteration_with_checks


def test_blocks_share_a_tolerance_and_a_check_waits_for_an_execution():
    solver = solvers.Fehlberg21(1e-2, 1e-3, per_sample=True)
    model, field = frozen(solver, (1.0, LENGTH - 1.0), steps_per_execution=2)
    callback = tfnode.ToleranceAdaption((X, ZEROS), 3, initial_tolerance=1e-3, batch_size=20)
    notes, look = Notes(), evaluations_of_a_look(model)
    field.executions.assign(0)
    fit(model, callback, (1, 50, 1, 1, 1, 1, 1, 50), more=[notes])
    assert columns(callback, "iteration", "tolerance", "action") == [
        (4, rounded(1e-3), "shrink"),
        (6, rounded(5e-4), "shrink"),
    ]
    for block in held_blocks(model):
        assert (block.solver.rtol, block.solver.atol) == (rounded(2.5e-4),) * 2
    # The mean of an execution of two iterations.
    nfe = [logs["nfe"] for logs in notes.logs]
    assert 2 * sum(nfe) == 8 * callback.nfe_per_iteration
    assert nfe[0] > nfe[1]  # for the larger states
    assert look + 8 * callback.nfe_per_iteration_with_checks == int(field.executions)


def test_a_loss_that_is_not_finite_stops_training():
    model, _ = frozen(solvers.Fehlberg21(per_sample=True), level=math.nan)
    callback = tfnode.ToleranceAdaption((X, ZEROS), every=1, initial_tolerance=1e-2)
    with pytest.raises(FloatingPointError, match=r"at iteration 1 with tolerance=0\.0099.*"):
        fit(model, callback)
    assert callback.history == []


# === What is refused ===
@pytest.mark.parametrize(
    "arguments",
    [
        {"every": 0},
        {"every": 2.5},
        {"threshold": -0.1},
        {"threshold": 1.0},
        {"threshold": math.nan},
        {"shrink": 1.0},
        {"growth": 1.0},
        {"initial_tolerance": 0.0},
        {"initial_tolerance": -1e-3},
        {"initial_tolerance": math.nan},
        {"initial_tolerance": math.inf},
        {"initial_tolerance": "auto"},
        {"batch_size": 0},
    ],
    ids=str,
)
def test_an_argument_that_is_not_valid_is_refused(arguments):
    with pytest.raises(ValueError, match="Received: "):
        tfnode.ToleranceAdaption((X, ZEROS), **arguments)


def model_of(*chosen):
    z = inputs = keras.Input((1,))
    for solver in chosen:
        z = tfnode.ODEBlock(keras.layers.Rescaling(-1.0), solver)(z)
    return keras.Model(inputs, keras.layers.Dense(2)(z))


@pytest.mark.parametrize(
    "chosen",
    [
        (),
        (solvers.Euler(),),
        (solvers.Fehlberg21(), solvers.Euler()),
        (solvers.Fehlberg21(), solvers.DormandPrince()),
    ],
    ids=["no block", "fixed steps", "mixed with fixed steps", "two methods"],
)
def test_a_model_without_one_adaptive_method_is_refused(chosen):
    with pytest.raises(ValueError, match="Received: model="):
        started(model_of(*chosen))


def test_data_that_no_check_can_use_is_refused():
    callback = tfnode.ToleranceAdaption([])
    callback.set_model(model_of(solvers.Fehlberg21()))
    with pytest.raises(ValueError, match="Received: data="):
        callback.on_train_begin()


def test_evaluations_of_batches_whose_gradients_are_accumulated():
    model, _ = frozen(solvers.BogackiShampine32())
    optimizer = keras.optimizers.SGD(0.0, gradient_accumulation_steps=4)
    model.compile(optimizer, model.loss, jit_compile=False)
    callback, notes = tfnode.ToleranceAdaption((X, ZEROS), 100, batch_size=20), Notes()
    fit(model, callback, scales=(1,) * 6, more=[notes])
    nfe = held_blocks(model)[0].nfe
    assert [logs["nfe"] for logs in notes.logs] == [nfe] * 6
    # One step of the optimizer took four batches, and two wait for the next.
    assert callback.nfe_per_iteration == 6 * nfe
