"""What is chosen from finished runs, not by the test set: that is looked at once."""

from collections.abc import Sequence

from scripts.paper.runs import Result

# A seed has trained if it comes this close to the best one; the paper names no criterion.
TRAINED_WITHIN = 0.1


def usable(results: Sequence[Result]) -> list[Result]:
    """The results of the runs that have not failed."""
    return [result for result in results if "error" not in result]


def validated(result: Result) -> dict[str, float]:
    """The accuracies by which a run is chosen, on what `data.to_choose_by` says.

    Runs of an older release have looked at nothing else than the test set: of them, those on it.
    """
    return result.get("validation", result["accuracy"])


def by_num_steps(results: Sequence[Result]) -> dict[int, list[Result]]:
    """The trainings of each number of steps, in their order."""
    found: dict[int, list[Result]] = {}
    for result in results:
        found.setdefault(result["run"]["num_steps"], []).append(result)
    return dict(sorted(found.items()))


def trained_seeds(results: Sequence[Result]) -> tuple[list[Result], list[Result]]:
    """Splits the trainings of one setting into those that have trained and the others."""
    accuracies = [validated(result)["train_solver"] for result in results]
    bound = max(accuracies, default=0.0) - TRAINED_WITHIN
    trained = [r for r, accuracy in zip(results, accuracies) if accuracy >= bound]
    return trained, [r for r, accuracy in zip(results, accuracies) if accuracy < bound]
