"""The paper's rule for the step size (Ott et al., algorithm 1)."""

import dataclasses

from tfnode.adaption.checks import check, check_factors, is_gap


@dataclasses.dataclass(frozen=True)
class StepRule:
    """When to halve and when to grow the step size.

    A gap between the accuracies of the training solver and of a better one means that the model
    has grown together with its solver, and the step shrinks. Otherwise the step grows a little,
    if the training solver at the grown step still agrees with the better one.

    Args:
        threshold: Float, the largest accepted gap, as a fraction of the batch.
        shrink: Float in (0, 1), the factor after a gap that is too large.
        growth: Float above 1, the factor otherwise.
        min_step_size: Float, the floor.
        max_step_size: Float, the cap.

    Raises:
        ValueError: If an argument lies outside its range.
    """

    threshold: float = 0.1
    shrink: float = 0.5
    growth: float = 1.1
    min_step_size: float = 1 / 500
    max_step_size: float = 1.0

    def __post_init__(self):
        check(self, "threshold", "in [0, 1)", 0 <= self.threshold < 1)
        check_factors(self, "step_size")

    def exceeded(self, accuracy, reference_accuracy):
        """Whether the two accuracies are further apart than the threshold."""
        return is_gap(accuracy, reference_accuracy, self.threshold)

    def propose(self, step_size, train_accuracy, reference_accuracy):
        """Returns the step size to try next: smaller after a gap, else larger; within the caps."""
        if self.exceeded(train_accuracy, reference_accuracy):
            return max(self.shrink * step_size, min(self.min_step_size, step_size))
        return min(self.growth * step_size, self.max_step_size)


def next_step(rule, step_size, train_accuracy, reference_accuracy, accuracy_at):
    """Returns the next step size and the action that led to it.

    Args:
        rule: `StepRule`.
        step_size: Float, the present step size.
        train_accuracy: Float, the accuracy on one batch with the training solver.
        reference_accuracy: Float, the same with the better solver.
        accuracy_at: Callable that measures the training solver's accuracy at another step size;
            called once, and only before a growth.

    Returns:
        Tuple of the step size and `"shrink"`, `"grow"` or `"keep"`.
    """
    proposed = rule.propose(step_size, train_accuracy, reference_accuracy)
    if proposed < step_size:
        return proposed, "shrink"
    if proposed == step_size or rule.exceeded(accuracy_at(proposed), reference_accuracy):
        return step_size, "keep"
    return proposed, "grow"
