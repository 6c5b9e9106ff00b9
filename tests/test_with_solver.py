"""`with_solver`: any model under another solver, sharing every weight, and itself untouched."""

import keras
import numpy as np
import pytest
from keras import layers
from test_ode_block import classifier, named_block, normal

import tfnode
from tfnode import solvers, tableaus
from tfnode.models import held_blocks


def nested():
    inner = keras.Sequential([keras.Input((3,)), named_block(), layers.Dense(3)], name="inner")
    return classifier(inner, name="outer")


def functional():
    return classifier(named_block())


def sequential():
    return keras.Sequential([keras.Input((3,)), named_block(), layers.Dense(2)])


def shared():
    """One block, used twice."""
    inputs, block = keras.Input((3,), name="x"), named_block()
    return keras.Model(inputs, block(layers.Dense(3)(block(inputs))))


@keras.saving.register_keras_serializable("test_with_solver")
class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.block, self.logits = named_block(), layers.Dense(2, name="logits")

    def call(self, x):
        return self.logits(self.block(x))


def subclassed():
    model = Subclassed()
    model(normal(2, 3))
    return model


@keras.saving.register_keras_serializable("test_with_solver")
class Holder(layers.Layer):
    """A layer with a block inside, which no list of a model's layers names."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.block = named_block()

    def call(self, x):
        return self.block(x)


def hidden():
    return keras.Sequential([keras.Input((3,)), Holder(), layers.Dense(2)])


def distributed():
    return keras.Sequential(
        [keras.Input((3,)), layers.Reshape((1, 3)), layers.TimeDistributed(named_block())]
    )


MODELS = [functional, sequential, nested, shared, subclassed, hidden, distributed]


@pytest.mark.parametrize("make", MODELS)
def test_it_shares_every_weight_and_touches_nothing(make):
    model, x = make(), normal(4, 3)
    (block,) = held_blocks(model)
    outputs, weights = model(x), [weight.numpy() for weight in model.weights]

    other = tfnode.with_solver(model, solvers.Euler(1 / 64))
    (other_block,) = held_blocks(other)
    assert other_block.solver == solvers.Euler(1 / 64)
    assert other_block.field is block.field
    assert other_block.step_size is not block.step_size
    assert len(other.trainable_weights) == len(model.trainable_weights)
    assert all(a is b for a, b in zip(other.trainable_weights, model.trainable_weights))
    # Of its own it has a step size, a method and a memory.
    assert len(other.weights) == len(model.weights) + 3
    assert other.name == model.name
    assert np.max(np.abs(other(x) - outputs)) > 1e-5

    other_block.step_size = 1.0
    assert (block.solver.tableau, block.num_steps) == (tableaus.RK4, 4)
    for weight, value in zip(model.weights, weights):
        np.testing.assert_array_equal(weight, value)
    np.testing.assert_array_equal(model(x), outputs)
    # The same solver gives the same model, so what differed above is the solver alone.
    same = tfnode.with_solver(other, solvers.RK4(0.3))
    np.testing.assert_array_equal(same(x), outputs)


@pytest.mark.parametrize("make", [functional, sequential, nested])
def test_a_functional_model_stays_one(make):
    model = make()
    other = tfnode.with_solver(model, "rk4")
    assert [t.name for t in other.inputs] == [t.name for t in model.inputs]
    assert (other.input_shape, other.output_shape) == ((None, 3), (None, 2))


@pytest.mark.parametrize("name", ["x", "head"])
def test_a_model_may_be_called_as_its_input_or_output(name):
    inputs = keras.Input((3,), name="x")
    model = keras.Model(inputs, layers.Dense(2, name="head")(named_block()(inputs)), name=name)
    twin = tfnode.with_solver(model, solvers.Euler(1.0))
    assert (twin.name, twin.inputs[0].name, twin.output_names) == (name, "x", ["head"])


def test_it_follows_training():
    """Shared weights are shared: an update of the one is an update of the other."""
    model, x = functional(), normal(4, 3)
    other = tfnode.with_solver(model, solvers.RK4(0.3))
    for weight in model.trainable_weights:
        weight.assign(weight + 1)
    np.testing.assert_array_equal(other(x), model(x))


def test_an_own_loss_that_is_not_registered_is_in_no_way():
    model, x = functional(), normal(4, 3)
    model.compile("sgd", loss=lambda y, z: keras.ops.mean(z - y), metrics=[lambda y, z: z - y])
    other = tfnode.with_solver(model, "rk4")
    assert not other.compiled
    other.compile("sgd", loss=model.loss)
    assert np.isfinite(other.evaluate(x, np.zeros((4, 2)), verbose=0))


@pytest.mark.parametrize("make", [functional, subclassed])
def test_it_is_saved_and_loaded(make, tmp_path):
    model, x = tfnode.with_solver(make(), solvers.Euler(1 / 3)), normal(4, 3)
    expected = model(x)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(x), expected, rtol=1e-6)
    assert held_blocks(loaded)[0].num_steps == 3


def test_of_a_block():
    block = named_block(t0=0.5, t1=2.0)
    other = tfnode.with_solver(block, "midpoint")
    assert (other.solver, other.field) == (solvers.Midpoint(1 / 32), block.field)
    assert (other.t0, other.t1, other.name) == (0.5, 2.0, "ode")


def test_it_never_gives_an_unrolled_block():
    block = named_block(gradient="backprop", unroll=True)
    other = tfnode.with_solver(block, "rk4")
    assert (other.unroll, other.gradient) == (False, "backprop")


def test_it_needs_a_block():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)], name="plain")
    with pytest.raises(ValueError, match="Received: model='plain' of type Sequential"):
        tfnode.with_solver(model, "rk4")
