"""Makes the numbers and pictures of docs/is-it-an-ode.md: two models, and what the tools say.

    python scripts/is_it_an_ode.py --quick --runs docs/results/runs --out docs/results/is_it_an_ode

Both models learn the energy landscape with Euler's method, one with 256 steps and one with 8.
"""

import shlex
import sys

import commands
import experiments
import runner
import table1

import tfnode
from tfnode import validity

STEPS = {"256 steps": 256, "8 steps": 8}


def main(arguments):
    args = commands.parser(__doc__, out="results/is_it_an_ode").parse_args(arguments)
    data = tfnode.datasets.load("energy_landscape/three_minima", "test", as_numpy=True)
    columns = {}
    for name, num_steps in STEPS.items():
        run = commands.run_of(args, "energy_landscape", num_steps, 0, paths=True)
        print(f"Training with {name}, {run.iterations} iterations ...")
        model, result = experiments.fit(run, lambda fraction: None)
        runner.write_json(args.runs / run.path, result)
        columns[name] = examine(model, data, name, args.out / f"{num_steps}_steps")
    table = table1.markdown(("", *columns), list(zip(ROWS, *columns.values())))
    command = shlex.join(["python", "scripts/is_it_an_ode.py", *arguments])
    versions = ", ".join(f"{n} {v}" for n, v in result["versions"].items())
    runner.write_text(args.out / "table.md", f"{table}\n\nMade by `{command}` with {versions}.\n")
    print(table)
    return 0


ROWS = (
    "`check(...).is_ode`",
    "accuracy under the training solver",
    "under RK4, 256 steps or more",
    "largest gap under a better solver",
    "samples whose class changes",
    "`convergence_test(...).order`, expected 1",
    "`.loss_optimum_at_training_step`",
    "`certify(...).fraction`",
    "`crossings(...).count` of 30 trajectories",
)


def examine(model, data, name, out):
    """Asks every tool about a model; draws what can be drawn, and returns the cells of a column."""
    x, y = data
    report = validity.check(model, data)
    convergence = validity.convergence_test(model, data)
    certificate = validity.certify(model, data)
    found = validity.crossings(model, x[:30])
    pictures = {
        "check": report.plot(f"{name}: {'an ODE' if report.is_ode else 'no ODE'}"),
        "convergence": convergence.plot(name),
        "crossings": found.plot(y[:30], f"{name}: {found.count} crossings"),
    }
    out.mkdir(parents=True, exist_ok=True)
    for picture, figure in pictures.items():
        figure.savefig(out / f"{picture}.png", dpi=100)
    runner.write_text(out / "check.json", report.to_json() + "\n")
    return (
        str(report.is_ode),
        f"{100 * report.rows[0].accuracy:.1f} %",
        f"{100 * report.rows[-1].accuracy:.1f} %",
        f"{100 * report.gap:.1f} points",
        f"{100 * report.changed:.1f} %",
        f"{convergence.order:.2f}",
        str(convergence.loss_optimum_at_training_step),
        f"{100 * certificate.fraction:.1f} %",
        str(found.count),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
