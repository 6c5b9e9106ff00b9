"""One face for what each backend calls a gradient and a graph."""

import keras
from keras import ops

BACKEND = keras.backend.backend()


def tensors(arrays, dtype="float64"):
    """The arrays as tensors."""
    return [ops.convert_to_tensor(a, dtype=dtype) for a in arrays]


def grad(function):
    """The function from a list of tensors to the gradients of a scalar; it has gradients itself."""
    if BACKEND == "jax":
        import jax

        return jax.grad(function)

    def gradients(xs):
        if BACKEND == "tensorflow":
            import tensorflow as tf

            with tf.GradientTape() as tape:
                tape.watch(xs)
                y = function(xs)
            return tape.gradient(y, xs, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        import torch

        xs = [x if x.requires_grad else x.clone().requires_grad_() for x in xs]
        return torch.autograd.grad(function(xs), xs, create_graph=True, materialize_grads=True)

    return gradients


def compiled(function, **options):
    """The function as one graph, where the backend has such."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return tf.function(function, **options)
    if BACKEND == "jax":
        import jax

        return jax.jit(function)
    return function


def eager(function):
    """The function as it is; but JAX would compile its operations one by one, which is slower."""
    return compiled(function) if BACKEND == "jax" else function


def with_values(layer, function):
    """The function of tensors, with the first ones in the place of a layer's trainable weights."""
    variables = layer.trainable_variables

    def of_values(xs):
        values, others = xs[: len(variables)], xs[len(variables) :]
        with keras.StatelessScope(list(zip(variables, values))):
            return function(others)

    return of_values


def has_value(tensor):
    """Whether it is a tensor with numbers, and not one of those that JAX finds shapes with."""
    if BACKEND != "jax":
        return True
    import jax

    return not isinstance(tensor, jax.core.Tracer)
