"""Crossings of paths whose crossings are known, and against a search through all pairs."""

import json

import keras
import numpy as np
import pytest

import tfnode
from tfnode.solvers import RK4, Euler, Midpoint
from tfnode.validity import Crossings, crossings
from tfnode.validity.paths import step_crossings


def single_steps(*segments):
    """Paths of one step each, `(start, end)`."""
    return np.array(segments, "float64").transpose(1, 0, 2)


def brute_force(starts, ends):
    """Pairs of segments of which each has its ends strictly on different sides of the other."""

    def side(a, b, p):
        u, v = b - a, p - a
        return np.sign(u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0])

    pairs = []
    for i in range(len(starts)):
        a, b, c, d = starts[i], ends[i], starts[i + 1 :], ends[i + 1 :]
        crossing = (side(a, b, c) * side(a, b, d) < 0) & (side(c, d, a) * side(c, d, b) < 0)
        pairs += [(i, i + 1 + j) for j in np.flatnonzero(crossing)]
    return pairs


@pytest.mark.parametrize(
    ("first", "second", "point"),
    [
        # ((start, end), (start, end), where they cross)
        (((0, 0), (2, 2)), ((0, 2), (2, 0)), (1, 1)),
        (((0, 0), (4, 0)), ((1, -1), (1, 3)), (1, 0)),
        (((0, 0), (4, 0)), ((1, 0), (1, 3)), None),  # the second starts on the first
        (((0, 0), (4, 0)), ((1, 3), (1, 0)), None),  # and ends on it
        (((0, 0), (1, 1)), ((1, 1), (2, 0)), None),  # one after the other
        (((0, 0), (1, 1)), ((0, 0), (1, -1)), None),  # equal starts
        (((0, 0), (1, 1)), ((2, 0), (1, 1)), None),  # equal ends
        (((0, 0), (1, 0)), ((0, 1), (1, 1)), None),  # parallel
        (((0, 0), (1, 0)), ((3, 0), (2, 0)), None),  # on one line, apart
        (((0, 0), (1, 0)), ((2, 0), (1, 0)), None),  # on one line, and their ends meet
        (((0, 0), (2, 0)), ((1, 0), (3, 0)), None),  # one orbit at different times
        (((0, 0), (2, 0)), ((0, 0), (2, 0)), None),  # the same twice
        (((0, 0), (2, 0)), ((3, 0), (1, 0)), (1.5, 0)),  # in opposite directions
        (((0, 0), (3, 3)), ((2, 2), (1, 1)), (1.5, 1.5)),  # within the other, opposite
        (((0, 0), (3, 0)), ((1, 0), (1, 0)), None),  # standing still
        (((0, 0), (2, 2)), ((np.nan, 2), (2, 0)), None),
    ],
)
@pytest.mark.parametrize("swap", [False, True])
def test_two_segments(first, second, point, swap):
    segments = (second, first) if swap else (first, second)
    pairs, points = step_crossings(single_steps(*segments))
    if point is None:
        assert len(pairs) == 0
    else:
        assert pairs.tolist() == [[0, 1]]
        np.testing.assert_allclose(points, [point], rtol=0, atol=1e-14)


def test_a_path_that_folds_back_crosses_itself():
    # 0 -> 2 -> 1: in opposite directions between 1 and 2.
    pairs, points = step_crossings(np.array([[[0.0, 0.0]], [[2.0, 0.0]], [[1.0, 0.0]]]))
    assert pairs.tolist() == [[0, 1]]
    assert points.tolist() == [[1.5, 0.0]]


def test_the_points_up_to_rounding():
    # In single precision the slanted lines through the origin are not quite one line.
    direction = np.array([0.3, 0.7], "float32")
    states = np.stack([s * direction for s in np.float32([1, -0.5, 0.25, -0.125])])[:, None]
    pairs, points = step_crossings(states)
    assert pairs.tolist() == [[0, 1], [0, 2], [1, 2]] or len(pairs) == 2
    assert np.abs(points @ [0.7, -0.3]).max() < 1e-6


@pytest.mark.parametrize(("length", "at_least"), [(2.0, 1000), (0.05, 10)])
def test_random_segments_against_all_pairs(length, at_least):
    rng = np.random.default_rng(0)
    starts = rng.normal(size=(600, 2))
    ends = starts + length * rng.normal(size=(600, 2))
    pairs, points = step_crossings(np.stack([starts, ends]))
    expected = brute_force(starts, ends)
    assert sorted(map(tuple, pairs.tolist())) == expected
    assert len(expected) > at_least
    # The points lie on both segments.
    for column in (0, 1):
        a, b = starts[pairs[:, column]], ends[pairs[:, column]]
        u, w = b - a, points - a
        np.testing.assert_allclose(u[:, 0] * w[:, 1], u[:, 1] * w[:, 0], atol=1e-9)


def test_ten_thousand_segments_against_all_pairs():
    rng = np.random.default_rng(1)
    states = np.cumsum(rng.normal(size=(101, 100, 2)), axis=0)
    pairs, _ = step_crossings(states)
    found = np.unique(pairs, axis=0)
    assert len(found) == len(pairs)
    starts, ends = states[:-1].reshape(-1, 2), states[1:].reshape(-1, 2)
    assert sorted(map(tuple, pairs.tolist())) == brute_force(starts, ends)


def rotation(solver, **options):
    """The field (-y, x): Euler's method spirals outwards, and no two paths meet."""
    field = keras.layers.Dense(2, use_bias=False, name="field")
    block = tfnode.ODEBlock(field, solver, name="ode", **options)
    model = keras.Sequential([keras.Input((2,)), block])
    field.set_weights([np.array([[0.0, 1.0], [-1.0, 0.0]])])
    return model


CIRCLE = np.stack([np.cos(np.arange(6)), np.sin(np.arange(6))], axis=1)


def test_a_rotation_does_not_cross_at_a_small_step_and_does_at_a_large_one():
    assert crossings(rotation(Euler(1 / 256)), CIRCLE).count == 0
    x = np.array([[1.0, 0.0], [1.3, 0.3]])
    found = crossings(rotation(Euler(1.0)), x)
    # (1, 0) goes straight to (1, 1) and (1.3, 0.3) to (1, 1.6): they do not meet in one step.
    assert (found.count, found.num_segments, found.fraction) == (0, 2, 0.0)
    found = crossings(rotation(Euler(2.0), t1=2.0), x)
    # To (1, 2) and to (0.7, 2.9): at x = 1 the second is at y = 0.3 + 2.6 / 2.
    assert (found.count, found.fraction) == (1, 1.0)
    np.testing.assert_allclose(found.points, [[1.0, 1.6]], rtol=1e-6)
    assert (found.steps.tolist(), found.samples.tolist()) == ([[0, 0]], [[0, 1]])
    assert found.states.shape == (2, 2, 2)
    plain = json.loads(found.to_json())
    again = Crossings.from_json(found.to_json())
    np.testing.assert_array_equal(again.points, found.points)
    assert again.count == found.count
    assert (plain["count"], plain["samples"]) == (1, [[0, 1]])


def test_none_are_read_as_they_were_written():
    found = crossings(rotation(Euler(1 / 2)), CIRCLE)
    again = Crossings.from_json(found.to_json())
    assert found.count == 0
    for name in ("points", "steps", "samples"):
        assert getattr(again, name).shape == getattr(found, name).shape == (0, 2)
        assert getattr(again, name).dtype.kind == getattr(found, name).dtype.kind


def test_steps_and_samples_number_the_segments():
    # Each Euler step of 1/2 multiplies by -1/2: the two axes cross at 0 in every pair of steps.
    block = tfnode.ODEBlock(keras.layers.Rescaling(-3.0), Euler(1 / 2))
    found = crossings(block, np.array([[1.0, 0.0], [0.0, 1.0]], "float32"))
    own = found.samples[:, 0] == found.samples[:, 1]
    # Two of each axis with itself, folded back; four of one axis with the other.
    assert sorted(found.samples[own].tolist()) == [[0, 0], [1, 1]]
    assert found.steps[own].tolist() == [[0, 1], [0, 1]]
    np.testing.assert_allclose(found.points[~own], 0, atol=1e-7)
    assert sorted(found.steps[~own].tolist()) == [[0, 0], [0, 1], [0, 1], [1, 1]]


def test_the_states_are_those_of_the_block_behind_its_upstream_layers():
    field = keras.layers.Rescaling(-1.0)
    upstream = keras.layers.Dense(2, use_bias=False)
    model = keras.Sequential([keras.Input((3,)), upstream, tfnode.ODEBlock(field, RK4(1 / 4))])
    x = np.random.default_rng(0).normal(size=(5, 3))
    found = crossings(model, x)
    assert found.states.shape == (5, 5, 2)
    np.testing.assert_allclose(found.states[0], upstream(x), rtol=1e-6)
    np.testing.assert_allclose(found.states[-1], model(x), rtol=1e-6)


def test_chords_of_orbits_cross_and_the_curves_of_a_good_solver_do_not():
    # The chord of a step of 1 on the unit circle comes as near to the centre as 0.88.
    x = np.array([[1.0, 0.0], [0.95 * np.cos(0.3), 0.95 * np.sin(0.3)]])
    found = crossings(rotation(RK4(1.0), t1=6.0), x)
    assert (found.count, found.num_segments) == (0, 12)
    assert (found.states.shape, found.curves.shape) == ((7, 2, 2), (271, 2, 2))
    np.testing.assert_array_equal(found.curves[::45], found.states)
    assert len(step_crossings(found.states)[0]) > 0


@pytest.mark.parametrize(
    ("solver", "interval"),
    [(Midpoint(1.0), (0.0, 1.0)), (RK4(1 / 2), (1.0, 0.0)), (RK4(0.4), (100.0, 101.0))],
)
def test_crossings_are_those_of_the_definition(solver, interval):
    t0, t1 = interval
    rng = np.random.default_rng(0)
    w, v = 2 * rng.normal(size=(2, 8)), 2 * rng.normal(size=(8, 2)) * np.sign(t1 - t0)
    dense = keras.layers.Dense(8, "tanh", dtype="float64"), keras.layers.Dense(2, dtype="float64")
    field = keras.Sequential([keras.Input((2,), dtype="float64"), *dense], name="field")
    field.set_weights([w, np.zeros(8), v, np.zeros(2)])
    block = tfnode.ODEBlock(field, solver, t0, t1, dtype="float64")
    x = rng.normal(size=(12, 2))
    found = crossings(block, x)
    # Psi by its definition, densely.
    taus, states, curves = np.arange(201) / 201, x, []
    num_steps = len(found.states) - 1
    for k in range(num_steps):
        h = min(solver.step_size, 1 - k * solver.step_size) * np.sign(t1 - t0)
        psi = [one_step(lambda z: np.tanh(z @ w) @ v, states, tau * h, solver) for tau in taus]
        states = one_step(lambda z: np.tanh(z @ w) @ v, states, h, solver)
        curves += psi
    np.testing.assert_allclose(states, found.states[-1], rtol=1e-5)
    pairs, _ = step_crossings(np.stack([*curves, states]), 201)
    assert (found.steps * 12 + found.samples).tolist() == pairs.tolist()
    assert len(pairs) > 3


def one_step(field, z, h, solver):
    stages = []
    for row in solver.tableau.a:
        stages.append(field(z + h * sum((a * k for a, k in zip(row, stages)), np.zeros(2))))
    return z + h * sum(b * k for b, k in zip(solver.tableau.b, stages))


def test_conditions_belong_to_the_samples_at_every_step():
    field = keras.layers.Rescaling(1.0)

    class Turn(keras.layers.Layer):
        def call(self, z, conditions):
            return field(conditions) * keras.ops.stack([-z[:, 1], z[:, 0]], axis=1)

    block = tfnode.ODEBlock(Turn(), RK4(1 / 4))
    z, speed = keras.Input((2,)), keras.Input((1,))
    model = keras.Model([z, speed], block(z, conditions=speed))
    speeds = np.array([[1.0], [2.0]])
    found = crossings(model, [np.array([[1.0, 0.0], [2.0, 0.0]]), speeds])
    angles = np.arctan2(found.curves[..., 1], found.curves[..., 0])
    expected = np.linspace(0, 1, 181)[:, None] * speeds[:, 0]
    np.testing.assert_allclose(angles, expected, atol=1e-3)


class TimeField(keras.layers.Layer):
    def call(self, t, z):
        return t * z


def plane(**options):
    field = TimeField() if options.get("time_dependent") else keras.layers.Rescaling(-1.0)
    return tfnode.ODEBlock(field, Midpoint(1 / 4), **options)


@pytest.mark.parametrize(
    ("layers", "dims", "message"),
    [
        ([plane], 3, r"Only in the plane.*Received: states of shape \(4, 3\)"),
        ([plane, plane], 2, "Crossings are defined for one ODE"),
        ([lambda: [plane()] * 2], 2, "Crossings are defined for one ODE.*calls=2"),
        ([lambda: plane(time_dependent=True)], 2, "time_dependent=True"),
        ([], 2, "The model must have an `ODEBlock`"),
    ],
)
def test_misuse(layers, dims, message):
    z = inputs = keras.Input((dims,))
    for layer in keras.tree.flatten([layer() for layer in layers]):
        z = layer(z)
    model = keras.Model(inputs, z)
    with pytest.raises(ValueError, match=message):
        crossings(model, np.ones((4, dims)))


def test_paths_of_a_call_with_times_of_its_own_are_refused():
    """Up to 1/6 none meet, and the step of the block, of 2/3, takes all of them through 0."""

    class Called(keras.Model):
        def __init__(self):
            super().__init__()
            self.block = tfnode.ODEBlock(keras.layers.Rescaling(-3.0), Euler(2 / 3))

        def call(self, z):
            return self.block(z, t1=1 / 6)

    with pytest.raises(ValueError, match=r"(?s)on the interval of its block.*times of its calls=T"):
        crossings(Called(), np.eye(2))


def test_paths_that_are_not_finite_are_refused():
    block = tfnode.ODEBlock(keras.layers.Rescaling(-3.0), tfnode.solvers.Euler(0.5))
    with pytest.raises(ValueError, match="Received: 1 samples whose states are not finite"):
        crossings(block, np.array([[1.0, np.nan], [0.0, 1.0]], "float32"))
