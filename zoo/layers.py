"""The initialisation that the architectures share."""

from typing import Any

import keras


def initializer() -> keras.initializers.Initializer:
    """He normal, fan-in, not truncated; a new instance for each kernel."""
    return keras.initializers.VarianceScaling(2.0, "fan_in", "untruncated_normal")


def dense(units: int, **kwargs: Any) -> keras.layers.Dense:
    """A dense layer with the paper's initialisation."""
    return keras.layers.Dense(units, kernel_initializer=initializer(), **kwargs)


def conv_field(conv: type[keras.Layer], filters: int, channels: int) -> keras.Sequential:
    """The convolutional vector fields of supplement A: kernels 1, 3 and 1, with ReLU in between.

    Args:
        conv: `keras.layers.Conv1D` or `keras.layers.Conv2D`.
        filters: Integer, the hidden channels.
        channels: Integer, the channels of the state.
    """

    def layer(channels: int, kernel_size: int, **kwargs: Any) -> keras.Layer:
        return conv(
            channels, kernel_size, padding="same", kernel_initializer=initializer(), **kwargs
        )

    return keras.Sequential(
        [
            layer(filters, 1, activation="relu", name="field_in"),
            layer(filters, 3, activation="relu", name="field_hidden"),
            layer(channels, 1, name="field_out"),
        ],
        name="field",
    )
