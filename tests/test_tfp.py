"""TFP's Dormand-Prince solver: its guard, call by call, and its adjoint equation."""

import concurrent.futures

import numpy as np
import pytest
import tensorflow as tf
from test_adaptive_loop import CountedField, Network, given, states

import tfnode
from tfnode.integrate.problems import Statistics
from tfnode.integrate.tfp import guard
from tfnode.layers.adaptive_steps import WATCHED
from tfnode.solvers import DormandPrince

TFP = DormandPrince()
STAGES = (1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)


def watch_calls(calls, max_num_steps=100, smallest_step=1e-10):
    """Feeds `observe` with pairs of a time and whether the derivative is finite.

    Returns the last `Watch` as floats, and what was done to each derivative.
    """
    watch, actions = guard.Watch(*tf.zeros(7, tf.float64)), []
    for t, is_finite in calls:
        watch, replaces, rejects = guard.observe(
            watch, tf.constant(t, tf.float64), tf.constant(is_finite), smallest_step, max_num_steps
        )
        actions.append("reject" if rejects else "zero" if replaces else "keep")
    return guard.Watch(*map(float, watch)), actions


def attempt(start, h, spoiled=()):
    return [(start + c * h, i not in spoiled) for i, c in enumerate(STAGES)]


START = [(0.0, True)]


def test_the_guard_tells_accepted_from_rejected_attempts():
    # Accepted, rejected, accepted, and the call at the end.
    calls = [*START, *attempt(0, 0.1), *attempt(0.1, 0.5), *attempt(0.1, 0.3), (0.35, True)]
    seen, actions = watch_calls(calls)
    assert actions == ["keep"] * 20
    assert (seen.calls, seen.accepted, seen.failed) == (20, 2, 0)
    assert seen.step == pytest.approx(0.3)


def test_the_guard_rejects_an_attempt_that_is_not_finite():
    calls = [*START, *attempt(0, 0.1, spoiled=(1,)), *attempt(0, 0.01)]
    seen, actions = watch_calls(calls)
    assert actions == ["keep"] * 2 + ["zero"] * 4 + ["reject"] + ["keep"] * 6
    assert (seen.accepted, seen.failed) == (1, 0)


@pytest.mark.parametrize(
    ("calls", "max_num_steps", "first_bad"),
    [
        # The derivative at the start is not finite.
        ([(0.0, False), *attempt(0, 0.1)], 100, 0),
        # The step has collapsed, as the third stage tells.
        ([*START, *attempt(0, 1e-11)], 100, 3),
        ([*START, *attempt(0, float("nan"))], 100, 3),
        # The budget of two attempts is spent, as the second stage of the third one tells.
        ([*START, *attempt(0, 0.1), *attempt(0.1, 0.1), *attempt(0.2, 0.1)], 2, 14),
        # What should have been rejected was accepted.
        ([*START, *attempt(0, 0.1, spoiled=(5,)), *attempt(0.1, 0.1)], 100, 7),
    ],
)
def test_the_guard_ends_what_cannot_end(calls, max_num_steps, first_bad):
    seen, actions = watch_calls(calls, max_num_steps)
    assert seen.failed == 1
    assert set(actions[first_bad:]) == {"zero"}
    assert set(actions[:first_bad]) <= {"keep", "reject"}
    assert seen.time == pytest.approx(calls[first_bad][0], nan_ok=True)


def adjoint_block(solver, function=None, dtype="float64", **options):
    field = Network(dtype=dtype) if function is None else CountedField(function, dtype=dtype)
    return tfnode.ODEBlock(
        field,
        solver,
        time_dependent=function is not None,
        gradient="adjoint",
        dtype=dtype,
        **options,
    )


def test_evaluations_under_the_adjoint_are_counted_exactly():
    block = adjoint_block(TFP.with_tolerance(1e-2), lambda t, z: -z)
    executed = block.field.count(lambda: block(tf.ones((1, 1)), training=True))
    found = block.statistics
    attempts = found.accepted + found.rejected
    assert found == Statistics(2 + 1 + 6 * attempts, found.accepted, found.rejected)
    assert executed == found.evaluations


def gradient_of(block, loss):
    x = tf.constant(states(2, dtype=block.dtype))
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = loss(block(x, training=True))
    return tape.gradient(value, x)


def test_a_gradient_that_is_not_finite_is_an_error():
    block = adjoint_block(TFP.with_tolerance(1e-2))
    named = "in the adjoint equation, max_num_steps=1000.*time=1, .*evaluations="
    with pytest.raises(FloatingPointError, match=named):
        gradient_of(block, lambda z: tf.reduce_sum(z * float("nan")))


def test_an_adjoint_equation_that_spends_its_budget_is_an_error():
    # Its solution grows as exp(60 t) from a gradient that is far above the tolerance.
    block = adjoint_block(
        DormandPrince(1e-3, 1e-3, max_num_steps=12), lambda t, z: 60 * tf.tanh(z) - 60 * z
    )
    block(tf.constant(states(2)), training=True)
    assert block.statistics.accepted <= 12
    with pytest.raises(FloatingPointError, match="in the adjoint equation, max_num_steps=12,"):
        gradient_of(block, lambda z: 1e9 * tf.reduce_sum(z))


def test_in_a_graph_that_is_an_error_too():
    block = adjoint_block(TFP.with_tolerance(1e-2))
    with pytest.raises(tf.errors.InvalidArgumentError, match="in the adjoint equation"):
        tf.function(gradient_of)(block, lambda z: tf.reduce_sum(z * float("nan")))


def test_without_a_variable_nothing_is_assigned_and_counted_alike():
    """In a stateless scope, such as that of an export."""
    block = tfnode.ODEBlock(Network(dtype="float64"), TFP.with_tolerance(1e-4), dtype="float64")
    x = tf.constant(states(3))
    z1, statistics = block(x), block.statistics
    variables = block.non_trainable_variables
    for variable in variables:
        if "float" in variable.dtype and variable.shape == (WATCHED,):
            variable.assign(tf.fill(variable.shape, tf.constant(7.0, tf.float64)))
    before = [np.array(v) for v in variables]
    found, state = block.stateless_call(block.trainable_variables, variables, x)
    np.testing.assert_array_equal(found, z1)
    for variable, value in zip(variables, before):
        np.testing.assert_array_equal(variable, value)
    (noted,) = (v for variable, v in zip(variables, state) if variable.name == "statistics")
    assert Statistics(*map(int, noted)) == statistics


@pytest.mark.parametrize("bad", [2.0, float("nan")], ids=["pole", "nan"])
def test_without_a_variable_the_end_is_tfps(bad):
    # z = 1 / (1/2 - t) has its pole within the interval.
    field = CountedField(lambda t, z: z * z, dtype="float64")
    solver = DormandPrince(1e-3, 1e-3, max_num_steps=20)
    block = tfnode.ODEBlock(field, solver, time_dependent=True, dtype="float64")
    x = tf.constant([[bad]], tf.float64)
    block.build(x.shape)
    with pytest.raises(tf.errors.InvalidArgumentError, match="max_num_steps exceeded"):
        block.stateless_call([], block.non_trainable_variables, x)


def test_what_was_not_finite_is_0_for_the_solver():
    nest = (tf.constant([1.0, float("nan")]), {"a": tf.constant(float("-inf"))})
    first, rest = guard.finite(nest)
    assert (first.numpy().tolist(), float(rest["a"])) == ([1.0, 0.0], 0.0)


def test_a_derivative_whose_square_overflows_is_not_finite():
    problem = given(None, TFP)
    variable = tf.Variable(tf.zeros(len(guard.Watch._fields)))
    variable = type("Watch", (), {"value": variable, "assign": variable.assign})()
    for size, failed in ((1e15, 0), (1e18, 1)):
        guarded = guard.Guard(lambda t, z: z, problem, variable, tf.constant([size]), 0.0)
        assert float(guarded.seen().failed) == failed


def test_threads_may_call_a_block_at_once():
    """Eagerly, where every call has a scratch variable of its own."""
    block = tfnode.ODEBlock(
        CountedField(lambda t, z: -z), TFP.with_tolerance(1e-2), time_dependent=True
    )
    x = [tf.fill((1, 1), float(i)) for i in range(1, 9)]
    block.build((1, 1))
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = list(pool.map(block, x))
    np.testing.assert_allclose(found, np.exp(-1) * np.array(x), rtol=1e-2)
