"""A graph rounds a step as eager code does, whatever else is in the graph."""

import numpy as np
import pytest
import tensorflow as tf

from tfnode.integrate.runge_kutta import runge_kutta_step
from tfnode.tableaus import RK4


# The names of multiplications end in numbers, of which some have one digit and some two.
@pytest.mark.parametrize("more", range(8))
def test_stages_are_added_in_their_order(more):
    def step(z, dt):
        return runge_kutta_step(lambda t, z: tf.sin(z), 0.0, z, dt, RK4)

    @tf.function
    def graph(z, dt):
        other = z
        for _ in range(more):
            other = other * dt
        return step(z, dt), other

    z = tf.constant(np.random.default_rng(0).normal(size=(1000, 3)), "float32")
    dt = tf.constant(0.3)
    np.testing.assert_array_equal(graph(z, dt)[0], step(z, dt))
