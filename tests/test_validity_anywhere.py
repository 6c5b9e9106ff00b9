"""A verdict is the same wherever the blocks of a model sit, and whatever it was compiled with."""

import keras
import numpy as np
import pytest
from linear_models import X, Y, linear, predicted

import tfnode
from tfnode import validity
from tfnode.solvers import Euler


class Inside(keras.layers.Layer):
    """A layer of a user's own, with a block in it."""

    def __init__(self, block):
        super().__init__()
        self.block = block

    def build(self, inputs_shape):
        self.block.build(inputs_shape)

    def call(self, z):
        return self.block(z)


class Cell(Inside):
    """A cell of a recurrent layer that integrates its input."""

    state_size = output_size = 1

    def call(self, z, states):
        z = self.block(z)
        return z, [z]


class Subclassed(keras.Model):
    """Two functions of states, one after the other, and logits."""

    def __init__(self, first, second, logits):
        super().__init__()
        self.first, self.second, self.logits = first, second, logits

    def call(self, z):
        return self.logits(self.second(self.first(z)))


def nested(block):
    return keras.Sequential([keras.Input((1,)), block])


def distributed(block):
    layers = [keras.layers.Reshape((1, 1)), keras.layers.TimeDistributed(block)]
    return keras.Sequential([keras.Input((1,)), *layers, keras.layers.Reshape((1,))])


def recurrent(block):
    # Not unrolled, `RNN` calls its cell once more than there are times, and drops the result.
    layers = [keras.layers.Reshape((1, 1)), keras.layers.RNN(Cell(block), unroll=True)]
    return keras.Sequential([keras.Input((1,)), *layers])


def in_two_halves(inside, is_subclassed, is_shared=False):
    """`linear(Euler(1 / 4))` with the second half of the interval in a block somewhere else."""
    first, second = (
        tfnode.ODEBlock(keras.layers.Rescaling(-1.0), Euler(1 / 4), t1=1 / 2) for _ in range(2)
    )
    second = inside(first if is_shared else second)
    logits = keras.layers.Dense(2)
    model = Subclassed(first, second, logits)
    if not is_subclassed:
        inputs = keras.Input((1,))
        model = keras.Model(inputs, logits(second(first(inputs))))
    model(X)
    logits.set_weights([np.array([[-1.0, 1.0]]), np.array([0.25, -0.25])])
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def visible(block):
    return block


LABELS = predicted(1, 1 / 4)


@pytest.fixture(scope="module")
def expected():
    """The report on the functional model with two blocks in sight."""
    return validity.check(in_two_halves(visible, is_subclassed=False), (X, LABELS))


def test_two_halves_are_judged_as_the_whole(expected):
    whole = validity.check(linear(Euler(1 / 4)), (X, LABELS))
    assert expected.gap == whole.gap > 0
    assert (expected.rows[0].num_steps, expected.rows[0].nfe) == (4, 4)


@pytest.mark.parametrize(
    "inside, is_subclassed",
    [
        (visible, True),
        (Inside, False),
        (Inside, True),
        (nested, True),
        (distributed, False),
        (recurrent, True),
    ],
)
def test_a_block_is_judged_wherever_it_sits(inside, is_subclassed, expected):
    found = validity.check(in_two_halves(inside, is_subclassed), (X, LABELS))
    assert_equal_reports(found, expected)


@pytest.mark.parametrize("is_subclassed", [False, True])
def test_a_block_that_is_applied_twice_counts_twice(is_subclassed, expected):
    shared = in_two_halves(visible, is_subclassed, is_shared=True)
    assert_equal_reports(validity.check(shared, (X, LABELS)), expected)


def assert_equal_reports(report, expected):
    for name in ("is_ode", "gap", "changed", "class_gaps", "num_samples"):
        assert getattr(report, name) == getattr(expected, name)
    assert report.loss_gap == pytest.approx(expected.loss_gap, rel=1e-5)
    for row, other in zip(report.rows, expected.rows, strict=True):
        for name in ("solver", "factor", "step_size", "num_steps", "nfe", "accuracy", "gap"):
            assert getattr(row, name) == getattr(other, name)
        assert row.loss == pytest.approx(other.loss, rel=1e-5)
        assert row.is_better == other.is_better


class Unused(Inside):
    def call(self, z):
        return z


def test_a_block_that_is_there_and_not_called_is_an_error_and_no_verdict():
    model = in_two_halves(Unused, is_subclassed=True)
    with pytest.raises(ValueError, match="call every `ODEBlock` that it holds") as error:
        validity.check(model, (X, Y))
    assert f"does not call ['{model.second.block.name}']" in str(error.value)


def own_loss(y, outputs):
    return keras.losses.sparse_categorical_crossentropy(y, outputs, from_logits=True)


class OwnLoss(keras.losses.Loss):
    def call(self, y, outputs):
        return own_loss(y, outputs)


class OwnMetric(keras.metrics.SparseCategoricalAccuracy):
    pass


class OwnSchedule(keras.optimizers.schedules.LearningRateSchedule):
    def __call__(self, step):
        return 0.1


@pytest.mark.parametrize("loss", [own_loss, OwnLoss()], ids=type)
def test_what_a_user_wrote_and_did_not_register_is_used_as_it_is(loss):
    model = linear(Euler(1 / 2))
    expected = validity.check(model, (X, Y))
    model.compile(keras.optimizers.SGD(OwnSchedule()), loss, metrics=[OwnMetric()])
    assert_equal_reports(validity.check(model, (X, Y)), expected)


# === Calls with times of their own ===
def decay():
    return tfnode.ODEBlock(keras.layers.Rescaling(-1.0), Euler(1 / 2), 1.0, 2.2, name="ode")


def timed():
    """`dz/dt = -z` on [1, 2.2], up to a time of the inputs for each sample."""
    x, end = keras.Input((1,)), keras.Input(())
    model = keras.Model([x, end], decay()(x, t1=end))
    model.compile("sgd", "mse", jit_compile=False)
    return model


def up_to(end):
    ends = np.full(len(X), 1.5, "float32")
    ends[3] = end
    return (X, ends), Y


TIMED = {
    "check": lambda model, data: validity.check(model, data, verbose=0),
    "convergence_test": lambda model, data: validity.convergence_test(model, data),
    "crossings": lambda model, data: validity.crossings(model, data[0]),
    "callback": lambda model, data: model.fit(
        *data, verbose=0, callbacks=[tfnode.StepAdaption(data, every=1)]
    ),
}


@pytest.mark.parametrize("end", [3.0, -0.5])
@pytest.mark.parametrize("measure", TIMED.values(), ids=TIMED)
def test_a_call_that_is_longer_than_its_block_is_refused(measure, end, monkeypatch):
    """Its reference would need more steps than the loop has, and be NaN."""
    message = rf"on \[1\.0, 2\.2\] up to {end:g}\. Build the block with t1={end:g}, "
    monkeypatch.setattr(tfnode.models.Twin, "__init__", None)
    with pytest.raises(ValueError, match=f"^A model is measured .*{message}"):
        measure(timed(), up_to(end))


def test_times_to_save_at_are_times_of_a_call_too():
    x = keras.Input((1,))
    z = decay()(x, save_at=keras.ops.convert_to_tensor([1.5, 4.0]))
    with pytest.raises(ValueError, match=r"up to 4\. Build the block with t1=4, "):
        validity.crossings(keras.Model(x, z), X)


@pytest.mark.parametrize("end", [2.2, 0.0])
def test_a_call_that_is_no_longer_than_its_block_is_measured(end):
    """Also where single precision makes the end a little later: 2.2 is rounded up."""
    report = validity.check(timed(), up_to(end), verbose=0)
    assert np.isfinite([row.gap for row in report.rows]).all()
    assert report.reference_error < 1e-6
