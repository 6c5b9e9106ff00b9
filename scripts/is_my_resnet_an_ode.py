"""Makes the numbers and pictures of docs/is-my-resnet-an-ode.md: two ResNets, and what is said.

    python scripts/is_my_resnet_an_ode.py --out docs/results/is_my_resnet_an_ode

Both are trained here, on the concentric spheres in the plane, in less than a minute.
"""

import pathlib
import sys
from collections.abc import Sequence

if not __package__:  # run by its path: the checkout, in the place of scripts/
    sys.path[0] = str(pathlib.Path(__file__).parents[1])

from scripts import command_line


def main(arguments: Sequence[str]) -> int:
    parser = command_line.parser(__doc__)
    parser.add_argument("--out", type=pathlib.Path, default="results/is_my_resnet_an_ode")
    out = parser.parse_args(arguments).out
    command_line.check_writable(parser, out=out)
    from scripts.publishing import two_resnets

    two_resnets.report(out, command_line.call("is_my_resnet_an_ode", arguments))
    return 0


if __name__ == "__main__":
    command_line.run(main)
