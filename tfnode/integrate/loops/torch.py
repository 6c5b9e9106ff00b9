"""The loop on torch, step by step: its pullback is a loop of the same kind; see `jax.py`.

The carries before each step are outputs of the loop, too, so that they have a gradient where the
pullback is differentiated once more.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch

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
    num_steps = int(num_steps)

    def function(carry: list, x: list, weights: list, k: int) -> tuple:
        carry = step(carry, x or [row[k] for row in rows], weights, constants)
        return list(carry), [], list(carry) if keep else []

    xs: list[list] = [[]] * num_steps
    if gradient == "discrete_adjoint":
        if rows_have_gradient:
            xs = [[row[k] for row in rows] for k in range(num_steps)]
        carry, _, states = _walk(function, range(num_steps), carry, xs, weights)
    else:
        carry, _, _, states = _run(function, range(num_steps), carry, xs, weights)
    return carry, _stacked(states, len(rows[0])) if keep else None


def _stacked(states: list, length: int) -> list:
    """The tensors of a list of states, each stacked and filled up to a length."""
    stacked = [torch.stack(tensors) for tensors in zip(*states)]
    fill = [s.new_zeros((length - len(s), *s.shape[1:])) for s in stacked]
    return [torch.cat(pair) for pair in zip(stacked, fill)]


def _run(function: Callable, indices: Sequence, carry: list, xs: list, weights: list) -> tuple:
    """Returns the last carry, the sums, and for each step the carry before it and its output."""
    carries: list[list] = [[]] * len(indices)
    ys: list[list] = [[]] * len(indices)
    sums: list = []
    for k in indices:
        carries[k] = carry
        carry, terms, ys[k] = function(carry, xs[k], weights, k)
        # A cotangent that nobody gave has no gradient, at no step.
        sums = [a if b is None else a + b for a, b in zip(sums, terms)] if sums else terms
    return carry, sums, carries, ys


def _walk(function: Callable, indices: Sequence, carry: list, xs: list, weights: list) -> tuple:
    """As `_run`, with a gradient; returns the last carry, the sums, and the output of each step."""
    structure: dict = {"inputs": [len(carry), len(weights)]}
    flat = [*carry, *weights, *(t for x in xs for t in x)]
    outputs = _Walk.apply(function, indices, structure, *flat)
    carry, sums, rows = _parts(outputs, structure["outputs"], len(indices))
    return carry, sums, [row[structure["inputs"][0] :] for row in rows]


def _parts(flat: Sequence, sizes: list, num_rows: int) -> tuple[list, list, list]:
    """Cuts a flat list into two lists of given sizes and equal rows of what is left."""
    first, second = sizes
    rest = list(flat[first + second :])
    width = len(rest) // max(1, num_rows)
    rows = [rest[k * width : (k + 1) * width] for k in range(num_rows)]
    return list(flat[:first]), list(flat[first : first + second]), rows


class _Walk(torch.autograd.Function):
    """A loop and its pullback for autograd, on flat lists of tensors."""

    @staticmethod
    def forward(
        ctx: Any, function: Callable, indices: Sequence, structure: dict, *flat: Any
    ) -> tuple:
        carry, weights, xs = _parts(flat, structure["inputs"], len(indices))
        last, sums, carries, ys = _run(function, indices, carry, xs, weights)
        structure["outputs"] = [len(last), len(sums)]
        # Copies: autograd does not let an input be an output too.
        outputs = [t.clone() if any(t is f for f in flat) else t for t in last]
        rows = [[*(t.clone() for t in carry), *y] for carry, y in zip(carries, ys)]
        ctx.function, ctx.indices, ctx.structure = function, indices, structure
        ctx.save_for_backward(*flat, *(t for row in rows for t in row[: len(carry)]))
        ctx.num_inputs = len(flat)
        ctx.set_materialize_grads(False)
        return *outputs, *sums, *(t for row in rows for t in row)

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> tuple:
        num_steps, (num_carry, num_weights) = len(ctx.indices), ctx.structure["inputs"]
        saved = ctx.saved_tensors
        _, weights, xs = _parts(saved[: ctx.num_inputs], [num_carry, num_weights], num_steps)
        _, _, carries = _parts(saved[ctx.num_inputs :], [0, 0], num_steps)
        adjoint, sums_bar, ys_bar = _parts(cotangents, ctx.structure["outputs"], num_steps)
        adjoint = [torch.zeros_like(c) if a is None else a for a, c in zip(adjoint, saved)]
        pull_back = _pullback_of(ctx.function, num_carry, num_weights, xs)
        rows = [[*c, *x, *bar] for c, x, bar in zip(carries, xs, ys_bar)]
        operands = [*weights, *sums_bar]
        adjoint, weights_bar, xs_bar = _walk(pull_back, ctx.indices[::-1], adjoint, rows, operands)
        weights_bar = weights_bar or [None] * num_weights
        return None, None, None, *adjoint, *weights_bar, *(t for x in xs_bar for t in x)


def _pullback_of(function: Callable, num_carry: int, num_weights: int, xs: list) -> Callable:
    """The step of the loop back: from cotangents of a step's outputs to those of its inputs."""
    num_inner = num_carry + (len(xs[0]) if xs else 0)

    def pull_back(adjoint: list, x: list, operands: list, k: int) -> tuple:
        def outputs(inputs: list) -> list:
            carry, inner, weights = _parts(inputs, [num_carry, num_inner - num_carry], 1)
            following, terms, y = function(carry, inner, weights[0], k)
            return [*following, *terms, *carry, *y]

        inputs = [*x[:num_inner], *operands[:num_weights]]
        bars = [*adjoint, *operands[num_weights:], *x[num_inner:]]
        _, gradients = pulled_back(outputs, inputs, bars)
        adjoint, xs_bar, terms = _parts(gradients, [num_carry, num_inner - num_carry], 1)
        return adjoint, terms[0], xs_bar

    return pull_back


def pulled_back(function: Callable, inputs: list, cotangents: list) -> tuple[list, list]:
    """See `tfnode.integrate.loops.pulled_back`; what is None has no gradient, and needs none."""
    is_differentiated = torch.is_grad_enabled()
    with torch.enable_grad():
        inputs = [t if t is None else _watched(t, is_differentiated) for t in inputs]
        outputs = function(inputs)
        pairs = [p for p in zip(outputs, cotangents) if p[1] is not None and p[0].requires_grad]
        found = iter(
            torch.autograd.grad(
                [output for output, _ in pairs],
                [t for t in inputs if t is not None],
                [bar for _, bar in pairs],
                create_graph=is_differentiated,
                materialize_grads=True,
            )
        )
    gradients = [t if t is None else next(found) for t in inputs]
    if not is_differentiated:
        outputs = [t if t is None else t.detach() for t in outputs]
    return outputs, gradients


def _watched(tensor: torch.Tensor, is_differentiated: bool) -> torch.Tensor:
    """A tensor that a gradient is asked of: itself where that is differentiated once more."""
    if is_differentiated and tensor.requires_grad:
        return tensor
    return tensor.detach().requires_grad_()


def without_gradient(tensors: list, sources: list, refusal: str) -> list:
    """See `tfnode.integrate.loops.without_gradient`."""
    return list(_WithoutGradient.apply(refusal, len(tensors), *tensors, *sources))


class _WithoutGradient(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, refusal: str, count: int, *tensors: Any) -> tuple:
        context.refusal = refusal
        return tuple(tensor.view_as(tensor) for tensor in tensors[:count])

    @staticmethod
    def backward(context: Any, *cotangents: Any) -> tuple:
        raise ValueError(context.refusal)
