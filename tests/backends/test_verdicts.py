"""The verdict and its four other sides on every backend."""

import keras
import numpy as np
import pytest
from keras.initializers import Constant as constant
from models import classifier, compiled, data, field, frozen, randomised

import tfnode
from tfnode import solvers, validity
from tfnode.models.residual import residual_model


@pytest.fixture(scope="module")
def fine():
    return compiled(classifier(solvers.RK4(0.25)))


def test_check_of_an_ode(fine):
    report = validity.check(fine, data(64), reference_steps=16, verbose=0)
    assert report.is_ode is True
    assert report.gap == pytest.approx(0, abs=0.01)


def test_check_of_a_model_bound_to_its_solver():
    model = frozen(-3.0, solvers.Euler(1.0))
    x, y = np.ones((8, 1), "float32"), np.zeros(8, int)
    report = validity.check(model, (x, y), reference_steps=16, verbose=0)
    assert report.is_ode is False
    assert report.gap == 1.0


def test_check_of_adaptive_steps():
    model = compiled(classifier(solvers.BogackiShampine32(1e-3, 1e-3)))
    report = validity.check(model, data(64), reference_steps=16, verbose=0)
    assert report.is_ode is True


def test_sweep_of_adaptive_steps():
    model = compiled(classifier(solvers.BogackiShampine32(1e-3, 1e-3)))
    rows = validity.sweep(model, data(64), verbose=0)
    assert sorted(row.tolerance for row in rows if row.factor) == pytest.approx([1e-4, 1e-3, 1e-2])


def test_sweep(fine):
    rows = validity.sweep(fine, data(64), verbose=0)
    steps = [row.num_steps for row in rows if row.factor is not None]
    assert sorted(steps) == [2, 3, 4, 6, 8]
    assert all(row.nfe == 4 * row.num_steps for row in rows)


def test_convergence_has_the_order_of_the_method():
    model = compiled(classifier(solvers.Euler(1 / 8)))
    result = validity.convergence_test(model, data(64), (0.5, 1, 2), reference_steps=32, verbose=0)
    assert result.expected_order == 1
    assert result.order == pytest.approx(1, abs=0.15)


def test_certify(fine):
    assert validity.certify(fine, data(64), reference_steps=16, verbose=0).fraction > 0.9


def test_time_series():
    """One step of Euler's method is the map from one state to the next, and the flow is not."""
    dt, times = 0.25, np.arange(5) / 4
    rate = (np.exp(-dt) - 1) / dt
    z0 = np.array([[1.0], [2.0]], "float32")
    data = z0, z0[:, None] * np.exp(-times)[:, None]
    options = {"factors": [2], "reference_steps": 8, "verbose": 0}
    report = validity.check_series(lambda t, z: rate * z, data, times, solvers.Euler(dt), **options)
    assert (report.is_flow, report.has_kink) == (False, True)
    assert report.flow.gap == pytest.approx(report.rise, rel=1e-3)
    inputs = keras.Input((1,))
    field = keras.layers.Rescaling(-1.0)
    block = tfnode.ODEBlock(field, solvers.RK4(dt), save_at=times[1:])
    report = validity.check_series(keras.Model(inputs, block(inputs)), data, times, **options)
    assert (report.is_flow, report.has_kink) == (True, False)


class Scaled(tfnode.ODEBlock):
    """Makes its own field, and scales what it is given by a weight and a layer of its own."""

    share = 1.0

    def __init__(self, solver):
        super().__init__(keras.layers.Rescaling(-1.0), solver, name="ode")
        self.factor = self.add_weight(name="factor", shape=(), initializer=constant(3.0))
        self.share, self.rescaling = 0.25, keras.layers.Rescaling(2.0)

    def call(self, inputs, conditions=None, **kwargs):
        inputs = self.rescaling(inputs) * self.share * self.factor
        return super().call(inputs, conditions, **kwargs)


def test_check_of_a_model_with_times():
    dt = 1 / 4
    times = [dt, 2 * dt]
    field = keras.layers.Rescaling((np.exp(-dt) - 1) / dt)
    block = tfnode.ODEBlock(field, solvers.Euler(2 * dt), t1=1.0, save_at=times)
    model = keras.Sequential([keras.Input((1,)), block])
    x = np.array([[1.0], [2.0]])
    data = x, x[:, None] * np.exp(-np.array(times))[:, None]
    report = validity.check(model, data, reference_steps=16, verbose=0)
    assert (report.is_ode, report.series.is_flow, report.series.has_kink) == (False, False, True)
    assert report.rows[0].step_size == dt
    backwards = keras.Sequential([keras.Input((1,)), *model.layers, Backwards()])
    assert validity.check(backwards, data, reference_steps=16, verbose=0).series is None


class Backwards(keras.layers.Layer):
    def call(self, z):
        return keras.ops.flip(z, axis=1)


def test_a_block_of_a_users_own_class():
    """It stays itself under another solver, and is checked as it is."""
    block, x = Scaled(solvers.RK4(0.5)), np.ones((3, 2), "float32")
    model = keras.Sequential([keras.Input((2,)), block])
    for other in (tfnode.with_solver(block, solvers.Euler(0.5)), block.with_solver("euler")):
        other.step_size = 0.5
        assert type(other) is Scaled
        assert other.field is block.field
        assert [w is block.factor for w in other.trainable_weights] == [True]
        block.factor.assign(3.0)
        np.testing.assert_allclose(keras.ops.convert_to_numpy(other(x)), 0.25 * 1.5 * x)
        block.factor.assign(5.0)
        np.testing.assert_allclose(keras.ops.convert_to_numpy(other(x)), 0.25 * 2.5 * x)
    under = tfnode.with_solver(model, solvers.Euler(0.5))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(under(x)), 0.25 * 2.5 * x)
    assert block.solver == solvers.RK4(0.5)
    model.compile("sgd", "mse", jit_compile=False)
    flow = 2.5 * np.exp(-1) * x
    report = validity.check(model, (x, flow), reference_steps=16, verbose=0)
    assert report.is_ode is True
    assert report.rows[0].nfe == 8


def test_residual_layers():
    """Four layers `x -> 1.1 x`, near exp(0.4)."""
    x = inputs = keras.Input((1,))
    for _ in range(4):
        x = keras.layers.Add()([x, keras.layers.Dense(1, kernel_initializer=constant(0.1))(x)])
    model = keras.Model(inputs, x)
    found = residual_model(model)
    (stage,) = found.stages
    z = np.array([[1.0], [-2.0]], "float32")
    for solver, factor in ((solvers.Euler(1.0), 1.1**4), (solvers.RK4(0.5), np.exp(0.4))):
        answer = keras.ops.convert_to_numpy(stage.block.with_solver(solver)(z))
        np.testing.assert_allclose(answer, factor * z, rtol=1e-6)
    same = [keras.ops.convert_to_numpy(m(z)) for m in (model, found.model)]
    np.testing.assert_allclose(*same, rtol=1e-6)


def test_crossings():
    inputs = keras.Input((2,))
    z = tfnode.ODEBlock(field(2), solvers.Euler(1.0))(inputs)
    model = compiled(randomised(keras.Model(inputs, keras.layers.Dense(2)(z)), seed=3))
    x, _ = data(24)
    assert validity.crossings(model, x).count == 28
    assert validity.crossings(tfnode.with_solver(model, solvers.RK4(1 / 16)), x).count == 0


def test_what_is_masked_does_not_count():
    """At the one step that is not padded the class depends on the solver."""
    inputs = keras.Input((5,), dtype="int32")
    embedding, dense = keras.layers.Embedding(2, 1, mask_zero=True), keras.layers.Dense(2)
    z = tfnode.ODEBlock(keras.layers.Rescaling(-1.0), solvers.Euler(1.0))(embedding(inputs))
    model = compiled(keras.Model(inputs, dense(z)))
    embedding.set_weights([np.array([[-5.0], [1.0]])])
    dense.set_weights([np.array([[10.0, 0.0]]), np.array([-2.5, 0.0])])
    x, y = np.eye(5, dtype="int32")[[0, 0, 0]], np.ones((3, 5), int)
    report = validity.check(model, (x, y), reference_steps=16, verbose=0)
    assert (report.rows[0].accuracy, report.gap) == (1.0, 1.0)
