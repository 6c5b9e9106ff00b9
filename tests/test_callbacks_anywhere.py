"""An adapting callback decides the same wherever the blocks sit, and whatever was compiled."""

import keras
import pytest
from frozen_models import ZEROS, Linear, X, fit, frozen

import tfnode
from tfnode import solvers


class Inside(keras.layers.Layer):
    """A layer of a user's own, with a block in it."""

    def __init__(self, block):
        super().__init__()
        self.block = block

    def build(self, inputs_shape):
        self.block.build(inputs_shape)

    def call(self, z):
        return self.block(z)


class Subclassed(keras.Model):
    """A model of the layers of another, the last block hidden in a layer."""

    def __init__(self, model):
        super().__init__()
        _, *self.visible, block, self.logits = model.layers
        self.hidden = Inside(block)

    def call(self, z):
        for block in self.visible:
            z = block(z)
        return self.logits(self.hidden(z))


def subclassed(model):
    return Subclassed(model)


def functional(model):
    inputs = keras.Input((1,))
    _, *visible, block, logits = model.layers
    z = inputs
    for layer in (*visible, Inside(block), logits):
        z = layer(z)
    return keras.Model(inputs, z)


def twice(model):
    """The first block, applied twice."""
    inputs = keras.Input((1,))
    _, block, _, logits = model.layers
    return keras.Model(inputs, logits(block(block(inputs))))


# With a step in each half Euler's method ends at 1/4, with two at 0.316, and the flow at 0.368.
HALVES = {"rate": -1.0, "level": 0.3, "t1": (0.5, 0.5)}


def adapted(model, policy="paper"):
    model.compile(keras.optimizers.SGD(0.0), frozen().loss, metrics=["accuracy"], jit_compile=False)
    callback = tfnode.StepAdaption((X, ZEROS), 1, policy, initial_step_size=0.5)
    fit(model, callback, ZEROS, iterations=6)
    return callback


@pytest.fixture(scope="module")
def expected():
    """What each rule decides for the model with the blocks in sight."""
    return {policy: adapted(frozen(**HALVES), policy) for policy in ("paper", "damped")}


@pytest.mark.parametrize(
    "build, policy",
    [(functional, "paper"), (subclassed, "damped"), (twice, "paper"), (twice, "damped")],
)
def test_blocks_are_adapted_wherever_they_sit(build, policy, expected):
    expected = expected[policy]
    callback = adapted(build(frozen(**HALVES)), policy)
    assert {record["action"] for record in expected.history} > {"keep"}
    for record, other in zip(callback.history, expected.history, strict=True):
        change = pytest.approx(other["change"], rel=1e-5, abs=1e-7)
        assert record == {**other, "change": change}
    assert callback.nfe_per_iteration_with_checks == expected.nfe_per_iteration_with_checks


@pytest.mark.parametrize("build", [functional, subclassed, twice])
def test_auto_sees_the_states_of_every_call(build):
    found = []
    for model in (frozen(rate=1.0, t1=(1.0, 1.0)), build(frozen(rate=1.0, t1=(1.0, 1.0)))):
        model.optimizer = keras.optimizers.SGD(0.0)
        callback = tfnode.StepAdaption((X, ZEROS))
        callback.set_model(model)
        callback.on_train_begin()
        found.append(tfnode.models.held_blocks(model)[0].solver)
    assert found[0] == found[1]


def test_tolerances_are_adapted_wherever_they_sit():
    histories = []
    for build in (lambda model: model, subclassed):
        model = build(frozen(**HALVES, solver=solvers.BogackiShampine32(per_sample=True)))
        model.compile(keras.optimizers.SGD(0.0), frozen().loss, metrics=["accuracy"])
        callback = tfnode.ToleranceAdaption((X, ZEROS), 2, initial_tolerance=0.5)
        fit(model, callback, ZEROS, iterations=2)
        histories.append(callback.history)
    assert histories[0] == histories[1]
    assert len(histories[0]) == 1


class Unused(Inside):
    def call(self, z):
        return z


def test_a_block_that_is_not_called_is_refused_before_training():
    inputs = keras.Input((1,))
    unused = Unused(tfnode.ODEBlock(Linear(-1.0), name="unused"))
    z = unused(tfnode.ODEBlock(Linear(-1.0))(inputs))
    model = keras.Model(inputs, keras.layers.Dense(2)(z))
    with pytest.raises(ValueError, match=r"does not call \['unused'\]"):
        adapted(model)
    assert int(model.optimizer.iterations) == 0


# === What a user wrote and did not register ===
def own_loss(y, outputs):
    return keras.losses.sparse_categorical_crossentropy(y, outputs, from_logits=True)


class OwnLoss(keras.losses.Loss):
    def call(self, y, outputs):
        return own_loss(y, outputs)


class OwnMetric(keras.metrics.SparseCategoricalAccuracy):
    pass


class OwnSchedule(keras.optimizers.schedules.LearningRateSchedule):
    def __call__(self, step):
        return 0.0


@pytest.mark.parametrize("loss", [own_loss, OwnLoss()], ids=type)
def test_it_is_used_as_it_is(loss):
    # With two outputs the class is the same whatever they are taken for.
    model, expected = frozen(rate=-3.0), tfnode.StepAdaption((X, ZEROS), 1, initial_step_size=1.0)
    fit(frozen(rate=-3.0), expected, ZEROS)
    model.compile(keras.optimizers.SGD(OwnSchedule()), loss, metrics=[OwnMetric()])
    callback = tfnode.StepAdaption((X, ZEROS), 1, initial_step_size=1.0)
    fit(model, callback, ZEROS)
    names = ("step_size", "nfe", "train_accuracy", "reference_accuracy", "action")
    for record, other in zip(callback.history, expected.history, strict=True):
        assert [record[name] for name in names] == [other[name] for name in names]
