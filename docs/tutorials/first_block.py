# %% [markdown]
# # A first ODE block
#
# A Neural ODE is a layer whose depth is time: its input is the state at time 0, a network says how
# fast the state changes, and its output is the state at time 1. Here one separates two moons.

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np

import tfnode
from tfnode import plots

keras.utils.set_random_seed(0)
rng = np.random.default_rng(0)


def moons(num_samples):
    """Two half circles that reach into each other."""
    y = np.arange(num_samples) % 2
    angle = np.pi * (rng.uniform(size=num_samples) + y)
    x = np.stack([np.cos(angle) + y - 0.5, np.sin(angle) + 0.5 * y - 0.25], axis=-1)
    return (x + rng.normal(scale=0.1, size=x.shape)).astype("float32"), y


train, test = moons(1000), moons(500)

# %% [markdown]
# ## The model
#
# The vector field is any Keras layer or model whose output has the shape of its input.
# `tfnode.ODEBlock` integrates it, here with four steps of the classical Runge-Kutta method, and is
# itself a layer like any other.

# %%
field = keras.Sequential([keras.layers.Dense(32, "tanh"), keras.layers.Dense(2)])
block = tfnode.ODEBlock(field, solver=tfnode.solvers.RK4(step_size=1 / 4), name="flow")
model = keras.Sequential([keras.Input((2,)), block, keras.layers.Dense(2, name="logits")])
print(block.num_steps, "steps,", block.nfe, "evaluations of the field")

# %% [markdown]
# ## Training
#
# `compile` and `fit` are Keras's. The gradient is that of the discrete solution, exactly, and
# the memory is that of the states and of one step.

# %%
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(keras.optimizers.Adam(2e-2), loss, metrics=["accuracy"])
model.fit(*train, batch_size=50, epochs=25, verbose=0)
accuracy = model.evaluate(*test, verbose=0, return_dict=True)["accuracy"]
print(f"accuracy {accuracy:.1%}")

# %% [markdown]
# ## What it does
#
# `block.trajectory` returns the states at every step. The last layer is linear, so the flow has to
# pull the moons apart until a straight line separates them.

# %%
block.step_size = 1 / 32  # only to draw smooth curves
times, states = block.trajectory(test[0][:60])
states = keras.ops.convert_to_numpy(states)

figure, (before, paths, after) = plt.subplots(1, 3, figsize=(10, 3.2), layout="constrained")
colours = [f"C{label}" for label in test[1][:60]]
before.scatter(*states[0].T, c=colours, s=12)
plots.trajectories(paths, states, test[1][:60])
after.scatter(*states[-1].T, c=colours, s=12)
for axes, title in ((before, "time 0"), (paths, "the way"), (after, "time 1")):
    axes.set_title(title)

# %% [markdown]
# ## The step size is a weight
#
# Assigning it changes the next call, and the next training step, without tracing anything again;
# it is saved with the model. With half the step the states at the end come closer to those of the
# exact flow, which 64 steps stand for:

# %%
block.step_size = 1 / 64
flow = block(test[0])
for step_size in (1, 1 / 2, 1 / 4, 1 / 8):
    block.step_size = step_size
    distance = float(keras.ops.max(keras.ops.abs(block(test[0]) - flow)))
    accuracy = model.evaluate(*test, verbose=0, return_dict=True)["accuracy"]
    print(f"steps {block.num_steps}: {distance:.5f} from the flow, accuracy {accuracy:.1%}")

# %% [markdown]
# The accuracy does not depend on the step: this model is an ODE. That is not a matter of course:
# [the next tutorial](is_it_an_ode.md) shows a model that is not.
#
# ## Save and load
#
# A model with a block is a Keras model: nothing has to be registered.

# %%
model.save("moons.keras")
loaded = keras.saving.load_model("moons.keras")
np.testing.assert_array_equal(loaded(test[0]), model(test[0]))
print(loaded.get_layer("flow").num_steps, "steps")
