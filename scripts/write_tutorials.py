"""Runs the tutorials and writes their pages, with what they print and draw, in docs/tutorials.

    python scripts/write_tutorials.py
    python scripts/write_tutorials.py first_block time_series

Needs the extra `docs`. A tutorial is a Python script whose cells begin with `# %%`, which Jupyter
and most editors know.
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence

if not __package__:  # run by its path: the checkout, in the place of scripts/
    sys.path[0] = str(pathlib.Path(__file__).parents[1])

from scripts import command_line

DIRECTORY = pathlib.Path(__file__).parents[1] / "docs" / "tutorials"
SOURCES = {path.stem: path for path in sorted(DIRECTORY.glob("*.py"))}


def main(arguments: Sequence[str]) -> int:
    parser = command_line.parser(__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="name", type=tutorial, help=f"of {', '.join(SOURCES)}"
    )
    chosen = parser.parse_args(arguments).names
    from scripts.publishing import places, tutorials

    places.check_writable(DIRECTORY)
    for name in chosen or SOURCES:
        print(f"Written: {tutorials.write(SOURCES[name])}")
    return 0


def tutorial(name: str) -> str:
    """Returns the name of a tutorial, as the type of an argument."""
    if name not in SOURCES:
        raise argparse.ArgumentTypeError(f"must be one of {[*SOURCES]}. Received: {name!r}")
    return name


if __name__ == "__main__":
    command_line.run(main)
