"""Initial value problems with closed-form solutions, for any dtype and direction of time."""

import dataclasses
from collections.abc import Callable

import keras
import numpy as np
from keras import ops


@dataclasses.dataclass(frozen=True)
class Problem:
    """The problem `dz/dt = field(t, z)`, `z(t0) = z0` on `[t0, t1]`.

    Args:
        name: String.
        field: Callable `field(t, z)` built on `keras.ops`.
        solution: Callable `solution(t)` that returns the exact state as a float64 array.
        t0: Float.
        t1: Float.
    """

    name: str
    field: Callable
    solution: Callable
    t0: float = 0.0
    t1: float = 1.0

    def state(self, t, dtype="float64"):
        """The exact state at `t`, as a batch of one."""
        return ops.convert_to_tensor(self.solution(t)[None], dtype=dtype)

    def backwards(self):
        """The same problem with the ends exchanged."""
        return dataclasses.replace(self, name=f"{self.name}_back", t0=self.t1, t1=self.t0)

    def layer(self, **kwargs):
        """The field as a Keras layer that is called as `layer(t, z)`."""
        return _Field(self, **kwargs)


class _Field(keras.layers.Layer):
    def __init__(self, problem, **kwargs):
        super().__init__(**kwargs)
        self.problem = problem

    def call(self, t, z):
        return self.problem.field(t, z)


# A spiral: eigenvalues -0.1 +- 2i.
_DECAY, _FREQUENCY = 0.1, 2.0


def _linear_field(t, z):
    matrix = ops.convert_to_tensor([[-_DECAY, -_FREQUENCY], [_FREQUENCY, -_DECAY]], dtype=z.dtype)
    return ops.matmul(z, ops.transpose(matrix))


def _linear_solution(t):
    phase = _FREQUENCY * t + 0.3
    return np.exp(-_DECAY * t) * np.array([np.cos(phase), np.sin(phase)])


LINEAR = Problem("linear", _linear_field, _linear_solution)

TIME_DEPENDENT = Problem(
    "time_dependent",
    lambda t, z: z * ops.cos(t),
    lambda t: 2 * np.exp([np.sin(t)]),
    t1=2.0,
)

LOGISTIC = Problem(
    "logistic",
    lambda t, z: 3 * z * (1 - z),
    lambda t: 1 / (1 + 4 * np.exp([-3 * t])),
    t1=2.0,
)

PROBLEMS = (LINEAR, TIME_DEPENDENT, LOGISTIC)


class CountingField(keras.layers.Layer):
    """Adds one to a TensorFlow variable each time it runs, not each time it is traced."""

    def __init__(self):
        import tensorflow as tf

        super().__init__()
        self.executions = tf.Variable(0, trainable=False, dtype=tf.int64)
        self.traces = 0

    def call(self, z):
        self.traces += 1
        self.executions.assign_add(1)
        return -z

    def count(self, function, *args):
        self.executions.assign(0)
        function(*args)
        return int(self.executions)
