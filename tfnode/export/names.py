"""What a solver configuration is called: a slug, which its directory keeps, and a name to read."""

import re

import keras
import numpy as np

from tfnode import arguments
from tfnode.models import held_blocks
from tfnode.solvers import AdaptiveSolver, DormandPrince, Solver, check_solver


# === Slugs ===
def solver_slug(solver: Solver) -> str:
    """Returns the slug of a solver configuration, for its directory.

    It is also the old name of the configuration, beside that of `solver_name`.

    Examples:

    >>> solver_slug(tfnode.solvers.Euler(step_size=1 / 8))
    'euler_h0p125'
    >>> solver_slug(tfnode.solvers.DormandPrince(rtol=1e-5, atol=1e-6, per_sample=True))
    'dopri5_rtol1em5_atol1em6_per_sample'

    Args:
        solver: A solver of `tfnode.solvers`.

    Raises:
        ValueError: If an argument is not as described.
    """
    check_solver(solver)
    parts = [_method(solver, "dopri5")]
    if not isinstance(solver, AdaptiveSolver):
        return "_".join([*parts, f"h{_without_signs(_positional(solver.step_size))}"])
    parts.append(f"rtol{_without_signs(_scientific(solver.rtol))}")
    if solver.atol != solver.rtol:
        parts.append(f"atol{_without_signs(_scientific(solver.atol))}")
    if solver.max_num_steps != type(solver).max_num_steps:
        parts.append(f"steps{solver.max_num_steps}")
    return "_".join([*parts, "per_sample"] if solver.per_sample else parts)


def _without_signs(number: str) -> str:
    return number.replace(".", "p").replace("e-", "em")


# === Names ===
def solver_name(solver: Solver, interval: float | None = 1.0) -> str:
    """Returns the name of a solver configuration as a person says it.

    It is part of the name of a served model, and the name of a signature: letters of ASCII,
    digits, `_`, `-` and `.`. Fixed steps are counted where they are equal. On one interval two
    configurations with the same name have the same slug.

    Examples:

    >>> solver_name(tfnode.solvers.RK4(step_size=1 / 12))
    'rk4_12_steps'
    >>> solver_name(tfnode.solvers.Euler(step_size=0.3))
    'euler_step_0.3'
    >>> solver_name(tfnode.solvers.DormandPrince(rtol=1e-5, atol=1e-6, per_sample=True))
    'dormand_prince_rtol_1e-5_atol_1e-6_per_sample'

    Args:
        solver: A solver of `tfnode.solvers`.
        interval: Float, the length of the interval of integration; None if there are several, of
            which each has steps of its own.

    Raises:
        ValueError: If an argument is not as described.
    """
    check_solver(solver)
    if interval is not None:
        advice = "Pass `abs(block.t1 - block.t0)`, or None."
        interval = arguments.number("interval", interval, 0, advice=advice)
    parts = [_method(solver, "dormand_prince")]
    if not isinstance(solver, AdaptiveSolver):
        return "_".join([*parts, _steps(solver.step_size, interval)])
    rtol, atol = _scientific(solver.rtol), _scientific(solver.atol)
    parts.append(f"tol_{rtol}" if atol == rtol else f"rtol_{rtol}_atol_{atol}")
    if solver.max_num_steps != type(solver).max_num_steps:
        parts.append(f"at_most_{solver.max_num_steps}_steps")
    return "_".join([*parts, "per_sample"] if solver.per_sample else parts)


def interval_of(model: keras.Model) -> float | None:
    """The length of the interval that all blocks of a model integrate over in one go, or None."""
    blocks = held_blocks(model)
    lengths = {None if b.save_at is not None else abs(b.t1 - b.t0) for b in blocks}
    return lengths.pop() if len(lengths) == 1 else None


def _steps(step_size: float, interval: float | None) -> str:
    count = 0.0 if interval is None else float(np.rint(interval / step_size))
    # As the block's weight has it, so that one count is that of one step size.
    if interval is None or count < 1 or np.float32(interval / count) != np.float32(step_size):
        return f"step_{_positional(step_size)}"
    return "1_step" if count == 1 else f"{count:.0f}_steps"


# === Both ===
def _method(solver: Solver, dormand_prince: str) -> str:
    name = dormand_prince if isinstance(solver, DormandPrince) else solver.tableau.name
    return re.sub(r"[^a-z0-9]+", "_", name.lower())


def _positional(value: float) -> str:
    # In single precision, as in the block's weight.
    return np.format_float_positional(np.float32(value), trim="-")


def _scientific(value: float) -> str:
    text = np.format_float_scientific(np.float32(value), trim="-", exp_digits=1)
    return text.replace("e+", "e")
