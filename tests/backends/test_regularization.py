"""Penalties and random end times: their values, their gradients, and what they cost."""

import json

import keras
import numpy as np
import pytest
from autodiff import BACKEND, compiled, eager, grad, tensors
from keras import ops
from models import Linear, SmoothField, classifier, fit_frozen, frozen, randomised

import tfnode
from tfnode import Regularization, solvers

X = np.random.RandomState(0).normal(size=(3, 2))
FORMS = {
    "discrete_adjoint": {},
    "backprop": {"gradient": "backprop"},
    "unrolled": {"gradient": "backprop", "unroll": True},
}
forms = pytest.mark.parametrize("form", FORMS)


def drawn(seed, *shapes, dtype="float64"):
    """The normal numbers that a block draws from a seed, one tensor after the other."""
    generator = keras.random.SeedGenerator(seed)
    found = [keras.random.normal(shape, dtype=dtype, seed=generator) for shape in shapes]
    return [ops.convert_to_numpy(noise) for noise in found]


def penalty(block, z, **options):
    """What a call in training adds to the loss; it leaves nothing drawn."""

    def loss(z):
        with keras.StatelessScope(collect_losses=True) as scope:
            block(z, training=True, **options)
        (found,) = scope.losses
        return found

    z = keras.tree.map_structure(ops.convert_to_tensor, z)
    return float(ops.convert_to_numpy(eager(loss)(z)))


# === Values ===
@pytest.mark.usefixtures("double")
class TestValues:
    @pytest.mark.parametrize(
        "solver, t0, t1",
        [
            (solvers.RK4(1 / 8), 0.5, 1.0),
            (solvers.RK4(1 / 8), 1.0, 0.5),
            (solvers.BogackiShampine32(1e-5, 1e-5), 1.0, 0.5),
        ],
        ids=["fixed", "backwards", "adaptive"],
    )
    def test_of_a_linear_field(self, solver, t0, t1):
        rate = 0.7
        weights = Regularization(kinetic=0.3, jacobian=0.2, seed=5)
        block = tfnode.ODEBlock(Linear(rate), solver, t0, t1, regularization=weights)
        # The integral of (rate z0 exp(rate s))^2 along the way.
        energy = rate * np.expm1(2 * rate * (t1 - t0)) / 2 * np.sign(t1 - t0)
        norm = rate**2 * abs(t1 - t0)
        (noise,) = drawn(5, X.shape)
        expected = (0.3 * energy * np.sum(X**2) + 0.2 * norm * np.sum(noise**2)) / len(X)
        assert penalty(block, X) == pytest.approx(expected, rel=1e-4)

    @forms
    def test_by_the_stages_of_the_steps(self, form):
        """Euler's method sums up left ends: the penalty is one more component of its state."""
        block = tfnode.ODEBlock(
            Linear(-0.5),
            solvers.Euler(0.4),
            regularization=Regularization(kinetic=1.0),
            **FORMS[form],
        )
        z, expected = X, 0.0
        for h in (0.4, 0.4, 0.2):
            expected += h * np.sum((0.5 * z) ** 2) / len(X)
            z = z - h * 0.5 * z
        assert penalty(block, X) == pytest.approx(expected, rel=1e-13)
        if form == "unrolled":
            assert len(block(X, training=True).shape) == len(block.losses) + 1 == 2
            assert block(X).shape == X.shape
            assert not block.losses

    def test_of_every_sample_to_its_own_time(self):
        """Also where these lie on both sides of the start, and where the state has two parts."""
        rate, ends = 0.7, np.array([1.0, -0.5, 0.25])
        options = {"regularization": Regularization(kinetic=1.0)}
        block = tfnode.ODEBlock(Linear(rate), solvers.RK4(1 / 8), **options)
        energies = rate / 2 * np.abs(np.expm1(2 * rate * ends)) * np.sum(X**2, axis=1)
        assert penalty(block, X, t1=ends) == pytest.approx(np.mean(energies), rel=1e-5)

        class Pair(keras.layers.Layer):
            def call(self, z, conditions):
                return [rate * z[0] * conditions, -z[1]]

        block = tfnode.ODEBlock(Pair(), solvers.RK4(1 / 8), save_at=[0.5, 1.0], **options)
        pair, ones = [X, np.ones((3, 4, 1))], np.ones((3, 1))
        expected = rate / 2 * np.expm1(2 * rate) * np.sum(X**2) - 12 / 2 * np.expm1(-2)
        assert penalty(block, pair, conditions=ones) == pytest.approx(expected / 3, rel=1e-5)

    def test_of_no_sample(self):
        block = tfnode.ODEBlock(Linear(1.0), "rk4", regularization=Regularization(kinetic=1.0))
        assert penalty(block, np.zeros((0, 2))) == 0

    def test_of_a_field_that_does_not_see_the_state(self):
        class Still(keras.layers.Layer):
            def call(self, z):
                return ops.ones(ops.shape(z), z.dtype)

        weights = Regularization(jacobian=1.0)
        assert penalty(tfnode.ODEBlock(Still(), "rk4", regularization=weights), X) == 0


# === Gradients ===
@pytest.mark.usefixtures("double")
class TestGradients:
    REGULARIZATION = Regularization(kinetic=0.3, jacobian=0.2, end_time=0.5, seed=1)

    def written_out(self, noise, pace):
        """The loss by two steps of the midpoint rule and the Jacobian that is known."""

        def rates(hidden, out, z):
            s = ops.sigmoid(z @ hidden)
            f = s @ out
            product = ((noise @ ops.transpose(out)) * s * (1 - s)) @ ops.transpose(hidden)
            return f, 0.3 * ops.sum(f**2, axis=-1) + 0.2 * ops.sum(product**2, axis=-1)

        def loss(xs):
            hidden, out, z = xs
            total, h = 0.0, 0.5 * pace
            for _ in range(2):
                middle, _ = rates(hidden, out, z)
                f, rate = rates(hidden, out, z + h / 2 * middle)
                z, total = z + h * f, total + h * rate
            return ops.sum(z**3) + ops.sum(total) / len(X)

        return loss

    @forms
    def test_are_those_of_the_steps_written_out(self, form):
        if BACKEND == "jax" and form == "backprop":
            pytest.skip("what unrolled steps have, and seconds to compile")
        block = tfnode.ODEBlock(
            SmoothField(),
            solvers.Midpoint(0.5),
            regularization=self.REGULARIZATION,
            **FORMS[form],
        )
        block(X)
        randomised(block)
        variables = block.trainable_variables

        def loss(xs):
            *values, z = xs
            scope = keras.StatelessScope(list(zip(variables, values)), collect_losses=True)
            with scope:
                z1 = block(z, training=True)
            return ops.sum(z1**3) + scope.losses[0]

        generator = keras.random.SeedGenerator(1)
        noise = keras.random.normal(X.shape, dtype="float64", seed=generator)
        pace = keras.random.uniform((), 0.5, 1.5, dtype="float64", seed=generator)
        operands = [v.value for v in variables] + tensors([X])
        # A graph on TensorFlow; eagerly it is another way through the same code.
        run = compiled if form == "discrete_adjoint" else eager
        found = run(grad(loss))(operands)
        expected = eager(grad(self.written_out(noise, pace)))(operands)
        for a, b in zip(found, expected, strict=True):
            b = ops.convert_to_numpy(b)
            np.testing.assert_allclose(ops.convert_to_numpy(a), b, rtol=1e-11, atol=1e-13)
            assert np.abs(b).max() > 1e-3


# === Random ends ===
@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("solver", [solvers.RK4(0.3), solvers.BogackiShampine32(1e-3, 1e-3)])
def test_a_random_end_is_another_time_of_the_same_flow(solver):
    if BACKEND == "jax" and not isinstance(solver, solvers.RK4):
        pytest.skip("the same code, and seconds to compile")

    class Timed(keras.layers.Layer):
        def call(self, t, z):
            return z * t

    options = {"time_dependent": True, "regularization": Regularization(end_time=0.4, seed=3)}
    block = tfnode.ODEBlock(Timed(), solver, 1.0, 3.0, **options)
    generator, ends = keras.random.SeedGenerator(3), []
    for _ in range(2):
        pace = keras.random.uniform((), 0.6, 1.4, dtype="float64", seed=generator)
        ends.append(1 + 2 * float(ops.convert_to_numpy(pace)))
        found = ops.convert_to_numpy(block(X, training=True))
        if isinstance(solver, solvers.RK4):
            # As many steps as ever: 0.3 of 2 with the interval, the last one shorter.
            step = 0.3 * (ends[-1] - 1) / 2
            other = tfnode.ODEBlock(Timed(), solvers.RK4(step), 1.0, ends[-1], time_dependent=True)
            assert other.num_steps == block.num_steps == 7
            expected = ops.convert_to_numpy(other(X))
            np.testing.assert_allclose(found, expected, rtol=1e-12)
        else:
            np.testing.assert_allclose(found, X * np.exp((ends[-1] ** 2 - 1) / 2), rtol=1e-2)
    assert abs(ends[1] - ends[0]) > 0.01
    assert not block.losses
    # Inference ends where it is told to, and draws nothing.
    exact = X * np.exp(4)
    np.testing.assert_allclose(ops.convert_to_numpy(block(X)), exact, rtol=1e-2)
    np.testing.assert_array_equal(
        *(ops.convert_to_numpy(block(X, training=False)) for _ in range(2))
    )


# === Cost ===
class Counted(keras.layers.Layer):
    """The field `-z`, which counts its evaluations."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def call(self, z):
        self.count += 1
        return -z


@pytest.mark.skipif(BACKEND == "jax", reason="JAX calls Python for traces alone")
@pytest.mark.parametrize("form", ["discrete_adjoint", "unrolled"])
@pytest.mark.parametrize("solver", [solvers.RK4(1 / 3), solvers.BogackiShampine32(1e-3, 1e-3)])
def test_no_evaluation_is_added(solver, form):
    if form == "unrolled" and not isinstance(solver, solvers.RK4):
        pytest.skip("adaptive steps are not unrolled")
    counts, weights = [], Regularization(kinetic=0.1, jacobian=0.1)
    for regularization in (None, weights):
        field = Counted()
        block = tfnode.ODEBlock(field, solver, regularization=regularization, **FORMS[form])
        block.build((3, 2))
        field.count = 0
        block(X.astype("float32"), training=True)
        counts.append(field.count)
        assert block.nfe == field.count
    assert counts[0] == counts[1]


# === Training ===
def test_fit_adds_it_to_the_loss_and_draws_anew():
    rate, weights = -0.5, Regularization(kinetic=0.3, jacobian=0.2, seed=4)
    model = frozen(rate, solvers.Euler(1.0), regularization=weights)
    (found,) = fit_frozen(model, [], 2).history["loss"]
    noise = drawn(4, (8, 1), (8, 1), dtype="float32")
    added = rate**2 * (0.3 + 0.2 * np.mean(np.square(noise)))
    # One step leads to 1/2.
    alone = np.log1p(np.exp(-1))
    assert found == pytest.approx(alone + added, rel=1e-5)
    assert model.evaluate(*(np.ones((8, 1), "float32"), np.ones(8)), verbose=0)[0] == pytest.approx(
        alone, rel=1e-5
    )


def test_a_model_that_is_saved_draws_on(tmp_path):
    weights = Regularization(kinetic=0.1, jacobian=0.1, end_time=0.25)
    model = classifier(solvers.Euler(1.0), regularization=weights, **FORMS["unrolled"])
    x = X.astype("float32")
    added = lambda model: float(ops.convert_to_numpy((model(x, training=True), model.losses[0])[1]))
    added(model)
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "regularized.weights.h5")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert added(again) == added(model) != added(model)
    # A model without it takes the same weights, and one with it those of a model without.
    plain = classifier(solvers.Euler(1.0), seed=1)
    before = plain.get_weights()
    plain.save_weights(tmp_path / "plain.weights.h5")
    plain.load_weights(tmp_path / "regularized.weights.h5")
    np.testing.assert_array_equal(plain.get_weights()[0], model.get_weights()[0])
    model.load_weights(tmp_path / "plain.weights.h5")
    np.testing.assert_array_equal(model.get_weights()[0], before[0])


def test_it_is_kept_by_configurations_and_under_another_solver():
    weights = Regularization(kinetic=0.1, jacobian=0.2, end_time=0.25, seed=7)
    block = tfnode.ODEBlock(keras.layers.Dense(2), "rk4", regularization=weights)
    config = json.loads(json.dumps(block.get_config()))
    assert tfnode.ODEBlock.from_config(config).regularization == weights
    assert tfnode.with_solver(block, "euler").regularization == weights
    # Without anything random there is no generator, and without it nothing at all.
    assert not tfnode.ODEBlock(
        keras.layers.Dense(2), regularization=Regularization(kinetic=1.0)
    )._seed_generators
    assert tfnode.ODEBlock(keras.layers.Dense(2)).regularization == Regularization()


def test_a_model_under_another_solver_adds_what_that_computes():
    model = frozen(-0.5, solvers.Euler(1.0), regularization=Regularization(kinetic=1.0))
    other = tfnode.with_solver(model, solvers.Euler(0.5))
    ones = np.ones((4, 1), "float32")
    assert penalty(model, ones) == pytest.approx(0.25)
    assert penalty(other, ones) == pytest.approx((0.25 + 0.375**2) / 2)


# === Errors ===
def test_what_it_cannot_go_with_is_refused():
    build = lambda **options: tfnode.ODEBlock(keras.layers.Dense(2), **options)
    with pytest.raises(ValueError, match=r"adjoint knows none\. Received: gradient"):
        build(
            solver=solvers.DormandPrince(),
            gradient="adjoint",
            regularization=Regularization(kinetic=1.0),
        )
    with pytest.raises(ValueError, match=r"Received: save_at=\[1\.0\] with Regularization"):
        build(save_at=[1.0], regularization=Regularization(end_time=0.5))
    block = build(regularization=Regularization(end_time=0.5))
    assert block(np.ones((3, 2)), t1=0.5).shape == (3, 2)
    with pytest.raises(ValueError, match="Received: times of a call for 'ode_block"):
        block(np.ones((3, 2)), t1=0.5, training=True)
    for config in ({"kinetic": 1.0, "energy": 1.0}, {"end_time": 1.0}, "kinetic"):
        with pytest.raises(ValueError, match=r"Received: (end_time|regularization)="):
            build(regularization=config)
