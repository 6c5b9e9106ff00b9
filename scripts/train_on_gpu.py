"""Trains runs of the paper on a machine with a GPU that has JAX, but no TensorFlow and no network.

    python scripts/train_on_gpu.py --make-bundle bundle/ --models mnist cifar10 --wheels 3.12
    KERAS_BACKEND=jax python scripts/train_on_gpu.py --bundle bundle/ --minutes 9 --out trained/
    python scripts/train_on_gpu.py --unpack trained/

The first command needs TFDS and writes the data as files of arrays, and with --wheels the packages
that the other machine lacks, for its version of Python. Each file is below 40 MiB, to be carried
there beside the checkout, at once or in turns; `python -m pip install --no-index --no-deps --target
DIR bundle/*.whl` installs the wheels for PYTHONPATH=DIR. The second command looks at that machine
for a minute, and then trains the runs in the order of their worth. It ends by itself: at any time,
finished runs are in --out, in one archive a model, and at the end a checkpoint of the one under
way, from which the same command goes on. The third puts results, weights and checkpoints where the
other commands look for them, and the second does not train again what is there.
"""

import argparse
import os
import pathlib
import re
import sys
from collections.abc import Sequence

if not __package__:  # run by its path: the checkout, in the place of scripts/
    sys.path[0] = str(pathlib.Path(__file__).parents[1])

from scripts import command_line
from scripts.models import ALL_IMAGES, NAMES

# Of the training, in place of the paper's.
OPTIONS = ("dtype", "iterations", "batch_size", "test_samples", "rk4_steps")


def main(arguments: Sequence[str]) -> int:
    args = parse(arguments)
    import keras

    from scripts.gpu import bundle, parcels, plan, session

    if args.make_bundle:
        bundle.make(args.make_bundle, args.models or ALL_IMAGES, args.wheels)
        return 0
    if args.unpack:
        for path in parcels.unpack(args.unpack, args.runs, args.weights, args.checkpoints):
            print(f"Written: {path}")
        return 0
    if keras.backend.backend() != "jax":
        print(
            "Bundles are trained on JAX. Received: the backend "
            f"{keras.backend.backend()!r}. Set KERAS_BACKEND=jax.",
            file=sys.stderr,
        )
        return 2
    os.environ |= bundle.environment(args.bundle)
    options = {name: getattr(args, name) for name in OPTIONS if getattr(args, name) is not None}
    models = args.models or bundle.models(args.bundle)
    runs = plan.runs(models, options.pop("iterations", None), **options)
    return session.train(runs, args.out, args.runs, args.checkpoints, 60 * args.minutes)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = command_line.parser(__doc__)
    task = parser.add_mutually_exclusive_group(required=True)
    task.add_argument("--make-bundle", type=pathlib.Path, metavar="DIR", help="write the data")
    task.add_argument("--bundle", type=bundle_directory, metavar="DIR", help="train on this data")
    task.add_argument(
        "--unpack", type=command_line.directory, metavar="DIR", help="an --out, brought here"
    )
    parser.add_argument("--models", nargs="+", choices=NAMES, help="(those there are)")
    parser.add_argument(
        "--wheels", type=version, metavar="X.Y", help="with wheels for that Python, in a bundle"
    )
    parser.add_argument("--minutes", type=command_line.minutes, default=9.0, help="(%(default)s)")
    parser.add_argument("--out", type=pathlib.Path, default="results/gpu", help="(%(default)s)")
    parser.add_argument(
        "--dtype", choices=("float32", "mixed_bfloat16"), help="of the training; float32"
    )
    for name in ("iterations", "batch-size", "test-samples", "rk4-steps"):
        parser.add_argument(f"--{name}", type=command_line.positive, help="in place of the paper's")
    for name, default in (
        ("runs", "docs/results/runs"),
        ("weights", "results/weights"),
        ("checkpoints", "results/checkpoints"),
    ):
        parser.add_argument(f"--{name}", type=pathlib.Path, default=default, help="(%(default)s)")
    args = parser.parse_args(arguments)
    check(parser, args)
    return args


def bundle_directory(text: str) -> pathlib.Path:
    """A directory that is a bundle, as the type of an argument."""
    path = command_line.directory(text)
    if not (path / "bundle.json").is_file():
        raise argparse.ArgumentTypeError(f"must be of --make-bundle. Received: {text!r}")
    return path


def version(text: str) -> str:
    """The version of a Python, as the type of an argument."""
    if not re.fullmatch(r"3\.\d+", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"must be a version such as 3.12. Received: {text!r}")
    return text


def check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Refuses options of another task than the chosen one, and places that cannot be written to."""
    given = [name for name in OPTIONS if getattr(args, name) is not None]
    if args.wheels and not args.make_bundle:
        parser.error(f"--wheels is for --make-bundle. Received: --wheels {args.wheels}")
    if args.models and args.unpack:
        parser.error(f"--unpack takes all that is there. Received: --models {args.models}")
    if given and not args.bundle:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        parser.error(f"{names}: for --bundle, which trains. Received: another task")
    if args.bundle:
        has = command_line.read_json(args.bundle / "bundle.json")["models"]
        if args.models and not set(args.models) <= set(has):
            parser.error(f"--models must be of the bundle, {has}. Received: {args.models}")
        command_line.check_writable(parser, out=args.out)
    elif args.unpack:
        places = {name: getattr(args, name) for name in ("runs", "weights", "checkpoints")}
        command_line.check_writable(parser, **places)
    else:
        command_line.check_writable(parser, **{"make-bundle": args.make_bundle})


if __name__ == "__main__":
    command_line.run(main)
