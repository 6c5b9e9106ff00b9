"""The rules of step adaption beside each other: their trainings, a table and a figure."""

import argparse
import pathlib
import statistics
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from scripts.models import NAMES
from scripts.paper import reproducing, table1
from scripts.paper.runs import Result, Run
from tfnode import files, tables, versions

MODELS = ("concentric_spheres_2d", "energy_landscape")
RULES = {
    "paper, from Euler": {"solver": "euler", "policy": "paper"},
    "damped, from Euler": {"solver": "euler", "policy": "damped"},
    "damped, from RK4": {"solver": "rk4", "policy": "damped"},
}
HEADER = (
    *("Data set", "Rule", "Seeds", "accuracy %", "under RK4 %", "lost, points", "at most"),
    *("NFE", "with checks", "step changes"),
)

# A model of the zoo, and one of the rules.
Pair = tuple[str, str]


def runs(args: argparse.Namespace) -> dict[Pair, list[Run]]:
    """The runs of every model with every rule, for each seed."""
    return {
        (model, rule): [
            reproducing.run_of(args, model, None, seed, **options)
            for seed in reproducing.seeds(args)
        ]
        for model in MODELS
        for rule, options in RULES.items()
    }


def report(
    results: Mapping[Pair, Sequence[Result]],
    planned: Mapping[Pair, int],
    out: pathlib.Path,
    command: str,
) -> None:
    """Writes table and figure below `out`, and prints the table and where it is.

    Args:
        results: The finished runs.
        planned: How many they would be.
        out: A directory.
        command: What the page says that made it.
    """
    results = {pair: found for pair, found in results.items() if found}
    table = tables.markdown(
        HEADER, [cells(*pair, found, planned[pair]) for pair, found in results.items()]
    )
    files.write_text(out / "policies.md", page(table, command, results))
    with files.beside(out / "policies.png") as written:
        draw(results).savefig(written)
    print(table, f"Written: {out / 'policies.md'}", sep="\n\n")


def cells(model: str, rule: str, results: Sequence[Result], planned: int) -> tuple[str, ...]:
    """The cells of a line of the table: means over the seeds, accuracies with their deviations."""
    trained = [result for result in results if "error" not in result]
    accuracies = [result["accuracy"] for result in trained]
    lost = [100 * (a["train_solver"] - a["rk4_fine"]) for a in accuracies]
    return (
        NAMES[model],
        rule,
        f"{len(trained)} of {planned}",
        *(
            table1.percent(table1.mean_std([100 * a[name] for a in accuracies]))
            for name in ("train_solver", "rk4_fine")
        ),
        f"{statistics.mean(lost):.2f}",
        f"{max(lost):.1f}",
        f"{statistics.mean(r['nfe_per_iteration'] for r in trained):.1f}",
        f"{statistics.mean(r['nfe_per_iteration_with_checks'] for r in trained):.1f}",
        f"{statistics.mean(map(changes, trained)):.1f}",
    )


def changes(result: Result) -> int:
    """The number of the checks that changed the step or the method."""
    return sum(action != "keep" for action in result["history"]["action"])


def page(table: str, command: str, results: Mapping[Pair, Sequence[Result]]) -> str:
    made_with = versions.in_words(next(iter(results.values()))[0]["versions"])
    parts = [
        "# Rules of step adaption",
        f"Made by `{command}` with {made_with}.",
        table,
        "*Lost*: the test accuracy under the solver of the training minus that under RK4 with 256 "
        "steps, in the mean over the seeds and at most. *NFE*: evaluations of the vector field in "
        "the forward passes of training, per iteration. *Step changes*: the checks, one every 50 "
        "iterations, that changed the step or the method.",
        "![Evaluations of a forward pass over training, seed 0](policies.png)",
    ]
    return "\n\n".join(parts) + "\n"


def draw(results: Mapping[Pair, Sequence[Result]]) -> Figure:
    """The evaluations of a forward pass over training, a panel for each data set, seed 0."""
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    for ax, model in zip(figure.subplots(1, len(MODELS)), MODELS):
        for rule in RULES:
            if (model, rule) not in results:
                continue
            history = results[model, rule][0]["history"]
            ax.step(history["iteration"], history["nfe"], where="pre", linewidth=1, label=rule)
        ax.set(xlabel="iteration", ylabel="evaluations a pass", title=NAMES[model])
        ax.set_ylim(bottom=0)
        ax.legend(fontsize="small")
    return figure
