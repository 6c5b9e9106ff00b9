"""The paper's rule for the tolerance of an adaptive solver (Ott et al., supplement B.6)."""

import dataclasses

from tfnode.adaption.checks import check, check_factors, is_gap


@dataclasses.dataclass(frozen=True)
class ToleranceRule:
    """When to tighten and when to loosen the tolerance.

    Args:
        threshold: Float, the largest accepted gap between the accuracies.
        shrink: Float in (0, 1), the factor after a larger gap.
        growth: Float above 1, the factor otherwise.
        min_tolerance: Float, the floor.
        max_tolerance: Float, the cap.

    Raises:
        ValueError: If an argument lies outside its range.
    """

    threshold: float = 0.1
    shrink: float = 0.5
    growth: float = 1.1
    min_tolerance: float = 1e-6
    max_tolerance: float = 1.0

    def __post_init__(self):
        check(self, "threshold", "in [0, 1)", 0 <= self.threshold < 1)
        check_factors(self, "tolerance")

    def exceeded(self, accuracy, reference_accuracy):
        """Whether the two accuracies are further apart than the threshold."""
        return is_gap(accuracy, reference_accuracy, self.threshold)


def next_tolerance(rule, tolerance, train_accuracy, reference_accuracy, accuracy_at, recent_nfe):
    """Returns the next tolerance and the action that led to it.

    Args:
        rule: `ToleranceRule`.
        tolerance: Float, the present tolerance.
        train_accuracy: Float, the accuracy on one batch with the training solver.
        reference_accuracy: Float, the same with the tighter solver.
        accuracy_at: Callable that measures the training solver's accuracy at another tolerance;
            called once, and only before a growth.
        recent_nfe: Sequence of the latest evaluations of a training iteration. Where they are all
            the same, the tolerance does not bind the solver, and a looser one is not tried.

    Returns:
        Tuple of the tolerance and `"shrink"`, `"grow"` or `"keep"`.
    """
    if rule.exceeded(train_accuracy, reference_accuracy):
        smaller = max(rule.shrink * tolerance, min(rule.min_tolerance, tolerance))
        return smaller, "shrink" if smaller < tolerance else "keep"
    looser = min(rule.growth * tolerance, rule.max_tolerance)
    if looser <= tolerance or len(set(recent_nfe)) <= 1:
        return tolerance, "keep"
    if rule.exceeded(accuracy_at(looser), reference_accuracy):
        return tolerance, "keep"
    return looser, "grow"
