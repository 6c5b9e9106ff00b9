"""Compares the rules of step adaption: what a model loses under RK4, what it costs, how calm it is.

    python scripts/compare_policies.py --quick
    python scripts/compare_policies.py --paper --runs docs/results/runs --out docs/results/policies

The paper's rule starts from Euler's method; the damped one from Euler's and from RK4. Trainings
are kept below --runs as those of `reproduce_table1.py`, which has made the paper's already.
"""

import shlex
import statistics
import sys

import reproducing
import runner
import table1
from matplotlib.figure import Figure

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


def main(arguments):
    args = reproducing.parser(__doc__, out="results/policies").parse_args(arguments)
    runs = {
        (model, rule): [
            reproducing.run_of(args, model, None, seed, **options)
            for seed in reproducing.seeds(args)
        ]
        for model in MODELS
        for rule, options in RULES.items()
    }
    stopped = reproducing.train_all([run for of_rule in runs.values() for run in of_rule], args)
    if stopped:
        return stopped
    results = {key: runner.read_results(of_rule, args.runs) for key, of_rule in runs.items()}
    results = {key: of_rule for key, of_rule in results.items() if of_rule}
    table = tables.markdown(
        HEADER, [cells(*key, found, len(runs[key])) for key, found in results.items()]
    )
    command = shlex.join(["python", "scripts/compare_policies.py", *arguments])
    files.write_text(args.out / "policies.md", page(table, command, results))
    with files.beside(args.out / "policies.png") as written:
        draw(results).savefig(written)
    print(table, f"Written: {args.out / 'policies.md'}", sep="\n\n")
    return 0


def cells(model, rule, results, planned):
    """The cells of a line of the table: means over the seeds, accuracies with their deviations."""
    trained = [result for result in results if "error" not in result]
    accuracies = [result["accuracy"] for result in trained]
    lost = [100 * (a["train_solver"] - a["rk4_fine"]) for a in accuracies]
    return (
        reproducing.NAMES[model],
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


def changes(result):
    """The number of the checks that changed the step or the method."""
    return sum(action != "keep" for action in result["history"]["action"])


def page(table, command, results):
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


def draw(results):
    """The evaluations of a forward pass over training, a panel for each data set, seed 0."""
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    for ax, model in zip(figure.subplots(1, len(MODELS)), MODELS):
        for rule in RULES:
            if (model, rule) not in results:
                continue
            history = results[model, rule][0]["history"]
            ax.step(history["iteration"], history["nfe"], where="pre", linewidth=1, label=rule)
        ax.set(xlabel="iteration", ylabel="evaluations a pass", title=reproducing.NAMES[model])
        ax.set_ylim(bottom=0)
        ax.legend(fontsize="small")
    return figure


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
