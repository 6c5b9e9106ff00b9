"""What the critical step depends on: the size of the inputs, and the time of the integration."""

import argparse
import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

from scripts.models import NAMES
from scripts.paper import origins, reproducing, table1
from scripts.paper.runs import Result, Run
from tfnode import files, tables


@dataclasses.dataclass(frozen=True)
class Study:
    """A question that one change of the runs answers.

    Args:
        title: String.
        question: String, a paragraph.
        settings: Tuples of a model, the numbers of steps, and what its runs have in place of the
            paper's.
    """

    title: str
    question: str
    settings: tuple[tuple[str, tuple[int, ...], dict[str, float]], ...]


STUDIES = {
    "inputs": Study(
        "Why 45 and not 100?",
        "The critical number of steps of our concentric spheres is half of the paper's. A field of "
        "larger inputs is steeper in the same units, so that the scale of the data moves it: the "
        "inputs are multiplied by a factor, and all else stays.",
        (
            *(
                ("concentric_spheres_2d", (32, 64, 128), {"scale": scale})
                for scale in (0.5, 1.0, 2.0)
            ),
            *(("energy_landscape", (32, 64, 128), {"scale": scale}) for scale in (0.5, 1.0)),
        ),
    ),
    "integration_time": Study(
        "Does the critical step stay, or the critical number of steps?",
        "The paper leaves open what happens if the integration time grows. The same numbers of "
        "steps are taken over longer and shorter times: where two lines of the same step size "
        "differ, the step alone does not decide.",
        tuple(("energy_landscape", (16, 32, 64, 128), {"t1": t1}) for t1 in (0.5, 1.0, 2.0, 4.0)),
    ),
}
HEADER = (
    *("Data set", "Inputs times", "Time", "Steps", "Step size", "Seeds"),
    *("accuracy %", "under reference %", "under RK4 %", "gap, points"),
)


def runs(study: Study, args: argparse.Namespace) -> list[list[Run]]:
    """The runs of a study: of each setting and number of steps, those of every seed."""
    return [
        [
            reproducing.run_of(args, model, num_steps, seed, **options)
            for seed in reproducing.seeds(args)
        ]
        for model, counts, options in study.settings
        for num_steps in counts
    ]


def report(
    found: Mapping[str, Sequence[Sequence[Result]]], out: pathlib.Path, command: str
) -> None:
    """Writes the page of each study, and prints where it is.

    Args:
        found: The finished runs of each study, by setting and number of steps.
        out: A directory.
        command: What the pages say that made them.
    """
    for name, settings in found.items():
        study, finished = STUDIES[name], [results for results in settings if results]
        table = tables.markdown(HEADER, [cells(results) for results in finished])
        parts = [
            f"# {study.title}",
            study.question,
            table,
            "Means and standard deviations over the seeds, on the test set. *Gap*: between the "
            "accuracies under the training solver and under its reference, on the validation set.",
            f"Made by `{command}`. {origins.in_words([r for some in finished for r in some])}",
        ]
        files.write_text(out / f"{name}.md", "\n\n".join(parts) + "\n")
        print(f"Written: {out / f'{name}.md'}")


def cells(results: Sequence[Result]) -> tuple[str, ...]:
    """The cells of a line of the table."""
    run = Run(**results[0]["run"])
    entry = table1.summary(results, run.num_steps)
    return (
        NAMES[run.model],
        f"{run.scale:g}",
        f"{run.t1:g}",
        f"{run.num_steps}",
        f"{run.t1 / run.num_steps:.4f}",
        f"{len(results)}",
        *(table1.percent(entry[name]) for name in table1.SOLVERS),
        f"{100 * entry['gap']:.1f}",
    )
