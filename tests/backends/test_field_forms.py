"""A field of time in every form that Keras has for it is the field of a plain layer."""

import functools

import keras
import numpy as np
import pytest
from autodiff import eager, grad, tensors, with_values
from keras import ops
from models import SmoothField, randomised

import tfnode
from tfnode import solvers

pytestmark = pytest.mark.usefixtures("double")

RNG = np.random.RandomState(0)
Z = RNG.normal(size=(3, 2))
CONDITIONS = RNG.normal(size=(3, 1))
SOLVERS = {
    "fixed": solvers.Heun(0.4),
    "per_sample": solvers.BogackiShampine32(1e-3, 1e-3, per_sample=True),
}


class Plain(keras.layers.Layer):
    """`field(features(t, z))`, with the time, and conditions, as features behind the state."""

    def __init__(self, features):
        super().__init__()
        self.field = SmoothField(features)

    def call(self, t, z, conditions=None):
        features = [z, t * ops.ones_like(z[:, :1])]
        features += [] if conditions is None else [conditions]
        return self.field(ops.concatenate(features, axis=-1))[:, : z.shape[-1]]


@keras.saving.register_keras_serializable("test_field_forms")
class Usual(keras.layers.Layer):
    """A layer that builds as most do, by the shape of one input: that of the state."""

    def build(self, input_shape):
        self.field = SmoothField(input_shape[-1] + 1)

    def call(self, t, z):
        time = t * ops.ones_like(z[:, :1])
        return self.field(ops.concatenate([z, time], axis=-1))[:, : z.shape[-1]]


class First(keras.layers.Layer):
    """The first two features."""

    def call(self, x):
        return x[:, :2]


def sequential():
    return keras.Sequential([SmoothField(3), First()])


def of_one_input():
    inputs = keras.Input((3,))
    return keras.Model(inputs, First()(SmoothField(3)(inputs)))


def functional(time_shape, conditions=False):
    def build():
        inputs = [keras.Input(time_shape), keras.Input((2,))]
        inputs += [keras.Input((1,))] if conditions else []
        t = inputs[0] if time_shape else ops.expand_dims(inputs[0], -1)
        features = keras.layers.Concatenate()([inputs[1], t, *inputs[2:]])
        return keras.Model(inputs, First()(SmoothField(3 + conditions)(features)))

    return build


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.field = sequential()

    def call(self, t, z):
        return self.field(ops.concatenate([z, t * ops.ones_like(z[:, :1])], axis=-1))


FORMS = {
    "build_by_the_state": (Usual, False),
    "subclassed": (Subclassed, False),
    "sequential": (sequential, False),
    "of_one_input": (of_one_input, False),
    "functional": (functional(()), False),
    "functional_with_a_column": (functional((1,)), False),
    "functional_with_conditions": (functional((1,), conditions=True), True),
}


def gradients(layer, solver, has_conditions):
    """Those of a block's answer by weights, state and conditions; the last one tells the answer."""
    given = [Z, CONDITIONS] if has_conditions else [Z]
    block = tfnode.ODEBlock(layer, SOLVERS[solver], t0=0.3, t1=1.1, time_dependent=True)
    block.build(*(array.shape for array in given))
    randomised(block)

    def loss(operands):
        z, *conditions, factor = operands
        found = block(z, conditions=conditions[0] if conditions else None, training=True)
        return ops.sum(factor * (found**3 + found))

    values = [ops.convert_to_numpy(v) for v in block.trainable_variables]
    of_operands = eager(grad(with_values(block, loss)))
    found = of_operands(tensors([*values, *given, np.ones_like(Z)]))
    return [ops.convert_to_numpy(array) for array in found]


@pytest.fixture(scope="module")
def expected():
    """The gradients with a plain layer, for every solver, with conditions and without."""
    return functools.cache(
        lambda solver, has_conditions: gradients(Plain(3 + has_conditions), solver, has_conditions)
    )


# The shape of the time differs with the solver.
PER_SAMPLE = [(form, "per_sample") for form in ("sequential", "functional")]


@pytest.mark.parametrize("form, solver", [*((form, "fixed") for form in FORMS), *PER_SAMPLE])
def test_it_is_the_field_of_a_plain_layer(form, solver, expected):
    build, has_conditions = FORMS[form]
    found = gradients(build(), solver, has_conditions)
    for a, b in zip(found, expected(solver, has_conditions), strict=True):
        assert b.any()
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "field, state, conditions",
    [
        (lambda: keras.layers.Dense(2), (Z, Z), None),
        (lambda: keras.layers.Dense(2), Z, CONDITIONS),
        (functional(()), Z, CONDITIONS),
        (Usual, Z, CONDITIONS),
    ],
    ids=["two_states", "no_conditions", "too_few_inputs", "too_few_arguments"],
)
def test_arguments_that_have_no_place_are_refused(field, state, conditions):
    block = tfnode.ODEBlock(field(), time_dependent=True, name="ode")
    with pytest.raises(ValueError, match=r"(?s)Received: field=.* in block 'ode'.*Write a layer"):
        block(state, conditions=conditions)


def test_conditions_of_a_functional_model_that_is_not_told_the_time():
    z, c = keras.Input((2,)), keras.Input((1,))
    block = tfnode.ODEBlock(
        keras.Model([z, c], keras.layers.Multiply()([z, c])), solvers.Euler(1.0)
    )
    found = ops.convert_to_numpy(eager(block)(Z, conditions=CONDITIONS))
    np.testing.assert_allclose(found, Z * (1 + CONDITIONS), rtol=1e-6)


@keras.saving.register_keras_serializable("tfnode_tests")
class Rotation(keras.layers.Layer):
    """The rotation of a pair, in the structure that a call gives it or as a tuple."""

    def call(self, z):
        first, second = z
        return second, -first


@pytest.mark.parametrize("structure", [tuple, list])
def test_a_state_of_several_tensors_comes_back_from_a_file(structure, tmp_path):
    inputs = structure([keras.Input((1,)), keras.Input((1,))])
    model = keras.Model(inputs, tfnode.ODEBlock(Rotation(), tfnode.solvers.RK4(1 / 8))(inputs))
    x = structure([np.ones((3, 1), "float32"), np.zeros((3, 1), "float32")])
    expected = [ops.convert_to_numpy(z) for z in model(x)]
    assert expected[0][0] == pytest.approx(np.cos(1), abs=1e-4)
    model.save(tmp_path / "model.keras")
    for again in (
        keras.saving.load_model(tmp_path / "model.keras"),
        keras.Model.from_config(model.get_config()),
        keras.models.clone_model(model),
    ):
        for found, z in zip(again(x), expected, strict=True):
            np.testing.assert_array_equal(ops.convert_to_numpy(found), z)


def test_a_structure_that_is_another_one_is_refused():
    class First(keras.layers.Layer):
        def call(self, z):
            return z[:1]

    block = tfnode.ODEBlock(First(), tfnode.solvers.RK4(1 / 8))
    with pytest.raises(ValueError, match="The field must map a state to a derivative"):
        block((np.ones((3, 1), "float32"), np.ones((3, 1), "float32")))
