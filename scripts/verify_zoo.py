"""Measures the pretrained weights again, and compares with what the manifest says of them.

    python scripts/verify_zoo.py --quick
    python scripts/verify_zoo.py mnist_rk4_damped_small_v1

It exits with 1 if a number differs. Without names all weights are measured, in about 13 minutes on
two cores, and with --quick only those of the synthetic data sets.
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence

if not __package__:  # run by its path: the checkout, in the place of scripts/
    sys.path[0] = str(pathlib.Path(__file__).parents[1])

from scripts import command_line
from scripts.models import ALL_IMAGES
from scripts.publishing import names

HEADER = ("weights", "quantity", "expected", "found", "")


def main(arguments: Sequence[str]) -> int:
    args = parse(arguments)
    from tfnode import tables
    from zoo import manifest, verification

    entries = manifest.read().weights
    chosen = args.names or entries
    if args.quick:
        chosen = [name for name in chosen if entries[name].model not in ALL_IMAGES]
    rows = [row for name in chosen for row in verification.compare(entries[name])]
    if not rows:
        print("There are no weights to verify.")
        return 0
    print(tables.aligned(HEADER, [[*row[:-1], "" if row[-1] else "differs"] for row in rows]))
    return 0 if all(row[-1] for row in rows) else 1


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    options = names.parser(__doc__)
    options.add_argument("--quick", action="store_true", help="the synthetic data sets only")
    args = options.parse_args(arguments)
    if args.quick and args.names:
        options.error(f"--quick chooses the weights itself. Received: {args.names}. Leave one out.")
    return args


if __name__ == "__main__":
    command_line.run(main)
