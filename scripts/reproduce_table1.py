"""Trains the models of the paper's Table 1 and prints it with ours beside it.

    python scripts/reproduce_table1.py --quick
    python scripts/reproduce_table1.py --paper --rows concentric_spheres_2d energy_landscape

Every finished run is a JSON file below --out and is never run again: interrupt and go on at will.
"""

import argparse
import sys

import experiments
import runner

ROWS = ("concentric_spheres_2d", "energy_landscape", "mnist", "cifar10")
SYNTHETIC = ROWS[:2]


def main():
    args = parse(sys.argv[1:])
    for row in args.rows:
        environment = experiments.ENVIRONMENT if row in SYNTHETIC else None
        runner.run_all(experiments.train, runs_of(row, args), args.out, args.jobs, environment)


def runs_of(row, args):
    import zoo

    iterations = args.iterations or zoo.get_recipe(row).iterations
    return [
        experiments.Run(row, num_steps, seed, iterations)
        for num_steps in (None, *args.grid)
        for seed in range(args.seeds)
    ]


def parse(arguments):
    parser = argparse.ArgumentParser(
        description=__doc__,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=SYNTHETIC)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--iterations", type=int)
    parser.add_argument("--grid", type=int, nargs="+", default=[2**i for i in range(9)])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", default="docs/results/runs")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
