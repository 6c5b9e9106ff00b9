"""`odeint`: the solution of an initial value problem at given times, for a plain function."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from tfnode import arguments, solvers
from tfnode.integrate.grids import fixed_grid
from tfnode.layers.adaptive_steps import WATCHED, AdaptiveSteps
from tfnode.layers.checks import (
    check_batch,
    check_length,
    check_moves_times,
    check_precision,
    check_state,
    check_tells_times,
)
from tfnode.layers.given import Given
from tfnode.layers.passes import ForwardPass
from tfnode.layers.vector_field import FunctionField, VectorField

tree = keras.tree

# It runs on every backend.
_DEFAULT_SOLVER = solvers.DormandPrince(per_sample=True)

# What to do with a layer that is not a pure function.
_REMEDIES = (
    "Pass a function that calls the layer with training=False, or draw what is random before and "
    "pass it as conditions.",
    "Leave the regularizer out.",
)

# The bound of a loop over fixed steps whose number is not known when a graph is written.
_MAX_NUM_STEPS = 1000


def odeint(
    field: Callable | keras.Layer,
    z0: Any,
    times: Sequence[float] | Any,
    solver: solvers.SolverLike = _DEFAULT_SOLVER,
    conditions: Any = None,
) -> Any:
    """Integrates `dz/dt = field(t, z)` from `times[0]` on and returns the states at all times.

    Steps land on the times. The gradient is that of the discrete solution, by everything that the
    field depends on, by `z0`, `conditions`, and by `times` if they are a tensor. A Keras layer is
    differentiated by the discrete adjoint, in the memory of the states and of one step; a function
    by autodiff through the loop, as it may depend on what nobody can see.

    Examples:

    A harmonic oscillator after a quarter and after half a period:

    >>> def oscillator(t, z):
    ...     return keras.ops.stack([z[..., 1], -z[..., 0]], axis=-1)
    >>> z = odeint(oscillator, np.array([[1.0, 0.0]], "float32"), [0.0, np.pi / 2, np.pi])
    >>> keras.ops.convert_to_numpy(z).round(3).tolist()
    [[[1.0, 0.0]], [[-0.0, -1.0]], [[-1.0, 0.0]]]

    Args:
        field: Callable `field(t, z)`, or with conditions `field(t, z, conditions)`, that returns
            the derivative in the structure and shapes of `z`; a function or a Keras layer. The
            time is a scalar, with `per_sample=True` and with times for each sample of shape
            `(batch_size, 1, ...)`.
        z0: Floating-point tensor of shape `(batch_size, ...)`, or nested structure of such, the
            state at the first time.
        times: Increasing or decreasing times, of shape `(num_times,)`, or with times for each
            sample `(num_times, batch_size)`: numbers, or a tensor of known shape.
        solver: A solver of `tfnode.solvers`, its name, or its serialized dictionary.
        conditions: Optional nested structure of tensors that every evaluation is given. They are
            not integrated, and not in the error norm.

    Returns:
        The states, with a first axis of times; the first is `z0`. Where the times are a tensor,
        and ask for more than 1000 fixed steps or for steps that are lost in their rounding, they
        are NaN: a graph cannot refuse them.

    Raises:
        ValueError: If an argument is not as described: if the state is not floating-point, if
            there are less than two times, or if they do not increase or decrease.
        FloatingPointError: If an adaptive integration cannot be finished; see `ODEBlock`.
    """
    solver = solvers.get(solver)
    arguments.function("field", field, advice="Pass a function `field(t, z)` or a Keras layer.")
    advice = "Pass arrays or tensors of the shape (batch_size, ...)."
    z0 = arguments.tensors("z0", z0, advice=advice)
    if conditions is not None:
        conditions = arguments.tensors("conditions", conditions, advice=advice)
    check_state(z0, "odeint", "z0")
    dtype = keras.backend.standardize_dtype(tree.flatten(z0)[0].dtype)
    check_precision(dtype, dtype, solver, "odeint")
    time_dtype = "float64" if dtype == "float64" else "float32"
    t0, ends = _checked(times, time_dtype)
    if isinstance(ends, tuple):
        check_length(t0, ends[-1], time_dtype, "odeint")
    check_batch(z0, None if isinstance(ends, tuple) else ends, "odeint")
    given = Given.of_call(z0, conditions)
    if isinstance(field, keras.Layer):
        layer = VectorField(field, True, "odeint", _REMEDIES)
        if isinstance(ends, tuple):
            check_tells_times(field, t0, ends[-1], "odeint")
        if not field.built:
            layer(ops.convert_to_tensor(0.0, dtype), z0, given)
        forward = ForwardPass(layer.with_given(given), "discrete_adjoint", training=True)
    else:
        forward = ForwardPass(FunctionField(field, given), "backprop", training=True)
    if isinstance(solver, solvers.FixedStepSolver):
        step_size = ops.convert_to_tensor(np.array(solver.step_size, time_dtype))
        bound = _num_steps(t0, ends, solver.step_size, time_dtype)
        grid = fixed_grid(t0, ends, step_size, bound, time_dependent=True)
        states = forward.along(grid, z0, (solver.tableau,))
    else:
        states = _adaptively(forward, solver, z0, t0, ends, time_dtype)
    return tree.map_structure(lambda z0, z: ops.concatenate([z0[None], z]), z0, states)


def _adaptively(forward: ForwardPass, solver: Any, z0: Any, t0: Any, ends: Any, dtype: str) -> Any:
    steps = AdaptiveSteps(solver, t0, ends, dtype, "odeint", time_dependent=True)
    rtol, atol = (ops.convert_to_tensor(np.array(v, dtype)) for v in (solver.rtol, solver.atol))
    watch = None
    if steps.is_tfp:
        watch = keras.Variable(np.zeros(WATCHED), dtype=dtype, trainable=False)
    states, _ = forward.adaptive(steps, steps.problem(None, rtol, atol, None), z0, watch)
    return states


def _checked(times: Any, dtype: str) -> tuple:
    """The first time and the others: floats if they are numbers, else tensors."""
    if not (ops.is_tensor(times) or isinstance(times, keras.Variable)):
        advice = "Pass at least two that increase or decrease; the first is the time of z0."
        times = arguments.reals("times", times, is_finite=False, advice=advice)
        with np.errstate(over="ignore", invalid="ignore"):
            moves = np.diff(times, axis=0) if times.ndim in (1, 2) else np.zeros(1)
        turns = not ((moves > 0).all() or (moves < 0).all())
        if turns or not moves.size or not np.isfinite(times).all():
            rule = "Times must be at least two finite numbers that increase or decrease"
            raise arguments.refused(rule, "times", times, advice)
        if times.ndim == 1:
            return float(times[0]), tuple(times[1:].tolist())
    times = ops.convert_to_tensor(times)
    if keras.backend.standardize_dtype(times.dtype).startswith("uint"):
        # Differences of times that decrease would wrap around.
        times = ops.cast(times, dtype)
    if len(times.shape) == 0 or times.shape[0] is None or times.shape[0] < 2:
        raise ValueError(
            "Times must be at least two, and their number known when a graph is written. "
            f"Received: times of shape {times.shape}. The first is the time of z0."
        )
    return times[0], times[1:]


def _num_steps(t0: Any, ends: Any, step_size: float, dtype: str) -> int:
    """The bound on the steps for one time: their number where the times are known."""
    if not isinstance(ends, tuple):
        return _MAX_NUM_STEPS
    length = abs(ends[-1] - t0)
    solvers.check_num_steps(step_size, length, "odeint")
    check_moves_times(min(step_size, length), t0, ends[-1], dtype, "odeint")
    return int(np.ceil(length / step_size * (1 - 1e-6))) + 1
