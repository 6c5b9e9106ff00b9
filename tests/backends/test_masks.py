"""The masks of Keras go to the field, and past the block, with an axis of times if it has one."""

import keras
import numpy as np
import pytest

import tfnode
from tfnode.keras_internals import mask_of

TIMES = [0.5, 1.0]


def at_times():
    return tfnode.ODEBlock(keras.layers.Dense(2), "euler", save_at=TIMES)


@pytest.mark.parametrize("num_samples", [len(TIMES), 3])
@pytest.mark.parametrize("layer", [at_times, lambda: tfnode.Augment(2)])
def test_what_is_masked_does_not_count(layer, num_samples):
    x = np.random.default_rng(0).normal(size=(num_samples, 5, 2)).astype("float32")
    x[1:, 3:] = 0
    inputs = keras.Input((5, 2))
    # Zeros would hide what counts and should not.
    outputs = keras.layers.Rescaling(1.0, offset=1.0)(layer()(keras.layers.Masking()(inputs)))
    model = keras.Model(inputs, outputs)
    model.compile("sgd", "mse")
    answers = model.predict(x, verbose=0)
    counts = (x != 0).any(-1)
    if answers.ndim > x.ndim:
        counts = np.repeat(counts[:, None], len(TIMES), axis=1)
    loss = model.evaluate(x, np.zeros_like(answers), verbose=0)
    assert loss == pytest.approx((answers[counts] ** 2).mean(), rel=1e-5)


def test_times_of_a_call_have_the_mask_of_its_state():
    inputs = keras.Input((5, 2))
    block = tfnode.ODEBlock(keras.layers.Dense(2), "rk4", save_at=TIMES)
    x = np.random.default_rng(0).normal(size=(4, 5, 2)).astype("float32")
    x[2, 1:] = 0
    masked = keras.layers.Masking()(inputs)
    for times, shape in (({}, 2), ({"save_at": [0.1, 0.2, 0.6]}, 3), ({"t1": 0.7}, None)):
        answer = block(masked, **times)
        model = keras.Model(inputs, answer)
        mask = mask_of(answer)
        assert tuple(mask.shape) == (None, *([] if shape is None else [shape]), 5)
        found = keras.ops.convert_to_numpy(mask_of(model(x)))
        valid = (x != 0).any(-1)
        expected = valid if shape is None else np.repeat(valid[:, None], shape, axis=1)
        assert np.array_equal(found, expected)


# === What the field sees ===
class MaskedGrowth(keras.layers.Layer):
    """Grows by 1 a unit of time where neither the state nor the conditions are masked."""

    def __init__(self):
        super().__init__()
        self.supports_masking = True

    def build(self, *shapes):
        self.rate = self.add_weight(name="rate", shape=(), initializer="ones")

    def growth(self, z, *masks):
        growth = self.rate * keras.ops.ones_like(z)
        for mask in masks:
            if mask is not None:
                growth *= keras.ops.cast(mask, z.dtype)[..., None]
        return growth


class OfState(MaskedGrowth):
    def call(self, z, mask=None):
        return self.growth(z, mask)


class OfConditions(MaskedGrowth):
    def call(self, z, conditions, z_mask=None, conditions_mask=None):
        return self.growth(z, z_mask, conditions_mask)


class OfTwoStates(MaskedGrowth):
    def call(self, z, mask=None):
        return [self.growth(each, m) for each, m in zip(z, mask)]


def solvers_and_gradients():
    yield tfnode.solvers.RK4(0.25), {}
    yield tfnode.solvers.Heun(0.5), {"gradient": "backprop"}
    yield tfnode.solvers.Heun(0.5), {"gradient": "backprop", "unroll": True}
    yield tfnode.solvers.RK4(0.25), {"regularization": tfnode.Regularization(kinetic=0.1)}
    yield tfnode.solvers.DormandPrince(per_sample=True), {}
    if keras.backend.backend() == "tensorflow":
        yield tfnode.solvers.DormandPrince(), {}
        yield tfnode.solvers.DormandPrince(), {"gradient": "adjoint"}


@pytest.fixture
def states():
    """A state and conditions, with which positions of them are none of zeros."""
    z, conditions = np.random.default_rng(2).normal(size=(2, 3, 5, 2)).astype("float32")
    z[1, 3:], conditions[2, :2] = 0, 0
    return z, conditions, (z != 0).any(-1), (conditions != 0).any(-1)


def model_of(block):
    """A model of what a block makes of a state, of one with conditions, and of two."""
    x, c = keras.Input((5, 2)), keras.Input((5, 2))
    masked, masked_conditions = keras.layers.Masking()(x), keras.layers.Masking()(c)
    outputs = [
        block(OfState())(masked),
        block(OfConditions())(masked, masked_conditions),
        block(OfConditions())(x, masked_conditions),
        *block(OfTwoStates())([masked, masked_conditions]),
    ]
    return keras.Model([x, c], outputs)


def solutions(z, conditions, of_state, of_conditions):
    both = of_state & of_conditions
    starts = z, z, z, z, conditions
    counts = of_state, both, of_conditions, of_state, of_conditions
    return [start + c[..., None] for start, c in zip(starts, counts)]


@pytest.mark.parametrize("solver, arguments", [*solvers_and_gradients()])
def test_every_evaluation_of_a_field_sees_the_masks(states, solver, arguments):
    model = model_of(lambda field: tfnode.ODEBlock(field, solver, **arguments))
    for training in (False, True):
        answers = model([*states[:2]], training=training)
        for answer, solution in zip(answers, solutions(*states)):
            found = keras.ops.convert_to_numpy(answer)
            np.testing.assert_allclose(found, solution, atol=1e-6)


@pytest.mark.parametrize(
    "solver", [tfnode.solvers.RK4(0.25), tfnode.solvers.DormandPrince(per_sample=True)]
)
def test_every_evaluation_in_a_graph_sees_the_masks(states, solver):
    model = model_of(lambda field: tfnode.ODEBlock(field, solver))
    model.compile(keras.optimizers.SGD(0.0), "mse")
    x, targets = [*states[:2]], solutions(*states)
    for answer, solution in zip(model.predict(x, verbose=0), targets):
        np.testing.assert_allclose(answer, solution, atol=1e-6)
    assert float(model.fit(x, targets, verbose=0).history["loss"][0]) == pytest.approx(0, abs=1e-9)


def test_a_field_attends_to_nothing_that_is_masked():
    x = np.random.default_rng(1).normal(size=(2, 5, 2)).astype("float32")
    x[:, 3:] = 0
    for field in (with_time_as_feature(), with_inputs()):
        block = tfnode.ODEBlock(field, tfnode.solvers.RK4(0.25), time_dependent=True)
        padded = keras.layers.Masking()(x)
        for training in (False, True):
            short, long = (block(z, training=training) for z in (x[:, :3], padded))
            short, long = map(keras.ops.convert_to_numpy, (short, long))
            np.testing.assert_allclose(long[:, :3], short, atol=1e-6)
        paths = [block.trajectory(z)[1] for z in (x[:, :3], padded)]
        short, long = map(keras.ops.convert_to_numpy, paths)
        np.testing.assert_allclose(long[:, :, :3], short, atol=1e-6)
        assert mask_of(padded) is not None


def with_time_as_feature():
    z = keras.Input((None, 3))
    attended = keras.layers.MultiHeadAttention(1, 2)(z, z)
    return keras.Model(z, keras.layers.Dense(2)(attended))


def with_inputs():
    t, z = keras.Input((1, 1)), keras.Input((None, 2))
    return keras.Model([t, z], (1 + t) * keras.layers.MultiHeadAttention(1, 2)(z, z))
