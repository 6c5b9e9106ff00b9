"""What the rules share: the ranges of their constants, and when two solvers disagree."""

import math
from collections.abc import Callable
from typing import Any

from tfnode import arguments
from tfnode.adaption.measurement import Measurement, SolverT
from tfnode.solvers import check_num_steps

# Accuracies are means in single precision: their rounding makes no gap, nor does a decimal's.
_ROUNDING = 1e-7


def check_number(
    rule: Any, name: str, low: float = 0.0, high: float = math.inf, ends: str = "()"
) -> None:
    """Raises if a constant of a rule is no number in its range; see `arguments.number`.

    Args:
        rule: A dataclass with the constant as a field.
        name: String, the name of the constant.
        low: Float, the lower end of its range.
        high: Float, the upper end.
        ends: String, the brackets of the range.

    Raises:
        ValueError: If it is none.
    """
    _keep(rule, name, arguments.number, low, high, ends)


def check_count(rule: Any, name: str, low: int = 1) -> None:
    """Raises if a constant of a rule is no integer from `low` up."""
    _keep(rule, name, arguments.count, low)


def _keep(rule: Any, name: str, check: Callable, *bounds: Any) -> None:
    """Puts a constant into its plain form."""
    advice = f"The default is {name}={type(rule).__dataclass_fields__[name].default}."
    object.__setattr__(rule, name, check(name, getattr(rule, name), *bounds, advice=advice))


def check_factors(rule: Any, quantity: str) -> None:
    """Raises if the factors, the floor or the cap of a rule lie outside their ranges.

    Args:
        rule: A dataclass with `shrink` and `growth`.
        quantity: String, what it adapts, the end of the names of its floor and its cap.

    Raises:
        ValueError: If one of them does.
    """
    check_number(rule, "shrink", 0, 1)
    check_number(rule, "growth", 1)
    low, high = f"min_{quantity}", f"max_{quantity}"
    check_number(rule, high)
    check_number(rule, low, 0, getattr(rule, high), "(]")
    if quantity == "step_size":
        check_num_steps(getattr(rule, low), getattr(rule, high), type(rule).__name__)


def is_gap(gap: float, threshold: float) -> bool:
    """Whether a gap is larger than the threshold; one that is NaN always is."""
    return not gap <= threshold + _ROUNDING


def disagrees(measurement: Measurement[SolverT], threshold: float) -> bool:
    """Whether a measurement shows a gap between its accuracies.

    Outputs that are not finite have an accuracy, too, and the same under both solvers: they do not
    agree for that.
    """
    return is_gap(measurement.gap, threshold) or not math.isfinite(measurement.change)
