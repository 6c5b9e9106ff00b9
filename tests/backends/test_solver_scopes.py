"""A model under another solver is a scope: for every place that a block can be in."""

import keras
import numpy as np
import pytest
from autodiff import BACKEND
from keras import ops
from scope_models import (
    CALLS,
    COARSE,
    FINE,
    KINDS,
    TIMESTEPS,
    assert_equal,
    build,
    compiled,
    counted,
    inputs,
    labels,
    outputs,
)

import tfnode
from tfnode import solvers

ON_TENSORFLOW = BACKEND == "tensorflow"
every_kind = pytest.mark.parametrize("kind", KINDS)
# Elsewhere, of the kinds that are trained alike, one: a compilation takes seconds.
SOME = ("functional", "Subclassed", "beside", "recurrent", "in_field", "dictionaries")


@every_kind
def test_equals_the_model_built_with_that_solver(kind):
    model, other, x = build(kind, COARSE), build(kind, FINE), inputs(kind)
    same = tfnode.with_solver(model, FINE)
    assert_equal(outputs(same, x), outputs(other, x))
    assert np.abs(outputs(same, x)[0] - outputs(model, x)[0]).max() > 1e-4
    keras.tree.assert_same_structure(same(x), model(x))


@every_kind
def test_another_solver_once_more(kind):
    last = solvers.Heun(1 / 2)
    again = tfnode.with_solver(tfnode.with_solver(build(kind, COARSE), FINE), last)
    assert_equal(outputs(again, inputs(kind)), outputs(build(kind, last), inputs(kind)))


@pytest.mark.parametrize("kind", KINDS if ON_TENSORFLOW else SOME)
def test_trains_as_the_model_built_with_that_solver(kind):
    """The backward pass runs when the scope is shut, and evaluates fields once more."""
    model, other = build(kind, COARSE), compiled(build(kind, FINE), kind)
    same = compiled(tfnode.with_solver(model, FINE), kind)
    # It needs no graph, but the blocks in the fields of others take long without.
    other.run_eagerly = ON_TENSORFLOW and kind != "in_field"
    before = model.get_weights()
    ours, theirs = (
        one.fit(inputs(kind), labels(kind), epochs=2, verbose=0, shuffle=False).history["loss"]
        for one in (same, other)
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    for ours, theirs in zip(model.trainable_variables, other.trainable_variables, strict=True):
        ours, theirs = (ops.convert_to_numpy(v.value) for v in (ours, theirs))
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)
    assert any(np.abs(a - b).max() > 1e-5 for a, b in zip(before, model.get_weights()))


@every_kind
def test_calls_are_counted(kind):
    expected = [TIMESTEPS] if (BACKEND, kind) == ("jax", "recurrent") else CALLS[kind]
    # A block in the field of another follows that one's step.
    assert counted(kind) == (expected, [1, 4] if kind == "in_field" else expected)
