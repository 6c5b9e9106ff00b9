"""What the rules share: the ranges of their constants, and when two solvers disagree."""

import math
from typing import Any

from tfnode.adaption.measurement import Measurement, SolverT
from tfnode.solvers import check_num_steps

# Accuracies are means in single precision: their rounding makes no gap, nor does a decimal's.
_ROUNDING = 1e-7


def check(rule: Any, name: str, bound: str, holds: bool) -> None:
    """Raises if a constant of a rule lies outside its range.

    Args:
        rule: A dataclass with the constant as a field.
        name: String, the name of the constant.
        bound: String, its range in words.
        holds: Boolean, whether it lies in its range.

    Raises:
        ValueError: If it does not.
    """
    if not holds:
        default = type(rule).__dataclass_fields__[name].default
        raise ValueError(
            f"`{name}` must be {bound}. Received: {name}={getattr(rule, name)!r}. "
            f"The default is {name}={default}."
        )


def check_factors(rule: Any, quantity: str) -> None:
    """Raises if the factors, the floor or the cap of a rule lie outside their ranges.

    Args:
        rule: A dataclass with `shrink` and `growth`.
        quantity: String, what it adapts, the end of the names of its floor and its cap.

    Raises:
        ValueError: If one of them does.
    """
    check(rule, "shrink", "in (0, 1)", 0 < rule.shrink < 1)
    check(rule, "growth", "above 1 and finite", 1 < rule.growth < math.inf)
    low, high = getattr(rule, f"min_{quantity}"), getattr(rule, f"max_{quantity}")
    fits = 0 < low <= high < math.inf
    check(rule, f"min_{quantity}", f"in (0, max_{quantity} = {high}]", fits)
    if quantity == "step_size":
        check_num_steps(low, high, type(rule).__name__)


def check_solver(rule: object, solver: object, kind: type) -> None:
    """Raises if a rule is asked about a kind of solver that it does not adapt.

    Args:
        rule: The rule.
        solver: The solver that it was given.
        kind: The class of the solvers that it adapts.

    Raises:
        ValueError: If the solver is not of that class.
    """
    if not isinstance(solver, kind):
        raise ValueError(
            f"`{type(rule).__name__}` adapts a `{kind.__name__}` only. Received: "
            f"solver={solver!r}. Take `StepRule` or `DampedRule` for fixed steps, and "
            "`ToleranceRule` for an adaptive solver."
        )


def is_count(value: object) -> bool:
    """Whether a value is an integer from 1 up."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def is_gap(gap: float, threshold: float) -> bool:
    """Whether a gap is larger than the threshold; one that is NaN always is."""
    return not gap <= threshold + _ROUNDING


def disagrees(measurement: Measurement[SolverT], threshold: float) -> bool:
    """Whether a measurement shows a gap between its accuracies.

    Outputs that are not finite have an accuracy, too, and the same under both solvers: they do not
    agree for that.
    """
    return is_gap(measurement.gap, threshold) or not math.isfinite(measurement.change)
