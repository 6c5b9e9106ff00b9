"""The ranges of the numbers in a configuration."""

import math
from typing import Any

# The most steps of one integration. Single precision and int32 count so far with room to spare, and
# a loop, which keeps some numbers for each step that it may take, stays small.
MAX_NUM_STEPS = 10**6


def check_step_size(step_size: Any) -> float:
    """Returns `step_size` as a float, or raises if it is not positive and finite."""
    value = _positive(step_size)
    if value is None:
        raise ValueError(
            "A step size must be a positive, finite number. "
            f"Received: step_size={step_size!r}. For backward integration keep it positive and "
            "choose t1 < t0."
        )
    return value


def check_num_steps(step_size: float, length: float, name: str) -> None:
    """Raises if steps of a size are more than `MAX_NUM_STEPS` on an interval.

    Args:
        step_size: Float, positive.
        length: Float, the length of the interval.
        name: String, whose steps they are.
    """
    if step_size * MAX_NUM_STEPS < length * (1 - 1e-6):
        raise ValueError(
            f"An integration takes at most {MAX_NUM_STEPS} steps (`solvers.MAX_NUM_STEPS`). "
            f"Received: step_size={step_size} on an interval of length {length} for {name!r}. "
            "Take a longer step, or a method of higher order."
        )


def check_tolerance(name: str, tolerance: Any) -> float:
    """Returns `tolerance` as a float, or raises if it is not positive and finite."""
    value = _positive(tolerance)
    if value is None:
        raise ValueError(
            "A tolerance must be a positive, finite number. "
            f"Received: {name}={tolerance!r}. A usual value is 1e-5."
        )
    return value


def _positive(number: Any) -> float | None:
    """The number as a float, or None if it is not a number, not positive or not finite."""
    try:
        value = math.nan if isinstance(number, (str, bool)) else float(number)
    except (TypeError, ValueError, OverflowError):
        return None
    return value if math.isfinite(value) and value > 0 else None
