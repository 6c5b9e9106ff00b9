"""The loop on TensorFlow, with a static bound that XLA needs, one iteration at a time.

With more at a time, recomputation runs ahead and its memory piles up.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfnode.integrate.loops import Step

_ZERO = tf.UnconnectedGradients.ZERO


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
    bound = rows[0].shape[0]
    # Tensors: a custom gradient would take a variable that is read inside for its own.
    weights, constants = [[tf.convert_to_tensor(v) for v in vs] for vs in (weights, constants)]
    # Rows without a gradient are not among the arguments of what has one.
    moving, still = (rows, []) if rows_have_gradient else ([], rows)

    def next_carry(k: Any, carry: list, row: list, weights: list) -> list:
        return step(carry, [*row, *_at(k, still)], weights, constants)

    def plain(carry: list, moving: list, weights: list) -> tuple:
        return _loop(
            lambda k, carry: next_carry(k, carry, _at(k, moving), weights),
            *(carry, num_steps, bound, keep),
        )

    if gradient != "discrete_adjoint":
        carry, arrays = plain(carry, moving, weights)
        return carry, [a.stack() for a in arrays] if keep else None
    inputs = [carry, moving, weights]
    outputs = _differentiable(next_carry, plain, inputs, num_steps, bound, keep)
    return outputs[: len(carry)], outputs[len(carry) :] if keep else None


def _at(k: Any, rows: list) -> list:
    return [tf.gather(row, k) for row in rows]


def _loop(next_carry: Callable, carry: list, num_steps: Any, bound: int, keep: bool) -> tuple:
    """Returns the last carry, and with `keep` the arrays of the carries after each step."""
    carry = list(carry)

    def body(k: Any, carry: list, arrays: list) -> tuple:
        carry = list(next_carry(k, carry))
        return k + 1, carry, [a.write(k, c) for a, c in zip(arrays, carry)]

    _, carry, arrays = _while(
        lambda k, *_: k < num_steps, body, (0, carry, _arrays(carry, bound) if keep else []), bound
    )
    return carry, arrays


def _while(condition: Callable, body: Callable, loop_vars: tuple, bound: int) -> tuple:
    return tf.while_loop(
        condition, body, loop_vars, maximum_iterations=bound, parallel_iterations=1
    )


def _arrays(tensors: list, length: int) -> list:
    return [
        tf.TensorArray(t.dtype, length, element_shape=t.shape, clear_after_read=False)
        for t in tensors
    ]


def _pack(flat: Any, like: list) -> list:
    return tf.nest.pack_sequence_as(like, list(flat))


def _differentiable(
    next_carry: Callable, plain: Callable, inputs: list, num_steps: Any, bound: int, keep: bool
) -> list:
    """The outputs of the loop `plain(*inputs)`, flat, with the discrete adjoint as gradient."""

    @tf.custom_gradient
    def solution(*flat: Any) -> tuple:
        carry, moving, weights = _pack(flat, inputs)

        def forward(k: Any, carry: list, before: list, after: list) -> tuple:
            following = list(next_carry(k, carry, _at(k, moving), weights))
            before = [a.write(k, c) for a, c in zip(before, carry)]
            after = [a.write(k, c) for a, c in zip(after, following)]
            return k + 1, following, before, after

        loop_vars = (0, carry, _arrays(carry, bound), _arrays(carry, bound) if keep else [])
        _, last, before, after = _while(lambda k, *_: k < num_steps, forward, loop_vars, bound)
        is_eager = tf.executing_eagerly()

        def gradient(*upstream: Any, variables: Any = ()) -> Any:
            carries = _for_graph(before, num_steps) if is_eager else before
            back = _walk_back(next_carry, plain, inputs, carries, num_steps, bound)
            return _without(variables, back(_dense(upstream), flat))

        return [*last, *(a.stack() for a in after)], gradient

    return list(solution(*tf.nest.flatten(inputs)))


def _for_graph(arrays: list, num_steps: Any) -> list:
    """Arrays that were written eagerly, for a graph: `batch_jacobian` differentiates in one."""
    if tf.executing_eagerly():
        return arrays
    rows = range(max(1, int(num_steps)))
    stacked = [tf.stack([a.read(k) for k in rows]) for a in arrays]
    return [tf.TensorArray(s.dtype, len(rows), clear_after_read=False).unstack(s) for s in stacked]


def _walk_back(
    next_carry: Callable, plain: Callable, inputs: list, before: list, num_steps: Any, bound: int
) -> Callable:
    """Returns the function from cotangents and inputs to the gradients of the inputs."""
    pull_back = _pullback_of(next_carry)

    def first(upstream: Any, carry: list, moving: list, weights: list) -> list:
        adjoint, states_bar = list(upstream[: len(carry)]), list(upstream[len(carry) :])

        def backward(k: Any, adjoint: list, rows: list, sums: list) -> tuple:
            carry = [a.read(k) for a in before]
            adjoint = [
                a + tf.gather(s, k) if states_bar else a
                for a, s in zip(adjoint, states_bar or adjoint)
            ]
            adjoint, row_bar, terms = pull_back(k, carry, _at(k, moving), weights, adjoint)
            rows = [r.write(k, bar) for r, bar in zip(rows, row_bar)]
            return k - 1, adjoint, rows, [a + b for a, b in zip(sums, terms)]

        rows = _arrays([m[0] for m in moving], bound)
        loop_vars = (num_steps - 1, adjoint, rows, [tf.zeros_like(w) for w in weights])
        _, adjoint, rows, sums = _while(lambda k, *_: k >= 0, backward, loop_vars, bound)
        return [*adjoint, *(r.stack() for r in rows), *sums]

    def back(upstream: Any, flat: Any) -> list:
        @tf.custom_gradient
        def gradients(*arguments: Any) -> tuple:
            upstream_, flat_ = arguments[: len(upstream)], arguments[len(upstream) :]
            first_order = first(upstream_, *_pack(flat_, inputs))

            def gradient(*cotangents: Any, variables: Any = ()) -> Any:
                found = _twice(plain, inputs, upstream_, flat_, _dense(cotangents))
                return _without(variables, found)

            return first_order, gradient

        return gradients(*upstream, *flat)

    return back


def _without(variables: Any, gradients: list) -> Any:
    """Gradients of the arguments, with none of variables that are read besides: frozen ones."""
    return (gradients, [None for _ in variables]) if variables else gradients


def _twice(plain: Callable, inputs: list, upstream: Any, flat: Any, cotangents: Any) -> list:
    """The gradient of a gradient, by autodiff through the loop."""
    with tf.GradientTape(watch_accessed_variables=False) as outer:
        outer.watch((upstream, flat))
        with tf.GradientTape(watch_accessed_variables=False) as inner:
            inner.watch(flat)
            carry, arrays = plain(*_pack(flat, inputs))
            outputs = [*carry, *(a.stack() for a in arrays)]
        gradients = inner.gradient(outputs, flat, list(upstream), unconnected_gradients=_ZERO)
        gradients = _dense(gradients)
    return outer.gradient(
        gradients, [*upstream, *flat], list(cotangents), unconnected_gradients=_ZERO
    )


def _dense(gradients: Any) -> list:
    """Tensors: the gradient of what is gathered is sparse."""
    return [tf.convert_to_tensor(g) for g in gradients]


def pulled_back(function: Callable, inputs: Any, cotangents: Any) -> tuple:
    """See `tfnode.integrate.loops.pulled_back`."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(inputs)
        outputs = function(inputs)
    return outputs, tape.gradient(outputs, inputs, cotangents, unconnected_gradients=_ZERO)


def _pullback_of(next_carry: Callable) -> Callable:
    """Returns the function that pulls an adjoint back through a step.

    In a graph TensorFlow's optimizer must not write it into the loop's body. Where a sum of three
    terms and more meets 200 MB of other tensors, the optimizer lets it run in a temporary variable.
    In the body of a loop that variable is made once more after the last iteration and never
    removed, and the next batch fails: "AlreadyExistsError ... tmp_var". (TF 2.21, on a CPU; the
    summed gradients of midpoint and RK4.) A function that is not inlined has no such iteration.
    """

    def pull_back(k: Any, carry: list, row: list, weights: list, adjoint: list) -> Any:
        following = lambda inputs: list(next_carry(k, *inputs))
        return pulled_back(following, (carry, row, weights), adjoint)[1]

    if tf.executing_eagerly():
        return pull_back
    return tf.function(pull_back, autograph=False, experimental_attributes={"_noinline": True})


def without_gradient(tensors: list, sources: list, refusal: str) -> list:
    """See `tfnode.integrate.loops.without_gradient`; a `LookupError`, as TensorFlow has it.

    No custom gradient: TensorFlow traces those of a model that it saves.
    """
    refusing = [tf.raw_ops.PreventGradient(input=source, message=refusal) for source in sources]
    return tf.raw_ops.IdentityN(input=[*tensors, *refusing])[: len(tensors)]
