"""Reproduces the figures of "When are Neural ODE Solutions Proper ODEs?", by number.

    python scripts/reproduce_figures.py --quick 1 2 3
    python scripts/reproduce_figures.py --paper 3 7 8 9 --runs docs/results/runs

Without numbers it draws all of them, 1 to 23. Every training is one JSON file below --runs, which
`reproduce_table1.py` shares, and is never run again: interrupt at will, and go on with the same
command. Figures are written below --out as PNG and PDF, with a page that says what each shows.
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence

if not __package__:  # run by its path: the checkout, in the place of scripts/
    sys.path[0] = str(pathlib.Path(__file__).parents[1])

from scripts import command_line
from scripts.paper import options

NUMBERS = range(1, 24)


def main(arguments: Sequence[str]) -> int:
    args = parse(arguments)
    from scripts.paper import gallery, reproducing
    from scripts.paper.figures_by_number import FIGURES

    runs = {number: FIGURES[number].runs(args) for number in args.figures}
    distinct = dict.fromkeys(r for panels in runs.values() for of in panels.values() for r in of)
    stopped = reproducing.train_all(list(distinct), args)
    if stopped:
        return stopped
    command = command_line.call("reproduce_figures", arguments)
    for number, panels in runs.items():
        gallery.draw(number, panels, args, command)
    gallery.write_page(args.out)
    return 0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = options.parser(__doc__, out="results/figures")
    parser.add_argument("figures", nargs="*", type=figure_number, help="1 to 23; all if left out")
    args = options.parse(parser, arguments)
    args.figures = args.figures or list(NUMBERS)
    return args


def figure_number(text: str) -> int:
    if text not in map(str, NUMBERS):
        raise argparse.ArgumentTypeError(f"must be a number from 1 to 23. Received: {text}")
    return int(text)


if __name__ == "__main__":
    command_line.run(main)
