# %% [markdown]
# # Is it an ODE?
#
# Solutions of an ODE in the plane whose field does not depend on time never cross. So no flow of
# the plane can take a disc out of the ring around it, and no Neural ODE with two-dimensional states
# and a linear last layer can tell the two apart. Or can it?

# %%
import keras
import numpy as np

import tfnode

keras.utils.set_random_seed(0)
rng = np.random.default_rng(0)


def disc_and_ring(num_samples):
    """Points within the radius 0.5, and between the radii 1 and 1.5."""
    y = np.arange(num_samples) % 2
    radius, angle = 0.5 * rng.uniform(size=(2, num_samples))
    radius, angle = radius + y, 4 * np.pi * angle
    x = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)
    return x.astype("float32"), y


train, test = disc_and_ring(1000), disc_and_ring(500)


def trained(solver, extra_dims=0, epochs=20):
    """A small classifier, trained under a solver."""
    field = keras.Sequential([keras.layers.Dense(32, "tanh"), keras.layers.Dense(2 + extra_dims)])
    block = tfnode.ODEBlock(field, solver, name="flow")
    layers = [tfnode.Augment(extra_dims), block] if extra_dims else [block]
    model = keras.Sequential([keras.Input((2,)), *layers, keras.layers.Dense(2)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(2e-2), loss, metrics=["accuracy"])
    model.fit(*train, batch_size=50, epochs=epochs, verbose=0)
    return model


# %% [markdown]
# ## A model that solves the task
#
# Two steps of Euler's method, and every point is classified:

# %%
coarse = trained(tfnode.solvers.Euler(step_size=1 / 2))
accuracy = coarse.evaluate(*test, verbose=0, return_dict=True)["accuracy"]
print(f"accuracy {accuracy:.1%}")

# %% [markdown]
# ## The verdict
#
# `tfnode.validity.check` tries the same weights under other solvers and steps, of which those count
# that are at least as good as that of the training. An ODE would not care.

# %%
report = tfnode.validity.check(coarse, test)
print(f"an ODE: {report.is_ode}, gap {report.gap:.1%}")
report.plot("two steps of Euler's method")

# %% [markdown]
# The dark disc is the solver of the training; all others were not trained with, and lose. The model
# is a residual network of two layers that share their weights. Its paths show how it does what no
# flow can do: they jump over each other.

# %%
found = tfnode.validity.crossings(coarse, test[0][:20])
found.plot(test[1][:20])

# %% [markdown]
# Under a fine solver the same weights are a flow, whose paths do not cross, and which leaves the
# disc inside the ring:

# %%
fine = tfnode.with_solver(coarse, tfnode.solvers.RK4(step_size=1 / 64))
flow = tfnode.validity.crossings(fine, test[0][:20])
flow.plot(test[1][:20])

# %% [markdown]
# ## A model that is an ODE
#
# In three dimensions the disc can be lifted out of the ring. `tfnode.Augment` appends a zero to
# the state (Dupont et al., 2019), and a method of higher order follows the flow at little cost:

# %%
valid = trained(tfnode.solvers.RK4(step_size=1 / 4), extra_dims=1, epochs=10)
valid_report = tfnode.validity.check(valid, test)
print(f"an ODE: {valid_report.is_ode}, gap {valid_report.gap:.1%}")
print(f"accuracy {valid_report.rows[0].accuracy:.1%}")
valid_report.plot("four steps of RK4, one dimension more")

# %% [markdown]
# Any solver that is accurate enough may serve this model. [The guide](../is-it-an-ode.md) has the
# other tools: how answers converge, which of them are certified, and what the numbers mean.
# [The next tutorial](step_adaption.md) finds the step size while the model trains.
