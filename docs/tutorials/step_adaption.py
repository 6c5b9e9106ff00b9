# %% [markdown]
# # Step adaption and the damped rule
#
# Which step is short enough that a model stays an ODE, and no shorter? The vector field changes
# while it learns, so the answer does too. `tfnode.StepAdaption` asks every few iterations.

# %%
import keras
import matplotlib.pyplot as plt

import tfnode

data = tfnode.datasets.load("energy_landscape/three_minima", "train", as_numpy=True)
test = tfnode.datasets.load("energy_landscape/three_minima", "test", as_numpy=True)

# %% [markdown]
# The data are starts of a particle, position and velocity, in a landscape with three valleys; the
# class is the valley where friction brings it to rest.


# %%
def trained(solver, policy):
    """A classifier, and the callback that has adapted its step."""
    keras.utils.set_random_seed(0)
    field = keras.Sequential([keras.layers.Dense(32, "tanh"), keras.layers.Dense(2)])
    block = tfnode.ODEBlock(field, solver, name="flow")
    model = keras.Sequential([keras.Input((2,)), block, keras.layers.Dense(3)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-2), loss, metrics=["accuracy"])
    step_adaption = tfnode.StepAdaption(data, every=25, policy=policy)
    model.fit(*data, batch_size=100, epochs=50, verbose=0, callbacks=[step_adaption])
    return model, step_adaption


# %% [markdown]
# ## The paper's rule
#
# Before the training the step is set by the rule of Hairer et al. At every check the accuracy on
# one batch is compared with that under a better solver: a gap above 10 points halves the step, and
# otherwise it grows by a tenth. That is the paper; the trial of the longer step on the batch, which
# has to agree, is of the authors' later code.

# %%
paper, paper_adaption = trained(tfnode.solvers.Euler(step_size=1 / 8), "paper")
last = paper_adaption.history[-1]
print({name: last[name] for name in ("iteration", "num_steps", "gap", "action")})
print(f"{paper_adaption.nfe_per_iteration:.1f} evaluations an iteration")
print(f"{paper_adaption.nfe_per_iteration_with_checks:.1f} with those of the checks")

# %% [markdown]
# ## The damped rule
#
# The damped rule looks at how far the class probabilities lie apart under the two solvers, leaves
# the step alone while that is in a band, and remembers where it failed. It may start from RK4.

# %%
damped, damped_adaption = trained(tfnode.solvers.RK4(step_size=1 / 2), "damped")
print(f"{damped_adaption.nfe_per_iteration:.1f} evaluations an iteration")

# %%
figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
for name, adaption in (("paper", paper_adaption), ("damped", damped_adaption)):
    iterations = [record["iteration"] for record in adaption.history]
    evaluations = [record["nfe"] for record in adaption.history]
    axes.step(iterations, evaluations, where="post", label=name)
axes.set(xlabel="iteration", ylabel="evaluations of the field", ylim=(0, None))
_ = axes.legend()

# %% [markdown]
# ## What they leave
#
# The check during training sees one batch. The verdict takes the whole test set:

# %%
reports = {
    "paper": tfnode.validity.check(paper, test),
    "damped": tfnode.validity.check(damped, test),
}
for name, report in reports.items():
    accuracy, fine = report.rows[0].accuracy, report.rows[-1].accuracy
    print(f"{name:6}  {accuracy:.1%}, under a fine RK4 {fine:.1%}, an ODE: {report.is_ode}")

# %% [markdown]
# The rule of the paper may end with fewer evaluations and more answers right under its own solver,
# as it does here. What the damped one keeps is that these are the answers of an ODE, whichever
# solver runs it, if that is accurate enough.
#
# The step, the method and what the rule remembers are weights of the block: a checkpoint, or
# `EarlyStopping(restore_best_weights=True)`, takes them along. [The guide](../damped-rule.md) says
# why the paper's rule oscillates, and has both at the paper's scale.
