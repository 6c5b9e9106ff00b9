"""The loop on JAX: the reverse of a loop is a loop of the same kind, so it has every derivative.

A *walk* has a carry, rows `xs` that it reads, and two kinds of output: sums over the steps, and
rows `ys` that it writes:

    carry, sum_k, y_k = function(carry, x_k, weights, fixed_k)

Its pullback is a walk in the other direction: the carry is the adjoint, the sums are the gradients
of the weights, the rows that it reads are the carries, the `x_k` and the cotangents of the `y_k`,
and the rows that it writes are the gradients of the `x_k`. Being a walk, it has a pullback itself.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from tfnode.integrate.loops import Step


def scan(
    step: Step,
    carry: list,
    rows: list,
    weights: list,
    constants: list,
    num_steps: Any,
    gradient: str | None,
    keep: bool,
    rows_have_gradient: bool,
) -> tuple[list, list | None]:
    """See `tfnode.integrate.loops.scan`."""
    moving, still = (rows, []) if rows_have_gradient else ([], rows)

    def function(carry: list, x: list, weights: list, fixed: Any) -> tuple:
        row, constants = fixed
        carry = step(carry, x if rows_have_gradient else row, weights, constants)
        return carry, [], carry if keep else []

    if gradient == "backprop":
        carry, states = _bounded(step, carry, rows, weights, constants, num_steps, keep)
        return carry, states
    num_steps = jnp.asarray(num_steps, "int32")
    arguments = (carry, moving, weights, still, constants, num_steps, len(rows[0]))
    run = _walk if gradient == "discrete_adjoint" else _run
    carry, _, states = run(function, False, *arguments[:-1], arguments[-1])
    return carry, states if keep else None


def _run(
    function: Callable,
    backwards: bool,
    carry: Any,
    xs: Any,
    weights: Any,
    rows: Any,
    constants: Any,
    num_steps: Any,
    max_num_steps: int,
) -> tuple:
    """The walk itself, whose number of steps is dynamic."""

    def at(k: Any, rows: Any) -> Any:
        return jax.tree.map(lambda r: lax.dynamic_index_in_dim(r, k, keepdims=False), rows)

    def body(i: Any, loop: tuple) -> tuple:
        carry, sums, ys = loop
        k = num_steps - 1 - i if backwards else i
        carry, terms, y = function(carry, at(k, xs), weights, (at(k, rows), constants))
        sums = jax.tree.map(jnp.add, sums, terms)
        ys = jax.tree.map(lambda r, v: lax.dynamic_update_index_in_dim(r, v, k, 0), ys, y)
        return carry, sums, ys

    _, sums, y = jax.eval_shape(function, carry, at(0, xs), weights, (at(0, rows), constants))
    sums = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), sums)
    ys = jax.tree.map(lambda s: jnp.zeros((max_num_steps, *s.shape), s.dtype), y)
    return lax.fori_loop(0, num_steps, body, (carry, sums, ys))


_walk = jax.custom_vjp(_run, nondiff_argnums=(0, 1, 8))


def _forward(
    function: Callable,
    backwards: bool,
    carry: Any,
    xs: Any,
    weights: Any,
    rows: Any,
    constants: Any,
    num_steps: Any,
    max_num_steps: int,
) -> tuple:
    def keeping(carry: Any, x: Any, weights: Any, fixed: Any) -> tuple:
        following, terms, y = function(carry, x, weights, fixed)
        return following, terms, (carry, y)

    inputs = xs, weights, rows, constants, num_steps
    carry, sums, (carries, ys) = _walk(keeping, backwards, carry, *inputs, max_num_steps)
    return (carry, sums, ys), (carries, *inputs)


def _backward(
    function: Callable, backwards: bool, max_num_steps: int, residuals: tuple, cotangents: tuple
) -> tuple:
    carries, xs, weights, rows, constants, num_steps = residuals
    adjoint, sums_bar, ys_bar = cotangents

    def pull_back(adjoint: Any, x: Any, weights: Any, fixed: Any) -> tuple:
        (carry, x, y_bar), (weights, sums_bar) = x, weights
        of_inputs = lambda inputs: function(*inputs, fixed)
        bars = adjoint, sums_bar, y_bar
        _, (adjoint, x_bar, terms) = pulled_back(of_inputs, (carry, x, weights), bars)
        return adjoint, terms, x_bar

    adjoint, weights_bar, xs_bar = _walk(
        pull_back,
        not backwards,
        adjoint,
        (carries, xs, ys_bar),
        (weights, sums_bar),
        rows,
        constants,
        num_steps,
        max_num_steps,
    )
    return adjoint, xs_bar, weights_bar, None, None, None


def pulled_back(function: Callable, inputs: Any, cotangents: Any) -> tuple:
    """See `tfnode.integrate.loops.pulled_back`."""
    outputs, pull = jax.vjp(function, inputs)
    return outputs, pull(cotangents)[0]


_walk.defvjp(_forward, _backward)


def without_gradient(tensors: list, sources: list, refusal: str) -> list:
    """See `tfnode.integrate.loops.without_gradient`."""

    @jax.custom_vjp
    def identity(tensors: list, sources: list) -> list:
        return tensors

    def backward(_: None, cotangents: list) -> tuple:
        raise ValueError(refusal)

    identity.defvjp(lambda tensors, sources: (tensors, None), backward)
    return identity(tensors, sources)


def _bounded(
    step: Step,
    carry: list,
    rows: list,
    weights: list,
    constants: list,
    num_steps: Any,
    keep: bool,
) -> tuple[list, list | None]:
    """The loop as one of `max_num_steps` turns, which autodiff can follow: idle ones do nothing."""

    def turn(carry: list, indexed: tuple) -> tuple:
        k, row = indexed
        go = lambda carry: list(step(carry, row, weights, constants))
        carry = lax.cond(k < num_steps, go, lambda carry: carry, list(carry))
        return carry, carry if keep else None

    return lax.scan(turn, list(carry), (jnp.arange(len(rows[0])), rows))
