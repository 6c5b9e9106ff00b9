"""The layers that the architectures share, with their initialisation and their precision."""

import random
from typing import Any

import keras

import tfnode
from tfnode import arguments
from tfnode.solvers import SolverLike

# Of group normalization.
_GROUPS = 8


class Layers:
    """Makes the layers of one model.

    Args:
        dtype: String, the dtype policy of the ODE block and its field, or None for Keras's own. All
            else computes in the policy's variable dtype: it costs little, and the inputs, the
            state and the logits keep their precision.
        seed: Integer, from which every kernel is drawn, as after `keras.utils.set_random_seed`;
            None for Keras's own state.
        classes: Integer, the logits in place of the architecture's own number of them.
    """

    def __init__(
        self, dtype: str | None = None, seed: int | None = None, classes: int | None = None
    ) -> None:
        self._policy = _policy(dtype)
        self._classes = None
        if classes is not None:
            advice = "Leave it out for the classes of the model's own data."
            self._classes = arguments.count("classes", classes, advice=advice)
        self._random = None
        if seed is not None:
            advice = "Leave it out for fresh weights that differ in every call."
            self._random = random.Random(arguments.count("seed", seed, 0, 2**32 - 1, advice=advice))

    @property
    def dtype(self) -> str:
        """String, the dtype of the layers outside the field."""
        return self._policy.variable_dtype

    def initializer(self) -> keras.initializers.Initializer:
        """He normal, fan-in, not truncated; a new instance for each kernel."""
        # As Keras draws the seed of an initializer that is given none.
        seed = None if self._random is None else self._random.randint(1, int(1e9))
        return keras.initializers.VarianceScaling(2.0, "fan_in", "untruncated_normal", seed)

    def dense(self, units: int, **kwargs: Any) -> keras.layers.Dense:
        return keras.layers.Dense(units, kernel_initializer=self.initializer(), **kwargs)

    def logits(self, units: int) -> keras.layers.Dense:
        """The classifier."""
        return self.dense(self._classes or units, name="logits", dtype=self.dtype)

    def dense_field(self, units: int, channels: int) -> keras.Sequential:
        """The dense vector field of supplement A.4, with ReLU in between.

        Args:
            units: Integer, the hidden units.
            channels: Integer, the components of the state.
        """
        options = {"activation": "relu", "dtype": self._policy}
        return keras.Sequential(
            [
                self.dense(units, name="field_in", **options),
                self.dense(units, name="field_hidden", **options),
                self.dense(channels, name="field_out", dtype=self._policy),
            ],
            name="field",
        )

    def conv_field(self, conv: type[keras.Layer], filters: int, channels: int) -> keras.Sequential:
        """The convolutional vector fields of supplement A: kernels 1, 3 and 1, with ReLU between.

        Args:
            conv: `keras.layers.Conv1D` or `keras.layers.Conv2D`.
            filters: Integer, the hidden channels.
            channels: Integer, the channels of the state.
        """

        def layer(channels: int, kernel_size: int, **kwargs: Any) -> keras.Layer:
            kwargs |= {"padding": "same", "dtype": self._policy}
            return conv(channels, kernel_size, kernel_initializer=self.initializer(), **kwargs)

        return keras.Sequential(
            [
                layer(filters, 1, activation="relu", name="field_in"),
                layer(filters, 3, activation="relu", name="field_hidden"),
                layer(channels, 1, name="field_out"),
            ],
            name="field",
        )

    def normalized_conv(self, filters: int, name: str, strides: int = 1) -> keras.Sequential:
        """A convolution with group normalization and ReLU, for what stands before the block."""
        options = {"padding": "same", "kernel_initializer": self.initializer()}
        return keras.Sequential(
            [
                keras.layers.Conv2D(filters, 3, strides, name="conv", dtype=self.dtype, **options),
                self.group_norm(name="norm"),
                keras.layers.ReLU(name="relu", dtype=self.dtype),
            ],
            name=name,
        )

    def normalized_field(self, channels: int) -> keras.Sequential:
        """A convolutional vector field with group normalization, of a state with the time.

        Args:
            channels: Integer, the channels of the state, and the hidden ones.
        """
        options = {"padding": "same", "dtype": self._policy}
        conv = lambda name: keras.layers.Conv2D(
            channels, 3, kernel_initializer=self.initializer(), name=name, **options
        )
        return keras.Sequential(
            [
                conv("field_in"),
                self.group_norm(name="field_norm", dtype=self._policy),
                keras.layers.ReLU(name="field_relu", dtype=self._policy),
                conv("field_out"),
            ],
            name="field",
        )

    def group_norm(self, name: str, dtype: keras.DTypePolicy | None = None) -> keras.Layer:
        return keras.layers.GroupNormalization(_GROUPS, name=name, dtype=dtype or self.dtype)

    def ode_block(
        self, field: keras.Layer, solver: SolverLike, time_dependent: bool = False
    ) -> tfnode.ODEBlock:
        return tfnode.ODEBlock(
            field, solver, time_dependent=time_dependent, name="ode_block", dtype=self._policy
        )

    def flatten(self) -> keras.layers.Flatten:
        return keras.layers.Flatten(name="flatten", dtype=self.dtype)


def _policy(dtype: str | None) -> keras.DTypePolicy:
    """The policy of a name, by default Keras's own; it must be one of floating-point numbers."""
    try:
        found = keras.dtype_policies.get(keras.config.dtype_policy() if dtype is None else dtype)
    except (TypeError, ValueError):
        found = None
    if found is None or not keras.backend.is_float_dtype(found.variable_dtype):
        rule = "`dtype` must be a Keras dtype policy of floating-point numbers"
        raise arguments.refused(rule, "dtype", dtype, 'An example is "mixed_bfloat16".')
    return found
