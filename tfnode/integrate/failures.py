"""An integration that could not be finished is an error, in a graph too."""

import dataclasses
from typing import Any

import keras
from keras import ops

tree = keras.tree


@dataclasses.dataclass(frozen=True)
class Failure:
    """Where an adaptive integration stands that may have failed.

    Args:
        failed: Boolean tensor, a scalar, or with steps for each sample one for each.
        time: Scalar tensor, where the integration ended.
        step: Scalar tensor, the last step size.
        evaluations: Scalar tensor.
    """

    failed: Any
    time: Any
    step: Any
    evaluations: Any


def check(failure: Failure, state: Any, problem: Any, equation: str = "") -> Any:
    """Returns whether an integration failed, or its solution is not finite; raises if so.

    In a TensorFlow graph the error comes when it runs, as an `InvalidArgumentError`. Where
    assertions are dropped (XLA, JAX's compiled functions) there is only the return value. A solver
    that isolates failures raises nothing, and each sample has a return value of its own.

    Args:
        failure: `Failure`.
        state: The solution at each time, or None where only the steps are known.
        problem: `tfnode.integrate.adaptive.Problem`.
        equation: String, what was integrated if not the problem itself.

    Raises:
        FloatingPointError: If the state was not finite, the step collapsed, the budget is spent,
            or a tolerance is not positive and finite.
    """
    rule = (
        "An adaptive integration must stay finite and end within its budget of steps, at positive "
        "and finite tolerances."
    )
    advice = (
        "Look for NaN in the inputs and weights, or try a larger tolerance, a larger "
        "`max_num_steps`, a field with bounded derivatives (such as a tanh), or a smaller learning "
        "rate."
    )
    solver = f"solver={type(problem.solver).__name__} in block {problem.name!r}{equation}"
    static = f"{solver}, max_num_steps={problem.solver.max_num_steps}"
    values = {
        "time": failure.time,
        "step": failure.step,
        "rtol": problem.rtol,
        "atol": problem.atol,
        "evaluations": failure.evaluations,
    }
    failed = ops.logical_or(failure.failed, ops.logical_not(problem.has_tolerances))
    for z in tree.flatten(() if state is None else state):
        # The accepted steps, taken once more, may touch where the field is not finite.
        axes = tuple(axis for axis in range(len(z.shape)) if axis != 1 or not len(failed.shape))
        failed = ops.logical_or(failed, ops.logical_not(ops.all(ops.isfinite(z), axis=axes)))
    if problem.solver.isolates_failures:
        return failed
    failed = ops.any(failed)
    if _in_tensorflow_graph():
        import tensorflow as tf

        data = [rule, f"Received: {static},"]
        for name, value in values.items():
            data += [f"{name}=", value]
        with tf.control_dependencies([tf.debugging.Assert(~failed, [*data, advice])]):
            return tf.identity(failed)
    if not _is_traced(failed) and bool(failed):
        numbers = ", ".join(f"{name}={float(value):.6g}" for name, value in values.items())
        raise FloatingPointError(f"{rule} Received: {static}, {numbers}. {advice}")
    return failed


def is_in_graph(value: Any) -> bool:
    """Whether a graph is being traced, in which a value is a tensor without a number."""
    return _in_tensorflow_graph() or _is_traced(value)


def _in_tensorflow_graph() -> bool:
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return not tf.executing_eagerly()


def _is_traced(value: Any) -> bool:
    if keras.backend.backend() != "jax":
        return False
    import jax

    return isinstance(value, jax.core.Tracer)
