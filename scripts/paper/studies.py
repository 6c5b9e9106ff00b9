"""What the critical step depends on, and what lowers it: inputs, time, and regularization."""

import argparse
import dataclasses
import pathlib
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import tfnode
from scripts.models import NAMES
from scripts.paper import origins, policies, reproducing, table1
from scripts.paper.pictures import write_png
from scripts.paper.runs import Result, Run
from scripts.paper.selection import usable
from tfnode import files, tables


@dataclasses.dataclass(frozen=True)
class Shown:
    """What the page of a study shows of its settings.

    Args:
        header: Tuple of strings.
        cells: Function from the finished runs of a setting, those included that failed, and from
            how many they would be, to the cells of its line.
        legend: String, a paragraph that explains them.
        draw: Optional function from the finished runs of every setting to a picture.
    """

    header: tuple[str, ...]
    cells: Callable[[Sequence[Result], int], tuple[str, ...]]
    legend: str
    draw: Callable[[Sequence[Sequence[Result]]], Figure] | None = None


def cells_of_steps(results: Sequence[Result], planned: int) -> tuple[str, ...]:
    """The cells of runs with a number of steps; empty where every one has failed."""
    run, trained = Run(**results[0]["run"]), usable(results)
    measured: tuple[str, ...] = ("",) * (len(table1.SOLVERS) + 1)
    if trained:
        entry = table1.summary(trained, run.num_steps)
        measured = tuple(table1.spread(entry[name]) for name in (*table1.SOLVERS, "gap"))
    return (
        NAMES[run.model],
        f"{run.scale:g}",
        f"{run.t1:g}",
        f"{run.num_steps}",
        f"{run.t1 / run.num_steps:.4f}",
        f"{len(trained)} of {planned}",
        *measured,
    )


_OF_GAPS = (
    "The gap over the number of steps, and over their size where the time changes. Small discs: "
    "seeds. Lines: their means. Dashed: 10 points, up to which a number of steps is valid."
)
# What a gap depends on, or may: where a run lies, and what is written there.
_AXES: dict[str, tuple[Callable[[Run], float], Callable[[float, int], str]]] = {
    "steps": (lambda run: run.num_steps, lambda x, _: f"{x:g}"),
    "step size": (lambda run: run.t1 / run.num_steps, lambda x, _: f"1/{1 / x:g}"),
}


def draw_gaps(settings: Sequence[Sequence[Result]]) -> Figure:
    """The gap over the number of steps and over their size, a colour for each scale or time.

    A small disc is a seed, a line their mean, dashed the largest gap that is valid.
    """
    of_all = [results for results in map(usable, settings) if results]
    runs = [Run(**results[0]["run"]) for results in of_all]
    has_times = len({run.t1 for run in runs}) > 1
    lines: dict[tuple[str, str], list[tuple[Run, list[float]]]] = {}
    for run, results in zip(runs, of_all):
        name = f"time {run.t1:g}" if has_times else f"inputs times {run.scale:g}"
        lines.setdefault((run.model, name), []).append((run, table1.gaps_of(results)))
    axes = list(_AXES)[: 1 + has_times]
    panels = [(m, axis) for m in dict.fromkeys(m for m, _ in lines) for axis in axes]
    names = list(dict.fromkeys(name for _, name in lines))
    figure = Figure(figsize=(4 * len(panels), 4), layout="constrained")
    drawn: dict[str, Any] = {}
    subplots = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for ax, (model, axis) in zip(subplots, panels):
        place, written = _AXES[axis]
        for (of_model, name), points in lines.items():
            if of_model == model:
                drawn[name] = _draw_line(ax, points, place, f"C{names.index(name)}")
        ax.axhline(10, color="grey", linewidth=1, linestyle="--")
        ax.set_xscale("log", base=2)
        ax.xaxis.set_major_formatter(written)
        ax.set(xlabel=axis, ylabel="gap, points", title=NAMES[model])
        ax.label_outer()
    figure.legend(drawn.values(), drawn, loc="outside lower center", ncols=len(drawn))
    return figure


def _draw_line(
    ax: Axes,
    points: Sequence[tuple[Run, list[float]]],
    place: Callable[[Run], float],
    color: str,
) -> Any:
    for run, gaps in points:
        ax.plot([place(run)] * len(gaps), np.multiply(gaps, 100), ".", markersize=4, color=color)
    means = [(place(run), 100 * statistics.mean(gaps)) for run, gaps in points]
    return ax.plot(*zip(*means), color=color)[0]


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
OF_STEPS = Shown(
    (
        *("Data set", "Inputs times", "Time", "Steps", "Step size", "Seeds"),
        *("accuracy %", "under reference %", "under RK4 %", "gap, points"),
    ),
    cells_of_steps,
    f"{_SEEDS} *Gap*: between the accuracies under the training solver and under its reference, on "
    "the validation set, where the runs have looked at one.",
    draw_gaps,
)
OF_REGULARIZATION = Shown(
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
        shown: `Shown`.
    """

    title: str
    question: str
    settings: tuple[tuple[str, tuple[int | None, ...], dict[str, Any]], ...]
    shown: Shown = OF_STEPS


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
        "The critical number of steps of our concentric spheres lies between 32 and 64, and that "
        "of the paper, whose text does not give the scale of its data, at twice as many. The steps "
        "that a field needs may depend on that scale: the inputs are multiplied by a factor, and "
        "all else stays.",
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
        tuple(
            ("energy_landscape", (8, 16, 32, 64, 128), {"t1": t1}) for t1 in (0.5, 1.0, 2.0, 4.0)
        ),
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
        study, shown = STUDIES[name], STUDIES[name].shown
        lines = [
            shown.cells(results, count)
            for results, count in zip(settings, planned[name], strict=True)
            if results
        ]
        of_all = [result for results in settings for result in results]
        parts = [
            f"# {study.title}",
            study.question,
            tables.markdown(shown.header, lines),
            shown.legend,
            f"Made by `{command}`. {origins.in_words(of_all)}",
        ]
        if shown.draw and usable(of_all):
            parts.insert(2, f"![{_OF_GAPS}]({name}.png)")
            write_png(shown.draw(settings), out / f"{name}.png")
        files.write_text(out / f"{name}.md", "\n\n".join(parts) + "\n")
        print(f"Written: {out / f'{name}.md'}")
