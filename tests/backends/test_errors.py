"""What breaks must say so, on every backend alike."""

import keras
import numpy as np
import pytest
from autodiff import BACKEND, compiled, grad, tensors
from keras import ops
from models import field, frozen

import tfnode
from tfnode import solvers

X = np.ones((4, 2), "float32")
ADAPTIVE = [
    solvers.BogackiShampine32(1e-3, 1e-3, max_num_steps=50),
    solvers.BogackiShampine32(1e-3, 1e-3, max_num_steps=50, per_sample=True),
    solvers.DormandPrince(1e-3, 1e-3, max_num_steps=50, per_sample=True),
]


class Reciprocal(keras.layers.Layer):
    """A field that is not finite where the state is 0."""

    def call(self, z):
        return 1 / z


# === Fields ===
@pytest.mark.parametrize(
    "layer, solver",
    [
        (keras.layers.Dropout(0.5), solvers.Euler(0.5)),
        (keras.layers.Dropout(0.5), ADAPTIVE[0]),
        (keras.layers.BatchNormalization(), solvers.Euler(0.5)),
    ],
    ids=["random_fixed", "random_adaptive", "moving_fixed"],
)
def test_a_field_with_state_is_refused_in_training(layer, solver):
    block = tfnode.ODEBlock(keras.Sequential([layer, keras.layers.Dense(2)]), solver)
    assert block(X).shape == (4, 2)
    with pytest.raises(ValueError, match=r'Dropout, BatchNormalization.*gradient="backprop"'):
        block(X, training=True)


@pytest.mark.parametrize(
    "layer, advice",
    [
        (keras.layers.Dropout(0.5), "with training=False, or draw what is random before"),
        (keras.layers.ActivityRegularization(0.1), "Leave the regularizer out"),
    ],
    ids=["random", "losses"],
)
def test_odeint_advises_what_it_can(layer, advice):
    field = keras.Sequential([layer, keras.layers.Dense(3), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match=f"Received: field='.*' for 'odeint'. .*{advice}"):
        tfnode.odeint(field, X, [0.0, 1.0], "rk4")


@pytest.mark.parametrize("solver", [solvers.RK4(0.5), ADAPTIVE[0]], ids=["fixed", "adaptive"])
def test_a_field_that_reads_weights_of_others_is_refused_in_training(solver):
    other = keras.layers.Dense(2, name="other")
    other.build((None, 2))

    class Borrows(keras.layers.Layer):
        def call(self, z):
            return (lambda: other)()(z)

    block = tfnode.ODEBlock(Borrows(name="borrows"), solver, name="block")
    assert block(X).shape == X.shape
    with pytest.raises(
        ValueError, match=r"field='borrows' for 'block', which reads \['other/b.*'oth"
    ):
        block(X, training=True)
    backprop = tfnode.ODEBlock(Borrows(), solvers.RK4(0.5), gradient="backprop", unroll=True)
    np.testing.assert_allclose(
        *map(ops.convert_to_numpy, (backprop(X, training=True), backprop(X))), rtol=1e-6
    )
    # What is frozen needs no gradient.
    other.trainable = False
    assert block(X, training=True).shape == X.shape


class Forgetful(keras.Model):
    """A model whose `call` has no argument `training`, so that Keras passes none."""

    def __init__(self, solver):
        super().__init__()
        self.block = tfnode.ODEBlock(keras.layers.Dense(2, "tanh"), solver, name="block")
        self.head = keras.layers.Dense(1)

    def call(self, x):
        return self.head(self.block(x))


@pytest.mark.parametrize("solver", ADAPTIVE[:2], ids=["for_the_batch", "per_sample"])
def test_an_adaptive_block_that_is_not_told_of_training_has_no_gradient_and_says_so(solver):
    model = Forgetful(solver)
    model.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=BACKEND == "torch")
    assert model.predict(X, verbose=0).shape == (4, 1)
    message = "training=None for 'block', and a gradient through it. Call the model with training="
    refusal = LookupError if BACKEND == "tensorflow" else ValueError
    with pytest.raises(refusal, match=message):
        model.fit(X, X[:, :1], verbose=0)
    # Keras does not give the weights back to a model on JAX when `fit` fails.
    block, (x,) = Forgetful(solver).block, tensors([X], "float32")
    of_input = lambda training: grad(lambda xs: ops.sum(block(xs[0], training=training)))
    with pytest.raises(refusal, match=message):
        of_input(None)([x])
    # Whoever says that it is inference wants no gradient; torch says that there is none.
    if BACKEND != "torch":
        np.testing.assert_array_equal(ops.convert_to_numpy(of_input(False)([x])[0]), 0 * X)
    assert np.abs(ops.convert_to_numpy(of_input(True)([x])[0])).min() > 0


def test_a_fixed_step_block_that_is_not_told_of_training_is_trained():
    model = Forgetful(solvers.RK4(0.5))
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model(X)
    before = ops.convert_to_numpy(model.block.field.kernel)
    model.fit(X, X[:, :1], verbose=0)
    assert np.abs(ops.convert_to_numpy(model.block.field.kernel) - before).min() > 0


# === Batches ===
@pytest.mark.parametrize("solver", ["rk4", ADAPTIVE[1]], ids=["fixed", "adaptive"])
@pytest.mark.parametrize("rows, ends", [(4, 2), (1, 2), (4, 1)])
def test_times_of_another_batch_are_refused(rows, ends, solver):
    z = np.ones((rows, 1), "float32")
    block = tfnode.ODEBlock(keras.layers.Rescaling(-1.0), solver)
    times = np.linspace(0.5, 1, ends).astype("float32")
    with pytest.raises(ValueError, match=rf"batch sizes \[{rows}, {ends}\] for 'ode_block'"):
        block(z, t1=times)
    with pytest.raises(ValueError, match=rf"batch sizes \[{rows}, {ends}\] for 'odeint'"):
        tfnode.odeint(lambda t, z: -z, z, np.stack([0 * times, times]), solver)


@pytest.mark.parametrize("solver", ["rk4", ADAPTIVE[0]], ids=["fixed", "adaptive"])
def test_tensors_of_a_state_have_one_batch(solver):
    z = tuple(np.ones((rows, 1), "float32") for rows in (3, 2))
    with pytest.raises(ValueError, match=r"batch sizes \[3, 2\] for 'odeint'"):
        tfnode.odeint(lambda t, z: (-z[0], -z[1]), z, [0.0, 1.0], solver)


@pytest.mark.parametrize(
    "layer", [keras.layers.Dense(3), keras.layers.Dense(1), keras.layers.Flatten()]
)
def test_a_field_that_changes_the_shape_is_refused(layer):
    with pytest.raises(ValueError, match="a derivative of the same shape and dtype"):
        tfnode.ODEBlock(layer, solvers.Euler(0.5))(np.ones((4, 2, 2), "float32"))


@pytest.mark.parametrize(
    "derivative",
    [
        lambda t, z: z[:, :1],
        lambda t, z: z[0],
        lambda t, z: ops.sum(z),
        lambda t, z: (z, z),
        lambda t, z: ops.concatenate([z, z]),
    ],
)
@pytest.mark.parametrize("solver", [solvers.Euler(0.5), ADAPTIVE[2]], ids=["fixed", "adaptive"])
def test_odeint_refuses_a_function_that_changes_the_shape(derivative, solver):
    with pytest.raises(ValueError, match="a derivative of the same shape and dtype"):
        tfnode.odeint(derivative, X, [0.0, 1.0], solver)


def test_odeint_refuses_a_layer_that_changes_the_shape():
    class Narrow(keras.layers.Layer):
        def call(self, t, z):
            return z[:, :1]

    with pytest.raises(ValueError, match="a derivative of the same shape and dtype"):
        tfnode.odeint(Narrow(), X, [0.0, 1.0], "euler")


# === Inputs ===
def test_integers_are_refused():
    block = tfnode.ODEBlock(field(2), solvers.Euler(0.5))
    with pytest.raises(ValueError, match=r"floating-point state.*int32"):
        block(ops.convert_to_tensor(np.ones((4, 2), "int32")))
    with pytest.raises(ValueError, match=r"floating-point state.*int32"):
        tfnode.odeint(lambda t, z: z, np.ones((4, 2), "int32"), [0.0, 1.0], "rk4")


def test_complex_numbers_are_refused_with_the_advice_to_take_them_apart():
    z = ops.convert_to_tensor(np.ones((4, 2), "complex64"))
    message = r"(?s)a real, floating-point state.*complex64.*\(ops\.real\(z\), ops\.imag\(z\)\)"
    block = tfnode.ODEBlock(field(2), solvers.Euler(0.5))
    for call in (block, block.trajectory, lambda z: tfnode.odeint(lambda t, z: z, z, [0.0, 1.0])):
        with pytest.raises(ValueError, match=message):
            call(z)
    with pytest.raises(ValueError, match=message):
        block(keras.Input((2,), dtype="complex64"))


def test_half_precision_is_integrated_in_single():
    block = tfnode.ODEBlock(field(2), solvers.Euler(0.5))
    block(X)
    found = block(ops.convert_to_tensor(X, dtype="float16"))
    assert keras.backend.standardize_dtype(found.dtype) == "float32"
    np.testing.assert_allclose(
        ops.convert_to_numpy(found), ops.convert_to_numpy(block(X)), atol=1e-6
    )


def test_half_precision_has_no_error_estimate():
    with pytest.raises(ValueError, match=r"single or double precision.*float16"):
        tfnode.ODEBlock(field(2), ADAPTIVE[0], dtype="float16")
    with pytest.raises(ValueError, match=r"single or double precision.*float16"):
        tfnode.odeint(lambda t, z: z, X.astype("float16"), [0.0, 1.0], ADAPTIVE[2])


@pytest.mark.parametrize("times", [[0.0], [0.0, 1.0, 0.5], [0.0, np.nan], 1.0])
def test_odeint_refuses_times_that_turn_back(times):
    with pytest.raises(ValueError, match="at least two finite numbers"):
        tfnode.odeint(lambda t, z: z, X, times, "rk4")


def test_times_for_each_sample_need_steps_for_each_sample():
    block = tfnode.ODEBlock(field(2), ADAPTIVE[0])
    with pytest.raises(ValueError, match=r"steps for each sample.*per_sample=True"):
        block(X, t1=np.full(4, 0.5, "float32"))


# === What is not finite ===
@pytest.mark.parametrize(
    "solver, training",
    list(zip(ADAPTIVE, [False, True, False])),
    ids=["shared", "per_sample", "dormand_prince"],
)
def test_nan_ends_an_adaptive_integration(solver, training):
    block = tfnode.ODEBlock(Reciprocal(), solver)
    block(X)
    x = X.copy()
    x[1] = np.nan
    with pytest.raises(FloatingPointError, match=r"must stay finite.*max_num_steps=50"):
        block(x, training=training)


def test_times_that_are_not_finite():
    times = ops.convert_to_tensor(np.array([0.0, np.nan], "float32"))
    found = tfnode.odeint(lambda t, z: -z, X, times, "rk4")
    assert np.isnan(ops.convert_to_numpy(found)[1]).all()
    with pytest.raises(FloatingPointError, match="must stay finite"):
        tfnode.odeint(lambda t, z: -z, X, times, ADAPTIVE[2])


def test_a_field_that_is_not_finite_ends_it():
    with pytest.raises(FloatingPointError, match="must stay finite"):
        tfnode.odeint(lambda t, z: 1 / z, np.zeros((2, 1), "float32"), [0.0, 1.0], ADAPTIVE[1])


@pytest.mark.skipif(BACKEND == "torch", reason="torch has no graphs here")
@pytest.mark.parametrize("solver", ADAPTIVE[:2], ids=["shared", "per_sample"])
def test_nan_ends_it_in_a_graph(solver):
    block = tfnode.ODEBlock(Reciprocal(), solver)
    block(X)
    x = X.copy()
    x[1] = np.nan

    def call(x):
        # The statistics are assigned, which JAX does not let out of a compiled function.
        with keras.StatelessScope():
            return block(x)

    if BACKEND == "jax":
        assert np.isnan(compiled(call)(x)).all()
        assert np.isfinite(compiled(call)(X)).all()
        return
    import tensorflow as tf

    with pytest.raises(tf.errors.InvalidArgumentError, match="must stay finite"):
        compiled(call)(tf.constant(x))


def test_fit_stops_at_a_loss_that_is_not_finite():
    model, good = frozen(-0.5, solvers.Euler(0.5)), np.ones((8, 1), "float32")
    adaption = tfnode.StepAdaption((good, np.ones(8, int)), every=1)
    with pytest.raises(FloatingPointError, match="The loss must stay finite"):
        model.fit(np.nan * good, np.ones(8, int), verbose=0, callbacks=[adaption])


@pytest.mark.skipif(BACKEND != "jax", reason="JAX alone computes otherwise than is declared")
def test_double_precision_that_is_none_is_refused():
    """Every bound on tolerances and steps would go by a rounding that is not there."""
    with pytest.raises(ValueError, match=r"Received: dtype='float64' for 'b'. Set JAX_ENABLE_X64"):
        tfnode.ODEBlock(keras.layers.Dense(2), dtype="float64", name="b")


def test_double_precision_that_is_there_is_taken(double):
    block = tfnode.ODEBlock(keras.layers.Rescaling(-1.0), solvers.RK4(1 / 32), dtype="float64")
    assert ops.convert_to_numpy(block(X)).dtype == "float64"


# === Precision of the field ===
@pytest.mark.skipif(keras.backend.backend() != "torch", reason="only there Keras rounds")
def test_matrices_that_keras_multiplies_in_single_precision_are_told_of():
    dense = keras.layers.Dense(3, dtype="float64")
    with pytest.warns(UserWarning, match="Received: dtype='float64' for 'b' with floatx='float32'"):
        tfnode.ODEBlock(dense, "rk4", dtype="float64", name="b")
    with pytest.warns(UserWarning, match=r'Call `keras.config.set_floatx\("float64"\)` first'):
        tfnode.odeint(dense, np.ones((2, 3)), [0.0, 1.0], "rk4")
    product = keras.ops.matmul(np.full((1, 2), 0.1), np.full((2, 1), 0.1))
    assert keras.backend.standardize_dtype(product.dtype) == "float32"
