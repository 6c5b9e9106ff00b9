"""Writes the goldens of pretrained weights: what they answer to stored inputs.

    python scripts/write_golden.py energy_landscape_euler_adapted_v1

One JSON file a weight, below tests/golden; without names, for every weight of the manifest. A
golden is written once, when its weight is published; the tests compare with it ever after.
"""

import pathlib
import sys
from collections.abc import Sequence

if not __package__:  # run by its path: the checkout, in the place of scripts/
    sys.path[0] = str(pathlib.Path(__file__).parents[1])

from scripts import command_line
from scripts.publishing import names


def main(arguments: Sequence[str]) -> int:
    chosen = names.parser(__doc__).parse_args(arguments).names
    from scripts.publishing import goldens, places
    from zoo import manifest

    places.check_writable(places.GOLDEN)
    entries = manifest.read().weights
    for name in chosen or entries:
        print(f"Written: {goldens.write(entries[name])}")
    return 0


if __name__ == "__main__":
    command_line.run(main)
