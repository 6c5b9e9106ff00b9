"""What the rules share: the ranges of their constants, and when accuracies differ."""

import math

# Accuracies are means in single precision: their rounding makes no gap, nor does a decimal's.
_ROUNDING = 1e-7


def check(rule, name, bound, holds):
    """Raises if a constant of a rule lies outside its range."""
    if not holds:
        default = type(rule).__dataclass_fields__[name].default
        raise ValueError(
            f"`{name}` must be {bound}. Received: {name}={getattr(rule, name)!r}. "
            f"The default is {name}={default}."
        )


def check_factors(rule, quantity):
    """What the rules share: the factors, and the floor and the cap of what is adapted."""
    check(rule, "shrink", "in (0, 1)", 0 < rule.shrink < 1)
    check(rule, "growth", "above 1 and finite", 1 < rule.growth < math.inf)
    low, high = getattr(rule, f"min_{quantity}"), getattr(rule, f"max_{quantity}")
    fits = 0 < low <= high < math.inf
    check(rule, f"min_{quantity}", f"in (0, max_{quantity} = {high}]", fits)


def is_count(value):
    """Whether a value is an integer from 1 up."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def is_gap(accuracy, reference_accuracy, threshold):
    """Whether two accuracies are further apart than the threshold; one that is NaN always is."""
    return not abs(accuracy - reference_accuracy) <= threshold + _ROUNDING
