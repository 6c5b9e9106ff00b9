"""Rebuilds `saved_models/`, the zoo for TensorFlow Serving, from its pretrained weights.

    python scripts/export_saved_models.py
    python scripts/export_saved_models.py --models mnist --samples 5000 --reference-steps 64

Each model is judged on its test set, a large one on a part of it as in the manifest. If it is an
ODE, it becomes two SavedModels, with the solver of its training and with a finer one, and a new
version of each if there are older ones; else its report is printed and it is left out. The last
line of the output names the file that TensorFlow Serving is started with.
"""

import argparse
import pathlib
import sys
import time
from collections.abc import Sequence

if not __package__:  # run by its path: the checkout, in the place of scripts/
    sys.path[0] = str(pathlib.Path(__file__).parents[1])

from scripts import command_line
from scripts.models import NAMES


def main(arguments: Sequence[str]) -> int:
    args = parse(arguments)
    from scripts.serving import exporting

    left_out = []
    for name in args.models:
        start = time.monotonic()
        try:
            paths = exporting.export(
                name,
                args.out,
                args.weights,
                args.samples,
                args.reference_steps,
                require_valid=not args.include_invalid,
            )
        except (ValueError, OSError) as error:
            left_out.append(name)
            print(f"{name} is left out. {error}", file=sys.stderr)
            continue
        for path in paths:
            print(f"Written: {path}")
        print(f"{name}: {time.monotonic() - start:.0f} s")
    if left_out:
        print(f"Left out: {', '.join(left_out)}", file=sys.stderr)
    if len(left_out) < len(args.models):
        print(f"Written: {args.out / 'models.config'}")
    return 1 if left_out else 0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = command_line.parser(__doc__)
    parser.add_argument("--models", nargs="+", choices=NAMES, default=list(NAMES), metavar="MODEL")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("saved_models"))
    parser.add_argument(
        "--weights", default="DEFAULT", help="as for zoo.get_model; none for fresh weights"
    )
    parser.add_argument(
        "--samples",
        type=command_line.positive,
        help="the first of the test set; as in the manifest",
    )
    parser.add_argument(
        "--reference-steps",
        type=command_line.positive,
        help="the least of RK4 in the verdict; as in train.py",
    )
    parser.add_argument(
        "--include-invalid",
        action="store_true",
        help="export others, too, as canaries",
    )
    args = parser.parse_args(arguments)
    command_line.check_writable(parser, out=args.out)
    check_weights(parser, args)
    args.weights = None if args.weights == "none" else args.weights
    return args


def check_weights(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Refuses weights that are not there, or are not those of all the models."""
    from zoo import loading, manifest

    if args.weights in ("DEFAULT", "none"):
        return
    if loading.is_path(args.weights):
        if not pathlib.Path(args.weights).is_file():
            parser.error(f"--weights must be a file that is there. Received: {args.weights!r}")
        return
    entry = manifest.read().weights.get(args.weights)
    if entry is None or args.models != [entry.model]:
        parser.error(
            "--weights must be DEFAULT, none, the path of a .weights.h5 file, or the name of "
            f"published weights of the only model in --models. Received: {args.weights!r} for "
            f"{args.models}"
        )


if __name__ == "__main__":
    command_line.run(main)
