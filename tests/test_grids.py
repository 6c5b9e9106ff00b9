"""Fixed grids, the step and the walk: orders, exact numbers of steps, exact evaluation counts."""

import functools
import itertools

import keras
import numpy as np
import pytest
import scipy.integrate
import tensorflow as tf
from keras import ops
from problems import LINEAR, LOGISTIC, PROBLEMS, TIME_DEPENDENT, CountingField

from tfnode import ODEBlock, solvers, tableaus
from tfnode.integrate import walks
from tfnode.integrate.grids import fixed_grid
from tfnode.integrate.runge_kutta import runge_kutta_step

TABLEAUS = [
    tableaus.EULER,
    tableaus.MIDPOINT,
    tableaus.HEUN,
    tableaus.RK4,
    tableaus.RK38,
    tableaus.FEHLBERG21,
    tableaus.BOGACKI_SHAMPINE32,
    tableaus.DORMAND_PRINCE54,
]

all_tableaus = pytest.mark.parametrize("tableau", TABLEAUS, ids=lambda tableau: tableau.name)


def numpy_grid(t0, t1, step_size, dtype="float64"):
    """The grid as NumPy numbers, which the unrolled solve and the trajectory take."""
    ends = t1 if isinstance(t1, tuple) else (t1,)
    return fixed_grid(t0, ends, np.dtype(dtype).type(step_size), 512)


def looped(field, z0, grid, tableau):
    """The state at the end of a grid of one time."""
    plain = lambda weights, constants, t, z: field(t, z)
    return walks.solve(plain, z0, grid, (tableau,))[0]


def errors(problem, tableau, counts):
    """Errors at `t1` of the looped solve in float64, from one trace for all step sizes."""
    length = abs(problem.t1 - problem.t0)
    z0, z1 = problem.state(problem.t0), problem.solution(problem.t1)

    @tf.function
    def solve(step_size):
        grid = fixed_grid(problem.t0, (problem.t1,), step_size, 512)
        return looped(problem.field, z0, grid, tableau)

    steps = [length / n for n in counts]
    found = [solve(tf.constant(h, tf.float64)).numpy()[0] for h in steps]
    assert solve.experimental_get_tracing_count() == 1
    return np.log(steps), np.log([np.linalg.norm(z - z1) for z in found])


@all_tableaus
def test_order_of_convergence(tableau):
    # Fine enough for the leading term, coarse enough to stay above rounding.
    first, last = {1: (64, 512), 2: (64, 512), 3: (32, 256), 4: (32, 256), 5: (40, 160)}[
        tableau.order
    ]
    counts = [n for n in (first, 2 * first, 4 * first, 8 * first) if n <= last]
    for problem in (*PROBLEMS, LINEAR.backwards(), TIME_DEPENDENT.backwards()):
        slope = np.polyfit(*errors(problem, tableau, counts), 1)[0]
        assert abs(slope - tableau.order) < 0.1, problem.name


def test_loops_and_trajectory_agree():
    """Three ways through the same steps: looped, unrolled, and with every state kept."""
    problem, z0 = TIME_DEPENDENT, TIME_DEPENDENT.state(0.0)
    grid = numpy_grid(problem.t0, problem.t1, 0.3)
    z1 = looped(problem.field, z0, grid, tableaus.RK38)
    unrolled = walks.solve_unrolled(problem.field, z0, grid, tableaus.RK38)
    times, states = walks.trajectory(problem.field, z0, grid, problem.t1, tableaus.RK38)
    np.testing.assert_array_equal(z1, unrolled[-1])
    np.testing.assert_array_equal(z1, states[-1])
    np.testing.assert_array_equal(states[0], z0)
    assert (len(times), len(states)) == (8, 8)
    assert (times[0], times[-1]) == (0.0, 2.0)


# === The number of steps ===


@functools.cache
def counter(length, dtype):
    """One graph for all step sizes."""
    count = lambda step_size: fixed_grid(0.0, (length,), step_size, 10_000).num_steps
    return tf.function(count, [tf.TensorSpec((), dtype)])


def num_steps(length, step_size, dtype):
    return int(counter(length, dtype)(tf.constant(step_size, dtype)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("length", [1.0, -1.0, 0.7])
def test_step_of_one_nth_takes_n_steps(length, dtype):
    counts = range(1, 501)
    assert [num_steps(length, abs(length) / n, dtype) for n in counts] == list(counts)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_numpy_grid_is_the_grid_of_the_weight(dtype):
    """`num_steps` and the trajectory use NumPy, the loop uses tensors: they must never differ."""
    for length in (1.0, 0.7):
        steps = np.concatenate([length / np.arange(1, 501), np.linspace(0.003, length, 300)])
        found = [numpy_grid(0.0, length, h, dtype).num_steps for h in steps]
        assert found[:500] == list(range(1, 501))
        assert found == [num_steps(length, h, dtype) for h in steps]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_protection_against_rounding_hides_no_step(dtype):
    """A step that is shorter by more than rounding does take one step more."""
    assert [num_steps(1.0, (1 - 1e-5) / n, dtype) for n in (1, 10, 500)] == [2, 11, 501]
    assert [num_steps(1.0, (1 + 1e-5) / n, dtype) for n in (1, 10, 500)] == [1, 10, 500]
    assert num_steps(1.0, 0.3, dtype) == 4


@pytest.mark.parametrize("bad", [np.nan, 0.0, -0.5, -np.inf, 1e-9, 1 / 513])
def test_bad_step_size_becomes_the_finest(bad):
    grid = fixed_grid(1.0, (3.0,), ops.convert_to_tensor(bad, dtype="float32"), 512)
    assert int(grid.num_steps) == 512
    np.testing.assert_array_equal(grid.steps, np.full(512, 2 / 512))


@pytest.mark.parametrize("step_size", [5.0, np.inf])
def test_too_long_a_step_becomes_one_step_that_lands_on_t1(step_size):
    """The weight may hold anything: a loaded file does not ask the setter."""
    step_size = ops.convert_to_tensor(step_size, dtype="float64")
    grid = fixed_grid(0.0, (1.0,), step_size, 512)
    z0 = ops.zeros((1,), dtype="float64")
    z1 = looped(lambda t, z: ops.ones_like(z), z0, grid, tableaus.EULER)
    assert int(grid.num_steps) == 1
    assert float(z1[0]) == 1.0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_last_step_lands_on_t1(dtype):
    intervals = [(0.0, 1.0), (-1.0, 2.5), (3.0, 1.0)]
    for (t0, t1), step_size in itertools.product(intervals, (0.3, 3 / 8, 1 / 7, 0.1)):
        h = ops.convert_to_tensor(step_size, dtype=dtype)
        grid = fixed_grid(t0, (t1,), h, 512)
        last = int(grid.num_steps) - 1
        assert float(grid.starts[last] + grid.steps[last]) == t1
        # Every other step has the full length, and starts where the first ended.
        h = float(h) if t1 > t0 else -float(h)
        assert float(grid.steps[1]) == h
        assert float(grid.starts[1]) == np.dtype(dtype).type(t0 + h)
        # What is not in use lies at the end and does nothing.
        np.testing.assert_array_equal(grid.starts[last + 1 :], np.full(511 - last, t1))
        np.testing.assert_array_equal(grid.steps[last + 1 :], np.zeros(511 - last))


@all_tableaus
def test_clipped_step_integrates_a_constant_exactly(tableau):
    z0 = ops.zeros((1, 1), dtype="float64")
    for t0, t1 in ((0.0, 1.0), (0.5, -2.0)):
        # 3/8 is a binary fraction, so every partial sum is exact and nothing else can hide.
        grid = numpy_grid(t0, t1, 3 / 8)
        z1 = looped(lambda t, z: ops.ones_like(z), z0, grid, tableau)
        # The weights from order 3 on are no binary fractions.
        tolerance = 0 if tableau.order < 3 else 1e-15
        np.testing.assert_allclose(z1, [[t1 - t0]], rtol=tolerance)


# === Several times ===


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_grid_lands_on_every_time_with_the_fewest_steps(dtype):
    times = (0.25, 1.0, 1.05, 3.0)
    for sign in (1.0, -1.0):
        ends = tuple(sign * t for t in times)
        grid = fixed_grid(0.0, ends, ops.convert_to_tensor(0.3, dtype=dtype), 512)
        assert ops.convert_to_numpy(grid.stops).tolist() == [1, 4, 5, 12]
        assert int(grid.num_steps) == 12
        starts, steps = map(ops.convert_to_numpy, (grid.starts, grid.steps))
        landed = (starts + steps)[[0, 3, 4, 11]]
        np.testing.assert_allclose(landed, ends, rtol=np.finfo(dtype).eps)
        # The next stretch starts on the time itself, so that nothing adds up.
        np.testing.assert_array_equal(starts[[1, 4, 5, 12]], np.array(ends, dtype))


def test_a_first_time_at_the_start_takes_no_step():
    grid = numpy_grid(0.0, (0.0, 1.0), 0.5)
    assert grid.stops.tolist() == [0, 2]
    z0 = tf.ones((1, 1), tf.float64)
    states = walks.solve(lambda w, c, t, z: -z, z0, grid, (tableaus.EULER,))
    np.testing.assert_array_equal(states, [[[1.0]], [[0.25]]])


def test_samples_have_end_times_of_their_own():
    """One that arrives early waits: its further steps have length 0."""
    times = ops.convert_to_tensor([[0.25, 1.0, 0.0]], dtype="float64")
    grid = fixed_grid(0.0, times, ops.convert_to_tensor(0.3, dtype="float64"), 512)
    assert ops.convert_to_numpy(grid.stops).tolist() == [[1, 4, 0]]
    assert int(grid.num_steps) == 4
    z1 = looped(lambda t, z: z, tf.ones((3, 1), tf.float64), grid, tableaus.EULER)
    np.testing.assert_allclose(z1, [[1.25], [1.3**3 * 1.1], [1.0]], rtol=1e-14)


def test_times_of_a_call_that_ask_for_too_many_steps_give_no_number():
    times = ops.convert_to_tensor([1.0, 2.0], dtype="float64")
    grid = fixed_grid(0.0, times, ops.convert_to_tensor(0.01, dtype="float64"), 100)
    assert np.isnan(grid.steps[: int(grid.num_steps)]).all()


# === One step ===


@all_tableaus
def test_step_works_on_numpy(tableau):
    z = np.array([[1.0, -2.0], [0.5, 3.0]], "float32")
    z1 = runge_kutta_step(lambda t, z: -z, 0.0, z, 0.5, tableau)
    assert type(z1) is np.ndarray
    assert z1.dtype == np.float32
    # The stability function of these methods is the Taylor polynomial of exp up to the order;
    # the higher terms belong to the three embedded pairs.
    higher = {
        "fehlberg21": [255 / 256 / 2 / 512],
        "bogacki_shampine32": [],
        "dormand_prince54": [1 / 600],
    }
    terms = [1 / np.prod(np.arange(1.0, p + 1)) for p in range(tableau.order + 1)]
    terms += higher.get(tableau.name, [])
    factor = sum(term * (-0.5) ** p for p, term in enumerate(terms))
    np.testing.assert_allclose(z1, factor * z, rtol=1e-6)


def test_step_is_the_classical_method():
    """Hairer et al., table II.1.2, written out for a field that depends on time."""

    def field(t, z):
        return np.sin(z) + t**2

    t, z, h = 0.3, np.array([0.7]), 0.25
    k1 = field(t, z)
    k2 = field(t + h / 2, z + h / 2 * k1)
    k3 = field(t + h / 2, z + h / 2 * k2)
    k4 = field(t + h, z + h * k3)
    found = runge_kutta_step(field, t, z, h, tableaus.RK4)
    np.testing.assert_allclose(found, z + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4), rtol=1e-15)


def solve(field, z0, grid, tableau):
    """The looped solve as one graph, because eager loops are slow."""
    return tf.function(lambda z: looped(field, z, grid, tableau))(z0)


def test_agrees_with_scipy():
    """A nonlinear oscillator with forcing, which has no closed form."""

    def field(t, z, stack=ops.stack, cos=ops.cos):
        x, v = z[..., 0], z[..., 1]
        return stack([v, (1 - x**2) * v - x + 0.5 * cos(t)], axis=-1)

    z0 = np.array([0.5, -1.0])
    expected = scipy.integrate.solve_ivp(
        lambda t, z: field(t, z, np.stack, np.cos), (0, 3), z0, "DOP853", rtol=1e-12, atol=1e-12
    ).y[:, -1]
    for tableau, step_size, tolerance in (
        (tableaus.RK4, 1 / 150, 1e-8),
        (tableaus.RK38, 1 / 150, 1e-8),
        (tableaus.DORMAND_PRINCE54, 1 / 150, 1e-10),
    ):
        grid = numpy_grid(0.0, 3.0, step_size)
        found = solve(field, tf.constant(z0), grid, tableau)
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_state_keeps_its_dtype(dtype):
    for problem in (LOGISTIC, TIME_DEPENDENT):
        z0 = problem.state(problem.t0, dtype)
        step_size = ops.convert_to_tensor(0.25, dtype=dtype)
        grid = fixed_grid(problem.t0, (problem.t1,), step_size, 512)
        z1 = looped(problem.field, z0, grid, tableaus.DORMAND_PRINCE54)
        assert keras.backend.standardize_dtype(z1.dtype) == dtype
        np.testing.assert_allclose(z1, problem.state(problem.t1, dtype), rtol=1e-5)


# === Evaluations, counted where they run ===


@pytest.mark.parametrize(
    ("gradient", "training", "passes"),
    # The discrete adjoint runs each step once more on the way back.
    [("discrete_adjoint", False, 1), ("backprop", True, 1), ("discrete_adjoint", True, 2)],
)
@pytest.mark.parametrize(
    ("solver", "stages"),
    [
        (solvers.Euler(1 / 10), 1),
        (solvers.RK4(1 / 10), 4),
        (solvers.RungeKutta(1 / 10, tableaus.DORMAND_PRINCE54), 7),
    ],
    ids=["euler", "rk4", "dormand_prince54"],
)
def test_evaluations_are_steps_times_stages(solver, stages, gradient, training, passes):
    field = CountingField()
    block = ODEBlock(field, solver, gradient=gradient)
    block.build((None, 2))

    @tf.function
    def run(z):
        if not training:
            return block(z)
        with tf.GradientTape() as tape:
            tape.watch(z)
            loss = ops.sum(block(z, training=True))
        return tape.gradient(loss, z)

    z = tf.ones((3, 2))
    run(z)
    traces = field.traces
    for step_size, steps in ((1 / 10, 10), (0.3, 4), (1.0, 1), (1 / 500, 500), (1 / 7, 7)):
        block.step_size = step_size
        assert field.count(run, z) == passes * steps * stages
        assert (block.num_steps, block.nfe) == (steps, steps * stages)
    # All of that without a new trace, which is why a Python counter would have stood still.
    assert field.traces == traces
    assert run.experimental_get_tracing_count() == 1
