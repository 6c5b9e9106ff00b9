"""What an `ODEBlock` accepts as arguments, and the errors for all else."""

import warnings
from typing import Any

import keras
import numpy as np

from tfnode import arguments, solvers
from tfnode.integrate.grids import smallest_step

GRADIENTS = ("discrete_adjoint", "backprop", "adjoint")

# The times of an interval that a field must be able to tell apart: a quarter of those that bfloat16
# has of one that starts at 0.
_LEAST_TIMES = 32

# Of the dtypes that NumPy does not know, or that fields of a mixed policy compute in.
_HALF_EPSILONS = {"bfloat16": 2.0**-7, "float16": 2.0**-10}


def check_field(field: Any) -> keras.Layer:
    return arguments.instance(
        "field",
        field,
        keras.layers.Layer,
        "a Keras layer or model that maps a state to its derivative",
        advice="Wrap a function in a `keras.layers.Layer`, or pass it to `tfnode.odeint`.",
    )


def check_interval(t0: Any, t1: Any) -> tuple[float, float]:
    for name, time in (("t0", t0), ("t1", t1)):
        if keras.ops.is_tensor(time) or isinstance(time, keras.Variable):
            raise ValueError(
                "The ends of the interval are numbers: a block would not see a tensor change, nor "
                f"give it a gradient. Received: {name}={time!r}. Pass a float, and an end time "
                "that changes at the call: `block(z, t1=...)`."
            )
    advice = "Choose t1 > t0, or t1 < t0 to integrate backwards."
    t0, t1 = (arguments.number(n, t, advice=advice) for n, t in (("t0", t0), ("t1", t1)))
    if t0 == t1:
        raise ValueError(
            "The interval of integration must have two different ends. "
            f"Received: t0={t0}, t1={t1}. {advice}"
        )
    return t0, t1


def check_length(t0: float, t1: float, dtype: str, name: str) -> None:
    """Raises if a dtype does not hold the ends of an interval, or its length with room to spare.

    Steps and derivatives are far smaller or larger than the length, and must be numbers, too.

    Args:
        t0: Float.
        t1: Float.
        dtype: String, that of times.
        name: String, whose interval it is.
    """
    info = np.finfo(dtype)
    least, most = float(info.tiny / info.eps), float(info.max * info.eps)
    if not (least <= abs(t1 - t0) <= most and max(abs(t0), abs(t1)) <= info.max):
        raise ValueError(
            f"The length of an interval must be a number of the dtype of times, {dtype}, with room "
            f"for its steps: from {least:.3g} to {most:.3g}. Received: t0={t0}, t1={t1} for "
            f'{name!r}. Measure time in another unit, or integrate with dtype="float64".'
        )


def check_moves_times(step: float, t0: float, t1: float, dtype: str, name: str) -> None:
    """Raises if a step is lost in the rounding of the times that a field is given.

    Args:
        step: Float, the step, or the whole interval.
        t0: Float, the start of the interval.
        t1: Float, its end.
        dtype: String, that of times.
        name: String, whose step it is.
    """
    least = smallest_step(t0, t1, dtype)
    # The weight may be single precision: its rounding is no reason to refuse.
    if step < least * (1 - 1e-6):
        raise ValueError(
            "A step must move the times that a field is given by ten times their rounding. "
            f"Received: a step of {step} on [{t0}, {t1}] for {name!r} with dtype {dtype}, where "
            f"the least is {least:.3g}. Shift the interval towards 0, integrate with "
            'dtype="float64", or leave out time_dependent if the field does not depend on time.'
        )


def check_tells_times(field: keras.Layer, t0: float, t1: float, name: str) -> None:
    """Raises if a field that computes in half precision, its times too, cannot tell them apart.

    Args:
        field: Keras layer, which Keras gives times that are rounded to its compute dtype.
        t0: Float, the start of the interval.
        t1: Float, its end.
        name: String, whose field it is.
    """
    # A functional model leaves its inputs as they are; which of its layers round is not known.
    is_functional = isinstance(field, keras.Sequential) or getattr(field, "inputs", None)
    dtype = field.compute_dtype if field.autocast and not is_functional else "float32"
    spacing = _HALF_EPSILONS.get(dtype, 0.0) * max(abs(t0), abs(t1))
    if spacing * _LEAST_TIMES > abs(t1 - t0):
        raise ValueError(
            "A field of half precision is given times that are rounded to it, and must be able to "
            f"tell {_LEAST_TIMES} of its interval apart. Received: t0={t0}, t1={t1} for {name!r}, "
            f"with field={field.name!r} in {dtype}, whose times are {spacing:.3g} "
            "apart there. Let the interval start at 0 and add the start to the times in the field, "
            'or build the field with dtype="float32".'
        )


def check_save_at(save_at: Any, t0: float, t1: float) -> tuple[float, ...] | None:
    """The times as floats, or None; they must run from `t0` to `t1` without turning back."""
    if save_at is None:
        return None
    times = arguments.reals("save_at", save_at, advice="Pass times from t0 to t1, or None.")
    sign = 1 if t1 > t0 else -1
    good = times.ndim == 1 and len(times) > 0
    if good:
        ends = np.concatenate([times[:1] - t0, np.diff(times), t1 - times[-1:]]) * sign
        good = bool((ends >= 0).all() and (ends[1:-1] > 0).all() and times[-1] != t0)
    if not good:
        raise ValueError(
            "`save_at` must be a list of finite times between t0 and t1, in the order in which "
            f"they are reached. Received: save_at={save_at!r} with t0={t0}, t1={t1}. Sort the "
            "times, and let t1 be the last of them."
        )
    return tuple(times.tolist())


def check_gradient(gradient: Any, unroll: bool, solver: solvers.Solver) -> str:
    advice = 'Keep the default "discrete_adjoint" unless the field has random state.'
    arguments.choice("gradient", gradient, GRADIENTS, advice=advice)
    if unroll and gradient != "backprop":
        raise ValueError(
            "An unrolled block keeps every intermediate result, so its gradient is backprop. "
            f'Received: unroll=True, gradient={gradient!r}. Pass gradient="backprop".'
        )
    is_fixed = isinstance(solver, solvers.FixedStepSolver)
    if unroll and not is_fixed:
        raise ValueError(
            "The number of adaptive steps is not known when a graph is written. "
            f"Received: unroll=True with {solver}. Leave unroll out, or take fixed steps."
        )
    if gradient == "adjoint" and is_fixed:
        raise ValueError(
            "Fixed steps have an exact discrete gradient, and no continuous adjoint. "
            f'Received: gradient="adjoint" with {solver}. Keep the default '
            'gradient="discrete_adjoint".'
        )
    if gradient == "adjoint" and (
        not isinstance(solver, solvers.DormandPrince) or solver.per_sample
    ):
        raise ValueError(
            "The continuous adjoint is TensorFlow Probability's, for `DormandPrince` with one "
            f'step for the batch. Received: gradient="adjoint" with {solver}. Keep the '
            'default gradient="discrete_adjoint", which is exact.'
        )
    return gradient


def epsilon(dtype: str) -> float:
    """The spacing of a dtype's numbers at 1."""
    return _HALF_EPSILONS.get(dtype) or float(np.finfo(dtype).eps)


def check_precision(dtype: str, field_dtype: str, solver: solvers.Solver, name: str) -> None:
    """Raises if a state is too coarse for adaptive steps, and warns if a field is for the state.

    Args:
        dtype: String, that of the state.
        field_dtype: String, that which the field computes in.
        solver: The solver of the block.
        name: String, the name of the block.
    """
    if "float64" in (dtype, field_dtype) and not _has_double_precision():
        raise ValueError(
            "JAX computes in double precision only if it is told that it may, and else in single. "
            f"Received: dtype='float64' for {name!r}. Set JAX_ENABLE_X64=1 in the environment, or "
            'call `jax.config.update("jax_enable_x64", True)` first.'
        )
    is_on_torch = keras.backend.backend() == "torch"
    if is_on_torch and dtype == "float64" != keras.config.floatx():
        warnings.warn(
            "On PyTorch Keras multiplies matrices in the precision of `keras.config.floatx()` at "
            "most, so that a field of `Dense` layers is one of single precision. "
            f"Received: dtype='float64' for {name!r} with floatx={keras.config.floatx()!r}. Call "
            '`keras.config.set_floatx("float64")` first.',
            stacklevel=3,
        )
    if not isinstance(solver, solvers.AdaptiveSolver):
        return
    if dtype not in ("float32", "float64"):
        raise ValueError(
            "Adaptive steps need a state in single or double precision, or their error "
            f"estimates are rounding. Received: dtype={dtype!r} for {name!r} with {solver}. Build "
            'the block with dtype="mixed_bfloat16", where only the field computes in half '
            "precision."
        )
    if field_dtype != dtype and solver.rtol + solver.atol < epsilon(field_dtype):
        warnings.warn(
            "A tolerance below the rounding of the field asks for more than its dtype has, and "
            f"errors are estimated from rounding. Received: rtol={solver.rtol}, "
            f"atol={solver.atol} for {name!r}, whose field computes in {field_dtype}, with a "
            f"rounding of {epsilon(field_dtype):.1g}. Raise the tolerance, or build the block in "
            "float32.",
            stacklevel=3,
        )


def _has_double_precision() -> bool:
    """Whether what is declared as double precision is computed in it."""
    number = keras.ops.convert_to_tensor(np.zeros((), "float64"))
    return keras.backend.standardize_dtype(number.dtype) == "float64"


def check_state(state: Any, name: str, argument: str = "inputs") -> None:
    """Raises if a state is not made of floating-point tensors."""
    check_tensors(argument, state)
    for z in keras.tree.flatten(state):
        if not keras.backend.is_float_dtype(z.dtype):
            dtype = keras.backend.standardize_dtype(z.dtype)
            advice = "Cast the inputs, for example with `ops.cast(x, 'float32')`."
            if dtype.startswith("complex"):
                advice = "Integrate the pair `(ops.real(z), ops.imag(z))`."
            raise ValueError(
                "An `ODEBlock` integrates a real, floating-point state. "
                f"Received: {argument}.dtype={dtype!r} for block {name!r}. {advice}"
            )


def check_batch(state: Any, times: Any, name: str) -> None:
    """Raises if tensors of a state, or times for each sample, are of batches of different sizes.

    Args:
        state: Nested structure of tensors `(batch_size, ...)`.
        times: Array or tensor `(num_times,)` or `(num_times, batch_size)`, or None.
        name: String, whose state it is.
    """
    shapes = [tuple(z.shape)[:1] for z in keras.tree.flatten(state)]
    shapes += [] if times is None else [tuple(times.shape)[1:]]
    sizes = [size for shape in shapes for size in shape]
    if len({size for size in sizes if size is not None}) > 1:
        raise ValueError(
            "The tensors of a state, and times for each sample, must be of as many samples. "
            f"Received: batch sizes {sizes} for {name!r}. Repeat what is the same for all samples, "
            "or pass times of the shape (num_times,), and an end time of the shape ()."
        )


def check_tensors(name: str, value: Any) -> None:
    """Raises if an argument of a call is not made of tensors; Keras has made them of arrays."""
    leaves = keras.tree.flatten(value)
    if not leaves or not all(hasattr(leaf, "dtype") for leaf in leaves):
        raise arguments.refused(
            f"`{name}` must be a tensor, or a nested structure of tensors",
            name,
            value,
            "Pass NumPy arrays or tensors of the shape (batch_size, ...).",
        )


def check_choice_of_times(t1: Any, save_at: Any, unroll: bool, name: str) -> None:
    """Raises if a call may not have an end time, or times to save at, of its own."""
    if unroll or (t1 is not None and save_at is not None):
        raise ValueError(
            "A call may have an end time or times to save at, and steps that are not written into "
            f"the graph. Received: t1={t1}, save_at={save_at} for {name!r} with unroll={unroll}. "
            "Pass one of them, to a block with unroll=False."
        )


def check_times_of_call(argument: str, times: Any, solver: solvers.Solver, name: str) -> None:
    """Raises if the times of a call have no shape for `t1` or `save_at`, or need other steps."""
    for_all = 0 if argument == "t1" else 1
    if np.ndim(times) not in (for_all, for_all + 1) or 0 in tuple(np.shape(times)):
        rule = "An end time has the shape () or (batch_size,), times to save at have one axis more"
        raise arguments.refused(rule, argument, times, "Pass numbers or a tensor of such a shape.")
    is_each = np.ndim(times) > for_all
    if is_each and isinstance(solver, solvers.AdaptiveSolver) and not solver.per_sample:
        raise ValueError(
            "Times for each sample need steps for each sample. "
            f"Received: {solver} for {name!r}. Pass per_sample=True, or take fixed steps."
        )
