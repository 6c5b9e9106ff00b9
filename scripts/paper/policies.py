"""The rules of step adaption beside each other: their trainings, a table and a figure."""

import argparse
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from scripts.models import NAMES
from scripts.paper import origins, reproducing, table1
from scripts.paper.pictures import write_png
from scripts.paper.runs import Result, Run
from scripts.paper.selection import usable
from tfnode import files, tables

MODELS = ("concentric_spheres_2d", "energy_landscape")
# What decides: the method, the threshold or the damping?
RULES = {
    "paper, from Euler": {"solver": "euler", "policy": "paper"},
    "paper, from RK4": {"solver": "rk4", "policy": "paper"},
    "paper, from Euler, threshold 0.01": {"solver": "euler", "threshold": 0.01},
    "damped, from Euler": {"solver": "euler", "policy": "damped"},
    "damped, from RK4": {"solver": "rk4", "policy": "damped"},
    "none, 8 steps of RK4": {"solver": "rk4", "num_steps": 8},
}
# Each constant of the paper's rule halved and doubled: of growth what is above 1, of shrink what it
# takes away, which doubled would be all, so that there the factor itself is halved.
CONSTANTS = {
    f"paper, {name} {value}": {"solver": "euler", name: value}
    for name, values in {
        "threshold": (0.05, 0.2),
        "shrink": (0.75, 0.25),
        "growth": (1.05, 1.2),
        "check_every": (25, 100),
    }.items()
    for value in values
}
_SEEDS_OF_CONSTANTS = 2
# What may keep the paper's steps finer than ours: the rule as the text has it, and a gap that all
# the test samples measure, in place of those of a batch.
VARIANTS = {
    "paper, without look-ahead": {"solver": "euler", "look_ahead": False},
    "paper, checked on the test set": {
        "solver": "euler",
        "check_split": "test",
        "check_samples": 1000,
    },
}
# The authors' rule that adapts a tolerance, which the paper leaves to future work.
TOLERANCES = {
    "tolerance, Fehlberg 2(1)": {"solver": "fehlberg21", "policy": "tolerance"},
    "tolerance, Dormand-Prince 5(4)": {"solver": "dormandprince", "policy": "tolerance"},
}
_OF_TOLERANCE = " *Tolerance*: `ToleranceAdaption` in place of a step."
HEADER = (
    *("Data set", "Rule", "Seeds", "accuracy %", "under RK4 %", "lost, points", "at most"),
    *("NFE", "with checks", "step changes"),
)

# A model of the zoo, and one of the rules.
Pair = tuple[str, str]


def runs(args: argparse.Namespace) -> dict[Pair, list[Run]]:
    """The runs of every model with every rule, for each seed, and of the constants for few.

    The quick setting has the rules that decide alone.
    """
    seeds = reproducing.seeds(args)
    rules = RULES | VARIANTS | TOLERANCES if args.paper else RULES
    rules = {name: (options, seeds) for name, options in rules.items()}
    if args.paper:
        of_constants = seeds[:_SEEDS_OF_CONSTANTS]
        rules |= {name: (options, of_constants) for name, options in CONSTANTS.items()}
    return {
        (model, name): [
            reproducing.run_of(args, model, seed=seed, **{"num_steps": None, **options})
            for seed in seeds
        ]
        for model in MODELS
        for name, (options, seeds) in rules.items()
    }


def report(
    results: Mapping[Pair, Sequence[Result]],
    planned: Mapping[Pair, int],
    out: pathlib.Path,
    command: str,
) -> None:
    """Writes table and figure below `out`, and prints the table and where it is.

    Args:
        results: The finished runs, those included that failed.
        planned: How many they would be.
        out: A directory.
        command: What the page says that made it.
    """
    results = {pair: found for pair, found in results.items() if found}
    table = tables.markdown(
        HEADER, [cells(*pair, found, planned[pair]) for pair, found in results.items()]
    )
    files.write_text(out / "policies.md", page(table, command, results))
    write_png(draw(results), out / "policies.png")
    print(table, f"Written: {out / 'policies.md'}", sep="\n\n")


def cells(model: str, rule: str, results: Sequence[Result], planned: int) -> tuple[str, ...]:
    """The cells of a line of the table: means over the seeds, with their standard deviations.

    They are empty where every seed has failed.
    """
    trained = usable(results)
    accuracies = [result["accuracy"] for result in trained]
    lost = [100 * (a["train_solver"] - a["rk4_fine"]) for a in accuracies]
    return (
        NAMES[model],
        rule,
        f"{len(trained)} of {planned}",
        *(over_seeds([100 * a[name] for a in accuracies]) for name in ("train_solver", "rk4_fine")),
        over_seeds(lost, digits=2),
        f"{max(lost):.1f}" if lost else "",
        *(over_seeds([of(result) for result in trained]) for of in (nfe, nfe_with_checks, changes)),
    )


def over_seeds(values: Sequence[float], digits: int = 1) -> str:
    """The mean and the standard deviation; empty without a value."""
    return table1.spread(table1.mean_std(values), digits) if values else ""


def nfe(result: Result) -> float:
    """The evaluations of the field in the forward passes of training, per iteration."""
    return result["nfe_per_iteration"] if "history" in result else Run(**result["run"]).nfe


def nfe_with_checks(result: Result) -> float:
    return result["nfe_per_iteration_with_checks"] if "history" in result else nfe(result)


def changes(result: Result) -> int:
    """The number of the checks that changed the step or the method."""
    actions = result["history"]["action"] if "history" in result else []
    return sum(action != "keep" for action in actions)


def page(table: str, command: str, results: Mapping[Pair, Sequence[Result]]) -> str:
    of_all = [result for found in results.values() for result in found]
    by_tolerance = any(rule in TOLERANCES for _, rule in results)
    parts = [
        "# Rules of step adaption",
        f"Made by `{command}`. {origins.in_words(of_all)}",
        table,
        "*Lost*: the test accuracy under the solver of the training minus that under RK4 with 256 "
        "steps; *at most*: by the seed that loses most. *NFE*: evaluations of the vector field in "
        "the forward passes of training, per iteration. *Step changes*: the checks that changed "
        "the step or the method. All others are means and standard deviations over the seeds. The "
        "paper's constants are a threshold of 0.1, shrink 0.5, growth 1.1, and a check every 50 "
        "iterations. The *look-ahead*, of the authors' later code, tries a longer step on the "
        "batch of the check before it is taken. From RK4 the better solver of a check is RK4 at "
        f"half the step, which the paper does not have.{_OF_TOLERANCE * by_tolerance}",
        "![Evaluations of a forward pass over training, seed 0](policies.png)",
    ]
    return "\n\n".join(parts) + "\n"


def draw(results: Mapping[Pair, Sequence[Result]]) -> Figure:
    """The evaluations of a forward pass over training, a panel for each data set, seed 0."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    drawn: dict[str, Any] = {}
    for ax, model in zip(figure.subplots(1, len(MODELS)), MODELS):
        for rule in RULES:
            of_seed = {result["run"]["seed"]: result for result in results.get((model, rule), ())}
            history = of_seed.get(0, {}).get("history")
            if history is None:
                continue
            color = f"C{list(RULES).index(rule)}"
            times, nfe = history["iteration"], history["nfe"]
            (drawn[rule],) = ax.step(times, nfe, where="pre", linewidth=1, color=color)
        ax.set(xlabel="iteration", ylabel="evaluations a pass", title=NAMES[model])
        # Halving and growing are even steps, however fine the one of a strict threshold becomes.
        ax.set_yscale("log", base=2)
        ax.yaxis.set_major_formatter("{x:g}")
    if drawn:
        figure.legend(drawn.values(), drawn, loc="outside lower center", ncols=3, fontsize="small")
    return figure
