"""Training and adapting on every backend, with the decisions of every backend."""

import keras
import numpy as np
import pytest
from autodiff import BACKEND
from models import JIT_COMPILE, classifier, compiled, data, fit_frozen, frozen

import tfnode
from tfnode import solvers
from tfnode.adaption import DampedRule, initial_step_size
from tfnode.keras_internals import iterations_of

ONES = np.ones((8, 1), "float32")


def columns(callback, *names):
    return [tuple(record[name] for name in names) for record in callback.history]


# === Fit ===
@pytest.mark.parametrize("solver", [solvers.Midpoint(0.25), solvers.BogackiShampine32(1e-2, 1e-2)])
def test_fit_lowers_the_loss(solver):
    x, y = data(64)
    model = compiled(classifier(solver), keras.optimizers.Adam(3e-2))
    before = model.evaluate(x, y, verbose=0)[0]
    model.fit(x, y, batch_size=32, epochs=4, verbose=0)
    assert model.evaluate(x, y, verbose=0)[0] < 0.8 * before


def test_gradients_train_as_backprop_does():
    x, y = data(64)
    losses = []
    for options in ({}, {"gradient": "backprop", "unroll": True}):
        model = compiled(classifier(solvers.RK4(0.5), **options), keras.optimizers.SGD(0.1))
        history = model.fit(x, y, batch_size=32, epochs=2, shuffle=False, verbose=0)
        losses.append(history.history["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert losses[0][1] < losses[0][0]


@pytest.mark.skipif(BACKEND == "torch", reason="torch traces nothing: every step is Python's")
def test_twenty_step_sizes_cost_one_trace():
    model = frozen(-0.5, solvers.Euler(1.0))
    block, counts, traces = model.get_layer("ode"), [], []

    def change(batch, logs):
        if BACKEND == "jax":
            model.jax_state_sync()
        traces.append(block.field.calls)
        counts.append(block.num_steps)
        block.step_size = 1 / (batch + 2)

    callback = keras.callbacks.LambdaCallback(on_train_batch_end=change)
    fit_frozen(model, [callback], 21)
    assert counts == list(range(1, 22))
    assert traces == traces[:1] * 21


def test_a_step_size_that_changes_in_fit_is_the_one_that_integrates():
    model = frozen(-0.5, solvers.Euler(1.0))
    block, losses = model.get_layer("ode"), []

    def change(batch, logs):
        # The mean of the losses so far.
        losses.append(logs["loss"] * (batch + 1) - sum(losses))
        if BACKEND == "jax":
            model.jax_state_sync()
        block.step_size = 1 / (batch + 2)

    callback = keras.callbacks.LambdaCallback(on_train_batch_end=change)
    fit_frozen(model, [callback], 4)
    solution = [(1 - 0.5 / n) ** n for n in range(1, 5)]
    assert losses == pytest.approx([np.log1p(np.exp(-2 * z)) for z in solution], rel=1e-4)


# === Step adaption ===
# At a step of 1 the solution is -2 instead of exp(-3), so that the classes differ.
def test_the_papers_rule_decides_by_accuracies():
    model = frozen(-3.0, solvers.Euler(1.0))
    callback = tfnode.StepAdaption((ONES, np.ones(8, int)), every=2, initial_step_size=1.0)
    fit_frozen(model, [callback], 14)
    found = columns(callback, "iteration", "num_steps", "nfe", "train_accuracy", "action")
    assert found == [
        (2, 1, 1, 0, "shrink"),
        (4, 2, 2, 1, "grow"),  # at 0.55 the solution is 0.23
        (6, 2, 2, 1, "grow"),  # at 0.605 0.15
        (8, 2, 2, 1, "grow"),  # at 0.6655 0.0035
        (10, 2, 2, 1, "keep"),  # at 0.732 -0.23
        (12, 2, 2, 1, "keep"),
        (14, 2, 2, 1, "keep"),
    ]
    steps = [1, 0.5, 0.55, 0.605, 0.6655, 0.6655, 0.6655]
    assert [r["step_size"] for r in callback.history] == pytest.approx(steps, rel=1e-6)
    assert [r["reference_accuracy"] for r in callback.history] == [1] * 7
    assert callback.nfe_per_iteration == (2 * 1 + 12 * 2) / 14


@pytest.mark.parametrize("is_scaled", [False, True])
def test_iterations_are_counted_where_the_optimizer_takes_steps(is_scaled):
    model = frozen(-0.5, solvers.Euler(1.0))
    optimizer = keras.optimizers.SGD(0.0, gradient_accumulation_steps=4)
    optimizer = keras.optimizers.LossScaleOptimizer(optimizer) if is_scaled else optimizer
    model.compile(optimizer, model.loss, jit_compile=JIT_COMPILE)
    labels = np.ones(8, int)
    callback = tfnode.StepAdaption((ONES, labels), 1, initial_step_size=0.25, growth=1.01)
    for iteration in (0, 1, 2, 3):
        # Gradients are accumulated from one training to the next.
        fit_frozen(model, [callback], 3)
        assert int(model.optimizer.iterations) == len(callback.history) == iteration
    assert columns(callback, "iteration") == [(1,), (2,), (3,)]
    assert callback.nfe_per_iteration == 12 * 4 / 3


def test_iterations_are_read_where_keras_keeps_them():
    model, found, are_outside = frozen(-0.5, solvers.Euler(1.0)), [], []

    def read(batch, logs):
        found.append(int(iterations_of(model)))
        are_outside.append(BACKEND == "jax" and not model._jax_state_synced)

    fit_frozen(model, [keras.callbacks.LambdaCallback(on_train_batch_end=read)], 3)
    assert found == [1, 2, 3]
    # On JAX all other values stay where they are, which makes it fast.
    assert are_outside == [BACKEND == "jax"] * 3


def test_no_iteration_is_counted_where_gradients_are_not_finite():
    model = frozen(-0.5, solvers.Euler(1.0))
    # A scale at which the gradients overflow, which each such batch halves.
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.0), 2.0**127)
    model.compile(optimizer, model.loss, jit_compile=JIT_COMPILE)
    callback = tfnode.StepAdaption((ONES, np.ones(8, int)), 1, initial_step_size=0.5)
    x, y = np.full((64, 1), 8.0, "float32"), np.zeros(64, int)
    model.fit(x, y, batch_size=8, verbose=0, callbacks=[callback])
    assert 0 < int(optimizer.iterations) < 8
    assert len(callback.history) == int(optimizer.iterations)


def test_a_loop_of_ones_own():
    model = frozen(-0.5, solvers.Euler(1.0))
    labels = np.ones(8, int)
    callback = tfnode.StepAdaption((ONES, labels), 2, initial_step_size=0.25)
    callbacks = keras.callbacks.CallbackList([callback], model=model)
    callbacks.on_train_begin()
    for batch in range(4):
        callbacks.on_train_batch_begin(batch)
        callbacks.on_train_batch_end(batch, model.train_on_batch(ONES, labels, return_dict=True))
    callbacks.on_train_end()
    assert columns(callback, "iteration") == [(2,), (4,)]
    assert callback.nfe_per_iteration == 4


class Rotation(keras.layers.Layer):
    """`q' = p` and `p' = -q`, in the structure of the state."""

    def call(self, z):
        q, p = keras.tree.flatten(z)
        return keras.tree.pack_sequence_as(z, [p, -q])


@pytest.mark.parametrize(
    "structure", [lambda q, p: (q, p), lambda q, p: {"q": q, "p": p}], ids=["pair", "dictionary"]
)
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_auto_starts_from_every_state_that_is_integrated(structure, dtype):
    """The block is given half precision, and integrates in its own."""
    x = keras.Input((3,))
    state = structure(*(keras.layers.Rescaling(s, dtype=dtype)(x) for s in (1.0, 2.0)))
    block = tfnode.ODEBlock(Rotation(dtype="float32"), solvers.Midpoint(1.0), dtype=dtype)
    model = compiled(keras.Model(x, keras.layers.Dense(2)(keras.tree.flatten(block(state))[0])))
    callback = tfnode.StepAdaption((np.ones((8, 3)), np.ones(8, int)), every=1)
    model.fit(np.ones((8, 3)), np.ones(8, int), verbose=0, callbacks=[callback])
    # Keras orders a dictionary by its keys: there p is the first of the two.
    first, second = (float(s[0, 0]) for s in keras.tree.flatten(structure(ONES, 2 * ONES)))
    z0 = np.repeat([[first, second]], 3, axis=1)
    rotate = lambda t, z: np.concatenate([z[:, 3:], -z[:, :3]], axis=1)
    expected = initial_step_size(rotate, 0.0, z0, 2, 1.0)
    assert callback.history[0]["step_size"] == pytest.approx(expected, rel=1e-4)


def test_the_damped_rule_climbs():
    model = frozen(-3.0, solvers.Euler(1.0))
    rule = DampedRule(patience=2, memory=3)
    labels = np.zeros(8, int)
    callback = tfnode.StepAdaption((ONES, labels), 5, rule, initial_step_size=1.0)
    fit_frozen(model, [callback], 42, label=0)
    assert columns(callback, "iteration", "method", "num_steps", "nfe", "action") == [
        (5, "euler", 1, 1, "shrink"),
        (10, "euler", 2, 2, "climb"),
        (15, "midpoint", 1, 2, "shrink"),
        (20, "midpoint", 2, 4, "climb"),
        (25, "rk4", 1, 4, "shrink"),
        (30, "rk4", 2, 8, "shrink"),
        (35, "rk4", 3, 12, "keep"),
        (40, "rk4", 3, 12, "keep"),
    ]
    assert model.get_layer("ode").solver == solvers.RK4(float(np.float32(1 / 3)))
    # The model itself integrates by the method that was climbed to: 3 steps of exp's series.
    factor = sum((-1.0) ** k / f for k, f in enumerate((1, 1, 2, 6, 24)))
    logits = keras.ops.convert_to_numpy(model(ONES))
    assert logits[0, 1] == pytest.approx(factor**3, rel=1e-5)
    assert callback.nfe_per_iteration == (5 * (1 + 2 + 2 + 4 + 4 + 8) + 12 * 12) / 42


def test_hairers_start_is_shorter_than_a_coarse_step():
    model = frozen(-3.0, solvers.Euler(1.0))
    callback = tfnode.StepAdaption((ONES, np.ones(8, int)), every=1)
    fit_frozen(model, [callback], 1)
    # Of the book's formulas: d1 = 3, d2 = 9, and the root of 0.01 / 9.
    assert callback.history[0]["step_size"] == pytest.approx((0.01 / 9) ** 0.5, rel=1e-4)


# === Tolerance adaption ===
@pytest.mark.parametrize(
    "solver",
    [
        solvers.BogackiShampine32(),
        solvers.BogackiShampine32(per_sample=True),
        solvers.DormandPrince(per_sample=True),
    ],
    ids=["shared", "per_sample", "dormand_prince"],
)
def test_tolerance_adaption(solver):
    model = frozen(-3.0, solver)
    callback = tfnode.ToleranceAdaption((ONES, np.ones(8, int)), every=2, initial_tolerance=1e-3)
    fit_frozen(model, [callback], 6)
    assert columns(callback, "iteration", "train_accuracy", "reference_accuracy") == [
        (2, 1, 1),
        (4, 1, 1),
        (6, 1, 1),
    ]
    block = model.get_layer("ode")
    # Every sample is the same, so all of training costs what one pass does.
    assert callback.nfe_per_iteration * 6 == block.training_evaluations
    assert block.training_evaluations >= 6 * (2 + solver.tableau.num_stages)
    # It does not bind a solver whose evaluations are all the same.
    assert columns(callback, "action") == [("keep",)] * 3
    assert float(keras.ops.convert_to_numpy(block.rtol)) == pytest.approx(1e-3)


@pytest.mark.parametrize("per_sample", [False, True], ids=["shared", "per_sample"])
def test_a_tolerance_shrinks_and_grows(per_sample):
    model = frozen(-3.0, solvers.BogackiShampine32(per_sample=per_sample))
    callback = tfnode.ToleranceAdaption((ONES, np.ones(8, int)), every=1, initial_tolerance=1.0)
    # Of batches whose evaluations differ.
    x = np.repeat(np.tile(np.float32([1, 100]), 4), 8)[:, None]
    model.fit(x, np.ones(64, int), batch_size=8, verbose=0, shuffle=False, callbacks=[callback])
    actions = [action for (action,) in columns(callback, "action")]
    assert actions[0] == "shrink" and "grow" in actions
    factor = {"shrink": 0.5, "keep": 1.0, "grow": 1.1}
    wanted = np.cumprod([1.0, *(factor[action] for action in actions)])
    tolerances = [r["tolerance"] for r in callback.history]
    tolerances.append(model.get_layer("ode").solver.rtol)
    assert tolerances == pytest.approx(wanted, rel=1e-6)
    wrong = [r["train_accuracy"] == 0 for r in callback.history]
    assert wrong == [action == "shrink" for action in actions]


# === What is TensorFlow's alone ===
@pytest.mark.skipif(BACKEND == "tensorflow", reason="TensorFlow has it")
class TestNotHere:
    def test_dormand_prince_for_the_batch(self):
        with pytest.raises(ValueError, match=r"TensorFlow Probability.*Pass per_sample=True"):
            classifier(solvers.DormandPrince())
        with pytest.raises(ValueError, match=r"TensorFlow Probability.*Pass per_sample=True"):
            tfnode.odeint(lambda t, z: -z, ONES, [0.0, 1.0], solvers.DormandPrince())

    def test_the_continuous_adjoint(self):
        with pytest.raises(ValueError, match=r"TensorFlow.*KERAS_BACKEND.*per_sample=True"):
            classifier(solvers.DormandPrince(), gradient="adjoint")
        with pytest.raises(ValueError, match=r'TensorFlow.*Keep the default gradient="discrete'):
            classifier(solvers.DormandPrince(per_sample=True), gradient="adjoint")

    def test_export(self, tmp_path):
        model = compiled(classifier(solvers.Euler(0.5)))
        with pytest.raises(ValueError, match=r"TensorFlow's format.*save_weights") as error:
            tfnode.export.export_saved_models(model, tmp_path / "m", [solvers.RK4(0.5)], data())
        assert BACKEND in str(error.value)
        assert not (tmp_path / "m").exists()


# === Data, and methods that graphs do not have ===
def as_torch(x, y):
    torch = pytest.importorskip("torch")
    pairs = torch.utils.data.TensorDataset(torch.from_numpy(x), torch.from_numpy(y))
    return torch.utils.data.DataLoader(pairs, batch_size=8)


def as_tensorflow(x, y):
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(8)


@pytest.mark.parametrize("form", [as_tensorflow, as_torch])
def test_a_check_takes_every_form_of_data_that_fit_takes(form):
    x, y = data(8)
    found = []
    for of_check in ((x, y), form(x, y)):
        model = compiled(classifier(solvers.Euler(0.25)), keras.optimizers.SGD(0.0))
        callback = tfnode.StepAdaption(of_check, every=1, batch_size=8, initial_step_size=0.25)
        model.fit(x, y, batch_size=8, epochs=2, verbose=0, callbacks=[callback])
        found.append(columns(callback, "step_size", "train_accuracy", "reference_accuracy"))
    assert len(found[0]) == 2
    assert found[0] == found[1]


@pytest.mark.skipif(BACKEND == "torch", reason="torch traces nothing, so that no graph is stale")
def test_a_method_that_a_graph_does_not_have_is_told_and_step_adaption_traces_again():
    """One Euler step of -z from 1 gives 0, and one of RK4 0.375."""
    model = frozen(-1.0, solvers.Euler(1.0))
    block = model.get_layer("ode")
    assert model.predict(ONES, verbose=0)[0, 1] == 0
    assert not block.is_stale
    # Another step is no other method.
    block.solver = solvers.Euler(1 / 2)
    with pytest.warns(UserWarning, match=r"methods that it was traced with.* Received: RK4"):
        block.solver = solvers.RK4(1.0)
    assert block.is_stale
    assert model.predict(ONES, verbose=0)[0, 1] == 0
    callback = tfnode.StepAdaption((ONES, np.ones(8, int)), every=1, initial_step_size=1.0)
    history = fit_frozen(model, [callback], 1)
    assert columns(callback, "method", "nfe") == [("rk4", 4)]
    # The logits are -z and z.
    assert history.history["loss"] == [pytest.approx(np.log1p(np.exp(-2 * 0.375)))]
    assert model.predict(ONES, verbose=0)[0, 1] == pytest.approx(0.375)
    assert not block.is_stale


def test_layers_that_keras_calls_for_their_shapes_leave_no_graph():
    class Wrapped(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.block = tfnode.ODEBlock(keras.layers.Rescaling(-1.0), solvers.Euler(1.0))

        def call(self, z):
            return self.block(z)

    wrapped = Wrapped()
    model = keras.Sequential([keras.Input((1,)), wrapped])
    wrapped.block.solver = solvers.RK4(1.0)
    assert model.predict(ONES, verbose=0)[0] == pytest.approx(0.375)
