"""The ranges of the numbers in a configuration."""

import dataclasses
from typing import Any

from tfnode import arguments

# The most steps of one integration. Single precision and int32 count so far with room to spare, and
# a loop, which keeps some numbers for each step that it may take, stays small.
MAX_NUM_STEPS = 10**6


def check_step_size(step_size: Any, name: str = "step_size") -> float:
    """Returns a step size as a float, or raises if it is not positive and finite."""
    advice = "For backward integration keep it positive and choose t1 < t0."
    return arguments.number(name, step_size, 0, advice=advice)


def check_tolerance(tolerance: Any, name: str) -> float:
    """Returns a tolerance as a float, or raises if it is not positive and finite."""
    return arguments.number(name, tolerance, 0, advice="A usual value is 1e-5.")


def check_config(cls: type, config: Any) -> dict[str, Any]:
    """Returns the values of a stored dataclass, or raises if they are none for its fields."""
    fields = dataclasses.fields(cls)
    needed = {field.name for field in fields if field.default is dataclasses.MISSING}
    names = [field.name for field in fields]
    if not isinstance(config, dict) or not needed <= set(config) <= {*names}:
        rule = f"The configuration of a `{cls.__name__}` is a dictionary of {names}"
        raise arguments.refused(rule, "config", config, "Take it from `get_config`.")
    return config


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
