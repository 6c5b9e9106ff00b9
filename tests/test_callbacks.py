"""`StepAdaption` through `fit`, on frozen linear models whose every decision is known by hand."""

import copy
import csv
import dataclasses
import itertools
import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from frozen_models import (
    ONES,
    ZEROS,
    Linear,
    Notes,
    X,
    by_hand,
    columns,
    fit,
    frozen,
    num_steps,
    rounded,
)
from probes import Probe
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import tfnode
from tfnode.adaption import Decision, StepRule, initial_step_size, reference_solver
from tfnode.callbacks.batches import endless_batches
from tfnode.callbacks.start import initial_step_sizes
from tfnode.models import Reached, held_blocks
from tfnode.models.outputs import decision_threshold, gives_logits
from tfnode.solvers import RK4, Euler

KEYS = (
    "iteration",
    "method",
    "step_size",
    "num_steps",
    "nfe",
    "train_accuracy",
    "reference_accuracy",
    "gap",
    "change",
    "action",
)


def recomputed_nfe(callback, model, iterations, first_iteration=0):
    """The evaluations of training and of the checks, from the history and the solvers alone."""
    blocks = held_blocks(model)

    def nfe(step_size, choose=lambda solver, length: solver):
        chosen = [(choose(b.solver.with_step_size(step_size), b.length), b.length) for b in blocks]
        return sum(num_steps(s.step_size, n) * s.tableau.num_stages for s, n in chosen)

    training = checks = 0
    before, rule = first_iteration, StepRule(max_step_size=min(b.length for b in blocks))
    for record in callback.history:
        training += (record["iteration"] - before) * nfe(record["step_size"])
        before = record["iteration"]
        checks += nfe(record["step_size"]) + nfe(record["step_size"], reference_solver)
        gap = abs(record["train_accuracy"] - record["reference_accuracy"])
        proposed = min(rule.growth * record["step_size"], rule.max_step_size)
        if gap <= rule.threshold and proposed > record["step_size"]:
            checks += nfe(rounded(proposed))
    training += (iterations - before) * sum(block.nfe for block in blocks)
    return training / iterations, (training + checks) / iterations


# Labels 0 where Euler's (1 - 3h)^N is negative, as at h = 1 and above h = 2/3, with its clipped
# second step. A better solver never is, nor is Euler at h = 1/2 and just above.
FLIP = {"rate": -3.0}
FLIP_STEPS = (1.0, 0.5, 0.55, 0.605, 0.6655)
FLIP_ACTIONS = ("shrink", "grow", "grow", "grow", "keep")


@pytest.mark.parametrize("as_arrays, steps_per_execution", [(True, 1), (False, 50)])
def test_records_and_evaluations(as_arrays, steps_per_execution):
    model = frozen(**FLIP, steps_per_execution=steps_per_execution)
    data = (X, ZEROS) if as_arrays else tf.data.Dataset.from_tensors((X, ZEROS))
    callback = tfnode.StepAdaption(data, every=50, initial_step_size=1.0)
    if as_arrays:
        x, y = np.repeat(X, 310, axis=0), np.repeat(ZEROS, 310)
        model.fit(x, y, batch_size=8, verbose=0, callbacks=[callback])
    else:
        fit(model, callback, ZEROS, iterations=310)

    assert [tuple(record) for record in callback.history] == [KEYS] * 6
    # The last, sixth check is a `keep` at the same step size again.
    steps = list(itertools.accumulate((*FLIP_STEPS, FLIP_STEPS[-1]), lambda _, h: rounded(h)))
    assert columns(callback, "iteration", "num_steps", "nfe", "action") == [
        (50, 1, 1, "shrink"),
        (100, 2, 2, "grow"),
        (150, 2, 2, "grow"),
        (200, 2, 2, "grow"),
        (250, 2, 2, "keep"),
        (300, 2, 2, "keep"),
    ]
    assert [h for (h,) in columns(callback, "step_size")] == pytest.approx(steps, rel=1e-6)
    assert columns(callback, "train_accuracy", "reference_accuracy") == [(1, 0)] + [(0, 0)] * 5

    training = 50 * 1 + 260 * 2
    # Euler, midpoint at sqrt(h / 50), and Euler once more where a growth is tried.
    reference = [2 * num_steps(math.sqrt(h / 50)) for h in steps]
    checks = 1 + 5 * 2 + sum(reference) + 5 * 2
    assert callback.nfe_per_iteration == training / 310
    assert callback.nfe_per_iteration_with_checks == (training + checks) / 310
    assert recomputed_nfe(callback, model, 310) == (training / 310, (training + checks) / 310)


@pytest.mark.parametrize(
    "every, expected",
    [
        (50, [50, 100, 170, 220]),  # the second epoch's executions end at 170, 220 and 240
        (7, [50, 100, 120, 170, 220, 240]),
        (121, [170]),
    ],
)
def test_a_check_waits_for_the_end_of_an_execution(every, expected):
    model = frozen(steps_per_execution=50)
    callback = tfnode.StepAdaption((X, ONES), every=every, initial_step_size=0.25)
    fit(model, callback, iterations=120, epochs=2)
    assert [i for (i,) in columns(callback, "iteration")] == expected
    assert recomputed_nfe(callback, model, 240) == pytest.approx(
        (callback.nfe_per_iteration, callback.nfe_per_iteration_with_checks), rel=1e-14
    )


@pytest.mark.parametrize("solver", ["euler", "rk4"])
def test_several_blocks_adapt_together(solver):
    model = frozen(t1=(1.0, 2.0, -0.75), solver=solver)
    callback = tfnode.StepAdaption((X, ONES), every=2, initial_step_size=0.5)
    fit(model, callback, iterations=13)
    stages = model.get_layer("ode_0").solver.tableau.num_stages
    steps = [0.5, 0.55, 0.605, 0.6655, 0.73205, 0.75]  # the cap is the shortest interval
    assert [h for (h,) in columns(callback, "step_size")] == pytest.approx(steps, rel=1e-6)
    counts = [num_steps(h) + num_steps(h, 2.0) + num_steps(h, 0.75) for h in steps]
    assert columns(callback, "num_steps", "nfe") == [(n, n * stages) for n in counts]
    assert [float(block.step_size) for block in held_blocks(model)] == [0.75] * 3
    assert recomputed_nfe(callback, model, 13) == pytest.approx(
        (callback.nfe_per_iteration, callback.nfe_per_iteration_with_checks), rel=1e-14
    )


def test_the_floor_is_a_500th_of_the_longest_interval():
    # The solution at t = 1.5 is exp(-1.5); Euler stays below the level at every step size.
    model = frozen(rate=-1.0, level=0.223, t1=(0.5, 1.0))
    callback = tfnode.StepAdaption((X, ZEROS), every=1, initial_step_size=1 / 128)
    fit(model, callback, ZEROS, iterations=5)
    steps = [1 / 128, 1 / 256, 1 / 500, 1 / 500, 1 / 500]
    assert [h for (h,) in columns(callback, "step_size")] == pytest.approx(steps, rel=1e-6)
    assert columns(callback, "train_accuracy", "reference_accuracy") == [(1, 0)] * 5
    assert columns(callback, "num_steps")[-1] == (750,)


def test_a_model_bound_to_its_solver_shrinks_to_the_floor_and_stays():
    # exp(-1) = 0.36788, the midpoint method is above, Euler below the level at every step size.
    model = frozen(rate=-1.0, level=0.3677)
    callback = tfnode.StepAdaption((X, ZEROS), every=1, initial_step_size=1.0)
    fit(model, callback, ZEROS, iterations=12)
    steps = [2.0**-k for k in range(9)] + [rounded(1 / 500)] * 3
    assert [h for (h,) in columns(callback, "step_size")] == steps
    assert columns(callback, "train_accuracy", "reference_accuracy") == [(1, 0)] * 12
    # 1/256 is halved to no less than 1/500, and there the step stays.
    assert [a for (a,) in columns(callback, "action")] == ["shrink"] * 9 + ["keep"] * 3
    assert recomputed_nfe(callback, model, 12) == (
        callback.nfe_per_iteration,
        callback.nfe_per_iteration_with_checks,
    )


# In single precision 0.7 lies below 0.7 and 0.1 above 0.1: neither is a reason to go on.
@pytest.mark.parametrize("length", [1.0, 0.7, 0.1])
def test_an_easy_model_grows_to_the_interval_and_stays(length):
    model = frozen(t1=(length,))
    callback = tfnode.StepAdaption((X, ONES), every=1, initial_step_size=0.9 * length)
    fit(model, callback, iterations=5)
    steps = [0.9 * length, 0.99 * length, length, length, length]
    assert [h for (h,) in columns(callback, "step_size")] == pytest.approx(steps, rel=1e-6)
    assert columns(callback, "num_steps", "action") == [
        (2, "grow"),
        (2, "grow"),
        (1, "keep"),
        (1, "keep"),
        (1, "keep"),
    ]
    # At the cap no growth is tried: a check costs the train and the reference solver only.
    checks = 2 * (2 + 2 * 8) + 3 * (1 + 2 * 8) + 2 + 1
    assert callback.nfe_per_iteration_with_checks == (2 * 2 + 3 * 1 + checks) / 5


# 0.2 grows; 1.5 is longer than any step that is taken, and than the way to the last time.
@pytest.mark.parametrize("first, steps", [(0.2, [0.2, 0.22, 0.242, 0.25]), (1.5, [0.25] * 4)])
@pytest.mark.parametrize("policy", ["paper", tfnode.adaption.DampedRule(patience=1)])
def test_no_step_is_longer_than_the_way_between_the_times(first, steps, policy):
    """A longer one would be cut, and half of it be the same steps: a gap of 0 that says nothing."""
    model = frozen(t1=(2.0,), solver="rk4", save_at=(0.25, 0.5, 0.75, 1.0))
    callback = tfnode.StepAdaption((X, ONES), every=1, policy=policy, initial_step_size=first)
    fit(model, callback, iterations=5)
    found = [h for (h,) in columns(callback, "step_size")]
    if policy == "paper":
        assert found[:4] == pytest.approx(steps, rel=1e-6)
    assert max(found) == found[-1] == 0.25
    assert columns(callback, "num_steps", "action")[-1] == (4, "keep")


class Shrinking(StepRule):
    """Halves the step at every check, down to the floor."""

    def decide(self, solver, memory, measurement):
        finer = solver.with_step_size(max(solver.step_size / 2, self.min_step_size))
        return Decision(finer, memory, "shrink")


# A 500th of the interval is none where many times cut it already: an eighth of their way is, where
# the loop takes so many steps.
@pytest.mark.parametrize(
    "count, solver, floor",
    [
        (1, Euler(1 / 4), 1 / 500),
        (64, Euler(1 / 4), 1 / 512),
        (70, Euler(1 / 4), 1 / 512),
        (300, Euler(1 / 4), 1 / 512),
        (70, RK4(1 / 560), 1 / 560),
        (600, Euler(1 / 600), 1 / 601),
    ],
)
def test_every_step_down_to_the_floor_can_be_taken(count, solver, floor):
    times = tuple((k + 1) / count for k in range(count))
    model = frozen(-1.0, solver=solver, save_at=times)
    first = 1 / count
    callback = tfnode.StepAdaption((X, ONES), 1, policy=Shrinking(), initial_step_size=first)
    checks = math.ceil(math.log2(first / floor)) + 2
    fit(model, callback, iterations=checks)
    steps = [h for (h,) in columns(callback, "step_size")]
    wanted = [max(first / 2**k, floor) for k in range(checks)]
    assert steps == pytest.approx(wanted, rel=1e-6)
    block = model.get_layer("ode_0")
    assert block.min_step_size <= block.solver.step_size * (1 + 1e-6)


def test_the_floor_is_that_of_the_loop_of_the_longest_block():
    """601 steps of the second block are the most, and steps of 1 all that the first one takes."""
    model = frozen(-1e-3, t1=(1.0, 600.0), solver=Euler(1.0))
    callback = tfnode.StepAdaption((X, ONES), 1, policy=Shrinking(), initial_step_size=1.0)
    fit(model, callback, iterations=2)
    assert columns(callback, "num_steps") == [(601,), (603,)]
    assert callback.history[1]["step_size"] == pytest.approx(600 / 601)


@pytest.mark.parametrize("end", [2.0, 100.0])
def test_references_go_by_what_is_integrated(end):
    model = frozen(t1=(end,), solver=Euler(1 / 2), save_at=(1.0, 2.0))
    callback = tfnode.StepAdaption((X, ONES), every=1, initial_step_size=1 / 2)
    fit(model, callback, iterations=1)
    # A relative step of 1/4: `reference_solver` takes the root of a 200th, of a way of 2.
    reference = reference_solver(Euler(1 / 2), 2.0)
    assert reference.step_size == pytest.approx(2 * math.sqrt(1 / 200))
    fine, own = (probabilities(-0.5, solver, (1.0, 2.0)) for solver in (reference, Euler(1 / 2)))
    assert callback.history[0]["change"] == pytest.approx(abs(fine - own), rel=1e-4)


def probabilities(rate, solver, times):
    """Those of class 1 of the frozen model, whose input is 1 and whose logits are -z and z."""
    block = tfnode.ODEBlock(Linear(rate), solver, t1=times[-1], save_at=times)
    z = float(np.asarray(block(np.ones((1, 1))))[0, -1, 0])
    return 1 / (1 + math.exp(-2 * z))


def test_a_rule_that_remembers_too_much_is_refused():
    class Hoarder(StepRule):
        def first_memory(self):
            return (0.0,) * 8

    with pytest.raises(ValueError, match=r"(?s)7 numbers at most.* Received: .* memory of 8"):
        tfnode.StepAdaption((X, ONES), policy=Hoarder())


def test_times_of_a_call_do_not_bound_the_steps_of_the_block():
    class Called(keras.Model):
        def __init__(self):
            super().__init__()
            times = tuple(k / 100 for k in range(1, 101))
            self.block = tfnode.ODEBlock(keras.layers.Dense(1), "euler", save_at=times)

        def call(self, x):
            return self.block(x, t1=1.0)

    model = Called()
    model.compile(keras.optimizers.SGD(0.0), "mse")
    callback = tfnode.StepAdaption((X, X), every=1, initial_step_size=0.5)
    fit(model, callback, y=X, iterations=1)
    assert callback.history[0]["step_size"] == 0.5
    assert callback._bounds() == pytest.approx((1 / 500, 1.0))


@pytest.mark.parametrize("rate, t1", [(-0.5, 1.0), (-3.0, 2.0), (8.0, -1.0)])
def test_auto_starts_from_hairers_rule(rate, t1):
    model = frozen(rate, t1=(t1,), solver="midpoint")
    callback = tfnode.StepAdaption((X, ONES), every=1)
    fit(model, callback, iterations=1)
    expected = initial_step_size(lambda t, z: rate * z, 0.0, X, 2, abs(t1), np.sign(t1))
    assert callback.history[0]["step_size"] == pytest.approx(expected, rel=1e-4)


def test_auto_takes_the_smallest_step_of_the_blocks_and_each_blocks_own_input():
    model = frozen(rate=1.0, t1=(1.0, 2.0))
    callback = tfnode.StepAdaption((X, ONES), every=1)
    fit(model, callback, iterations=1)
    # Euler with the block's default step 1/32: the input of the second block.
    inputs = (X, X * (1 + 1 / 32) ** 32)
    steps = [initial_step_size(lambda t, z: z, 0.0, x, 1, 1.0) for x in inputs]
    assert callback.history[0]["step_size"] == pytest.approx(min(steps), rel=1e-4)
    assert steps[1] < 0.9 * steps[0]


def test_auto_leaves_out_calls_that_start_from_zeros_as_recurrent_cells_do():
    block = tfnode.ODEBlock(keras.layers.Dense(1, kernel_initializer="ones"))
    zeros, z = (keras.ops.convert_to_tensor(x) for x in (0 * X, X))
    block(z)
    (only,) = initial_step_sizes(Reached(block, ((z, None),), 1))
    assert initial_step_sizes(Reached(block, ((zeros, None), (z, None)), 2)) == [only]
    # Where there is nothing else, the step is the one of the book.
    assert initial_step_sizes(Reached(block, ((zeros, None),), 1)) == pytest.approx([1e-6])
    assert only > 0.05


def test_auto_stays_above_the_floor():
    model = frozen(rate=-500.0)  # Hairer's rule gives 2e-4
    callback = tfnode.StepAdaption((X, ONES), every=1)
    fit(model, callback, iterations=1)
    assert callback.history[0]["step_size"] == rounded(1 / 500)


def test_a_second_fit_goes_on_from_the_present_step_size():
    model = frozen()
    callback = tfnode.StepAdaption((X, ONES), every=1, initial_step_size=0.25)
    fit(model, callback, iterations=2)
    assert float(model.get_layer("ode_0").step_size) == pytest.approx(0.3025, rel=1e-6)
    fit(model, callback, iterations=2)
    steps = [0.25, 0.275, 0.3025, 0.33275]
    assert [h for (h,) in columns(callback, "step_size")] == pytest.approx(steps, rel=1e-6)
    assert [i for (i,) in columns(callback, "iteration")] == [1, 2, 3, 4]
    assert recomputed_nfe(callback, model, 4) == (
        callback.nfe_per_iteration,
        callback.nfe_per_iteration_with_checks,
    )


@pytest.mark.parametrize("policy", ["paper", "damped"])
def test_a_restored_callback_goes_on_as_the_first_one(policy):
    x = np.linspace(0.5, 1.5, 16, dtype="float32")[:, None]
    data = (x, np.arange(16) % 2)

    def new():
        return tfnode.StepAdaption(
            data, every=2, policy=policy, initial_step_size=1 / 4, batch_size=4
        )

    # Each batch of the checks has another accuracy, and so another gap.
    straight, first, second = new(), new(), new()
    fit(frozen(rate=-2.0, level=0.14), straight, iterations=16)
    model = frozen(rate=-2.0, level=0.14)
    fit(model, first, iterations=3)
    state = json.loads(json.dumps(first.get_state()))
    assert (state["num_batches"], state["training_iterations"]) == (2, 3)
    # What the rule remembers is saved with the model.
    assert "memory" not in state
    is_adapted, *memory = held_blocks(model)[0].adaption_memory.numpy()
    assert (is_adapted, any(memory)) == (1, policy == "damped")
    second.set_state(state)
    fit(model, second, iterations=13)
    assert len(set(columns(straight, "train_accuracy"))) > 1
    assert second.history == straight.history
    assert second.nfe_per_iteration == straight.nfe_per_iteration
    assert second.nfe_per_iteration_with_checks == straight.nfe_per_iteration_with_checks


def test_a_state_of_another_callback_is_refused():
    state = tfnode.ToleranceAdaption((X, ONES)).get_state()
    with pytest.raises(ValueError, match="the same class, StepAdaption") as error:
        tfnode.StepAdaption((X, ONES)).set_state(state)
    assert "Received: state of 'ToleranceAdaption'" in str(error.value)


def test_a_second_fit_sees_a_step_size_that_was_assigned_in_between():
    model = frozen()
    callback = tfnode.StepAdaption((X, ONES), every=1, initial_step_size=0.25)
    fit(model, callback, iterations=1)
    model.get_layer("ode_0").step_size = 1 / 64
    fit(model, callback, iterations=1)
    assert columns(callback, "step_size", "num_steps") == [(0.25, 4), (1 / 64, 64)]


def _scalars(directory):
    events = EventAccumulator(str(directory)).Reload()
    return {
        tag: [tf.make_ndarray(event.tensor_proto).item() for event in events.Tensors(tag)]
        for tag in events.Tags()["tensors"]
    }


def test_logs_reach_the_callbacks_behind(tmp_path):
    model, batches = frozen(**FLIP), Notes()
    callback = tfnode.StepAdaption((X, ZEROS), every=2, initial_step_size=1.0)
    after = [
        batches,
        keras.callbacks.CSVLogger(str(tmp_path / "log.csv")),
        keras.callbacks.TensorBoard(str(tmp_path / "board"), write_graph=False),
    ]
    history = fit(model, callback, ZEROS, iterations=1, epochs=5, more=after).history
    expected = {
        "step_size": [1.0, 0.5, 0.5, rounded(0.55), rounded(0.55)],
        "num_steps": [1, 2, 2, 2, 2],
        "nfe": [1, 2, 2, 2, 2],
        "accuracy_gap": [math.nan, 1.0, 1.0, 0.0, 0.0],
    }
    for name, values in expected.items():
        same = pytest.approx(values, rel=1e-6, nan_ok=True)
        assert history[name] == same
        assert [logs[name] for logs in batches.logs] == same
    with open(tmp_path / "log.csv") as file:
        rows = list(csv.DictReader(file))
    board = _scalars(tmp_path / "board" / "train")
    for name, values in expected.items():
        same = pytest.approx(values, rel=1e-6, nan_ok=True)
        assert [float(row[name]) for row in rows] == same
        assert board[f"epoch_{name}"] == same


def test_verbose_prints_changes_only(capsys):
    callback = tfnode.StepAdaption((X, ZEROS), every=3, initial_step_size=1.0, verbose=1)
    fit(frozen(**FLIP), callback, ZEROS, iterations=18)
    lines = [line for line in capsys.readouterr().out.splitlines() if line]
    assert lines == [
        "Iteration 3: StepAdaption shrinks the step size from 1 to 0.5 (gap 1.000).",
        "Iteration 6: StepAdaption grows the step size from 0.5 to 0.55 (gap 0.000).",
        "Iteration 9: StepAdaption grows the step size from 0.55 to 0.605 (gap 0.000).",
        "Iteration 12: StepAdaption grows the step size from 0.605 to 0.6655 (gap 0.000).",
    ]


def test_verbose_is_silent_at_the_floor(capsys):
    model = frozen(rate=-1.0, level=0.3677)
    callback = tfnode.StepAdaption((X, ZEROS), every=1, initial_step_size=1 / 256, verbose=1)
    fit(model, callback, ZEROS, iterations=4)
    lines = [line for line in capsys.readouterr().out.splitlines() if line]
    assert lines == [
        "Iteration 1: StepAdaption shrinks the step size from 0.003906 to 0.002 (gap 1.000)."
    ]


def test_without_verbose_nothing_is_printed(capfd):
    callback = tfnode.StepAdaption((X, ZEROS), every=1, initial_step_size=1.0)
    fit(frozen(**FLIP), callback, ZEROS, iterations=2)
    output = capfd.readouterr()
    assert (output.out, output.err) == ("", "")
    assert [a for (a,) in columns(callback, "action")] == ["shrink", "grow"]


def test_one_trace_serves_every_step_size():
    model = frozen()
    field = model.get_layer("ode_0").field
    traces = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append((field.traces, logs["num_steps"]))
    )
    seen = []
    callback = tfnode.StepAdaption((X, ONES), every=1, initial_step_size=1 / 16)
    fit(model, callback, iterations=31, more=[traces])
    assert len({count for count, _ in seen}) == 1
    expected = {num_steps(min(1.1**k / 16, 1.0)) for k in range(1, 32)}
    assert {steps for _, steps in seen} == expected and len(expected) == 14
    assert callback.history[-1]["step_size"] == 1.0


def test_a_step_size_reaches_the_compiled_training_step():
    # The loss is that of the step size in force: cross-entropy of logits -z and z.
    model, batches = frozen(**FLIP), Notes()
    callback = tfnode.StepAdaption((X, ZEROS), every=1, initial_step_size=1.0)
    fit(model, callback, ZEROS, iterations=1, epochs=3, more=[batches])
    z = np.array([1 - 3.0, (1 - 1.5) ** 2, (1 - 3 * 0.55) * (1 - 3 * 0.45)])
    losses = [logs["loss"] for logs in batches.logs]
    assert losses == pytest.approx(np.log1p(np.exp(2 * z)), rel=1e-5)


def test_gradients_are_those_of_the_step_size_in_force():
    # One learning step at each of two step sizes, against plain arithmetic.
    model = frozen(**FLIP)
    model.compile(keras.optimizers.SGD(0.125), model.loss, metrics=["accuracy"])
    callback = tfnode.StepAdaption((X, ZEROS), every=1, initial_step_size=1.0)
    fit(model, callback, ZEROS, iterations=2)
    assert [h for (h,) in columns(callback, "step_size")] == [1.0, 0.5]
    w = np.array([-1.0, 1.0])
    b = np.zeros(2)
    for z in (-2.0, 0.25):
        p = np.exp(w * z + b) / np.exp(w * z + b).sum()
        w, b = w - 0.125 * z * (p - [1, 0]), b - 0.125 * (p - [1, 0])
    kernel, bias = model.get_layer("logits").get_weights()
    np.testing.assert_allclose(kernel[0], w, rtol=1e-5)
    np.testing.assert_allclose(bias, b, rtol=1e-5)


def test_export(tmp_path):
    model = frozen(**FLIP)
    export_dir = tmp_path / "models"
    export_dir.mkdir()  # an empty directory is welcome
    callback = tfnode.StepAdaption(
        (X, ZEROS), every=1, initial_step_size=1.0, export_dir=str(export_dir)
    )
    fit(model, callback, ZEROS, iterations=3)
    solver = model.get_layer("ode_0").solver
    assert solver.step_size == pytest.approx(0.605, rel=1e-6)
    x = np.random.default_rng(0).normal(size=(5, 1)).astype("float32")
    reference = reference_solver(solver)
    expected = {
        "euler_h0p605": model(x),
        tfnode.export.solver_slug(reference): tfnode.with_solver(model, reference)(x),
    }
    # Midpoint and Euler differ enough here not to be taken for each other.
    train, better = expected.values()
    assert np.max(np.abs(train - better)) > 0.05
    found = {path.name for path in export_dir.iterdir()}
    assert found == {*expected, ".lock", "models.config"}
    for name, outputs in expected.items():
        loaded = tf.saved_model.load(str(export_dir / name / "1"))
        answer = loaded.signatures["serving_default"](tf.constant(x))
        np.testing.assert_allclose(answer["logits"], outputs, rtol=1e-5, atol=1e-6)
        card = json.loads((export_dir / name / "1" / "assets.extra/validity.json").read_text())
        assert card["data"]["num_samples"] >= 1000
        assert card["verdict"]["is_ode"] == tfnode.validity.check(model, (X, ZEROS)).is_ode


@pytest.mark.parametrize(
    "callback, name",
    [
        (tfnode.StepAdaption, "export_dir"),
        (tfnode.StepAdaption, "log_dir"),
        (tfnode.ToleranceAdaption, "log_dir"),
    ],
)
def test_a_place_that_cannot_be_written_to_is_refused_at_once(callback, name, tmp_path):
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ValueError, match=f"`{name}` must be a directory that can be written"):
            callback((X, ONES), **{name: place})


@pytest.mark.parametrize("name", ["export_dir", "log_dir"])
def test_a_model_that_cannot_be_reported_is_refused_before_training(name, tmp_path):
    blocks = [tfnode.ODEBlock(Linear(-1.0), solver) for solver in ("euler", "midpoint")]
    model = keras.Sequential([keras.Input((1,)), *blocks, keras.layers.Dense(2)])
    model.compile("sgd", frozen().loss)
    before = [block.solver for block in blocks]
    with pytest.raises(ValueError, match=r"must have the same method.* Received: solvers="):
        fit(model, tfnode.StepAdaption((X, ONES), **{name: tmp_path / "new"}))
    assert int(model.optimizer.iterations) == 0
    assert [block.solver for block in blocks] == before


def test_other_file_systems_of_tensorboard_are_not_tried(monkeypatch):
    tried = []
    monkeypatch.setattr(tfnode.files, "check_writable", lambda *place: tried.append(place))
    tfnode.StepAdaption((X, ONES), log_dir="gs://bucket/logs")
    assert tried == []
    tfnode.StepAdaption((X, ONES), log_dir="logs")
    assert tried == [("logs", "log_dir")]


@pytest.mark.parametrize(
    "arguments",
    [
        {"every": 0},
        {"every": -50},
        {"every": 2.5},
        {"every": "50"},
        {"threshold": -0.1},
        {"threshold": 1.0},
        {"threshold": math.nan},
        {"shrink": 1.0},
        {"growth": 1.0},
        {"initial_step_size": 0.0},
        {"initial_step_size": -0.1},
        {"initial_step_size": math.nan},
        {"initial_step_size": "hairer"},
        {"batch_size": 0},
    ],
    ids=str,
)
def test_an_argument_that_is_not_valid_is_refused(arguments):
    with pytest.raises(ValueError, match="Received: "):
        tfnode.StepAdaption((X, ONES), **arguments)


def _empty():
    return tf.data.Dataset.from_tensors((X, ONES)).take(0)


def _without_labels():
    return tf.data.Dataset.from_tensors(X)


@pytest.mark.parametrize(
    "data",
    [
        _empty,
        _without_labels,
        lambda: tf.data.Dataset.from_tensors((X,)),
        lambda: [],
        lambda: (X, ONES[:7]),
        lambda: (X[:0], ONES[:0]),
    ],
    ids=["empty", "no labels", "tuple of one", "empty list", "lengths differ", "no rows"],
)
def test_data_that_no_check_can_use_is_refused(data):
    model = frozen()
    with pytest.raises(ValueError, match="Received: "):
        fit(model, tfnode.StepAdaption(data()))
    assert int(model.optimizer.iterations) == 0


def test_data_is_refused_as_often_as_it_is_offered():
    model, callback = frozen(), tfnode.StepAdaption(_without_labels())
    for _ in range(2):
        with pytest.raises(ValueError, match="Received: "):
            fit(model, callback)


def _without_block():
    return keras.Sequential([keras.Input((1,)), keras.layers.Dense(2)])


def _unrolled():
    block = tfnode.ODEBlock(Linear(-1.0), unroll=True, gradient="backprop")
    return keras.Sequential([keras.Input((1,)), block, keras.layers.Dense(2)])


@pytest.mark.parametrize("build", [_without_block, _unrolled])
def test_a_model_without_an_adaptable_block_is_refused(build):
    model = build()
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    with pytest.raises(ValueError, match="Received: model="):
        fit(model, tfnode.StepAdaption((X, ONES)))
    assert int(model.optimizer.iterations) == 0


def test_a_model_that_is_built_by_its_first_batch():
    model = keras.Sequential([tfnode.ODEBlock(Linear(-0.5)), keras.layers.Dense(2)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.0), loss, metrics=["accuracy"])
    callback = tfnode.StepAdaption((X, ONES), every=1, initial_step_size=0.25)
    fit(model, callback, iterations=2)
    assert columns(callback, "step_size", "action")[0] == (0.25, "grow")


def test_a_model_that_is_not_compiled_is_adapted_in_a_loop_of_ones_own():
    """As `fit` adapts the compiled one, and judged by what its labels say."""
    options = {"every": 1, "initial_step_size": 1.0}
    compiled, expected = frozen(**FLIP), tfnode.StepAdaption((X, ZEROS), **options)
    fit(compiled, expected, ZEROS)
    same = frozen(**FLIP)
    model = keras.Model(same.inputs, same.outputs)
    step_adaption = tfnode.StepAdaption((X, ZEROS), **options)
    with pytest.raises(ValueError, match=r"(?s)steps of the model's optimizer.*`model.optimizer`"):
        by_hand(model, step_adaption, 0)
    model.optimizer = keras.optimizers.SGD(0.0)
    by_hand(model, step_adaption, 4)
    # Without a loss, nobody says that outputs are logits: classes are compared.
    names = [name for name in KEYS if name != "change"]
    assert columns(step_adaption, *names) == columns(expected, *names)
    assert {"shrink", "grow"} <= {record["action"] for record in step_adaption.history}
    assert step_adaption.nfe_per_iteration == expected.nfe_per_iteration
    ours, theirs = (
        tfnode.validity.check(m, (X, ZEROS), reference_steps=8, verbose=0)
        for m in (model, compiled)
    )
    assert (ours.is_ode, ours.gap) == (theirs.is_ode, theirs.gap)


def test_blocks_in_nested_models():
    inner = frozen()
    model = keras.Sequential([keras.Input((1,)), inner])
    model.compile(keras.optimizers.SGD(0.0), inner.loss, metrics=["accuracy"])
    callback = tfnode.StepAdaption((X, ONES), every=1, initial_step_size=0.25)
    fit(model, callback, iterations=2)
    assert float(inner.get_layer("ode_0").step_size) == pytest.approx(0.3025, rel=1e-6)


def test_a_loss_that_is_not_finite_stops_training():
    model = frozen()
    x = np.concatenate([X, X, np.full_like(X, math.nan), X])
    callback = tfnode.StepAdaption((X, ONES), every=1, initial_step_size=0.25)
    with pytest.raises(FloatingPointError, match=r"at iteration 3 with step_size=0\.302") as error:
        model.fit(x, np.tile(ONES, 4), batch_size=8, shuffle=False, verbose=0, callbacks=[callback])
    assert "Received: loss=nan" in str(error.value)
    assert columns(callback, "iteration", "action") == [(1, "grow"), (2, "grow")]


def _labels(num_classes, one_hot=False, column=False):
    labels = np.random.default_rng(1).integers(num_classes, size=96)
    if one_hot:
        return np.eye(num_classes, dtype="float32")[labels]
    return labels[:, None] if column else labels


SPARSE = keras.losses.SparseCategoricalCrossentropy
CATEGORICAL = keras.losses.CategoricalCrossentropy
BINARY = keras.losses.BinaryCrossentropy


@pytest.mark.parametrize(
    "units, activation, loss, labels, metric",
    [
        (3, None, SPARSE(from_logits=True), _labels(3), "accuracy"),
        (3, None, SPARSE(from_logits=True), _labels(3, column=True), "accuracy"),
        (3, "softmax", "sparse_categorical_crossentropy", _labels(3), "accuracy"),
        (3, None, CATEGORICAL(from_logits=True), _labels(3, one_hot=True), "accuracy"),
        (2, None, CATEGORICAL(from_logits=True), _labels(2, one_hot=True), "accuracy"),
        (1, "sigmoid", "binary_crossentropy", _labels(2), "accuracy"),
        (1, "sigmoid", BINARY(), _labels(2, column=True), "accuracy"),
        # Keras's "accuracy" compares even logits with 1/2; the class changes at 0.
        (1, None, BINARY(from_logits=True), _labels(2), "binary at 0"),
        (1, None, BINARY(from_logits=True), _labels(2, column=True), "binary at 0"),
    ],
)
def test_accuracies_are_those_of_keras(units, activation, loss, labels, metric):
    x = np.random.default_rng(0).normal(size=(96, 4)).astype("float32")
    field = keras.Sequential([keras.layers.Dense(8, "tanh"), keras.layers.Dense(4)])
    outputs = keras.layers.Dense(units, activation)
    model = keras.Sequential([keras.Input((4,)), tfnode.ODEBlock(field), outputs])

    def compiled(model):
        at_zero = keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.0)
        metrics = [at_zero if metric == "binary at 0" else "accuracy"]
        model.compile(keras.optimizers.SGD(0.0), loss, metrics=metrics)
        return model

    callback = tfnode.StepAdaption((x, labels), every=1, initial_step_size=1.0, batch_size=96)
    by_hand(compiled(model), callback, 1)
    record = callback.history[0]
    for name, solver in [
        ("train_accuracy", tfnode.solvers.Euler(1.0)),
        ("reference_accuracy", reference_solver(tfnode.solvers.Euler(1.0))),
    ]:
        twin = compiled(tfnode.with_solver(model, solver))
        twin.run_eagerly = True  # needs no graph
        expected = twin.evaluate(x, labels, batch_size=96, verbose=0, return_dict=True)
        assert record[name] == pytest.approx(expected["accuracy"], abs=1e-6)
    assert 0 < record["train_accuracy"] < 1


@pytest.mark.parametrize(
    "loss, expected",
    [
        (SPARSE(from_logits=True), True),
        ([SPARSE(from_logits=True)], True),
        ({"logits": SPARSE(from_logits=True)}, True),
        (SPARSE(), False),
        ([SPARSE()], False),
        ("sparse_categorical_crossentropy", False),
        (None, False),
    ],
)
def test_the_loss_tells_logits_from_probabilities(loss, expected):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2, name="logits")])
    model.compile("sgd", loss)
    assert gives_logits(model) is expected
    assert decision_threshold(model) == (0.0 if expected else 0.5)


def test_every_check_takes_the_next_batch():
    # Batches whose labels are all right, then all wrong, in turn.
    batches = [(X, ONES), (X, ZEROS)]
    callback = tfnode.StepAdaption(batches, every=1, initial_step_size=0.25)
    fit(frozen(), callback, iterations=5)
    accuracies = [a for (a,) in columns(callback, "train_accuracy")]
    # The first batch went to the starting step size.
    assert accuracies == [0.0, 1.0, 0.0, 1.0, 0.0]


@pytest.mark.parametrize("is_endless", [False, True])
def test_a_generator_is_read_once_and_its_batches_are_kept(is_endless, monkeypatch):
    monkeypatch.setattr(tfnode.callbacks.batches, "_MOST_KEPT", 3)
    read = []

    def batches():
        for i in itertools.count() if is_endless else range(2):
            read.append(i)
            yield X, (ZEROS, ONES)[i % 2]

    callback = tfnode.StepAdaption(batches(), every=1, initial_step_size=0.25)
    assert read == []
    fit(frozen(), callback, iterations=6)
    assert read == list(range(3 if is_endless else 2))
    # The first batch went to the starting step size.
    expected = [1.0, 0.0, 0.0, 1.0, 0.0, 0.0] if is_endless else [1.0, 0.0] * 3
    accuracies = [a for (a,) in columns(callback, "train_accuracy")]
    assert accuracies == expected
    # A copy has the kept ones.
    fit(frozen(), copy.deepcopy(callback), iterations=1)
    assert len(read) == (3 if is_endless else 2)


def test_arrays_are_checked_in_full_batches():
    # A last batch of one sample would make a gap of 0 or 1 of it.
    labels = np.arange(9)
    data = (labels[:, None], labels)
    sizes = [len(y) for _, y, _ in itertools.islice(endless_batches(data, 4), 6)]
    assert sizes == [4] * 6
    rounds = [y for _, y, _ in itertools.islice(endless_batches(data, 100), 2)]
    assert [sorted(y) for y in rounds] == [list(range(9))] * 2
    assert list(rounds[0]) != list(rounds[1])


@dataclasses.dataclass(frozen=True)
class Doubling:
    """A rule of a user: the step doubles up to the cap at every third check, whatever it shows."""

    cap: float = 0.0

    def first_memory(self):
        return (0,)

    def within(self, low, high):
        return Doubling(high)

    def start(self, solver):
        return solver.with_step_size(solver.step_size / 2)

    def methods(self, solver):
        return (type(solver),)

    def reference(self, solver, length):
        return tfnode.solvers.RK4(length / 3)

    def decide(self, solver, memory, measurement):
        (checks,) = memory
        doubled = solver.with_step_size(2 * solver.step_size)
        if checks % 3 < 2 or doubled.step_size > self.cap:
            return Decision(solver, (checks + 1,), "keep")
        tried = measurement.measure(doubled)
        assert tried.reference_accuracy == measurement.reference_accuracy
        return Decision(doubled, (checks + 1,), "grow")


def test_a_rule_of_a_users_own():
    callback = tfnode.StepAdaption((X, ONES), 1, Doubling(), initial_step_size=1 / 4)
    fit(frozen(), callback, iterations=10)
    steps = [1 / 8] * 3 + [1 / 4] * 3 + [1 / 2] * 3 + [1.0]
    assert [h for (h,) in columns(callback, "step_size")] == steps
    actions = ["keep", "keep", "grow"] * 3 + ["keep"]
    assert [action for (action,) in columns(callback, "action")] == actions
    # Each check costs the training solver and twelve evaluations; a growth the grown solver.
    training = 3 * (8 + 4 + 2) + 1
    checks = training + 10 * 12 + (4 + 2 + 1)
    assert callback.nfe_per_iteration_with_checks == (training + checks) / 10


def test_a_rule_for_other_solvers_is_refused_before_training():
    model, rule = frozen(), tfnode.adaption.ToleranceRule()
    with pytest.raises(ValueError, match="Received: solver="):
        fit(model, tfnode.StepAdaption((X, ONES), policy=rule))
    assert int(model.optimizer.iterations) == 0


def test_the_rule_is_that_of_adaption():
    # A run with other constants, replayed from its own records.
    callback = tfnode.StepAdaption(
        (X, ZEROS), every=1, threshold=0.5, shrink=0.25, growth=2.0, initial_step_size=1.0
    )
    fit(frozen(**FLIP), callback, ZEROS, iterations=3)
    rule = StepRule(threshold=0.5, shrink=0.25, growth=2.0)
    assert columns(callback, "step_size", "action") == [
        (1.0, "shrink"),
        (0.25, "grow"),
        (0.5, "keep"),
    ]
    euler, probe = tfnode.solvers.Euler(0.5), Probe(accuracy=1.0, reference_accuracy=0.0)
    assert rule.decide(euler, (), probe.measurement(0.0)) == Decision(euler, (), "keep")
