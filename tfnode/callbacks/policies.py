"""The policies of `StepAdaption`: which rule a name or a rule stands for."""

from tfnode import adaption


def rule_of(policy, step_rule):
    """Returns the rule that a policy names.

    Args:
        policy: `"paper"`, `"damped"` or a `tfnode.adaption.DampedRule`.
        step_rule: `tfnode.adaption.StepRule`, the paper's with the constants that were given.

    Raises:
        ValueError: If there is no such policy, or if it does not read what was given.
    """
    if policy == "paper":
        return step_rule
    if step_rule != adaption.StepRule():
        raise ValueError(
            "`threshold`, `shrink` and `growth` belong to the paper's rule. "
            f"Received: policy={policy!r} with {step_rule}. Leave them out, and give other "
            "constants as `policy=tfnode.adaption.DampedRule(...)`."
        )
    if policy == "damped":
        return adaption.DampedRule()
    if isinstance(policy, adaption.DampedRule):
        return _without_caps(policy)
    raise ValueError(
        '`policy` must be "paper", "damped" or a `tfnode.adaption.DampedRule`. '
        f"Received: policy={policy!r}. Pick one of these."
    )


def _without_caps(rule):
    default = adaption.DampedRule()
    given = (rule.min_step_size, rule.max_step_size)
    if given != (default.min_step_size, default.max_step_size):
        raise ValueError(
            "`StepAdaption` takes the floor and the cap of the step size from the intervals of the "
            f"blocks: a 500th of the longest, and the shortest. Received: policy={rule!r}. Leave "
            "`min_step_size` and `max_step_size` out."
        )
    return rule
