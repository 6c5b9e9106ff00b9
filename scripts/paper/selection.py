"""What is chosen from finished runs, by the validation set: the test set is looked at once."""

from collections.abc import Sequence

from scripts.paper.runs import Result

# A seed has trained if it comes this close to the best one; the paper names no criterion.
TRAINED_WITHIN = 0.1


def validated(result: Result) -> dict[str, float]:
    """The accuracies by which a run is chosen.

    Images have no validation set, and runs of an older release none either: then those on the test
    set, as in the paper.
    """
    return result.get("validation", result["accuracy"])


def trained_seeds(results: Sequence[Result]) -> tuple[list[Result], list[Result]]:
    """Splits the trainings of one setting into those that have trained and the others."""
    accuracies = [validated(result)["train_solver"] for result in results]
    bound = max(accuracies, default=0.0) - TRAINED_WITHIN
    trained = [r for r, accuracy in zip(results, accuracies) if accuracy >= bound]
    return trained, [r for r, accuracy in zip(results, accuracies) if accuracy < bound]
