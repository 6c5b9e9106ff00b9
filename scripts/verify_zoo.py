"""Measures the pretrained weights again, and compares with what the manifest says of them.

    python scripts/verify_zoo.py --quick
    python scripts/verify_zoo.py mnist_rk4_damped_small_v1

It is `tfnode zoo verify` in a checkout. It exits with 1 if a number differs. Without names all
weights are measured, in about 13 minutes on two cores, and with --quick only those of the synthetic
data sets.
"""

import pathlib
import sys
from collections.abc import Sequence

if not __package__:  # run by its path: the checkout, in the place of scripts/
    sys.path[0] = str(pathlib.Path(__file__).parents[1])

from scripts import command_line
from zoo.commands import pretrained


def main(arguments: Sequence[str]) -> int:
    parser = command_line.parser(__doc__)
    pretrained.add_verified(parser)
    parser.set_defaults(parser=parser)
    answer = pretrained.verify(parser.parse_args(arguments))
    print(answer.text)
    return answer.status


if __name__ == "__main__":
    command_line.run(main)
