"""`ODEBlock` and `Augment` as Keras layers, and the discrete adjoint."""

import json
import os
import pathlib
import subprocess
import sys

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops
from problems import CountingField

import tfnode
from tfnode import solvers, tableaus

ROOT = pathlib.Path(__file__).parents[1]


@keras.saving.register_keras_serializable("test_ode_block")
class TimeField(layers.Layer):
    """A field that depends on time: `tanh(W z + b) * cos(t) + t / 3`."""

    def build(self, t_shape, z_shape):
        self.dense = layers.Dense(z_shape[-1], "tanh", dtype=self.dtype_policy, name="dense")
        self.dense.build(z_shape)

    def call(self, t, z):
        return self.dense(z) * ops.cos(t) + t / 3


def dense_field(units=3):
    return keras.Sequential(
        [layers.Dense(4, "tanh", name="hidden"), layers.Dense(units, name="out")], name="field"
    )


def conv_field(channels=2):
    return keras.Sequential(
        [
            layers.Conv2D(3, 3, padding="same", activation="tanh", name="hidden"),
            layers.Conv2D(channels, 1, name="out"),
        ],
        name="field",
    )


def frozen_field():
    field = dense_field()
    field.layers[0].trainable = False
    return field


def growth_field():
    """`dz/dt = z`: a step of size h multiplies by the method's stability function."""
    return layers.Dense(1, use_bias=False, kernel_initializer="ones", name="growth")


def normal(*shape, dtype="float32"):
    return np.random.default_rng(0).normal(size=shape).astype(dtype)


def classifier(block, name="model"):
    """A functional model around a block."""
    inputs = keras.Input((3,), name="x")
    x = layers.Dense(3, name="embed")(inputs)
    return keras.Model(inputs, layers.Dense(2, name="logits")(block(x)), name=name)


def named_block(solver=None, **kwargs):
    return tfnode.ODEBlock(dense_field(), solver or solvers.RK4(0.3), name="ode", **kwargs)


@pytest.fixture
def policy():
    """Sets a policy of dtypes, until the test ends."""
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy("float32")


@pytest.fixture
def float64():
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_dtype_policy("float32")


# === Gradients ===

RALSTON = tableaus.ButcherTableau(
    "ralston", a=((), (2 / 3,)), b=(1 / 4, 3 / 4), c=(0, 2 / 3), order=2
)
# Clips the last step of four, and is a binary fraction: exact in every precision.
STEP = 5 / 16
METHODS = [
    solvers.Euler(STEP),
    solvers.Midpoint(STEP),
    solvers.Heun(STEP),
    solvers.RK4(STEP),
    solvers.RK38(STEP),
    solvers.RungeKutta(STEP, RALSTON),
    solvers.RungeKutta(STEP, tableaus.DORMAND_PRINCE54),
]
MODES = {
    "eager": lambda function: function,
    "graph": tf.function,
    "xla": tf.function(jit_compile=True),
}


def gradients(block, z):
    """The solution, and the gradients of a loss that weighs each component differently."""
    with tf.GradientTape() as tape:
        tape.watch(z)
        z1 = block(z, training=True)
        weights = ops.reshape(ops.cos(ops.arange(ops.size(z1), dtype=z1.dtype)), z1.shape)
        loss = ops.sum(weights * ops.sin(z1))
    return [z1, *tape.gradient(loss, [z, *block.trainable_weights])]


def assert_same_gradients(field, z, mode, num_weights, solver, **kwargs):
    """The discrete adjoint against backprop through the loop and through the unrolled steps."""
    blocks = [
        tfnode.ODEBlock(field, solver, **gradient, **kwargs)
        for gradient in (
            {"gradient": "discrete_adjoint"},
            {"gradient": "backprop"},
            {"gradient": "backprop", "unroll": True},
        )
    ]
    for block in blocks:
        block.build(z.shape)
    assert len(blocks[0].trainable_weights) == num_weights

    # One function for the three, so that each case compiles once.
    @MODES[mode]
    def all_gradients(z):
        return [gradients(block, z) for block in blocks]

    adjoint, looped, unrolled = all_gradients(tf.constant(z))
    assert len(adjoint) == 2 + num_weights
    for ours, loop, steps in zip(adjoint, looped, unrolled):
        scale = np.max(np.abs(steps))
        assert scale > 1e-3
        np.testing.assert_allclose(ours, steps, rtol=0, atol=1e-12 * scale)
        np.testing.assert_allclose(ours, loop, rtol=0, atol=1e-12 * scale)


@pytest.mark.parametrize("solver", METHODS, ids=lambda solver: solver.tableau.name)
def test_gradient_of_every_method(solver, float64):
    """Backwards in time, with a clipped last step, and a field that depends on time."""
    z = normal(5, 3, dtype="float64")
    assert_same_gradients(TimeField(), z, "graph", 2, solver, t0=1.25, t1=0.25, time_dependent=True)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("field", "shape", "num_weights"),
    [(dense_field, (5, 3), 4), (conv_field, (2, 4, 4, 2), 4), (frozen_field, (5, 3), 2)],
    ids=["dense", "conv", "frozen"],
)
def test_gradient_in_every_mode(field, shape, num_weights, mode, float64):
    z = normal(*shape, dtype="float64")
    # XLA compiles steps that are written out for long: there RK4 is the dense field's alone.
    method = solvers.Heun if mode == "xla" and field is not dense_field else solvers.RK4
    assert_same_gradients(field(), z, mode, num_weights, method(STEP))


@pytest.mark.parametrize("mode", ["eager", "xla"])
def test_gradient_backwards_in_time(mode, float64):
    z = normal(5, 3, dtype="float64")
    options = {"t0": 1.25, "t1": 0.25, "time_dependent": True}
    assert_same_gradients(TimeField(), z, mode, 2, solvers.Heun(STEP), **options)


def test_gradient_with_a_field_that_is_frozen_after_building(float64):
    field = dense_field()
    field.build((None, 3))
    field.trainable = False
    z = normal(5, 3, dtype="float64")
    assert_same_gradients(field, z, "graph", 0, solvers.RK4(STEP))


def test_gradient_with_a_normalization_that_does_not_update(float64):
    """BatchNormalization with `trainable=False` runs in inference mode: state, but none moves."""
    field = keras.Sequential([layers.Dense(3), layers.BatchNormalization(trainable=False)])
    z = normal(5, 3, dtype="float64")
    assert_same_gradients(field, z, "graph", 2, solvers.RK4(STEP))


def test_training_in_eager_mode_equals_training_in_a_graph():
    x, y = normal(32, 3), np.arange(32) % 2
    found = []
    for run_eagerly in (True, False):
        keras.utils.set_random_seed(0)
        model = classifier(named_block())
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(0.1), loss, run_eagerly=run_eagerly)
        model.fit(x, y, batch_size=16, shuffle=False, verbose=0)
        found.append(model.get_weights())
    for eager, graph in zip(*found):
        np.testing.assert_allclose(eager, graph, rtol=1e-5, atol=1e-6)


class Penalized(keras.Model):
    """Trains with a penalty on the gradient by its inputs, in a `train_step` of its own."""

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as outer:
            with tf.GradientTape() as inner:
                inner.watch(x)
                outputs = self(x, training=True)
                total = tf.reduce_sum(outputs**2)
            penalty = tf.reduce_mean(inner.gradient(total, x) ** 2)
            loss = self.compute_loss(x, y, outputs) + 0.1 * penalty
        variables = self.trainable_variables
        self.optimizer.apply_gradients(zip(outer.gradient(loss, variables), variables))
        return {"loss": loss}


def test_a_gradient_penalty_in_a_train_step_of_ones_own():
    """Eagerly and in a graph as with steps that are written out."""
    x, y = normal(4, 3), np.arange(4) % 2
    found = []
    written_out = {"gradient": "backprop", "unroll": True}
    for run_eagerly, options in ((True, {}), (False, {}), (True, written_out)):
        keras.utils.set_random_seed(0)
        field = layers.Dense(3, "tanh")
        block = tfnode.ODEBlock(field, solvers.Heun(0.5), name="ode", **options)
        inputs = keras.Input((3,))
        model = Penalized(inputs, layers.Dense(2)(block(inputs)))
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(0.1), loss, run_eagerly=run_eagerly, jit_compile=False)
        # The first is adapted, too; unrolled steps cannot be.
        adaption = tfnode.StepAdaption((x, y), every=1, initial_step_size=0.5, growth=1 + 1e-9)
        callbacks = [] if found else [adaption]
        history = model.fit(x, y, epochs=2, shuffle=False, verbose=0, callbacks=callbacks)
        found.append([*history.history["loss"], *(w.numpy() for w in model.trainable_weights)])
        assert all(len(c.history) == 2 and c.nfe_per_iteration == 4 for c in callbacks)
    *others, expected = found
    for values in others:
        for a, b in zip(values, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


# === The step size is a weight ===


@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "xla"])
def test_one_trace_serves_every_step_size(jit_compile, float64):
    block = tfnode.ODEBlock(growth_field(), solvers.Euler(1.0))
    block.build((None, 1))
    traces = []

    @tf.function(jit_compile=jit_compile)
    def run(z):
        traces.append(1)
        with tf.GradientTape() as tape:
            z1 = block(z, training=True)
        return z1, tape.gradient(z1, block.trainable_weights)

    z = tf.ones((1, 1), tf.float64)
    for n in range(1, 21):
        block.step_size = 1 / n
        z1, (gradient,) = run(z)
        # Euler's (1 + w/n)^n at w = 1, and its derivative by the weight w of the field.
        np.testing.assert_allclose(z1, [[(1 + 1 / n) ** n]], rtol=1e-13)
        np.testing.assert_allclose(gradient, [[(1 + 1 / n) ** (n - 1)]], rtol=1e-13)
    assert len(traces) == 1


def test_step_size_is_exact_in_double_precision(float64):
    block = tfnode.ODEBlock(growth_field(), solvers.Euler(0.3))
    block.build((None, 1))
    assert float(block.step_size) == 0.3
    assert block.solver == solvers.Euler(0.3)


def test_num_steps_of_every_step_size():
    block = tfnode.ODEBlock(growth_field(), "rk38")
    block.build((None, 1))
    counts = list(range(1, 513))
    found = []
    for n in counts:
        block.step_size = 1 / n
        found.append((block.num_steps, block.nfe))
    assert found == [(n, 4 * n) for n in counts]


def test_weights_beside_the_fields_exist_from_construction():
    block = named_block(solvers.RK4(0.25))
    names = [(w.name, w.dtype, w.shape) for w in block.non_trainable_weights]
    assert names == [
        ("step_size", "float32", ()),
        ("method", "int32", ()),
        ("adaption_memory", "float32", (8,)),
    ]
    assert block.non_trainable_weights[0] is block.step_size
    assert (float(block.step_size), block.num_steps, block.nfe) == (0.25, 4, 16)
    block.step_size = 0.3
    assert (block.num_steps, block.nfe) == (4, 16)
    assert block.solver == solvers.RK4(float(np.float32(0.3)))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0.0, "Received: step_size=0.0"),
        (-0.1, "Received: step_size=-0.1"),
        (float("nan"), "Received: step_size=nan"),
        (float("inf"), "Received: step_size=inf"),
        (1.001, "Received: step_size=1.001 on .0.0, 1.0."),
        (1 / 514, "takes at most 512 steps"),
    ],
    ids=str,
)
def test_bad_step_size_is_refused_and_changes_nothing(value, message):
    block = named_block(solvers.RK4(0.25))
    block.build((None, 3))
    with pytest.raises(ValueError, match=message):
        block.step_size = value
    assert float(block.step_size) == 0.25


def test_step_size_of_a_block_that_is_not_built():
    block = named_block()
    assert float(block.step_size) == np.float32(0.3)
    block.step_size = 0.5
    block.build((None, 3))
    assert (float(block.step_size), block.num_steps) == (0.5, 2)


def test_step_size_of_an_unrolled_block_is_fixed():
    block = named_block(gradient="backprop", unroll=True)
    with pytest.raises(ValueError, match="which has unroll=True"):
        block.step_size = 0.5
    assert block.num_steps == 4


@pytest.mark.parametrize("name", ["t0", "t1"])
def test_the_interval_cannot_be_assigned(name):
    """A graph that was traced would keep the old one."""
    block = named_block()
    with pytest.raises(AttributeError):
        setattr(block, name, 2.0)
    assert (block.t0, block.t1) == (0.0, 1.0)


def test_loop_is_as_long_as_the_first_step_size_asks(float64):
    """A finer first step than 1/512 raises the bound, and is met exactly."""
    block = tfnode.ODEBlock(growth_field(), solvers.Euler(1 / 1000))
    z1 = block(tf.ones((1, 1), tf.float64))
    assert block.num_steps == 1000
    np.testing.assert_allclose(z1, [[1.001**1000]], rtol=1e-12)


def test_unrolled_block_survives_its_config():
    """The weight is single precision; the number of steps must not depend on its rounding."""
    found = []
    for n in (10, 25, 29, 50):
        options = {"gradient": "backprop", "unroll": True}
        block = tfnode.ODEBlock(growth_field(), solvers.Euler(1 / n), **options)
        block.build((None, 1))
        copy = tfnode.ODEBlock.from_config(block.get_config())
        copy.build((None, 1))
        found.append((block.num_steps, copy.num_steps))
    assert found == [(10, 10), (25, 25), (29, 29), (50, 50)]


# === Shapes, and the states on the way ===


@pytest.mark.parametrize(
    ("field", "shape"),
    [(dense_field, (2, 3)), (dense_field, (2, 5, 3)), (lambda: conv_field(3), (2, 4, 4, 3))],
    ids=["2d", "3d", "4d"],
)
def test_trajectory_agrees_with_the_call(field, shape):
    block = tfnode.ODEBlock(field(), solvers.RK4(0.3), t0=0.5, t1=-0.5)
    z = normal(*shape)
    times, states = block.trajectory(z)
    assert (times.shape, states.shape) == ((5,), (5, *shape))
    assert (float(times[0]), float(times[-1])) == (0.5, -0.5)
    np.testing.assert_allclose(times, [0.5, 0.2, -0.1, -0.4, -0.5], atol=1e-7)
    np.testing.assert_array_equal(states[0], z)
    z1 = block(z)
    assert z1.shape == shape
    np.testing.assert_allclose(states[-1], z1, rtol=1e-6, atol=1e-6)


def test_times_end_exactly_at_t1():
    block = tfnode.ODEBlock(growth_field(), solvers.Euler(0.7), t0=0.1, t1=0.8)
    block.build((None, 1))
    for n in (1, 3, 7, 10, 49):
        block.step_size = 0.7 / n
        times, states = block.trajectory(np.ones((1, 1), "float32"))
        assert len(times) == len(states) == n + 1
        assert float(times[-1]) == np.float32(0.8)


@pytest.mark.parametrize("solver", [solvers.RK4(0.3), solvers.BogackiShampine32()])
def test_numbers_of_a_block_are_refused_in_a_graph(solver):
    block = tfnode.ODEBlock(growth_field(), solver, name="ode")
    block(np.ones((2, 1), "float32"))
    for read in (block.trajectory, lambda z: z * block.nfe):
        with pytest.raises(ValueError, match=r"(?s)are read eagerly.*`save_at=times`"):
            tf.function(read)(tf.ones((2, 1)))


def test_time_dependent_field_sees_the_time(float64):
    """`dz/dt = tanh(0) cos(t) + t/3`, a quadratic, which the midpoint rule integrates exactly."""
    block = tfnode.ODEBlock(TimeField(), solvers.Midpoint(0.5), t0=1.0, t1=3.0, time_dependent=True)
    z = np.zeros((2, 3))
    block.build(z.shape)
    block.field.dense.kernel.assign(np.zeros((3, 3)))
    np.testing.assert_allclose(block(z), np.full((2, 3), (9 - 1) / 6), rtol=1e-14)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_numpy_field_is_the_field(dtype):
    block = named_block()
    z = normal(2, 3)
    block.build(z.shape)
    given = keras.ops.cast(z, dtype)
    field, z0 = block.vector_field.numpy(given, None, block.variable_dtype)
    np.testing.assert_array_equal(z0, keras.ops.cast(given, "float32"))
    found = field(0.0, z0)
    assert type(found) is type(z0) is np.ndarray
    np.testing.assert_allclose(found, block.field(z0), rtol=1e-6)


# === Errors ===


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"t0": 1.0, "t1": 1.0}, "Received: t0=1.0, t1=1.0"),
        ({"t1": float("nan")}, "Received: t1=nan"),
        ({"gradient": "adjiont"}, "Received: gradient='adjiont'"),
        ({"unroll": True}, "Received: unroll=True, gradient='discrete_adjoint'"),
        ({"solver": solvers.RK4(1.5)}, "Received: step_size=1.5"),
        ({"solver": "rk5"}, "Received: solver='rk5'"),
        ({"field": lambda z: -z}, "Received: field=<function"),
        ({"field": None}, "Received: field=None"),
    ],
    ids=lambda value: "" if isinstance(value, str) else "-".join(value),
)
def test_bad_argument_raises(options, message):
    with pytest.raises(ValueError, match=message):
        tfnode.ODEBlock(**{"field": dense_field(), **options})


@pytest.mark.parametrize(
    ("field", "message"),
    [
        (lambda: layers.Dense(4), r"a derivative of shape \(None, 4\)"),
        (lambda: layers.Dense(3, dtype="float64"), "dtype float64"),
        (lambda: layers.Dense(3, dtype="float16"), "dtype float16"),
    ],
    ids=["shape", "float64", "float16"],
)
def test_field_that_changes_shape_or_dtype_raises(field, message):
    with pytest.raises(ValueError, match=f"Received: a state of shape .*{message}"):
        tfnode.ODEBlock(field())(keras.Input((3,)))


def test_integer_inputs_raise():
    block = named_block()
    block.build((None, 3))
    with pytest.raises(ValueError, match=r"Received: inputs\.dtype='int32' for block 'ode'"):
        block(np.ones((2, 3), "int32"))
    with pytest.raises(ValueError, match=r"Received: inputs\.dtype='int32' for block 'ode'"):
        block(keras.Input((3,), dtype="int32"))
    with pytest.raises(ValueError, match=r"Received: inputs\.dtype='int32' for block 'ode'"):
        block.trajectory(np.ones((2, 3), "int32"))


def test_a_field_of_many_units_is_trained_for_more_than_one_batch():
    # So many that TensorFlow's graph optimizer saves memory; see `loops/tensorflow.py`.
    field = keras.Sequential([layers.Dense(65_536, "relu"), layers.Dense(1)])
    inputs = keras.Input((1,), batch_size=256)
    model = keras.Model(inputs, tfnode.ODEBlock(field, solvers.RK4(1.0))(inputs))
    model.compile(keras.optimizers.SGD(0.0), "mse", jit_compile=False)
    losses = [model.train_on_batch(np.ones((256, 1)), np.zeros((256, 1))) for _ in range(2)]
    assert losses[0] == losses[1]


STATEFUL = {
    "dropout": lambda: keras.Sequential([layers.Dense(3), layers.Dropout(0.5)], name="field"),
    "batch_normalization": lambda: keras.Sequential(
        [layers.Dense(3), layers.BatchNormalization()], name="field"
    ),
    "activity_regularizer": lambda: keras.Sequential(
        [layers.Dense(3, activity_regularizer="l2")], name="field"
    ),
}


@pytest.mark.parametrize("name", STATEFUL)
def test_discrete_adjoint_refuses_state(name):
    field = STATEFUL[name]()
    block = tfnode.ODEBlock(field, solvers.Euler(0.5), name="ode")
    block.build((None, 3))
    before = [weight.numpy() for weight in field.weights]
    message = "(?s)Received: field='field' for 'ode'.*gradient=\"backprop\""
    with pytest.raises(ValueError, match=message):
        tf.function(lambda z: block(z, training=True))(tf.ones((2, 3)))
    for weight, value in zip(field.weights, before):
        np.testing.assert_array_equal(weight, value)
    # Inference needs no gradient, and is not refused.
    assert block(tf.ones((2, 3))).shape == (2, 3)


@pytest.mark.parametrize("name", STATEFUL)
def test_backprop_accepts_state(name):
    # What a step adds to the losses cannot leave a loop, only unrolled steps.
    unroll = name == "activity_regularizer"
    block = tfnode.ODEBlock(
        STATEFUL[name](), solvers.Euler(0.5), gradient="backprop", unroll=unroll
    )
    model = classifier(block)
    before = [weight.numpy() for weight in block.field.weights]
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    history = model.fit(normal(32, 3), np.arange(32) % 2, batch_size=16, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    changed = [not np.array_equal(a, b) for a, b in zip(block.field.weights, before)]
    # All but the offset of a normalization that sees centred data at once may be told apart.
    assert all(changed)


# === Keras citizenship: one harness for every layer ===


def time_block():
    return tfnode.ODEBlock(TimeField(), "heun", t0=0.2, t1=1.1, time_dependent=True, name="ode")


def regularized_block():
    weights = tfnode.Regularization(kinetic=0.01, jacobian=0.01, end_time=0.25)
    return named_block(solvers.Euler(0.5), regularization=weights)


# name: (layer, input shape, output shape, trainable weights, non-trainable weights)
CASES = {
    "ode_block": (named_block, (3,), (3,), 4, 3),
    "regularized": (regularized_block, (3,), (3,), 4, 3),
    "time_dependent": (time_block, (3,), (3,), 2, 3),
    "augment": (lambda: tfnode.Augment(2, name="augment"), (4, 3), (4, 5), 0, 0),
}

all_cases = pytest.mark.parametrize("case", CASES)


def case_model(case):
    """The case's layer in a model; what the fresh process builds again from code."""
    make, input_shape, *_ = CASES[case]
    return keras.Sequential([keras.Input(input_shape), make(), layers.Dense(2, name="logits")])


@all_cases
def test_layer_is_a_keras_layer(case):
    make, input_shape, output_shape, trainable, non_trainable = CASES[case]
    layer, x = make(), normal(2, *input_shape)
    assert layer(keras.Input(input_shape)).shape == (None, *output_shape)
    assert (len(layer.trainable_weights), len(layer.non_trainable_weights)) == (
        trainable,
        non_trainable,
    )
    assert layer(x).shape == (2, *output_shape)
    assert layer.compute_output_spec(keras.KerasTensor((2, *input_shape))).shape == (
        2,
        *output_shape,
    )
    # A layer that is not built yet, since Keras adds what it was built with to the config.
    fresh = make()
    copy = type(fresh).from_config(json.loads(json.dumps(fresh.get_config())))
    assert copy.get_config() == fresh.get_config()
    copy(keras.Input(input_shape))
    copy.set_weights(layer.get_weights())
    np.testing.assert_array_equal(copy(x), layer(x))


@all_cases
def test_compute_output_shape(case):
    make, input_shape, output_shape, *_ = CASES[case]
    assert make().compute_output_shape((None, *input_shape)) == (None, *output_shape)


@all_cases
def test_fit_one_epoch(case):
    model = case_model(case)
    before = [weight.numpy() for weight in model.trainable_weights]
    model.compile("sgd", "mse")
    shape = model.output_shape[1:]
    history = model.fit(normal(32, *CASES[case][1]), np.ones((32, *shape)), 16, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    for weight, value in zip(model.trainable_weights, before):
        assert not np.array_equal(weight, value)


@all_cases
def test_mixed_precision(case, policy):
    make, input_shape, *_ = CASES[case]
    x = normal(2, *input_shape)
    expected = make()(x)
    policy("mixed_float16")
    keras.utils.set_random_seed(0)
    layer = make()
    z1 = layer(x)
    assert keras.backend.standardize_dtype(z1.dtype) == "float16"
    assert layer(keras.Input(input_shape)).dtype == "float16"
    floats = [w for w in layer.weights if w.name != "method"]
    assert {weight.dtype for weight in floats} <= {"float32"}
    np.testing.assert_allclose(np.float32(z1), expected, rtol=1e-2, atol=1e-2)


def test_state_integrates_in_single_precision(policy):
    """512 increments of 0.1/512, each of which half precision would lose beside 1."""
    policy("mixed_float16")
    field = layers.Dense(
        1, kernel_initializer="zeros", bias_initializer=keras.initializers.Constant(0.1)
    )
    block = tfnode.ODEBlock(field, solvers.Euler(1 / 512))
    z1, (times, states) = block(np.ones((1, 1))), block.trajectory(np.ones((1, 1), "float32"))
    assert np.float16(1) + np.float16(0.1 / 512) == 1
    assert z1.numpy().dtype == np.float16
    assert float(z1[0, 0]) == np.float16(1.1)
    assert (times.dtype, states.dtype) == (tf.float32, tf.float32)
    # The derivative itself is half precision: 0.1 is 0.09998 there.
    np.testing.assert_allclose(states[-1], [[1 + float(np.float16(0.1))]], rtol=1e-6)


@pytest.mark.parametrize("outermost", [True, False], ids=["block", "model"])
def test_mixed_precision_keeps_the_step_size(outermost, policy):
    """In half precision 1/500 is no multiple of the interval, and rounding hides steps."""
    policy("mixed_float16")
    field = CountingField()
    block = tfnode.ODEBlock(field, solvers.Euler(1 / 500))
    layer = block if outermost else keras.Sequential([keras.Input((3,)), block])
    x = normal(2, 3)
    layer(x)
    executions = field.count(tf.function(layer), x)
    assert (executions, block.num_steps) == (500, 500)


# What each case is changed to before it is saved; it must arrive with the weights.
SAVED_STEP_SIZE = 0.17


def reload_models(folder):
    """Runs in a fresh process: loads what the test saved, and writes what it gets."""
    folder = pathlib.Path(folder)
    found = {}
    for case in CASES:
        x = normal(2, *CASES[case][1])
        from_weights = case_model(case)
        from_weights.load_weights(folder / f"{case}.weights.h5")
        for kind, model in (
            ("keras", keras.models.load_model(folder / f"{case}.keras")),
            ("h5", from_weights),
        ):
            found[f"{case}/{kind}"] = ops.convert_to_numpy(model(x))
            if isinstance(model.layers[0], tfnode.ODEBlock):
                found[f"{case}/{kind}/step_size"] = float(model.layers[0].step_size)
                found[f"{case}/{kind}/num_steps"] = model.layers[0].num_steps
    np.savez(folder / "found.npz", **found)


@pytest.fixture(scope="module")
def reloaded(tmp_path_factory):
    """Outputs of the cases here, and after a round trip by way of a fresh process."""
    folder = tmp_path_factory.mktemp("saved")
    expected = {}
    for case in CASES:
        model = case_model(case)
        if isinstance(model.layers[0], tfnode.ODEBlock):
            model.layers[0].step_size = SAVED_STEP_SIZE
        model.save(folder / f"{case}.keras")
        model.save_weights(folder / f"{case}.weights.h5")
        expected[case] = model(normal(2, *CASES[case][1]))
    subprocess.run(
        [sys.executable, "-c", f"import test_ode_block as t; t.reload_models({str(folder)!r})"],
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"},
        check=True,
    )
    return expected, dict(np.load(folder / "found.npz"))


@pytest.mark.parametrize("kind", ["keras", "h5"])
@all_cases
def test_round_trip_in_a_fresh_process(case, kind, reloaded):
    expected, found = reloaded
    np.testing.assert_allclose(found[f"{case}/{kind}"], expected[case], rtol=1e-6)
    if case != "augment":
        assert found[f"{case}/{kind}/step_size"] == np.float32(SAVED_STEP_SIZE)
        assert found[f"{case}/{kind}/num_steps"] == 6


# === Weight files ===


def saved_file(path, solver):
    model = keras.Sequential([keras.Input((3,)), named_block(solver)])
    model.save_weights(path)
    return path, model


@pytest.mark.parametrize(
    ("solver", "values"),
    [(solvers.RK4(0.25), [0.25]), (solvers.BogackiShampine32(1e-3, 1e-4), [1e-3, 1e-4])],
    ids=["fixed", "adaptive"],
)
def test_layout_of_a_file_has_only_grown(solver, values, tmp_path):
    """Files of the first versions hold the solver's numbers alone, and still load."""
    path, saved = saved_file(tmp_path / "model.weights.h5", solver)
    name = solver.tableau.name.encode()
    with h5py.File(path, "a") as file:
        store = file["layers/ode_block/vars"]
        assert set(store) == {*map(str, range(len(values))), "method", "adaption_memory"}
        assert [float(store[str(i)][()]) for i in range(len(values))] == pytest.approx(values)
        assert (store["method"].dtype, bytes(store["method"][:])) == ("uint8", name)
        assert store["adaption_memory"].shape == (8,)
        del store["method"], store["adaption_memory"]
    again = keras.Sequential([keras.Input((3,)), named_block(type(solver)())])
    again.load_weights(path)
    assert again.layers[0].solver == saved.layers[0].solver
    np.testing.assert_array_equal(again(normal(2, 3)), saved(normal(2, 3)))


@pytest.mark.parametrize(
    ("saved", "other"),
    [
        (solvers.Midpoint(1 / 8), solvers.Heun(1 / 8)),
        (solvers.Fehlberg21(), solvers.BogackiShampine32()),
    ],
    ids=["fixed", "adaptive"],
)
def test_a_file_of_another_method_is_refused_by_name_and_changes_nothing(saved, other, tmp_path):
    path, _ = saved_file(tmp_path / "model.weights.h5", saved)
    model = keras.Sequential([keras.Input((3,)), named_block(other)])
    name = saved.tableau.name
    message = f"Received: values of '{name}' for 'ode', which has {other.tableau.name}"
    with pytest.raises(ValueError, match=message):
        model.load_weights(path)
    assert model.layers[0].solver == named_block(other).solver


MINE = [
    tableaus.ButcherTableau("mine", a=((), (c,)), b=(1 - 0.5 / c, 0.5 / c), c=(0, c), order=2)
    for c in (0.6, 0.7)
]


def test_two_methods_of_one_name_are_two(tmp_path):
    first, second = (solvers.RungeKutta(1.0, tableau) for tableau in MINE)
    path, saved = saved_file(tmp_path / "model.weights.h5", first)
    again = keras.Sequential([keras.Input((3,)), named_block(first)])
    again.load_weights(path)
    np.testing.assert_array_equal(again(normal(2, 3)), saved(normal(2, 3)))
    other = keras.Sequential([keras.Input((3,)), named_block(second)])
    with pytest.raises(ValueError, match=r"values of 'mine [0-9a-f]{8}' for 'ode', which has mine"):
        other.load_weights(path)
    # A file of the first versions has the name alone.
    with h5py.File(path, "a") as file:
        store = file["layers/ode_block/vars"]
        del store["method"]
        store["method"] = np.frombuffer(b"mine", "uint8")
    again.load_weights(path)
    again.predict(normal(2, 3), verbose=0)
    with pytest.warns(UserWarning, match="A graph keeps the methods"):
        again.layers[0].solver = second


def test_a_file_holds_what_a_rule_remembers(tmp_path):
    path, saved = saved_file(tmp_path / "model.weights.h5", solvers.RK4(0.25))
    memory = np.arange(8, dtype="float32")
    saved.layers[0].adaption_memory.assign(memory)
    saved.save_weights(path)
    again = keras.Sequential([keras.Input((3,)), named_block()])
    again.load_weights(path)
    np.testing.assert_array_equal(again.layers[0].adaption_memory, memory)


def test_default_export_reloads(tmp_path):
    model = classifier(named_block(solvers.RK4(0.25)))
    model.get_layer("ode").step_size = 0.3
    x = normal(4, 3)
    model.export(tmp_path / "saved", verbose=False)
    served = tf.saved_model.load(str(tmp_path / "saved"))
    np.testing.assert_allclose(served.serve(x), model(x), rtol=1e-6, atol=1e-7)


def test_summary_names_the_solver_and_its_cost():
    block = named_block(solvers.RK4(0.25))
    block.build((None, 3))
    lines = []
    block.summary(print_fn=lines.append)
    assert lines[:3] == [
        "ode: dz/dt = field(z), t = 0.0 .. 1.0",
        "solver: RK4(step_size=0.25), 4 steps, 16 evaluations a pass",
        "gradient: discrete_adjoint",
    ]
    assert "hidden (Dense)" in "\n".join(lines[3:])


def test_augment_appends_zeros():
    x = normal(2, 4, 3)
    z = tfnode.Augment(2)(x)
    np.testing.assert_array_equal(z[..., :3], x)
    np.testing.assert_array_equal(z[..., 3:], np.zeros((2, 4, 2)))
    np.testing.assert_array_equal(tfnode.Augment(0)(x), x)


@pytest.mark.parametrize("extra_dims", [-1, 1.0, None])
def test_augment_refuses_other_numbers(extra_dims):
    with pytest.raises(ValueError, match="Received: extra_dims="):
        tfnode.Augment(extra_dims)
