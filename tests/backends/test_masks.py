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

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def build(self, *shapes):
        self.rate = self.add_weight(name="rate", shape=(), initializer="ones")

    def growth(self, z, *masks):
        growth = self.rate * keras.ops.ones_like(z)
        for mask in masks:
            if mask is not None:
                growth *= keras.ops.cast(mask, z.dtype)[..., None]
        return growth


@keras.saving.register_keras_serializable("tests")
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
        block(OfConditions())(masked, masked_conditions),
        block(OfState())(masked),
        block(OfConditions())(x, masked_conditions),
        *block(OfTwoStates())([masked, masked_conditions]),
    ]
    return keras.Model([x, c], [Unmasked()(output) for output in outputs])


class Unmasked(keras.layers.Layer):
    """Takes the mask off, so that what is masked counts in a loss."""

    def call(self, x):
        return x

    def compute_mask(self, x, previous_mask):
        return None


def solutions(z, conditions, of_state, of_conditions):
    both = of_state & of_conditions
    starts = z, z, z, z, conditions
    counts = both, of_state, of_conditions, of_state, of_conditions
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
    # One of them is enough for what a graph could lose.
    model = keras.Model(model.inputs, model.outputs[0])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    x, target = [*states[:2]], solutions(*states)[0]
    np.testing.assert_allclose(model.predict(x, verbose=0), target, atol=1e-6)
    assert float(model.fit(x, target, verbose=0).history["loss"][0]) == pytest.approx(0, abs=1e-9)


# Keras says so of every functional model with a mask.
@pytest.mark.filterwarnings("ignore:.*does not support masking")
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


def test_a_mask_may_be_given(states):
    z, _, counts, _ = states
    for arguments in ({}, {"save_at": [0.5, 1.0]}):
        block = tfnode.ODEBlock(OfState(), "rk4", **arguments)
        found = keras.ops.convert_to_numpy(block(z, mask=counts))
        expected = z + counts[..., None]
        np.testing.assert_allclose(found[:, -1] if arguments else found, expected, atol=1e-6)
        # It is nobody's but the call's.
        given = keras.ops.convert_to_tensor(z)
        mask = mask_of(block(given, mask=keras.ops.convert_to_tensor(counts)))
        assert tuple(mask.shape) == ((3, 2, 5) if arguments else (3, 5))
        assert mask_of(given) is None


def test_layers_around_a_block_hand_the_mask_on(states):
    x = np.stack([states[0]] * 2, axis=1)
    inputs = keras.Input((2, 5, 2))
    masked = keras.layers.Masking()(inputs)
    around = keras.layers.TimeDistributed(tfnode.ODEBlock(OfState(), "euler"))
    found = keras.ops.convert_to_numpy(keras.Model(inputs, around(masked))(x))
    np.testing.assert_allclose(found, x + (x != 0).any(-1)[..., None], atol=1e-6)


class Inner(keras.layers.Layer):
    """A field that is a block itself, whose own field is no number where it sees no mask."""

    def __init__(self):
        super().__init__()
        self.supports_masking = True
        self.block = tfnode.ODEBlock(Strict(), "euler")

    def build(self, shape):
        self.block.build(shape)

    def call(self, z):
        return self.block(z) - z


class Strict(OfState):
    def call(self, z, mask=None):
        return self.growth(z, mask) * (float("nan") if mask is None else 1.0)


@pytest.mark.parametrize("field", [Strict, Inner])
def test_rules_and_verdicts_see_the_masks(states, field):
    x, _, counts, _ = states
    inputs = keras.Input((5, 2))
    masked = keras.layers.Masking()(inputs)
    block = tfnode.ODEBlock(field(), tfnode.solvers.Euler(0.25))
    model = keras.Model(inputs, Unmasked()(block(masked)))
    model.compile(keras.optimizers.SGD(0.0), "mse")
    y = x + counts[..., None]
    rule = tfnode.StepAdaption((x, y), every=1, threshold=0.5)
    assert model.fit(x, y, callbacks=[rule], verbose=0).history["loss"][0] < 1e-9
    report = tfnode.validity.check(model, (x, y), task="regression", reference_steps=4, verbose=0)
    assert report.is_ode and report.gap < 1e-5


def test_a_model_with_masks_is_saved_and_has_other_solvers(states, tmp_path):
    x, _, counts, _ = states
    inputs = keras.Input((5, 2))
    block = tfnode.ODEBlock(OfState(), "euler", save_at=TIMES)
    model = keras.Model(inputs, block(keras.layers.Masking()(inputs)))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    expected = x[:, None] + counts[:, None, :, None] * np.reshape(TIMES, (1, 2, 1, 1))
    for each in (model, loaded, tfnode.with_solver(loaded, "rk4")):
        np.testing.assert_allclose(each.predict(x, verbose=0), expected, atol=1e-6)


def test_a_subclass_may_have_a_mask_of_its_own(states):
    class Forgets(tfnode.ODEBlock):
        def compute_mask(self, inputs, previous_mask):
            return None

    masked = keras.layers.Masking()(states[0])
    assert mask_of(Forgets(OfState(), "euler")(masked)) is None
    assert mask_of(tfnode.ODEBlock(OfState(), "euler")(masked)) is not None


def test_times_of_unknown_number_have_the_mask_of_the_state(states):
    inputs, times = keras.Input((5, 2)), keras.Input((None,))
    block = tfnode.ODEBlock(OfState(), tfnode.solvers.RK4(0.25))
    answer = block(keras.layers.Masking()(inputs), save_at=times)
    model = keras.Model([inputs, times], answer)
    at = np.tile(np.linspace(0.2, 1.0, 4, dtype="float32"), (3, 1))
    found = model([states[0], at])
    expected = states[0][:, None] + (at[:, :, None] * states[2][:, None])[..., None]
    np.testing.assert_allclose(keras.ops.convert_to_numpy(found), expected, atol=1e-6)
    mask = keras.ops.convert_to_numpy(mask_of(found))
    assert np.array_equal(mask, np.repeat(states[2][:, None], 4, axis=1))
