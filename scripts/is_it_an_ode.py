"""Asks whether a model is an ODE, and writes the report as a page.

    python scripts/is_it_an_ode.py model.keras --data test.npz --class-names cat dog
    python scripts/is_it_an_ode.py model.keras --data mnist --out results/is_it_an_ode
    python scripts/is_it_an_ode.py --out docs/results/is_it_an_ode

A model of your own is one that `model.save` has written. Its test data is an .npz file with the
arrays `x` and `y`, as `numpy.savez` writes it, or the name of a data set of `tfnode.datasets`, of
which the test split is taken. The page is one HTML file that needs no network, and the same report
lies beside it as JSON. Without a model it makes the numbers and pictures of docs/is-it-an-ode.md,
from two pretrained models of the zoo for the energy landscape.
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence

if not __package__:  # run by its path: the checkout, in the place of scripts/
    sys.path[0] = str(pathlib.Path(__file__).parents[1])

from scripts import command_line


def main(arguments: Sequence[str]) -> int:
    args = parse(arguments)
    if args.model is None:
        from scripts.publishing import two_models

        two_models.report(args.out, command_line.call("is_it_an_ode", arguments))
    else:
        from scripts.publishing import own_model

        own_model.report(args.model, args.data, args.out, args.class_names)
    return 0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = command_line.parser(__doc__)
    parser.add_argument("model", nargs="?", type=command_line.file, help="a .keras file")
    parser.add_argument("--data", help="an .npz file with x and y, or a name of tfnode.datasets")
    parser.add_argument("--class-names", nargs="+", metavar="NAME", help="from class 0 up")
    parser.add_argument("--out", type=pathlib.Path, default="results/is_it_an_ode")
    args = parser.parse_args(arguments)
    if args.model is None and (args.data or args.class_names):
        option = "--data" if args.data else "--class-names"
        parser.error(f"{option} is for a model of your own. Received: no MODEL.keras")
    if args.model is not None and args.model.suffix != ".keras":
        parser.error(f"MODEL must end in .keras. Received: {str(args.model)!r}")
    if args.model is not None and args.data is None:
        parser.error("--data is required with a model of your own. Received: none")
    is_file = args.data is not None and pathlib.Path(args.data).suffix == ".npz"
    if is_file and not pathlib.Path(args.data).is_file():
        parser.error(f"--data must be a file that is there. Received: {args.data!r}")
    command_line.check_writable(parser, out=args.out)
    if args.data is not None and not is_file:
        check_dataset(parser, args.data)
    return args


def check_dataset(parser: argparse.ArgumentParser, name: str) -> None:
    """Refuses data that is neither a file nor known by its name."""
    from tfnode import datasets

    known = datasets.list_datasets()
    if name not in known:
        parser.error(f"--data must be an .npz file, or one of {known}. Received: {name!r}")


if __name__ == "__main__":
    command_line.run(main)
