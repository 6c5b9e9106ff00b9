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
import sys
from collections.abc import Sequence

if not __package__:  # run by its path: the checkout, in the place of scripts/
    sys.path[0] = str(pathlib.Path(__file__).parents[1])

import keras

import zoo
from scripts import command_line
from scripts.gpu import bundle, parcels, plan, session
from scripts.paper import reproducing


def main(arguments: Sequence[str]) -> int:
    args = parse(arguments)
    if args.make_bundle:
        bundle.make(args.make_bundle, args.models or reproducing.IMAGES, args.wheels)
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
    options = {
        name: value
        for name in ("dtype", "batch_size", "test_samples", "rk4_steps")
        if (value := getattr(args, name)) is not None
    }
    models = args.models or bundle.models(args.bundle)
    runs = plan.runs(models, args.iterations, **options)
    return session.train(runs, args.out, args.runs, args.checkpoints, 60 * args.minutes)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = command_line.parser(__doc__)
    task = parser.add_mutually_exclusive_group(required=True)
    task.add_argument("--make-bundle", type=pathlib.Path, metavar="DIR", help="write the data")
    task.add_argument("--bundle", type=pathlib.Path, metavar="DIR", help="train on this data")
    task.add_argument("--unpack", type=pathlib.Path, metavar="DIR", help="an --out, brought here")
    parser.add_argument("--models", nargs="+", choices=zoo.list_models(), help="(those there are)")
    parser.add_argument("--wheels", metavar="X.Y", help="with wheels for that Python, in a bundle")
    parser.add_argument("--minutes", type=float, default=9.0, help="(%(default)s)")
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
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
