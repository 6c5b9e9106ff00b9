"""Rebuilds `saved_models/`, the zoo for TensorFlow Serving, from its pretrained weights.

    python scripts/export_saved_models.py
    python scripts/export_saved_models.py --models mnist --samples 5000 --reference-steps 64

Each model is judged on its test set, a large one on a part of it as in the manifest. If it is an
ODE, it becomes two SavedModels, with the solver of its training and with a finer one, and a new
version of each if there are older ones; else its report is printed and it is left out. The last
line of the output names the file that TensorFlow Serving is started with.
"""

import pathlib
import sys
import time

import command_line
import verify_zoo

import tfnode
import zoo
from tfnode import adaption


def main(arguments):
    args = parse(arguments)
    left_out = []
    for name in args.models:
        start = time.monotonic()
        try:
            paths = export(name, args)
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


def export(name, args):
    """Exports a model of the zoo; returns the paths of its versions."""
    model = zoo.get_model(name, weights=args.weights)
    block = model.get_layer("ode_block")
    dataset, extent = zoo.get_recipe(name).dataset, verify_zoo.extent(name)
    samples = args.samples or extent["test_samples"]
    split = "test" if samples is None else f"test[:{samples}]"
    return tfnode.export.export_saved_models(
        model,
        args.out / name,
        [block.solver, finer(block)],
        tfnode.datasets.load(dataset, split, as_numpy=True),
        data_name=f"{dataset}, {split}",
        require_valid=not args.include_invalid,
        reference_steps=args.reference_steps or extent["rk4_steps"],
        repository=args.out,
    )


def finer(block):
    """The solver that step or tolerance adaption compares that of a block with."""
    if isinstance(block.solver, tfnode.solvers.AdaptiveSolver):
        return adaption.tighter_solver(block.solver)
    return adaption.reference_solver(block.solver, block.length)


def parse(arguments):
    parser = command_line.parser(__doc__)
    names = zoo.list_models()
    parser.add_argument("--models", nargs="+", choices=names, default=names, metavar="MODEL")
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
        "--include-invalid", action="store_true", help="export models that are no ODEs, as canaries"
    )
    args = parser.parse_args(arguments)
    args.weights = None if args.weights == "none" else args.weights
    return args


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
