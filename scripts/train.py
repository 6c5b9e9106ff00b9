"""Trains a weight of the zoo, measures it, and adds it to the manifest with its golden.

    python scripts/train.py --model energy_landscape --recipe rk4_damped
    python scripts/train.py --model mnist --recipe rk4_damped_small

This is the one way that any weight of the zoo was made. Interrupted, it goes on from the last
checkpoint. Called again for a weight that is there, it trains it again and compares: a published
weight never changes. `--trained FILE` publishes what `train_on_gpu.py --unpack` has written of a
run of that recipe, in place of a training here. `--default` moves the model's `DEFAULT` to a weight
that is an ODE.
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence

if not __package__:  # run by its path: the checkout, in the place of scripts/
    sys.path[0] = str(pathlib.Path(__file__).parents[1])

from scripts import command_line
from scripts.models import NAMES
from scripts.publishing.recipes import RECIPES


def main(arguments: Sequence[str]) -> int:
    args = parse(arguments)
    from scripts.publishing import training

    name, note = f"{args.model}_{args.recipe}_v{args.version}", RECIPES[args.recipe][1]
    dtype = args.dtype or training.dtype_of(name, args.model)
    run, trained = training.run_of(args.model, args.recipe, args.seed, args.iterations, dtype), None
    if args.trained:
        run, trained = training.trained_elsewhere(args.trained, run)
    return training.train(name, run, note, args.checkpoints, args.default, trained)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = command_line.parser(__doc__)
    parser.add_argument("--model", choices=NAMES, required=True)
    parser.add_argument("--recipe", choices=RECIPES, required=True)
    parser.add_argument("--seed", type=command_line.natural, default=0)
    parser.add_argument("--version", type=command_line.positive, default=1, help="the N of _vN")
    parser.add_argument("--iterations", type=command_line.positive, help="in place of the paper's")
    parser.add_argument(
        "--checkpoints", type=pathlib.Path, default="results/checkpoints", help="(%(default)s)"
    )
    command_line.add_dtype(parser)
    parser.add_argument(
        "--trained", type=command_line.file, metavar="FILE", help="weights, in place of training"
    )
    parser.add_argument("--default", action="store_true", help="make it the model's DEFAULT")
    args = parser.parse_args(arguments)
    command_line.check_writable(parser, checkpoints=args.checkpoints)
    return args


if __name__ == "__main__":
    command_line.run(main)
