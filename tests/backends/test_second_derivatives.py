"""A gradient of a gradient: what penalties, Hessians and Jacobians ask for."""

import numpy as np
import pytest
from autodiff import BACKEND, compiled, eager, grad, tensors, with_values
from keras import ops
from models import SmoothField, randomised

import tfnode
from tfnode import solvers

pytestmark = pytest.mark.usefixtures("double")

Z = np.random.RandomState(1).normal(size=(3, 2))
DIRECTION = np.random.RandomState(2).normal(size=(2, 4))


def block(gradient="discrete_adjoint", **options):
    """A block whose field curves; unrolled it is plain autodiff."""
    made = tfnode.ODEBlock(SmoothField(), solvers.Midpoint(0.4), gradient=gradient, **options)
    made(Z)
    return randomised(made)


def loss(block):
    """A scalar function of the weights, the state and the end time."""

    def function(others):
        z, t1 = others
        options = {} if block.unroll else {"t1": t1}
        return ops.sum(block(z, training=True, **options) ** 3)

    return with_values(block, function)


def operands(block):
    return [v.value for v in block.trainable_variables] + tensors([Z, np.array(1.0)])


def penalty(function):
    """A gradient penalty: the squared gradient by the state, z."""
    return lambda xs: ops.sum(grad(function)(xs)[-2] ** 2)


def hessian_vector(function):
    """The Hessian by the first kernel times a direction."""
    direction = tensors([DIRECTION])[0]
    return lambda xs: ops.sum(grad(function)(xs)[0] * direction)


@pytest.mark.parametrize("second", [penalty, hessian_vector])
@pytest.mark.parametrize("form", [eager, compiled])
def test_second_derivatives_are_those_of_plain_autodiff(second, form):
    if form is (eager if BACKEND == "jax" else compiled) and BACKEND != "tensorflow":
        pytest.skip("JAX is compiled, torch is not: once is enough")
    ours, plain = block(), block("backprop", unroll=True)
    found = form(grad(second(loss(ours))))(operands(ours))
    expected = form(grad(second(loss(plain))))(operands(plain))
    # An unrolled block has no end time of a call.
    for a, b in zip(found[:-1], expected[:-1]):
        b = ops.convert_to_numpy(b)
        np.testing.assert_allclose(ops.convert_to_numpy(a), b, rtol=1e-10, atol=1e-12)
    assert np.abs(ops.convert_to_numpy(expected[0])).max() > 1e-3


def test_second_derivatives_by_the_end_time():
    ours = block()
    values = operands(ours)
    slope = eager(lambda xs: grad(loss(ours))(xs)[-1])
    curvature = eager(grad(lambda xs: grad(loss(ours))(xs)[-1]))(values)[-1]
    # 0.4, 0.8 and a last step that the end time moves: the same steps, a little further.
    h = 1e-4
    later, earlier = (slope([*values[:-1], values[-1] + d]) for d in (h, -h))
    expected = ops.convert_to_numpy(later - earlier) / (2 * h)
    assert ops.convert_to_numpy(curvature) == pytest.approx(expected, rel=1e-6)


def test_a_third_derivative():
    ours, plain = block(), block("backprop", unroll=True)
    third = lambda of: grad(lambda xs: ops.sum(grad(penalty(loss(of)))(xs)[-2] ** 2))
    if BACKEND == "jax":
        pytest.skip("the same code as the second, and 20 s to compile")
    found, expected = third(ours)(operands(ours)), third(plain)(operands(plain))
    for a, b in zip(found[:-1], expected[:-1]):
        b = ops.convert_to_numpy(b)
        np.testing.assert_allclose(ops.convert_to_numpy(a), b, rtol=1e-9, atol=1e-10)


def jacobian_of(block):
    """The Jacobian of each sample by central differences, `(batch_size, 2, 2)`."""
    h, columns = 1e-5, []
    for direction in np.eye(2):
        ahead, behind = (ops.convert_to_numpy(block(Z + d * direction)) for d in (h, -h))
        columns.append((ahead - behind) / (2 * h))
    return np.stack(columns, axis=-1)


# === What each backend has of its own ===
@pytest.mark.skipif(BACKEND != "tensorflow", reason="TensorFlow's tapes")
class TestTensorFlow:
    @pytest.mark.parametrize("pfor", [True, False])
    @pytest.mark.parametrize("in_graph", [True, False])
    def test_batch_jacobian(self, pfor, in_graph):
        import tensorflow as tf

        ours = block()

        def jacobian(z):
            # TensorFlow's rule: one by one, an eager tape is used more than once.
            with tf.GradientTape(persistent=not pfor) as tape:
                tape.watch(z)
                out = ours(z, training=True)
            return tape.batch_jacobian(out, z, experimental_use_pfor=pfor)

        function = tf.function(jacobian) if in_graph else jacobian
        np.testing.assert_allclose(function(tf.constant(Z)), jacobian_of(ours), rtol=1e-7)

    @pytest.mark.parametrize("in_graph", [True, False])
    def test_persistent_tape(self, in_graph):
        import tensorflow as tf

        ours = block()
        kernel = ours.trainable_variables[0].value

        def gradients(z):
            with tf.GradientTape(persistent=True) as tape:
                tape.watch(z)
                out = ours(z, training=True)
                first, second = tf.reduce_sum(out**2), tf.reduce_sum(out)
            return tape.gradient(first, z), tape.gradient(second, kernel), tape.gradient(second, z)

        function = tf.function(gradients) if in_graph else gradients
        z = tf.constant(Z)
        by_z, by_kernel, again = function(z)
        jacobian, out = jacobian_of(ours), ours(Z).numpy()
        np.testing.assert_allclose(by_z, 2 * np.einsum("bi,bij->bj", out, jacobian), rtol=1e-7)
        np.testing.assert_allclose(again, jacobian.sum(axis=1), rtol=1e-7)
        assert np.abs(by_kernel.numpy()).max() > 1e-3

    @pytest.mark.parametrize("options", [{}, {"jit_compile": True}])
    def test_nested_tapes_and_the_variables_themselves(self, options):
        import tensorflow as tf

        def penalty_gradients(block):
            weights = [v.value for v in block.trainable_variables]

            def function(z):
                with tf.GradientTape() as outer:
                    with tf.GradientTape() as inner:
                        inner.watch(z)
                        value = tf.reduce_sum(block(z, training=True) ** 2)
                    penalty = tf.reduce_sum(inner.gradient(value, z) ** 2)
                return outer.gradient(penalty, weights)

            return tf.function(function, **options)(tf.constant(Z))

        found = penalty_gradients(block())
        expected = penalty_gradients(block("backprop", unroll=True))
        for a, b in zip(found, expected):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.skipif(BACKEND != "jax", reason="JAX's transformations")
class TestJAX:
    def test_jacrev_and_vmap_under_jit(self):
        import jax

        ours = block()
        one = lambda z: ours(z[None], training=True)[0]
        found = jax.jit(jax.vmap(jax.jacrev(one)))(Z)
        np.testing.assert_allclose(found, jacobian_of(ours), rtol=1e-7)

    def test_grad_of_grad(self):
        import jax

        ours, plain = block(), block("backprop", unroll=True)

        def twice(block):
            first = jax.grad(lambda z: ops.sum(block(z, training=True) ** 3))
            return jax.jit(jax.grad(lambda z: ops.sum(first(z) ** 2)))(Z)

        np.testing.assert_allclose(twice(ours), twice(plain), rtol=1e-10)


@pytest.mark.skipif(BACKEND != "torch", reason="torch's autograd")
class TestTorch:
    def test_create_graph_twice(self):
        import torch

        ours, plain = block(), block("backprop", unroll=True)

        def twice(block):
            z = torch.tensor(Z, requires_grad=True)
            out = torch.sum(block(z, training=True) ** 3)
            (first,) = torch.autograd.grad(out, z, create_graph=True)
            (second,) = torch.autograd.grad(torch.sum(first**2), z, create_graph=True)
            torch.sum(second**2).backward()
            return [t.grad.numpy() for t in (z, block.trainable_variables[0].value)]

        for a, b in zip(twice(ours), twice(plain)):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)

    def test_jacobian(self):
        import torch

        ours = block()
        jacobian = torch.autograd.functional.jacobian(
            lambda z: ours(z, training=True), torch.tensor(Z), create_graph=True
        )
        assert jacobian.requires_grad
        found = np.einsum("bibj->bij", jacobian.detach().numpy())
        np.testing.assert_allclose(found, jacobian_of(ours), rtol=1e-7)
