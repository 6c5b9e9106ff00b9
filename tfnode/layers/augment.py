"""`Augment`: more dimensions for a Neural ODE."""

from typing import Any

import keras
from keras import ops

from tfnode import arguments
from tfnode.typing import Shape, Tensor


@keras.saving.register_keras_serializable("tfnode")
class Augment(keras.layers.Layer):
    """Appends zeros to the last axis, so that trajectories can pass around each other.

    Augmented Neural ODEs, Dupont et al. (2019), section 4.

    Examples:

    >>> Augment(extra_dims=2)(np.ones((3, 2))).shape
    TensorShape([3, 4])

    Args:
        extra_dims: Integer, the number of dimensions to append; 0 appends none.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Tensor of shape `(batch_size, ..., dims)`.

    Returns:
        Tensor of shape `(batch_size, ..., dims + extra_dims)`.

    Raises:
        ValueError: If `extra_dims` is not a non-negative integer.
    """

    def __init__(self, extra_dims: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        advice = "Give the number of dimensions to append."
        self.extra_dims = arguments.count("extra_dims", extra_dims, 0, advice=advice)
        self.supports_masking = True
        self.built = True

    def call(self, inputs: Tensor) -> Tensor:
        return ops.pad(inputs, [(0, 0)] * (len(inputs.shape) - 1) + [(0, self.extra_dims)])

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (*input_shape[:-1], input_shape[-1] + self.extra_dims)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "extra_dims": self.extra_dims}
