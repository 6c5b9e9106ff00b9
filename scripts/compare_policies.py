"""Compares the rules of step adaption: what a model loses under RK4, what it costs, how calm it is.

    python scripts/compare_policies.py --quick
    python scripts/compare_policies.py --paper --runs docs/results/runs --out docs/results/policies

The paper's rule starts from Euler's method; the damped one from Euler's and from RK4. Trainings
are kept below --runs as those of `reproduce_table1.py`, which has made the paper's already.
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence

if not __package__:  # run by its path: the checkout, in the place of scripts/
    sys.path[0] = str(pathlib.Path(__file__).parents[1])

from scripts import command_line
from scripts.paper import options


def main(arguments: Sequence[str]) -> int:
    args = parse(arguments)
    from scripts.paper import policies, reproducing, runner

    runs = policies.runs(args)
    stopped = reproducing.train_all([run for of_rule in runs.values() for run in of_rule], args)
    if stopped:
        return stopped
    results = {key: runner.read_results(of_rule, args.runs) for key, of_rule in runs.items()}
    planned = {key: len(of_rule) for key, of_rule in runs.items()}
    command = command_line.call("compare_policies", arguments)
    policies.report(results, planned, args.out, command)
    return 0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    return options.parse(options.parser(__doc__, out="results/policies"), arguments)


if __name__ == "__main__":
    command_line.run(main)
