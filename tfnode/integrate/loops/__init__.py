"""The loop along a grid, on each backend, and the two ways that a gradient walks it back.

One face, `scan`, for `tensorflow.py`, `jax.py` and `torch.py`:

    carry_{k+1} = step(carry_k, row_k, weights, constants),      k = 0 .. num_steps - 1

The number of steps is read when the loop runs, so that one trace serves every step size.
"""

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

import keras

Step = Callable[[list, list, list, list], list]


def scan(
    step: Step,
    carry: list,
    rows: list,
    weights: list,
    constants: list,
    num_steps: Any,
    gradient: str | None,
    keep: bool = False,
    rows_have_gradient: bool = False,
) -> tuple[list, list | None]:
    """Runs a loop whose gradient is one of two.

    `gradient="backprop"` is autodiff through the loop: it keeps all intermediate results of every
    step. `"discrete_adjoint"` keeps the carries only: the loop back computes each step once more
    and pulls the adjoint `dL/dcarry_{k+1}` back through it, which is reverse-mode differentiation
    with a checkpoint at every step, so that both give the same gradient. None runs the loop where
    no gradient is asked for.

    Args:
        step: Callable `step(carry, row, weights, constants)` that returns the next carry, a list
            of tensors. Under the discrete adjoint it must be a pure function of its arguments.
        carry: List of tensors.
        rows: List of tensors `(max_num_steps, ...)`, of which a step is given its row.
        weights: List of tensors that the discrete adjoint differentiates by.
        constants: List of further tensors, without gradient.
        num_steps: int32 scalar tensor or integer, at most `max_num_steps`.
        gradient: `"backprop"`, `"discrete_adjoint"` or None.
        keep: Boolean, whether the carries after each step are returned.
        rows_have_gradient: Boolean, whether the discrete adjoint differentiates by the rows, too.

    Returns:
        Tuple of the last carry and None, or with `keep` the list of the carries after each step,
        of shape `(max_num_steps, ...)`; from `num_steps` on they mean nothing.
    """
    return _backend().scan(
        step, carry, rows, weights, constants, num_steps, gradient, keep, rows_have_gradient
    )


def pulled_back(function: Callable, inputs: Any, cotangents: Any) -> tuple:
    """Returns the outputs of a function, and the gradients of its inputs.

    One evaluation gives both, and both can be differentiated.

    Args:
        function: Callable from `inputs` to a list of tensors.
        inputs: List of tensors.
        cotangents: List of tensors, the gradients of the outputs.
    """
    return _backend().pulled_back(function, inputs, cotangents)


def without_gradient(tensors: list, sources: list, refusal: str) -> list:
    """Returns tensors that have no gradient: whoever asks for one by their sources gets an error.

    Args:
        tensors: List of tensors.
        sources: List of tensors, what they were computed from.
        refusal: String, the message of the error, a `LookupError` on TensorFlow, else a
            `ValueError`.
    """
    return _backend().without_gradient(tensors, sources, refusal)


def _backend() -> ModuleType:
    return importlib.import_module(f"tfnode.integrate.loops.{keras.backend.backend()}")
