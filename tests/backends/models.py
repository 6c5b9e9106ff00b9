"""Small models with the same weights on every backend, and their data."""

import keras
import numpy as np
from keras import ops

import tfnode


def randomised(layer, seed=0):
    """The layer with weights that no backend's generator made."""
    # NumPy never changes the numbers of this generator, as it may those of the newer ones.
    generator = np.random.RandomState(seed)
    for variable in layer.trainable_variables:
        variable.assign(generator.normal(size=variable.shape) / np.sqrt(variable.shape[0]))
    return layer


def field(dims=4, width=8, dtype=None):
    return keras.Sequential(
        [
            keras.layers.Dense(width, "tanh", dtype=dtype, name="hidden"),
            keras.layers.Dense(dims, dtype=dtype, name="out"),
        ],
        name="field",
    )


class SmoothField(keras.layers.Layer):
    """A field in full double precision, which `Dense` has neither on JAX nor on torch."""

    def __init__(self, dims=2, width=4, **kwargs):
        super().__init__(**kwargs)
        self.hidden = self.add_weight(name="hidden", shape=(dims, width))
        self.out = self.add_weight(name="out", shape=(width, dims))

    def call(self, z):
        return ops.sigmoid(z @ self.hidden.value) @ self.out.value


class TimedField(keras.layers.Layer):
    """A field that knows the time and conditions."""

    def __init__(self, dims=4, **kwargs):
        super().__init__(**kwargs)
        self.dense = keras.layers.Dense(dims, "tanh", name="dense")

    def build(self, t_shape, z_shape, conditions_shape=None):
        self.dense.build(z_shape)

    def call(self, t, z, conditions=None):
        z = self.dense(z) * (1 + t)
        return z if conditions is None else z + conditions


def classifier(solver, seed=0, **options):
    """Two inputs, a block of dimension 4, two logits."""
    inputs = keras.Input((2,), name="x")
    x = tfnode.Augment(2, name="augment")(inputs)
    x = tfnode.ODEBlock(field(), solver, name="ode", **options)(x)
    if options.get("save_at") is not None:
        x = keras.layers.Flatten(name="flatten")(x)
    return randomised(keras.Model(inputs, keras.layers.Dense(2, name="logits")(x)), seed)


def data(samples=256):
    x = np.random.RandomState(0).normal(size=(samples, 2)).astype("float32")
    return x, (x[:, 0] > 0).astype("int32")


def compiled(model, optimizer="adam"):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    # As an object: a metric that is made while TensorFlow traces has it trace once more.
    accuracy = keras.metrics.SparseCategoricalAccuracy("accuracy")
    model.compile(optimizer, loss, metrics=[accuracy], jit_compile=JIT_COMPILE)
    return model


# Where a test does not ask for XLA, TensorFlow compiles for longer than it traces. On JAX without
# it everything would run eagerly.
JIT_COMPILE = keras.backend.backend() == "jax"


class Linear(keras.layers.Layer):
    """The field `rate * z`, which notes its calls: in a compiled function these are traces."""

    def __init__(self, rate, **kwargs):
        super().__init__(**kwargs)
        self.rate = rate
        self.calls = 0

    def call(self, z):
        self.calls += 1
        return self.rate * z


def frozen(rate, solver, **options):
    """A model that learns nothing: it predicts class 1 where the solution from 1 is positive."""
    inputs = keras.Input((1,))
    z = tfnode.ODEBlock(Linear(rate), solver, name="ode", **options)(inputs)
    logits = keras.layers.Dense(2, name="logits")
    model = keras.Model(inputs, logits(z))
    logits.set_weights([np.array([[-1.0, 1.0]]), np.zeros(2)])
    return compiled(model, keras.optimizers.SGD(0.0))


def fit_frozen(model, callbacks, iterations, label=1):
    """Fits on batches of ones of one class."""
    x = np.ones((8 * iterations, 1), "float32")
    y = np.full(8 * iterations, label)
    return model.fit(x, y, batch_size=8, verbose=0, shuffle=False, callbacks=callbacks)
