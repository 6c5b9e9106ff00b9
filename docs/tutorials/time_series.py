# %% [markdown]
# # A time series
#
# Hares and lynxes: prey that multiplies, predators that eat it. Given noisy counts at uneven times,
# which differ from one series to the next, what are the constants of the equations of Lotka and
# Volterra that made them?

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import ops

import tfnode

keras.utils.set_random_seed(0)
rng = np.random.default_rng(0)


def growth(z, rates):
    """The rates of change of prey and predators."""
    prey, predators = z[..., 0], z[..., 1]
    a, b, c, d = (rates[i] for i in range(4))
    return ops.stack([prey * (a - b * predators), predators * (c * prey - d)], axis=-1)


# %% [markdown]
# ## The data
#
# `tfnode.odeint(field, z0, times)` returns the states at all times, of which the first is that of
# `z0`. Times may differ from series to series: then their shape is `(num_times, batch_size)`.

# %%
TRUE_RATES = [1.5, 1.0, 0.8, 1.2]
num_series, num_times = 20, 15

z0 = rng.uniform(0.5, 2, size=(num_series, 2)).astype("float32")
times = np.sort(rng.uniform(0.05, 6, size=(num_times, num_series)), axis=0).astype("float32")
times = np.concatenate([np.zeros((1, num_series), "float32"), times])
truth = lambda t, z: growth(z, TRUE_RATES)
exact = tfnode.odeint(truth, z0, times, tfnode.solvers.RK4(step_size=1 / 8))
counted = ops.convert_to_numpy(exact) * rng.lognormal(sigma=0.05, size=exact.shape)
counted = counted.astype("float32")

# %% [markdown]
# ## The model
#
# The field is a Keras layer with the unknown constants as its weights; the model calls `odeint`.
# Keras has the samples along the first axis, so that times and counts are turned round. A fixed
# step lands on every time, and its gradient is exact.


# %%
class PreyAndPredators(keras.layers.Layer):
    def build(self, t_shape, z_shape):
        self.rates = self.add_weight(shape=(4,), initializer="ones", name="rates")

    def call(self, t, z):
        return growth(z, self.rates)


class TimeSeries(keras.Model):
    def __init__(self, field, solver):
        super().__init__()
        self.field, self.solver = field, solver

    def call(self, inputs):
        z0, times = inputs
        states = tfnode.odeint(self.field, z0, ops.transpose(times), self.solver)
        return ops.transpose(states, (1, 0, 2))


model = TimeSeries(PreyAndPredators(), tfnode.solvers.RK4(step_size=1 / 4))
model.compile(keras.optimizers.Adam(0.1), "mse")
history = model.fit(
    (z0, times.T), counted.swapaxes(0, 1), batch_size=num_series, epochs=60, verbose=0
)
rates = ops.convert_to_numpy(model.field.rates)
print("found", rates.round(2), "of", TRUE_RATES)

# %% [markdown]
# ## Between and beyond the data
#
# What was learned is an equation, so it can be asked at any time, and after the last count:

# %%
dense = np.linspace(0, 10, 80)
curve = ops.convert_to_numpy(tfnode.odeint(model.field, z0[:1], dense, model.solver))[:, 0]

figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
for i, name in enumerate(("prey", "predators")):
    axes.plot(dense, curve[:, i], color=f"C{i}", label=name)
    axes.scatter(times[:, 0], counted[:, 0, i], color=f"C{i}", s=12)
axes.axvspan(6, 10, color="0.93", label="no data")
axes.set(xlabel="time", ylabel="thousands")
_ = axes.legend(loc="upper right")

# %% [markdown]
# ## Is it an ODE?
#
# A coarse solver may teach constants that make up for its own error. Under another step the answers
# of such a model change; those of this one hardly do:

# %%
fine = TimeSeries(model.field, tfnode.solvers.RK4(step_size=1 / 64))
inputs = z0, times.T
change = np.abs(fine.predict(inputs, verbose=0) - model.predict(inputs, verbose=0)).max()
print(f"largest change {change:.4f}, where counts go up to {counted.max():.1f}")

# %% [markdown]
# Times that all series share, known beforehand, need no model of one's own: with
# `tfnode.ODEBlock(field, solver, save_at=times)` the output of a block has a time axis.
