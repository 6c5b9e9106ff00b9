"""What the critical step depends on, and what lowers it: inputs, time, and regularization."""

import argparse
import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tfnode
from scripts.models import NAMES
from scripts.paper import origins, policies, reproducing, table1
from scripts.paper.runs import Result, Run
from scripts.paper.selection import usable
from tfnode import files, tables


@dataclasses.dataclass(frozen=True)
class Columns:
    """What the table of a study says of a setting.

    Args:
        header: Tuple of strings.
        cells: Function from the finished runs of a setting, those included that failed, and from
            how many they would be, to the cells of its line.
        legend: String, a paragraph that explains them.
    """

    header: tuple[str, ...]
    cells: Callable[[Sequence[Result], int], tuple[str, ...]]
    legend: str


def cells_of_steps(results: Sequence[Result], planned: int) -> tuple[str, ...]:
    """The cells of runs with a number of steps; empty where every one has failed."""
    run, trained = Run(**results[0]["run"]), usable(results)
    measured: tuple[str, ...] = ("",) * (len(table1.SOLVERS) + 1)
    if trained:
        entry = table1.summary(trained, run.num_steps)
        spreads = (table1.spread(entry[name]) for name in table1.SOLVERS)
        measured = (*spreads, f"{100 * entry['gap']:.1f}")
    return (
        NAMES[run.model],
        f"{run.scale:g}",
        f"{run.t1:g}",
        f"{run.num_steps}",
        f"{run.t1 / run.num_steps:.4f}",
        f"{len(trained)} of {planned}",
        *measured,
    )


def cells_of_regularization(results: Sequence[Result], planned: int) -> tuple[str, ...]:
    """The cells of runs with step adaption; empty where every one has failed."""
    run = Run(**results[0]["run"])
    model, _, *measured, nfe, with_checks, _ = policies.cells(run.model, "", results, planned)
    weights = (f"{weight:g}" for weight in (run.kinetic, run.jacobian, run.end_time))
    at_the_end = policies.over_seeds(list(map(last_nfe, usable(results))))
    return model, *weights, *measured, at_the_end, nfe, with_checks


def last_nfe(result: Result) -> int:
    """The evaluations of the field in a forward pass of the trained model."""
    solver = tfnode.solvers.deserialize(result["solvers"]["train_solver"])
    return result["num_steps"] * solver.tableau.num_stages


_SEEDS = (
    "Means and standard deviations over the seeds, on the test set. *Seeds*: those that came to "
    "their end, of those planned; without the others, which diverged or were not run."
)
OF_STEPS = Columns(
    (
        *("Data set", "Inputs times", "Time", "Steps", "Step size", "Seeds"),
        *("accuracy %", "under reference %", "under RK4 %", "gap, points"),
    ),
    cells_of_steps,
    f"{_SEEDS} *Gap*: between the accuracies under the training solver and under its reference, on "
    "the validation set, where the runs have looked at one.",
)
OF_REGULARIZATION = Columns(
    (
        *("Data set", "kinetic", "Jacobian", "end time", "Seeds", "accuracy %", "under RK4 %"),
        *("lost, points", "at most", "NFE of the model", "NFE in training", "with checks"),
    ),
    cells_of_regularization,
    f"{_SEEDS} *Kinetic*, *Jacobian* and *end time* are the arguments of `tfnode.Regularization`; "
    "a line of zeros is without it. *Lost*: the accuracy under the solver of the training minus "
    "that under the fine RK4, in the mean and at most. *NFE*: evaluations of the field in a "
    "forward pass, of the trained model and per iteration of its training, where a penalty of the "
    "Jacobian takes a vector-Jacobian product with each.",
)


@dataclasses.dataclass(frozen=True)
class Study:
    """A question that one change of the runs answers.

    Args:
        title: String.
        question: String, a paragraph.
        settings: Tuples of a model, the numbers of steps, of which None stands for step adaption,
            and what its runs have in place of the paper's.
        columns: `Columns`.
    """

    title: str
    question: str
    settings: tuple[tuple[str, tuple[int | None, ...], dict[str, Any]], ...]
    columns: Columns = OF_STEPS


def with_regularization(model: str, weights: Sequence[float]) -> tuple:
    """The settings of a model: each penalty alone and both, of each weight, and random ends."""
    each = [{"kinetic": w} for w in weights] + [{"jacobian": w} for w in weights]
    both = [{"kinetic": w, "jacobian": w} for w in weights]
    ends = [{"end_time": 0.25}, {**both[0], "end_time": 0.25}]
    adapted = {"solver": "rk4", "policy": "damped"}
    return tuple((model, (None,), {**adapted, **one}) for one in ({}, *each, *both, *ends))


_CHEAP = (
    "Penalties of the kinetic energy and of the Jacobian (Finlay et al., 2020) and random end "
    "times (Ghosh et al., 2020) are there to make a field that few steps solve. Step adaption by "
    "the damped rule from RK4 finds the coarsest step that keeps the model an ODE, with each of "
    "them and without."
)
STUDIES = {
    "inputs": Study(
        "Does the critical step depend on the scale of the inputs?",
        "The critical number of steps of our concentric spheres is half of the paper's, which does "
        "not give the scale of its data. A field of larger inputs is steeper in the same units, so "
        "that the scale could be why: the inputs are multiplied by a factor, and all else stays.",
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
    "regularization": Study(
        "How many evaluations does a valid model need, if its field is made cheap to solve?",
        f"{_CHEAP} The two synthetic rows of Table 1.",
        (
            *with_regularization("concentric_spheres_2d", (0.01, 0.1)),
            *with_regularization("energy_landscape", (0.01, 0.1)),
        ),
        OF_REGULARIZATION,
    ),
    "regularization_mnist": Study(
        "How many evaluations does a valid model of images need, if its field is made cheap?",
        f"{_CHEAP} The weights are smaller than on the synthetic rows, as a penalty is a sum over "
        "all numbers of a state.",
        with_regularization("mnist", (1e-5, 1e-4)),
        OF_REGULARIZATION,
    ),
}


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
    found: Mapping[str, Sequence[Sequence[Result]]],
    planned: Mapping[str, Sequence[int]],
    out: pathlib.Path,
    command: str,
) -> None:
    """Writes the page of each study, and prints where it is.

    Args:
        found: The finished runs of each study, by setting and number of steps, those included
            that failed.
        planned: How many they would be.
        out: A directory.
        command: What the pages say that made them.
    """
    for name, settings in found.items():
        study, columns = STUDIES[name], STUDIES[name].columns
        lines = [
            columns.cells(results, count)
            for results, count in zip(settings, planned[name], strict=True)
            if results
        ]
        of_all = [result for results in settings for result in results]
        parts = [
            f"# {study.title}",
            study.question,
            tables.markdown(columns.header, lines),
            columns.legend,
            f"Made by `{command}`. {origins.in_words(of_all)}",
        ]
        files.write_text(out / f"{name}.md", "\n\n".join(parts) + "\n")
        print(f"Written: {out / f'{name}.md'}")
