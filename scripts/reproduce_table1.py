"""Reproduces Table 1 of "When are Neural ODE Solutions Proper ODEs?", with ours beside it.

    python scripts/reproduce_table1.py --quick
    python scripts/reproduce_table1.py --paper --runs docs/results/runs --out docs/results/table1

Each row is trained with StepAdaption and over a grid of fixed step sizes, several seeds each.
Every finished run is one JSON file below --runs and is never run again: interrupt at will, and go
on with the same command. Beside the paper's columns stands the test accuracy of the same models
under RK4 with 256 steps (for images 64, and 16 in the quick setting), which shows whether they are
ODEs.
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if not __package__:  # run by its path: the checkout, in the place of scripts/
    sys.path[0] = str(pathlib.Path(__file__).parents[1])

from scripts import command_line
from scripts.paper import options

if TYPE_CHECKING:
    from scripts.paper.runs import Run

ROWS = ("concentric_spheres_2d", "energy_landscape", "mnist", "cifar10")
QUICK_GRID = (1, 8, 64)
PAPER_GRID = tuple(2**i for i in range(9))


def main(arguments: Sequence[str]) -> int:
    args = parse(arguments)
    from scripts.paper import reproducing, runner, table1_report

    runs = {model: runs_of(model, args) for model in args.rows}
    stopped = reproducing.train_all([run for of_model in runs.values() for run in of_model], args)
    if stopped:
        return stopped
    results = {model: runner.read_results(r, args.runs) for model, r in runs.items()}
    results = {model: found for model, found in results.items() if found}
    command = command_line.call("reproduce_table1", arguments)
    table1_report.report(results, args.out, command)
    return 0


def runs_of(model: str, args: argparse.Namespace) -> "list[Run]":
    """Returns the runs of a row: with adaption and with each number of steps, for each seed."""
    from scripts.paper import reproducing

    # A number that is given twice is one setting.
    grid = dict.fromkeys(args.grid or (QUICK_GRID if args.quick else PAPER_GRID))
    return [
        reproducing.run_of(args, model, num_steps, seed)
        for num_steps in (None, *grid)
        for seed in reproducing.seeds(args)
    ]


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = options.parser(__doc__, out="results/table1")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=ROWS[:2])
    parser.add_argument(
        "--grid", nargs="+", type=command_line.positive, help="numbers of Euler steps"
    )
    return options.parse(parser, arguments)


if __name__ == "__main__":
    command_line.run(main)
