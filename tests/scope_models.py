"""Models with a block in every place that a block can be in, and the data to call them with."""

import keras
import numpy as np
from keras import layers

import tfnode
from tfnode import solvers
from tfnode.models import calls_of, reached_blocks

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
# Where a test does not ask for XLA, TensorFlow compiles for longer than it traces. On JAX without
# it everything would run eagerly.
JIT_COMPILE = keras.backend.backend() == "jax"
TIMESTEPS = 5
COARSE, FINE = solvers.Euler(1 / 2), solvers.Midpoint(1 / 4)

register = keras.saving.register_keras_serializable("tfnode_scope_tests")


@register
class Holder(layers.Layer):
    """A layer of a user's own, with another layer inside."""

    def __init__(self, inner, **kwargs):
        super().__init__(**kwargs)
        self.inner = inner

    def call(self, z):
        return 0.5 * z + self.inner(z)

    def get_config(self):
        return {**super().get_config(), "inner": keras.saving.serialize_keras_object(self.inner)}

    @classmethod
    def from_config(cls, config):
        inner = keras.saving.deserialize_keras_object(config.pop("inner"))
        return cls(inner, **config)


@register
class Cell(Holder):
    """A recurrent cell whose state moves along a block between two inputs."""

    state_size = 2

    def build(self, inputs_shape):
        self.inner.build(inputs_shape)

    def call(self, inputs, states):
        z = self.inner(states[0]) + inputs
        return z, [z]


@register
class Subclassed(keras.Model):
    def __init__(self, solver, **kwargs):
        super().__init__(**kwargs)
        self.solver = solvers.get(solver)
        self.ode = block(self.solver)
        self.head = layers.Dense(2)

    def call(self, x):
        return self.head(self.ode(x))

    def get_config(self):
        return {**super().get_config(), "solver": solvers.serialize(self.solver)}


def block(solver, name=None):
    return tfnode.ODEBlock(layers.Dense(2, "tanh"), solver, name=name)


def classifier(build, shape=(2,)):
    inputs = keras.Input(shape, name="x")
    return keras.Model(inputs, layers.Dense(2, name="logits")(build(inputs)))


def functional(solver):
    return classifier(block(solver))


def sequential(solver):
    return keras.Sequential([keras.Input((2,)), block(solver), layers.Dense(2)])


def sequential_without_input(solver):
    return keras.Sequential([block(solver), layers.Dense(2)])


def nested(solver):
    inner = keras.Sequential([keras.Input((2,)), layers.Dense(2), block(solver)])
    return classifier(inner)


def beside(solver):
    """A block inside a layer, and one that is seen."""
    return classifier(lambda x: Holder(block(solver))(block(solver)(x)))


def time_distributed(solver):
    distributed = layers.TimeDistributed(block(solver))
    return classifier(lambda x: layers.Flatten()(distributed(x)), (TIMESTEPS, 2))


def recurrent(solver):
    return classifier(layers.RNN(Cell(block(solver))), (TIMESTEPS, 2))


def twice(solver):
    ode = block(solver)
    return classifier(lambda x: ode(ode(x)))


def in_field(solver):
    return classifier(tfnode.ODEBlock(Holder(block(solver)), solver))


def lists(solver):
    a, b = keras.Input((2,), name="a"), keras.Input((2,), name="b")
    z = block(solver)(layers.Add()([a, b]))
    return keras.Model([a, b], [layers.Dense(2, name="u")(z), layers.Dense(3, name="v")(z)])


def dictionaries(solver):
    model = lists(solver)
    a, b = model.inputs
    u, v = model.outputs
    return keras.Model({"a": a, "b": b}, {"u": u, "v": v})


KINDS = {
    build.__name__: build
    for build in (
        functional,
        sequential,
        sequential_without_input,
        nested,
        Subclassed,
        beside,
        time_distributed,
        recurrent,
        twice,
        in_field,
        lists,
        dictionaries,
    )
}

# How often one forward pass calls each of the blocks, in the order in which it first does. Euler
# with two steps evaluates a field twice. On TensorFlow and torch Keras calls a recurrent cell once
# more, before its loop, for the shapes of the outputs.
CALLS = {
    **{kind: [1] for kind in KINDS},
    "beside": [1, 1],
    "time_distributed": [TIMESTEPS],
    "recurrent": [TIMESTEPS + 1],
    "twice": [2],
    "in_field": [1, 2],
}


def build(kind, solver):
    """The model of a kind, with the same weights at every call, built."""
    keras.utils.set_random_seed(1)
    model = KINDS[kind](solver)
    model(inputs(kind))
    return model


def inputs(kind, samples=8):
    shape = (TIMESTEPS, 2) if kind in ("time_distributed", "recurrent") else (2,)
    a, b = np.random.default_rng(0).normal(size=(2, samples, *shape)).astype("float32")
    return {"lists": [a, b], "dictionaries": {"a": a, "b": b}}.get(kind, a)


def labels(kind, samples=8):
    y = np.arange(samples) % 2
    return {"lists": [y, y], "dictionaries": {"u": y, "v": y}}.get(kind, y)


def compiled(model, kind):
    losses = {"lists": {"u": LOSS, "v": LOSS}, "dictionaries": {"u": LOSS, "v": LOSS}}
    loss = losses.get(kind, LOSS)
    model.compile(keras.optimizers.SGD(0.1), loss, jit_compile=JIT_COMPILE)
    return model


def outputs(model, x):
    return [keras.ops.convert_to_numpy(y) for y in keras.tree.flatten(model(x))]


def assert_equal(ours, theirs):
    assert len(ours) == len(theirs) > 0
    for one, other in zip(ours, theirs):
        np.testing.assert_array_equal(one, other)


def counted(kind):
    """The calls that are found, those after each step is halved, and whether all are eager."""
    model = build(kind, COARSE)
    x = keras.tree.map_structure(keras.ops.convert_to_tensor, inputs(kind))
    reached = reached_blocks(model, x)
    for found in reached:
        found.block.step_size = 1 / 4
        state, _ = found.inputs[0]
        assert np.isfinite(keras.ops.convert_to_numpy(state)).all()
    return [found.calls for found in reached], calls_of(reached, [r.block for r in reached])
