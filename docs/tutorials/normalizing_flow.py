# %% [markdown]
# # A continuous normalizing flow
#
# A flow that takes data to a Gaussian tells how likely they are (Chen et al., 2018): along a path
# of `dz/dt = f(t, z)` the logarithm of the density changes by `-div f`. So the state has two parts,
# a point and the integral of the divergence, and an ODE block takes them as a tuple.

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import ops

import tfnode

keras.utils.set_random_seed(0)
rng = np.random.default_rng(0)


def two_moons(num_samples):
    y = np.arange(num_samples) % 2
    angle = np.pi * (rng.uniform(size=num_samples) + y)
    x = np.stack([np.cos(angle) + y - 0.5, np.sin(angle) + 0.4 * y - 0.2], axis=-1)
    return (x + rng.normal(scale=0.1, size=x.shape)).astype("float32")


data = two_moons(2000)

# %% [markdown]
# ## The field and its divergence
#
# For `f = V tanh(W z + b + t c) + d` the divergence is known: the trace of
# `V diag(1 - tanh²) W`. It is exact, and costs as much as the field.


# %%
class FieldWithDivergence(keras.layers.Layer):
    """The rates of change of a point, and of the logarithm of the volume around it."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, t_shape, state_shape):
        dims = state_shape[0][-1]
        self.w = self.add_weight(shape=(dims, self.units), name="w")
        self.b = self.add_weight(shape=(self.units,), name="b", initializer="zeros")
        self.c = self.add_weight(shape=(self.units,), name="c", initializer="random_normal")
        self.v = self.add_weight(shape=(self.units, dims), name="v")
        self.d = self.add_weight(shape=(dims,), name="d", initializer="zeros")

    def call(self, t, state):
        z, _ = state
        hidden = ops.tanh(z @ self.w + self.b + t * self.c)
        # How far each unit leads back to where it comes from.
        back = ops.sum(self.v * ops.transpose(self.w), axis=1)
        divergence = ops.sum((1 - hidden**2) * back, axis=-1, keepdims=True)
        return hidden @ self.v + self.d, divergence


# %% [markdown]
# In many dimensions, or for a deep field, Hutchinson's estimate takes the place of the trace
# (FFJORD, Grathwohl et al., 2019): for a random `e` of signs, `e · (J e)` has the trace of `J` as
# its mean, at the cost of one product with the Jacobian. The `e` must stay the same along a path,
# so it is handed to the field as `block(state, conditions=e)`.
#
# ## The likelihood
#
# The model's output is the negative log-likelihood of its input, and the loss its mean.

# %%
block = tfnode.ODEBlock(
    FieldWithDivergence(64), tfnode.solvers.RK4(step_size=1 / 8), time_dependent=True, name="flow"
)
points = keras.Input((2,))
z, log_volume = block((points, ops.zeros_like(points[:, :1])))
log_gaussian = -0.5 * ops.sum(z**2, axis=-1, keepdims=True) - np.log(2 * np.pi)
model = keras.Model(points, -(log_gaussian + log_volume))

model.compile(keras.optimizers.Adam(1e-2), loss=lambda _, surprise: ops.mean(surprise))
history = model.fit(data, data, batch_size=200, epochs=40, verbose=0)
print("nats a point:", np.round(history.history["loss"][:: len(history.epoch) - 1], 2))

# %% [markdown]
# ## A density integrates to one
#
# Summed over the plane the density is 1, if the solver follows the flow. That is the validity check
# of a normalizing flow: a model that is bound to a coarse solver has meaningless likelihoods.

# %%
axis = np.linspace(-3, 3, 120, dtype="float32")
plane = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
cell = (axis[1] - axis[0]) ** 2


def density(model):
    return np.exp(-model.predict(plane, batch_size=3600, verbose=0))[:, 0]


totals = {}
for solver in (tfnode.solvers.RK4(1 / 8), tfnode.solvers.RK4(1 / 64), tfnode.solvers.Euler(1 / 2)):
    totals[str(solver)] = cell * density(tfnode.with_solver(model, solver)).sum()
    print(f"{totals[str(solver)]:.3f} in all under {solver}")

# %% [markdown]
# ## Samples
#
# The same field, run from 1 to 0, takes a Gaussian to the data.

# %%
solver = tfnode.solvers.RK4(step_size=1 / 8)
backwards = tfnode.ODEBlock(block.field, solver, t0=1.0, t1=0.0, time_dependent=True)
noise = rng.normal(size=(2000, 2)).astype("float32")
samples, _ = backwards((noise, np.zeros((2000, 1), "float32")))
samples = ops.convert_to_numpy(samples)

figure, panels = plt.subplots(
    1, 3, figsize=(10, 3.4), layout="constrained", sharex=True, sharey=True
)
panels[0].scatter(*data.T, s=2)
panels[1].imshow(density(model).reshape(120, 120), extent=(-3, 3, -3, 3), origin="lower")
panels[2].scatter(*samples.T, s=2)
for axes, title in zip(panels, ("data", "density", "samples")):
    axes.set(title=title, aspect="equal", xlim=(-2.5, 2.5), ylim=(-2, 2))
