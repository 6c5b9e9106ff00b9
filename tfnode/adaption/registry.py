"""The rules by name."""

from typing import Any

from tfnode import arguments
from tfnode.adaption.damped_rule import DampedRule
from tfnode.adaption.rule import Rule
from tfnode.adaption.step_rule import StepRule
from tfnode.adaption.tolerance_rule import ToleranceRule


def get(
    policy: str | Rule[Any],
    threshold: float = 0.1,
    shrink: float = 0.5,
    growth: float = 1.1,
    adaptive: bool = False,
) -> Rule[Any]:
    """Returns the rule that a policy stands for.

    Examples:

    >>> get("paper", threshold=0.05).threshold
    0.05
    >>> get("damped") == get(DampedRule()) == DampedRule()
    True

    Args:
        policy: `"paper"` (`StepRule`) or `"damped"` (`DampedRule`) for fixed steps, `"tolerance"`
            (`ToleranceRule`) for adaptive solvers, or any `Rule`.
        threshold: Float, the largest accepted gap between the accuracies. This and the next two
            are constants of `StepRule` and `ToleranceRule`; every other rule has its own.
        shrink: Float in (0, 1), the factor after a larger gap.
        growth: Float above 1, the factor otherwise.
        adaptive: Boolean, whether the solvers to adapt are adaptive ones.

    Returns:
        `Rule`. Its floor and its cap are left to `within`.

    Raises:
        ValueError: If there is no such policy, or if it does not read what was given.
    """
    adaptive = arguments.flag("adaptive", adaptive)
    paper = ToleranceRule if adaptive else StepRule
    given = paper(threshold, shrink, growth)
    if isinstance(policy, str) and policy == ("tolerance" if adaptive else "paper"):
        return given
    if given != paper():
        raise ValueError(
            "`threshold`, `shrink` and `growth` belong to the paper's rule. "
            f"Received: policy={policy!r} with {given}. Leave them out, and give other constants "
            "to the rule itself, for example as `policy=tfnode.adaption.DampedRule(...)`."
        )
    if isinstance(policy, str) and policy == "damped" and not adaptive:
        return DampedRule()
    # A class has the methods, too, but it is not a rule yet.
    if isinstance(policy, Rule) and not isinstance(policy, type):
        _check_bounds(policy)
        return policy
    names = '"tolerance"' if adaptive else '"paper", "damped"'
    raise ValueError(
        f"`policy` must be {names} or a rule such as `tfnode.adaption.DampedRule()`, with the "
        f"methods of `tfnode.adaption.Rule`. Received: policy={policy!r}. Pick one of these."
    )


def _check_bounds(rule: Rule[Any]) -> None:
    """Raises if one of our rules has a floor or a cap, which nobody would read."""
    for cls, low, high in (
        (StepRule, StepRule.min_step_size, StepRule.max_step_size),
        (DampedRule, DampedRule.min_step_size, DampedRule.max_step_size),
        (ToleranceRule, ToleranceRule.min_tolerance, ToleranceRule.max_tolerance),
    ):
        if isinstance(rule, cls) and rule != rule.within(low, high):
            quantity = "tolerance" if cls is ToleranceRule else "step_size"
            raise ValueError(
                "The floor and the cap of a rule come from the blocks: for the step size they are "
                "a 500th of the longest interval, or less where `save_at` cuts it finely, and the "
                "longest step that all take. Received: "
                f"policy={rule!r}. Leave `min_{quantity}` and `max_{quantity}` out."
            )
