"""Convolutions along an axis as matrix products."""

from typing import Any

import keras
from keras import ops


# Of the same name as Keras's, by which weight files know it.
@keras.saving.register_keras_serializable("tfnode_scripts")
class Conv1D(keras.layers.Conv1D):
    """Keras's layer with an odd kernel, strides of 1 and `padding="same"`, equal to rounding.

    On a CPU XLA calls a routine for each convolution, which on few positions takes several times
    as long as the product of all neighbourhoods with the kernel (issue 12868 of JAX).
    """

    def call(self, inputs: Any) -> Any:
        size, (width,) = inputs.shape[1], self.kernel_size
        padded = ops.pad(inputs, ((0, 0), (width // 2, width // 2), (0, 0)))
        around = ops.concatenate([padded[:, i : i + size] for i in range(width)], axis=-1)
        kernel = ops.reshape(self.kernel, (-1, self.filters))
        return self.activation(ops.matmul(around, kernel) + self.bias)


def as_products(field: keras.Model) -> keras.Model:
    """A field of the zoo, with fresh weights, whose `Conv1D` are products."""

    def copied(layer: keras.Layer) -> keras.Layer:
        kind = Conv1D if type(layer) is keras.layers.Conv1D else type(layer)
        return kind.from_config(layer.get_config())

    return keras.models.clone_model(field, clone_function=copied)
