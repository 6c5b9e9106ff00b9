"""Adaptive integration against SciPy, counted evaluations, finite differences, and its failures."""

import dataclasses
import functools
import json
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from problems import LINEAR
from scipy.integrate import RK23, RK45, solve_ivp

import tfnode
from scripts.campaigns import detest
from tfnode import tableaus
from tfnode.integrate import adaptive, problems, tfp, walks
from tfnode.integrate.problems import Problem, Statistics
from tfnode.layers.given import Given
from tfnode.solvers import RK4, BogackiShampine32, DormandPrince, Fehlberg21

TFP = DormandPrince()
OURS = DormandPrince(per_sample=True)
BS32 = BogackiShampine32()
F21 = Fehlberg21()
SOLVERS = {
    "tfp": TFP,
    "dp54_per_sample": OURS,
    "bs32": BS32,
    "bs32_per_sample": BogackiShampine32(per_sample=True),
    "f21": F21,
    "f21_per_sample": Fehlberg21(per_sample=True),
}
every_solver = pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
# TFP's, ours with one step for the batch, ours with steps per sample.
every_loop = pytest.mark.parametrize("solver", [TFP, BS32, OURS], ids=["tfp", "bs32", "ours"])


class Field(keras.layers.Layer):
    """A function of `(t, z)` as a field."""

    def __init__(self, function, **kwargs):
        super().__init__(**kwargs)
        self.function = function

    def call(self, t, z):
        return self.function(t, z)


class CountedField(Field):
    """Adds one to a variable each time it runs, not each time it is traced."""

    def __init__(self, function, **kwargs):
        super().__init__(function, **kwargs)
        self.executions = tf.Variable(0, trainable=False)

    def call(self, t, z):
        self.executions.assign_add(1)
        return super().call(t, z)

    def count(self, function, *args):
        self.executions.assign(0)
        function(*args)
        return int(self.executions)


class Network(keras.layers.Layer):
    """A field `tanh(z w0) w1` with two weights."""

    def build(self, input_shape):
        width = input_shape[-1]
        self.w0 = self.add_weight(shape=(width, 8), initializer="glorot_normal", name="w0")
        self.w1 = self.add_weight(shape=(8, width), initializer="glorot_normal", name="w1")

    def call(self, z):
        return ops.matmul(ops.tanh(ops.matmul(z, self.w0)), self.w1)


def block_of(function, solver, t1=1.0, dtype="float64", **options):
    field = Field(function, dtype=dtype)
    return tfnode.ODEBlock(field, solver, t1=t1, time_dependent=True, dtype=dtype, **options)


def network_block(solver, dtype="float64", **options):
    return tfnode.ODEBlock(Network(dtype=dtype), solver, dtype=dtype, **options)


def states(num=5, units=2, dtype="float64"):
    return np.random.default_rng(0).normal(size=(num, units)).astype(dtype)


# === Accuracy ===
PROBLEMS = (*detest.A, *detest.B)
every_direction = pytest.mark.parametrize("direction", [1, -1], ids=["forwards", "backwards"])


class RK21(RK23):
    """Fehlberg's pair under SciPy's controller."""

    order, error_estimator_order, n_stages = 2, 1, 3
    A = np.array([[0, 0, 0], [1 / 2, 0, 0], [1 / 256, 255 / 256, 0]])
    B, C = np.array(tableaus.FEHLBERG21.b), np.array(tableaus.FEHLBERG21.c)
    E = np.array([*tableaus.FEHLBERG21.b_error, 0])


SCIPY = {"tfp": RK45, "dp54_per_sample": RK45, "bs32": RK23, "f21": RK21}


class DetestField(keras.layers.Layer):
    """All the problems as one field, of which a variable picks one: they share one trace.

    The state has six components: the one, two or three of a problem, over and over. That leaves
    root mean squares as they are.
    """

    def __init__(self, direction):
        super().__init__(dtype="float64")
        self.index = tf.Variable(0, trainable=False)

        def branch(problem):
            num = len(problem.start)
            field = problem.field(ops, direction)
            return lambda t, y: ops.tile(field(t, y[..., :num]), (1, 6 // num))

        branches = [branch(problem) for problem in PROBLEMS]
        self.function = tf.function(lambda t, y: ops.switch(self.index, branches, t, y))

    def call(self, t, y):
        return self.function(t, y)


class DetestSolver:
    """One of our solvers, traced once for every problem and tolerance."""

    def __init__(self, name, direction):
        self.solver = dataclasses.replace(SOLVERS[name], max_num_steps=2000)
        self.direction = direction
        self.field = DetestField(direction)
        self.block = tfnode.ODEBlock(
            self.field, self.solver, t1=20.0 * direction, time_dependent=True, dtype="float64"
        )
        self.block.build((1, 6))
        self.call = tf.function(self.block)
        self.solve = functools.cache(self._solve)

    def _solve(self, problem, tolerance):
        """Returns the solution at the end and the statistics."""
        self.field.index.assign(PROBLEMS.index(problem))
        self.block.rtol = self.block.atol = tolerance
        num = len(problem.start)
        z1 = self.call(tf.constant([problem.start * (6 // num)], tf.float64))
        return z1[0, :num].numpy(), self.block.statistics

    def first_step(self, problem, tolerance):
        tolerance, field = tf.constant(tolerance, tf.float64), problem.field(ops, self.direction)
        given = Problem(
            field, 0.0, (self.block.t1,), tolerance, tolerance, self.solver, problem.name
        )
        _, h = problems.first_step(given, tf.constant([problem.start], tf.float64))
        return h.numpy().item()


detest_solver = functools.cache(DetestSolver)


@functools.cache
def scipys(problem, direction, method, tolerance, **options):
    return solve_ivp(
        problem.field(np, direction),
        (0.0, direction * problem.t1),
        problem.start,
        method=method,
        rtol=tolerance,
        atol=tolerance,
        **options,
    )


def test_detest_is_what_the_paper_says():
    """Its closed forms and its first integrals, at the end of the interval."""
    y = {p.name: scipys(p, 1, "DOP853", 1e-12).y[:, -1] for p in detest.ALL}
    t, tight = 20.0, {"rel": 1e-9, "abs": 1e-10}
    assert y["A1"][0] == pytest.approx(np.exp(-t), **tight)
    assert y["A2"][0] == pytest.approx(1 / np.sqrt(1 + t), **tight)
    assert y["A3"][0] == pytest.approx(np.exp(np.sin(t)), **tight)
    assert y["A4"][0] == pytest.approx(20 / (1 + 19 * np.exp(-t / 4)), **tight)
    spiral = lambda t, y: np.log(np.hypot(t, y)) + np.arctan2(y, t)
    assert spiral(t, y["A5"][0]) == pytest.approx(spiral(0.0, 4.0), **tight)
    cycle = lambda y0, y1: y0 - np.log(y0) + 2 * (y1 - np.log(y1))
    assert cycle(*y["B1"]) == pytest.approx(cycle(1.0, 3.0), **tight)
    # Eigenvalues 0, -1 and -3, with parts 1, 1/2 and 1/2 at the start.
    decayed = 1 + np.exp(-t) / 2 + np.exp(-3 * t) / 2
    assert y["B2"][0] == pytest.approx(decayed, **tight)
    assert [sum(y["B2"]), sum(y["B3"])] == pytest.approx([3.0, 1.0], **tight)
    assert y["B3"][0] == pytest.approx(np.exp(-t), **tight)
    # A torus around the third axis: the distance from the circle of radius 2 is 1.
    assert np.hypot(np.hypot(*y["B4"][:2]) - 2, y["B4"][2]) == pytest.approx(1.0, **tight)
    energy = y["B5"][0] ** 2 + y["B5"][1] ** 2, 0.51 * y["B5"][0] ** 2 + y["B5"][2] ** 2
    assert energy == pytest.approx((1.0, 1.0), **tight)
    assert [sum(y["C1"]), sum(y["C2"])] == pytest.approx([1.0, 1.0], **tight)
    for size, name in ((10, "C3"), (51, "C4")):
        rates, waves = np.linalg.eigh(np.diag(np.full(size, -2.0)) + 2 * _neighbours(size))
        assert y[name] == pytest.approx(waves @ (np.exp(rates * t) * waves[0]), **tight)
    for i, eccentricity in enumerate((0.1, 0.3, 0.5, 0.7, 0.9), start=1):
        (x1, x2, v1, v2), loose = y[f"D{i}"], {"rel": 1e-8}
        assert (v1**2 + v2**2) / 2 - 1 / np.hypot(x1, x2) == pytest.approx(-0.5, **loose)
        assert x1 * v2 - x2 * v1 == pytest.approx(np.sqrt(1 - eccentricity**2), **loose)
    # Bessel's function of order 1/2, a fall with friction, and the pursuit of a line.
    assert y["E1"][0] == pytest.approx(np.sqrt(2 / np.pi / 21) * np.sin(21), **tight)
    assert y["E4"][1] == pytest.approx(np.sqrt(0.08) * np.tanh(np.sqrt(0.0128) * t), **tight)
    assert y["E5"][1] == pytest.approx(np.sinh(np.log(5)), **tight)


def _neighbours(size):
    """Half the sum of a vector's neighbours, as a matrix."""
    return (np.eye(size, k=1) + np.eye(size, k=-1)) / 2


# Backwards a problem is its mirror image, so that the tight tolerance is tried in one direction.
@pytest.mark.parametrize(
    ("name", "tolerances", "direction"),
    [
        ("tfp", (1e-6, 1e-9), 1),
        ("tfp", (1e-6,), -1),
        ("dp54_per_sample", (1e-6,), 1),
        ("dp54_per_sample", (1e-6, 1e-9), -1),
        ("bs32", (1e-6,), 1),
        ("bs32", (1e-6,), -1),
    ],
)
def test_detest_agrees_with_scipy_within_ten_tolerances(name, tolerances, direction):
    missed = []
    for tolerance in tolerances:
        for problem in PROBLEMS:
            # SciPy's solution backwards is that forwards: the problem is mirrored.
            expected = scipys(problem, 1, SCIPY[name], tolerance).y[:, -1]
            found, _ = detest_solver(name, direction).solve(problem, tolerance)
            error = np.abs(found - expected) / (tolerance + tolerance * np.abs(expected))
            if not np.all(error <= 10):
                missed.append((problem.name, tolerance, error.tolist()))
    assert missed == []


@pytest.mark.parametrize(
    ("name", "direction"), [("dp54_per_sample", 1), ("bs32", -1), ("f21", 1), ("f21", -1)]
)
def test_the_steps_are_those_of_scipys_controller(name, direction):
    """The very steps, given the same first one: accepted, rejected and evaluated."""
    tolerance = 1e-5
    for problem in PROBLEMS:
        ours = detest_solver(name, direction)
        found, statistics = ours.solve(problem, tolerance)
        first_step = ours.first_step(problem, tolerance)
        expected = scipys(problem, direction, SCIPY[name], tolerance, first_step=first_step)
        attempts = (expected.nfev - 1) // SCIPY[name].n_stages
        accepted = len(expected.t) - 1
        # SciPy evaluates once for the first step that it is given, we twice.
        assert statistics == Statistics(expected.nfev + 1, accepted, attempts - accepted), problem
        np.testing.assert_allclose(found, expected.y[:, -1], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(("name", "most"), [("dp54_per_sample", 1.01), ("tfp", 2.5)])
def test_detest_costs_what_the_docstring_says(name, most):
    """Evaluations over those of SciPy's, at equal tolerances and with each one's own first step."""
    tolerance, found, expected = 1e-6, 0, 0
    for problem in PROBLEMS:
        found += detest_solver(name, 1).solve(problem, tolerance)[1].evaluations
        expected += scipys(problem, 1, RK45, tolerance).nfev
    assert found <= most * expected


@pytest.mark.parametrize("solver", [TFP, F21], ids=["tfp", "f21"])
def test_the_error_is_proportional_to_the_tolerance(solver):
    # All the pairs estimate an error of the power of the step that their solutions' errors have.
    problem = dataclasses.replace(LINEAR, t1=10.0).backwards()
    block = tfnode.ODEBlock(
        problem.layer(dtype="float64"),
        dataclasses.replace(solver, max_num_steps=2000),
        t0=problem.t0,
        t1=problem.t1,
        time_dependent=True,
        dtype="float64",
    )
    call, z0, z1 = tf.function(block), problem.state(problem.t0), problem.state(problem.t1)
    block.build(z0.shape)
    tolerances, errors = np.logspace(-4, -7, 7), []
    for tolerance in tolerances:
        block.rtol = block.atol = tolerance
        errors.append(np.abs(call(z0) - z1).max())
    slope, _ = np.polyfit(np.log(tolerances), np.log(errors), 1)
    assert abs(slope - 1) < 0.1


def test_factor_is_hairers():
    norms = np.array([0.0, 1e-12, 0.5, 1.0, 2.0, 1e9, np.inf])
    expected = [10, 10, 0.9 * 0.5**-0.2, 0.9, 0.9 * 2**-0.2, 0.2, 0.2]
    np.testing.assert_allclose(adaptive.next_factor(tf.constant(norms), 5), expected, rtol=1e-12)


def given(function, solver, dtype="float32", t0=0.0, t1=1.0, rtol=0.1, atol=0.2):
    rtol, atol = tf.constant(rtol, dtype), tf.constant(atol, dtype)
    return Problem(function, t0, (t1,), rtol, atol, solver, "ode")


def test_the_norm_is_the_root_mean_square_over_the_tolerance():
    error = tf.constant([[0.3, -0.4], [0.0, 0.5]])
    z, z_new = tf.constant([[1.0, 2.0], [0.0, 3.0]]), tf.constant([[-1.0, 1.0], [0.0, -8.0]])
    scaled = np.array([[0.3 / 0.3, 0.4 / 0.4], [0.0, 0.5 / 1.0]])
    norm = given(None, BS32).norm(error, z, z_new)
    assert float(norm) == pytest.approx(np.sqrt((scaled**2).mean()))
    norms = given(None, BogackiShampine32(per_sample=True)).norm(error, z, z_new)
    np.testing.assert_allclose(norms, np.sqrt((scaled**2).mean(axis=1)), rtol=1e-6)


def test_the_first_step_is_hairers():
    # y' = -y from 1 with tolerances 1e-3: d0 = d1 = 500, h0 = 0.01, and f1 - f0 = 0.01.
    problem = given(lambda t, z: -z, BS32, "float64", rtol=1e-3, atol=1e-3)
    f0, h = problems.first_step(problem, tf.ones((1, 1), tf.float64))
    assert f0.numpy().tolist() == [[-1.0]]
    assert float(h) == pytest.approx((0.01 / 500) ** (1 / 4), rel=1e-12)


# === What it costs ===
def wakes(t, z):
    """Nearly asleep at first: the long steps of then are rejected later."""
    return -5 * z * ops.sigmoid(100 * (ops.cast(t, z.dtype) - 0.5))


# What finding the steps evaluates. Two evaluations are for the first step; the pairs that reuse
# the last stage need one less an attempt; TFP evaluates at the start and at the end once more.
SEARCH = {
    "tfp": lambda attempts: 2 + 2 + 6 * attempts,
    "dp54_per_sample": lambda attempts: 2 + 6 * attempts,
    "bs32": lambda attempts: 2 + 3 * attempts,
    "f21": lambda attempts: 2 + 3 * attempts,
}


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("tfp", "float32"),
        ("tfp", "float64"),
        ("dp54_per_sample", "float64"),
        ("bs32", "float32"),
        ("f21", "float64"),
    ],
)
def test_evaluations_are_counted_exactly(name, dtype):
    solver = SOLVERS[name].with_tolerance(1e-3)
    field = CountedField(wakes, dtype=dtype)
    block = tfnode.ODEBlock(field, solver, time_dependent=True, dtype=dtype)
    z0 = tf.ones((1, 1), dtype)
    block.build(z0.shape)
    call = tf.function(lambda z, training: block.call(z, training=training))

    executed = field.count(call, z0, False)
    accepted, rejected = block.statistics.accepted, block.statistics.rejected
    assert rejected > 0
    # TFP lands on t1 by one more step or, in double precision, by all.
    landing = 0 if name != "tfp" else 1 if dtype == "float32" else accepted
    assert executed == SEARCH[name](accepted + rejected) + 7 * landing
    assert block.statistics == Statistics(executed, accepted, rejected)
    assert (block.nfe, block.training_evaluations) == (executed, 0)

    executed = field.count(call, z0, True)
    replay = accepted * solver.tableau.num_stages
    assert executed == SEARCH[name](accepted + rejected) + replay
    assert block.statistics == Statistics(executed, accepted, rejected)
    assert (block.nfe, block.training_evaluations) == (executed, executed)


@pytest.mark.parametrize("name", ["tfp", "bs32"])
def test_evaluations_are_counted_in_eager_mode(name):
    field = CountedField(lambda t, z: -z, dtype="float32")
    block = tfnode.ODEBlock(field, SOLVERS[name].with_tolerance(1e-2), time_dependent=True)
    block.build((1, 1))
    executed = field.count(block, tf.ones((1, 1)))
    found = block.statistics
    assert found.evaluations == executed
    landing = 7 if name == "tfp" else 0
    assert executed == SEARCH[name](found.accepted + found.rejected) + landing


def test_statistics_per_sample_are_sums():
    block = block_of(lambda t, z: -(z**3), BogackiShampine32(per_sample=True))
    easy_and_hard = np.array([[0.1], [3.0]])
    block(easy_and_hard)
    together = block.statistics
    counts = []
    for row in easy_and_hard:
        block(row[None])
        counts.append(block.statistics)
    assert together == Statistics(
        evaluations=max(c.evaluations for c in counts),
        accepted=sum(c.accepted for c in counts),
        rejected=sum(c.rejected for c in counts),
    )
    assert counts[0].accepted < counts[1].accepted


def test_steps_per_sample_have_no_trajectory():
    block = block_of(lambda t, z: -z, OURS)
    with pytest.raises(ValueError, match="Received: per_sample=True"):
        block.trajectory(states(3))


@pytest.mark.parametrize("solver", [TFP, BS32, F21], ids=["tfp", "bs32", "f21"])
def test_trajectory(solver):
    t1 = -2.0
    block = block_of(lambda t, z: -z, solver.with_tolerance(1e-3), t1)
    z0 = states(3)
    z1 = block(z0)
    times, path = block.trajectory(z0)
    assert len(times) == len(path) == block.statistics.accepted + 1
    assert (float(times[0]), float(times[-1])) == (0.0, t1)
    assert np.all(np.diff(times) * np.sign(t1) > 0)
    np.testing.assert_allclose(path[-1], z1, rtol=1e-13)


def test_where_one_step_is_enough_one_is_taken():
    # TFP would start another one where a step lands on t1.
    block = block_of(lambda t, z: 1e-9 * z, TFP)
    block(np.ones((1, 1)))
    assert block.statistics == Statistics(2 + 2 + 6 + 7, accepted=1, rejected=0)


# === Samples of their own ===
@pytest.mark.parametrize(
    ("name", "t1"),
    [("dp54_per_sample", 1.5), ("bs32_per_sample", -1.5), ("f21_per_sample", 1.5)],
)
def test_an_answer_does_not_depend_on_its_batch_mates(name, t1):
    block = network_block(SOLVERS[name].with_tolerance(1e-2), t1=t1)
    x = tf.constant(4 * states(64))
    block.build(x.shape)
    call = tf.function(block, input_signature=[tf.TensorSpec((None, 2), tf.float64)])
    together = call(x)
    alone = tf.concat([call(x[i : i + 1]) for i in range(64)], axis=0)
    np.testing.assert_allclose(alone, together, rtol=1e-13, atol=1e-14)


def test_batch_mates_matter_where_steps_are_shared():
    """What `per_sample` is there for."""
    block = network_block(BS32.with_tolerance(1e-2))
    x = 4 * states(64)
    assert np.abs(block(x[:1])[0] - block(x)[0]).max() > 1e-6


def test_time_per_sample_has_the_shape_of_a_batch():
    seen = []

    def field(t, z):
        seen.append(tuple(t.shape))
        return t * z

    block = block_of(field, OURS)
    z1 = block(np.ones((3, 2)))
    assert set(seen[1:]) == {(3, 1)}
    np.testing.assert_allclose(z1, np.full((3, 2), np.exp(0.5)), rtol=1e-4)


def test_a_sample_that_has_arrived_waits_at_the_end():
    # A step of length 0 at the time 0 would be 0 times infinity.
    rates = ops.convert_to_tensor([[1.0], [20.0]], dtype="float64")
    field = Field(lambda t, z: -rates * z * ops.log(t), dtype="float64")
    block = tfnode.ODEBlock(field, OURS, t0=1.0, t1=2.0, time_dependent=True, dtype="float64")
    x = tf.ones((2, 1), tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(x)
        z1 = block(x, training=True)
    exact = np.exp(-rates * (2 * np.log(2) - 1))
    np.testing.assert_allclose(z1, exact, atol=1e-4)
    np.testing.assert_allclose(tape.gradient(z1, x), exact, atol=1e-4)


# === Gradients ===
def loss(z1):
    return tf.reduce_sum(tf.sin(z1))


def gradients(block, x):
    """The gradients of the loss by the input and the field's weights."""
    x = tf.constant(x)
    block.build(x.shape)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = loss(block(x, training=True))
    return tape.gradient(value, [x, *block.field.trainable_weights])


def differences(solve, weights, x, h=1e-3):
    """Pairs of directions and differences of the loss, of order 4, by the input and the weights."""
    rng = np.random.default_rng(1)

    def difference(move):
        near, far = (move(k * h) - move(-k * h) for k in (1, 2))
        return float(8 * near - far) / (12 * h)

    dx = rng.normal(size=x.shape)
    found = [(dx, difference(lambda h: loss(solve(tf.constant(x + h * dx)))))]
    for weight in weights:
        start, dw = np.array(weight), rng.normal(size=weight.shape)

        def moved(h, weight=weight, start=start, dw=dw):
            weight.assign(start + h * dw)
            return loss(solve(tf.constant(x)))

        found.append((dw, difference(moved)))
        weight.assign(start)
    return found


def check_gradients(found, expected, rtol):
    assert len(found) == len(expected) == 3
    for gradient, (direction, difference) in zip(found, expected):
        assert np.sum(gradient * direction) == pytest.approx(difference, rel=rtol)


def accepted_grid(block, x):
    """The steps that a block accepts, found without the block."""
    solver, field = block.solver, block.vector_field.with_given(Given()).function(False)
    tolerance = tf.constant(solver.rtol, tf.float64)
    problem = Problem(field, block.t0, (block.t1,), tolerance, tolerance, solver, "ode")
    if solver == TFP.with_tolerance(solver.rtol):
        return tfp.solve(problem, x, watch=None, lands=False).grid
    return adaptive.solve(problem, x).grid


@pytest.mark.parametrize("name", SOLVERS)
def test_gradients_against_finite_differences_of_the_accepted_steps(name):
    """What a gradient is: that of the discrete solution, its steps held fixed."""
    block, x = network_block(SOLVERS[name].with_tolerance(1e-3)), states(3)
    found = gradients(block, x)
    grid, tableau = accepted_grid(block, tf.constant(x)), block.solver.tableau
    field = block.vector_field.with_given(Given()).function(False)
    plain = lambda weights, constants, t, z: field(t, z)
    solve = lambda z: walks.solve(plain, z, grid, (tableau,))[0]
    check_gradients(found, differences(solve, block.field.trainable_weights, x), rtol=1e-9)


@pytest.mark.parametrize("name", ["tfp", "dp54_per_sample", "bs32"])
def test_gradients_against_finite_differences_of_the_adaptive_solve(name):
    # A tolerance so tight that what the differences move of the steps is not seen. Fehlberg's pair
    # has none: its error is far above the tolerance, as its estimate has a factor of 1/512.
    block, x = (
        network_block(SOLVERS[name].with_tolerance(1e-8 if name == "bs32" else 1e-9)),
        states(3),
    )
    found = gradients(block, x)
    expected = differences(tf.function(block), block.field.trainable_weights, x)
    check_gradients(found, expected, rtol=1e-6)
    if name == "tfp":
        options = {"gradient": "adjoint", "dtype": "float64"}
        by_adjoint = tfnode.ODEBlock(block.field, block.solver, **options)
        # The coefficients of TFP are rounded to single precision.
        check_gradients(gradients(by_adjoint, x), expected, rtol=1e-5)


@every_loop
def test_the_discrete_adjoint_is_backprop_on_the_accepted_steps(solver):
    x = states(6)
    block = network_block(solver.with_tolerance(1e-3))
    options = {"gradient": "backprop", "dtype": "float64"}
    by_backprop = tfnode.ODEBlock(block.field, block.solver, **options)
    for gradient, exact in zip(gradients(block, x), gradients(by_backprop, x)):
        np.testing.assert_allclose(gradient, exact, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("solver", [TFP, BS32], ids=["tfp", "bs32"])
def test_backprop_goes_through_the_accepted_steps_only(solver):
    field = CountedField(lambda t, z: -z, dtype="float64")
    block = tfnode.ODEBlock(
        field,
        solver.with_tolerance(1e-2),
        gradient="backprop",
        time_dependent=True,
        dtype="float64",
    )
    x = tf.ones((1, 1), tf.float64)

    def backpropagate():
        with tf.GradientTape() as tape:
            tape.watch(x)
            z1 = block(x, training=True)
        assert tape.gradient(z1, x) is not None

    assert field.count(backpropagate) == block.statistics.evaluations


@every_loop
def test_training_and_inference_give_the_same_answer(solver):
    block = network_block(solver.with_tolerance(1e-2))
    x = states(6)
    np.testing.assert_allclose(block(x, training=True), block(x), rtol=1e-13, atol=1e-14)


@every_loop
def test_inference_has_no_gradient(solver):
    block, x = network_block(solver.with_tolerance(1e-2)), tf.constant(states(2))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        inference, untold = block(x, training=False), block(x)
    assert tape.gradient(inference, x) is None
    # Who does not say that it is inference may have forgotten to say that it is training.
    for sources in (x, block.trainable_variables):
        with pytest.raises(LookupError, match="training=None for 'ode_block', and a gradient"):
            tape.gradient(untold, sources)


# === Failures ===
NAMED = r"solver={}.* max_num_steps=.*time=.*step=.*rtol=.*atol=.*evaluations=.*max_num_steps"


def as_pattern(solver):
    return "(?s)" + NAMED.format(type(solver).__name__)


def named_number(error, name):
    """A number in an error of a graph."""
    return float(re.search(rf"\[{name}=\] \[(.*?)\]", str(error.value))[1])


@every_solver
def test_a_solution_that_does_not_exist_is_an_error(solver):
    # z = 1 / (1 - t) has its pole at 1.
    block = block_of(lambda t, z: z * z, solver, t1=3.0)
    with pytest.raises(tf.errors.InvalidArgumentError, match=as_pattern(solver)) as error:
        tf.function(block)(tf.ones((2, 1), tf.float64))
    assert named_number(error, "time") == pytest.approx(1.0, abs=0.02)


@every_solver
def test_a_field_that_is_not_a_number_is_an_error(solver):
    block = block_of(lambda t, z: z * float("nan"), solver)
    with pytest.raises(FloatingPointError, match=as_pattern(solver)):
        block(np.ones((2, 1)))


@every_loop
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_an_input_that_is_not_finite_is_an_error(solver, bad):
    # The derivative is finite.
    block = block_of(lambda t, z: ops.ones_like(z), solver)
    with pytest.raises(FloatingPointError, match=as_pattern(solver)):
        block(np.array([[1.0], [bad]]))


@every_loop
def test_a_budget_is_spent_to_the_last_step(solver):
    field = lambda t, z: -z * z
    block = block_of(field, solver)
    x = np.ones((2, 1))
    z1 = block(x)
    # The samples are alike, so with steps per sample each took half.
    found = block.statistics
    steps = (found.accepted + found.rejected) // (2 if solver.per_sample else 1)
    enough = block_of(field, dataclasses.replace(solver, max_num_steps=steps))
    np.testing.assert_array_equal(enough(x), z1)
    less = block_of(field, dataclasses.replace(solver, max_num_steps=steps - 1))
    with pytest.raises(FloatingPointError, match=f"max_num_steps={steps - 1},"):
        less(x)


@every_loop
def test_a_step_into_where_the_field_is_no_number_is_rejected(solver):
    # Steps that are too long for z = exp(-50 t) overshoot to where there is no field.
    field = lambda t, z: ops.where(z > -0.1, -50 * z, float("nan"))
    block = block_of(field, solver.with_tolerance(1e-3), t1=2.0)
    z1 = tf.function(block)(tf.ones((1, 1), tf.float64))
    assert abs(float(z1[0, 0])) < 1e-3
    assert block.statistics.rejected > 0


@every_loop
def test_a_replay_that_is_not_finite_is_an_error(solver):
    # The field is no number from the first evaluation after those that find the steps.
    field = CountedField(lambda t, z: -z, dtype="float64")
    block = tfnode.ODEBlock(field, solver, time_dependent=True, dtype="float64")
    x = tf.ones((1, 1), tf.float64)
    block.build(x.shape)
    executed = field.count(lambda: block(x, training=True))
    search = executed - block.statistics.accepted * solver.tableau.num_stages
    field.function = lambda t, z: tf.where(field.executions > search, float("nan"), -z)
    field.executions.assign(0)
    with pytest.raises(FloatingPointError, match="must stay finite"):
        block(x, training=True)


def test_the_error_names_the_sample_that_failed():
    # The second sample has its pole at 1/2, when the first has come further.
    block = block_of(lambda t, z: z * z, OURS, t1=0.9)
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        tf.function(block)(tf.constant([[0.1], [2.0]], tf.float64))
    time, step = (
        float(str(error.value).split(f"[{name}=] [")[1].split("]")[0]) for name in ("time", "step")
    )
    assert time == pytest.approx(0.5, abs=1e-3)
    assert step < 1e-13


def test_fit_and_predict_stop_with_the_error():
    block = tfnode.ODEBlock(Square(), TFP, t1=3.0)
    model = keras.Sequential([keras.Input((1,)), block, keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    assert model.jit_compile is False
    x = np.ones((4, 1), "float32")
    for run in (lambda: model.fit(x, x, verbose=0), lambda: model.predict(x, verbose=0)):
        with pytest.raises(tf.errors.InvalidArgumentError, match="evaluations="):
            run()


class Square(keras.layers.Layer):
    def call(self, z):
        return z * z


def test_under_xla_a_failure_is_not_a_number():
    block = block_of(lambda t, z: z * z, BS32)
    call = tf.function(block, jit_compile=True)
    finite, pole = tf.constant([[0.5]], tf.float64), tf.constant([[2.0]], tf.float64)
    np.testing.assert_allclose(call(finite), [[1.0]], rtol=1e-4)
    assert np.isnan(call(pole)).all()


# === Precision ===
@every_loop
def test_a_field_that_is_asleep_takes_no_error(solver):
    # Hairer's first step is 1e-6 then, which single precision does not tell from rounding.
    block = block_of(lambda t, z: 0 * z, solver, dtype="float32")
    x = np.ones((2, 1), "float32")
    np.testing.assert_array_equal(block(x), x)


def test_time_and_state_keep_pace_where_times_are_coarse():
    # Single precision tells times apart by 6e-5 here.
    field = Field(lambda t, z: ops.ones_like(z) + 0 * t)
    for solver in (BS32, OURS):
        block = tfnode.ODEBlock(field, solver, t0=1000.0, t1=1001.0, time_dependent=True)
        np.testing.assert_allclose(block(np.zeros((1, 1), "float32")), [[1.0]], atol=2e-7)


@every_loop
def test_a_batch_without_rows(solver):
    block = block_of(lambda t, z: -z, solver)
    assert block(np.ones((0, 3))).shape == (0, 3)
    call = tf.function(block, input_signature=[tf.TensorSpec((None, 3), tf.float64)])
    assert call(np.ones((0, 3))).shape == (0, 3)
    np.testing.assert_allclose(call(np.ones((2, 3))), np.full((2, 3), np.exp(-1)), rtol=1e-4)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_refused(dtype):
    with pytest.raises(ValueError, match="mixed_bfloat16"):
        tfnode.ODEBlock(Network(dtype=dtype), BS32, dtype=dtype)


def test_an_interval_without_times_is_refused():
    """But for a field that is not told the time, which loses nothing."""
    options = {"t0": 1e6, "t1": 1e6 + 1, "time_dependent": True}
    with pytest.raises(ValueError, match=r"Received: a step of 1\.0 on \[1000000\.0, 1000001\.0\]"):
        tfnode.ODEBlock(Network(), BS32, **options)
    tfnode.ODEBlock(Network(dtype="float64"), BS32, dtype="float64", **options)


@pytest.mark.parametrize(("dtype", "least"), [("float32", 1.2e-6), ("float64", 2.3e-15)])
def test_a_tolerance_below_the_reach_of_the_dtype_is_refused(dtype, least):
    for tolerances in ({"rtol": least / 2}, {"atol": least / 2}):
        with pytest.raises(ValueError, match=f"Received: {next(iter(tolerances))}="):
            network_block(BogackiShampine32(**tolerances), dtype=dtype)
    block = network_block(BogackiShampine32(least, least), dtype=dtype)
    block.build((None, 2))
    assert block.min_tolerance == 10 * np.finfo(dtype).eps
    with pytest.raises(ValueError, match="Received: rtol="):
        block.rtol = least / 2
    for bad in (0.0, -1.0, float("nan"), "1e-3"):
        with pytest.raises(ValueError, match="Received: atol="):
            block.atol = bad


def test_mixed_precision_integrates_in_single():
    field = keras.Sequential([keras.layers.Dense(2, "tanh", dtype="mixed_bfloat16")])
    block = tfnode.ODEBlock(field, BogackiShampine32(1e-1, 1e-1), dtype="mixed_bfloat16")
    z1 = block(states(3, dtype="float32"))
    assert z1.dtype == "bfloat16"
    assert keras.backend.standardize_dtype(block.rtol.dtype) == "float32"


# === The block ===
@every_loop
def test_an_assigned_tolerance_counts_in_the_next_call_without_a_trace(solver):
    traces = []

    def field(t, z):
        traces.append(t)
        return -z * ops.cos(5 * z)

    block = block_of(field, solver.with_tolerance(1e-2))
    call = tf.function(block)
    x = tf.constant(states(3))
    call(x)
    count, coarse = len(traces), block.statistics
    block.rtol = block.atol = 1e-4
    z1 = call(x)
    assert len(traces) == count
    assert block.statistics.accepted > coarse.accepted
    assert block.solver == solver.with_tolerance(1e-4)
    fresh = block_of(field, solver.with_tolerance(1e-4))
    np.testing.assert_allclose(fresh(x), z1, rtol=1e-13)


def test_weights_hold_the_tolerances_and_no_statistics(tmp_path):
    path = tmp_path / "model.weights.h5"

    def model(solver):
        block = network_block(solver, dtype="float32", name="ode")
        return keras.Sequential([keras.Input((2,)), block])

    trained = model(TFP.with_tolerance(1e-3))
    block = trained.get_layer("ode")
    block.rtol = 5e-4
    trained(states(3, dtype="float32"))
    trained.save_weights(path)
    loaded = model(TFP)
    loaded.load_weights(path)
    block = loaded.get_layer("ode")
    assert float(block.rtol) == np.float32(5e-4)
    assert float(block.atol) == np.float32(1e-3)
    assert block.statistics == Statistics(0, 0, 0)
    with pytest.raises(ValueError, match="Received: 2 values"):
        model(RK4(1 / 4)).load_weights(path)


@every_loop
def test_configuration_round_trip(solver):
    field = keras.Sequential([keras.layers.Dense(2, "tanh")])
    block = tfnode.ODEBlock(field, solver.with_tolerance(1e-3), t1=2.0, name="ode")
    model = keras.Sequential([keras.Input((2,)), block])
    x = states(3, dtype="float32")
    config = json.loads(json.dumps(model.get_config()))
    again = keras.Sequential.from_config(config)
    again.set_weights(model.get_weights())
    np.testing.assert_allclose(again(x), model(x), rtol=1e-6)
    assert again.get_layer("ode").solver == block.solver


def test_between_fixed_and_adaptive_steps():
    block = network_block(TFP, "float32", gradient="adjoint")
    x = states(3, dtype="float32")
    fixed = tfnode.with_solver(block, RK4(1 / 64))
    assert (fixed.gradient, fixed.field) == ("discrete_adjoint", block.field)
    np.testing.assert_allclose(fixed(x), block(x), atol=1e-4)
    again = tfnode.with_solver(fixed, BS32)
    np.testing.assert_allclose(again(x), block(x), atol=1e-4)
    with pytest.raises(ValueError, match="Make a model with another solver by"):
        fixed.solver = BS32
    with pytest.raises(ValueError, match="keeps its method"):
        again.solver = RK4(1 / 8)
    again.solver = BS32.with_tolerance(1e-3)
    assert float(again.rtol) == np.float32(1e-3)
    for name in ("step_size", "num_steps"):
        with pytest.raises(ValueError, match="has tolerances, and no step size"):
            getattr(again, name)
    for name in ("rtol", "atol", "statistics", "training_evaluations", "min_tolerance"):
        with pytest.raises(ValueError, match="has a step size, and no tolerances"):
            getattr(fixed, name)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"solver": BS32, "gradient": "adjoint"}, "continuous adjoint"),
        ({"solver": OURS, "gradient": "adjoint"}, "continuous adjoint"),
        ({"solver": RK4(1 / 4), "gradient": "adjoint"}, "no continuous adjoint"),
        ({"solver": BS32, "gradient": "backprop", "unroll": True}, "unroll=True"),
    ],
)
def test_what_does_not_go_together_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        tfnode.ODEBlock(Network(), **options)


def test_random_state_is_refused_under_the_discrete_adjoint():
    field = keras.Sequential([keras.layers.Dense(2), keras.layers.Dropout(0.5)])
    block = tfnode.ODEBlock(field, BS32)
    with pytest.raises(ValueError, match="Received: field="):
        block(states(2, dtype="float32"), training=True)


@pytest.mark.parametrize("solver", [TFP, OURS], ids=["tfp", "ours"])
def test_it_trains(solver):
    x = states(128, dtype="float32")
    y = (x[:, 0] * x[:, 1] > 0).astype(int)
    block = network_block(solver.with_tolerance(1e-2), dtype="float32")
    model = keras.Sequential([keras.Input((2,)), block, keras.layers.Dense(2)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-2), loss)
    evaluations = []
    count = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: evaluations.append(block.nfe)
    )
    history = model.fit(x, y, batch_size=32, epochs=4, verbose=0, callbacks=[count]).history
    assert history["loss"][-1] < history["loss"][0]
    assert len(evaluations) == 16
    assert block.training_evaluations == sum(evaluations)
