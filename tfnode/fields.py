"""The vector field of a block: its layer as a function of time and state, in three forms."""

import keras
from keras import ops


class VectorField:
    """A layer as a vector field.

    Args:
        layer: Keras layer, called with a state, or with a time and a state.
        time_dependent: Boolean, whether it is called with a time, too.
        owner: String, the name of the block, for errors.
    """

    def __init__(self, layer, time_dependent, owner):
        self._layer = layer
        self._time_dependent = time_dependent
        self._owner = owner

    @property
    def values(self):
        """The variables of the layer, in the order that `pure` takes their values."""
        return self._layer.trainable_variables + self._layer.non_trainable_variables

    def function(self, training):
        """The field as a function of `(t, z)` in the state's dtype."""

        def field(t, z):
            arguments = (t, z) if self._time_dependent else (z,)
            return ops.cast(self._layer(*arguments, training=training), z.dtype)

        return field

    def numpy(self, dtype):
        """The field as a function of `(t, z)` from NumPy arrays to a NumPy array."""
        field = self.function(training=False)

        def numpy_field(t, z):
            t, z = (ops.convert_to_tensor(v, dtype=dtype) for v in (t, z))
            return ops.convert_to_numpy(field(t, z))

        return numpy_field

    def pure(self):
        """The field as a function of `(values, t, z)` that touches no variable."""
        field = self.function(training=True)
        variables = self.values

        def pure_field(values, t, z):
            scope = keras.StatelessScope(collect_losses=True)
            # Not by the constructor, which casts to a dtype that depends on the autocast scope.
            for update in zip(variables, values):
                scope.add_update(update)
            before = dict(scope.state_mapping)
            with scope:
                derivative = field(t, z)
            # By identity: values are tensors, and an update puts another one in its place.
            unchanged = all(before.get(key) is v for key, v in scope.state_mapping.items())
            self._check_pure(unchanged, scope.losses)
            return derivative

        return pure_field

    def _check_pure(self, unchanged, losses):
        if not unchanged:
            raise ValueError(
                "The discrete adjoint evaluates the field again in the backward pass and needs "
                "the same values, so the field must have no random or updating state (Dropout, "
                f"BatchNormalization). Received: field={self._layer.name!r} in block "
                f'{self._owner!r}. Build the block with gradient="backprop".'
            )
        if losses:
            raise ValueError(
                "The loop over the steps cannot hand out losses, so the field must add none "
                f"(activity regularizers). Received: field={self._layer.name!r} in block "
                f'{self._owner!r}. Build the block with gradient="backprop" and unroll=True.'
            )
