"""Times far from 0, in any unit, and samples that fail alone, on every backend alike."""

import keras
import numpy as np
import pytest
from autodiff import compiled
from keras import ops

import tfnode
from tfnode import solvers

SOLVERS = {
    "rk4": solvers.RK4(1 / 8),
    "shared": solvers.BogackiShampine32(1e-3, 1e-3),
    "per_sample": solvers.DormandPrince(1e-3, 1e-3, per_sample=True),
}
every_solver = pytest.mark.parametrize("name", SOLVERS)
X = np.ones((2, 1), "float32")


class Square(keras.layers.Layer):
    def call(self, z):
        return z * z


def decay(solver, t0=0.0, length=1.0):
    return tfnode.ODEBlock(keras.layers.Rescaling(-1 / length), solver, t0, t0 + length)


@every_solver
@pytest.mark.parametrize("training", [False, True])
def test_times_far_from_0_lose_nothing(name, training):
    near, late = (decay(SOLVERS[name], t0) for t0 in (0.0, 1e8))
    for more in (None, 0.5):
        found, expected = (
            ops.convert_to_numpy(
                block(X, training=training, t1=None if more is None else block.t0 + more)
            )
            for block in (late, near)
        )
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", ["shared", "per_sample"])
def test_the_unit_of_time_makes_no_difference(name):
    unit, other = decay(SOLVERS[name]), decay(SOLVERS[name], length=2.0**-40)
    np.testing.assert_array_equal(*(ops.convert_to_numpy(block(X)) for block in (unit, other)))
    assert other.statistics == unit.statistics


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("wrap", [lambda f: f, compiled], ids=["eager", "compiled"])
def test_a_sample_may_fail_alone(training, wrap):
    solver = solvers.BogackiShampine32(
        1e-3, 1e-3, max_num_steps=50, per_sample=True, per_sample_failure="nan"
    )
    block = tfnode.ODEBlock(Square(), solver)
    x = np.array([[0.5], [2.0], [np.nan], [-1.0]], "float32")
    block(x)
    found = ops.convert_to_numpy(wrap(lambda z: block(z, training=training))(x))
    np.testing.assert_allclose(found[[0, 3]], [[1.0], [-0.5]], rtol=1e-2)
    assert np.isnan(found[[1, 2]]).all()


@pytest.mark.parametrize("name", ["shared", "per_sample"])
@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_a_weight_that_is_no_tolerance_is_an_error(name, bad):
    block = decay(SOLVERS[name])
    block(X)
    block.atol.assign(bad)
    with pytest.raises(FloatingPointError, match="positive and finite"):
        block(X)


@pytest.mark.parametrize("shape", [(), (3, 0)])
def test_a_state_without_numbers_is_refused(shape):
    with pytest.raises(ValueError, match="at least one number each"):
        decay(SOLVERS["per_sample"])(np.ones(shape, "float32"))


def test_one_number_for_each_sample():
    z1 = ops.convert_to_numpy(decay(SOLVERS["per_sample"])(np.array([1.0, 2.0], "float32")))
    np.testing.assert_allclose(z1, np.exp(-1) * np.array([1.0, 2.0]), rtol=2e-3)


@pytest.mark.parametrize("each", [False, True], ids=["for_all", "for_each"])
def test_tensors_of_times_whose_steps_are_lost_give_no_solution(each):
    def solve(t0, step_size):
        times = np.array([t0, t0 + 1], "float32")
        # If each sample has times of its own, the second stays where it is.
        times = np.stack([times, [times[0], times[0]]], axis=1) if each else times
        field = lambda t, z: ops.cos(t - t0) + 0 * z
        states = tfnode.odeint(field, 0 * X, ops.convert_to_tensor(times), solvers.RK4(step_size))
        return ops.convert_to_numpy(states)[-1, :, 0]

    expected = [np.sin(1), 0 if each else np.sin(1)]
    np.testing.assert_allclose(solve(0.0, 1 / 64), expected, atol=1e-6)
    # Single precision has times an eighth apart here. The least step is ten times as long.
    for step_size in (1 / 64, 1000.0):
        assert np.isnan(solve(2.0**20, step_size)).tolist() == [True, not each]
