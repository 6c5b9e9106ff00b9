"""Linear classifiers, of which every number is known.

The field is `rate * z`: a method of order p <= 4 with p stages multiplies the state by the Taylor
polynomial of `exp(rate * h)` in each step. Class 1 is predicted where the state exceeds `level`.
"""

import math

import keras
import numpy as np

import tfnode

X = np.arange(0.05, 2, 0.1)[:, None]  # 20 states
ORDERS = {"Euler": 1, "Midpoint": 2, "Heun": 2, "RK4": 4}
FLOW = math.exp(-1)


def growth(order, step_size, rate=-1.0, length=1.0):
    """What the numerical solution multiplies a state by; the last step is clipped."""
    num_steps = math.ceil(length / step_size - 1e-6)
    steps = [step_size] * (num_steps - 1) + [length - (num_steps - 1) * step_size]
    return math.prod(
        sum((rate * h) ** k / math.factorial(k) for k in range(order + 1)) for h in steps
    )


def linear(solver, level=0.25, outputs=2, compile=True, rate=-1.0, dtype="float32", **options):
    """The classifier; logits are plus and minus the state's excess over `level`."""
    inputs = keras.Input((1,), dtype=dtype)
    field = keras.layers.Rescaling(rate, dtype=dtype)
    z = tfnode.ODEBlock(field, solver, name="ode", dtype=dtype, **options)(inputs)
    logits = keras.layers.Dense(outputs, name="logits", dtype=dtype)
    model = keras.Model(inputs, logits(z))
    signs = np.array([-1.0, 1.0] if outputs == 2 else [1.0])
    logits.set_weights([signs[None], -level * signs])
    if compile:
        losses = keras.losses
        cls = losses.SparseCategoricalCrossentropy if outputs == 2 else losses.BinaryCrossentropy
        model.compile("sgd", cls(from_logits=True), metrics=["accuracy"])
    return model


def predicted(order, step_size, level=0.25):
    return (growth(order, step_size) * X[:, 0] > level).astype("int64")


Y = predicted(1, 1 / 2)  # what Euler's method at 1/2 predicts
