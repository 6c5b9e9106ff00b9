"""Reproduces Table 1 of "When are Neural ODE Solutions Proper ODEs?", with ours beside it.

    python scripts/reproduce_table1.py --quick
    python scripts/reproduce_table1.py --paper --runs docs/results/runs --out docs/results/table1

Each row is trained with StepAdaption and over a grid of fixed step sizes, several seeds each.
Every finished run is one JSON file below --runs and is never run again: interrupt at will, and go
on with the same command. Beside the paper's columns stands the test accuracy of the same models
under RK4 with 256 steps (16 for images in the quick setting), which shows whether they are ODEs.
"""

import shlex
import sys

import command_line
import reproducing
import runner
import table1

from tfnode import files, plots, tables, versions

ROWS = ("concentric_spheres_2d", "energy_landscape", "mnist", "cifar10")
QUICK_GRID = (1, 8, 64)
PAPER_GRID = tuple(2**i for i in range(9))


def main(arguments):
    args = parse(arguments)
    runs = {model: runs_of(model, args) for model in args.rows}
    stopped = reproducing.train_all([run for of_model in runs.values() for run in of_model], args)
    if stopped:
        return stopped
    report(runs, args, arguments)
    return 0


def runs_of(model, args):
    """Returns the runs of a row: with adaption and with each number of steps, for each seed."""
    grid = args.grid or (QUICK_GRID if args.quick else PAPER_GRID)
    return [
        reproducing.run_of(args, model, num_steps, seed)
        for num_steps in (None, *grid)
        for seed in reproducing.seeds(args)
    ]


def report(runs, args, arguments):
    """Writes table and figures below --out, and prints the table and where the figures are."""
    results = {model: runner.read_results(r, args.runs) for model, r in runs.items()}
    rows = [table1.row(model, r) for model, r in results.items()]
    header, cells = table1.HEADER, table1.lines(rows)
    grid_header, grid_cells = table1.GRID_HEADER, table1.grid_lines(rows)
    printed = [tables.markdown(header, cells), tables.markdown(grid_header, grid_cells)]
    command = shlex.join(["python", "scripts/reproduce_table1.py", *arguments])
    provenance = {"command": command, "versions": next(iter(results.values()))[0]["versions"]}
    figures = draw(results, args.out)
    page = document(printed, provenance, figures, rows)
    files.write_text(args.out / "table1.md", page)
    files.write_text(args.out / "table1.csv", table1.comma_separated(header, cells))
    files.write_json(args.out / "table1.json", {**provenance, "rows": rows})
    print("", *printed, *failures(rows), "", sep="\n\n")
    for path in (args.out / "table1.md", *figures):
        print(f"Written: {path}")


def draw(results, out):
    """Draws the paper's figures 5 and 6 for each row; returns the paths."""
    paths = []
    for model, runs in results.items():
        adapted = [r for r in runs if r["run"]["num_steps"] is None and "error" not in r]
        curves = {r["run"]["seed"]: r["test_curve"] for r in adapted if r["test_curve"]}
        if not curves:
            continue
        title, seed = reproducing.NAMES[model], min(curves)
        figures = {
            f"figure5_{model}.png": plots.adaption_over_training(curves, title),
            f"figure6_{model}.png": plots.adaption_behaviour(curves[seed], f"{title}, seed {seed}"),
        }
        for name, figure in figures.items():
            with files.beside(out / name) as written:
                figure.savefig(written, dpi=120)
            paths.append(out / name)
    return paths


def document(printed, provenance, figures, rows):
    """Returns the results as a Markdown page."""
    parts = [
        "# Table 1, the paper's and ours",
        f"Made by `{provenance['command']}` with {versions.in_words(provenance['versions'])}.",
        printed[0],
        "Accuracies are means and standard deviations over the seeds, on the test set. *Under "
        "RK4* evaluates the same trained models under RK4 with 256 steps, or 16 for images in the "
        "quick setting. *Grid NFE*: the numbers of Euler steps below and above the critical one, "
        "above which the accuracies under the training solver and its reference differ by at most "
        "10 points; the accuracy beside it is the highest of the valid numbers of steps, as in the "
        "paper.",
        "## The grid",
        printed[1],
        *failures(rows),
        *(f"![{path.stem}]({path.name})" for path in figures),
    ]
    return "\n\n".join(parts) + "\n"


def failures(rows):
    """Returns a line for each run that failed; such runs are in no mean."""
    return [f"Failed and left out: {run}" for row in rows for run in row["failed"]]


def parse(arguments):
    parser = reproducing.parser(__doc__, out="results/table1")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=ROWS[:2])
    parser.add_argument(
        "--grid", nargs="+", type=command_line.positive, help="numbers of Euler steps"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
