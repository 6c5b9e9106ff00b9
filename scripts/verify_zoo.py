"""Measures the pretrained weights again, and compares with what the manifest says of them.

    python scripts/verify_zoo.py --quick
    python scripts/verify_zoo.py mnist_rk4_damped_small_v1

It exits with 1 if a number differs. Without names all weights are measured, in about 13 minutes on
two cores, and with --quick only those of the synthetic data sets.
"""

import argparse
import sys

import command_line
from reproducing import IMAGES

import tfnode
import zoo
from tfnode import tables
from zoo import manifest

# Of the fractions: two of a thousand samples, which another processor may round to another class.
TOLERANCE = 0.002
# How large models are measured, so that a few cores need minutes for it, not hours.
EXTENTS = {
    "concentric_spheres_900d": {"rk4_steps": 16, "test_samples": None},
    "mnist": {"rk4_steps": 8, "test_samples": 1000},
    "cifar10": {"rk4_steps": 8, "test_samples": 1000},
}
HEADER = ("weights", "quantity", "expected", "found", "")


def main(arguments):
    entries = manifest.read().weights
    args = parse(arguments)
    names = args.names or entries
    if args.quick:
        names = [name for name in names if entries[name].model not in IMAGES]
    rows = [row for name in names for row in compare(entries[name])]
    if not rows:
        print("There are no weights to verify.")
        return 0
    print(tables.aligned(HEADER, [[*row[:-1], "" if row[-1] else "differs"] for row in rows]))
    return 0 if all(row[-1] for row in rows) else 1


def compare(entry):
    """Yields a row for each quantity: name, quantity, expected, found, and whether they agree."""
    model = zoo.get_model(entry.model, weights=entry.name)
    found = measure(model, entry.dataset, entry.rk4_steps, entry.test_samples)
    accuracy = found["accuracy"]
    exact = {
        "parameters": (entry.parameters, found["parameters"]),
        "rk4_steps": (entry.rk4_steps, found["rk4_steps"]),
        "solver": (entry.solver, tfnode.solvers.deserialize(found["solver"])),
        "is_ode": (entry.is_ode, found["is_ode"]),
    }
    fractions = {
        **{name: (entry.accuracy[name], accuracy[name]) for name in accuracy},
        "gap": (entry.gap, found["gap"]),
    }
    for quantity, (expected, value) in exact.items():
        yield entry.name, quantity, expected, value, expected == value
    for quantity, (expected, value) in fractions.items():
        agree = abs(expected - value) < TOLERANCE + 1e-9
        yield entry.name, quantity, f"{expected:.4f}", f"{value:.4f}", agree


def extent(model):
    """Returns the `rk4_steps` and `test_samples` that a model of the zoo is measured with."""
    return EXTENTS.get(model, {"rk4_steps": 256, "test_samples": None})


def measure(model, dataset, rk4_steps, test_samples):
    """Returns what a manifest says of a trained model, as plain values of its keys.

    Args:
        model: Model of the zoo, trained.
        dataset: String, a name for `tfnode.datasets.load`.
        rk4_steps: Integer, the least steps of the fine RK4.
        test_samples: Integer, the first samples of the test set, or None for all.
    """
    x, y = tfnode.datasets.load(dataset, "test", as_numpy=True)
    test = x[:test_samples], y[:test_samples]
    report = tfnode.validity.check(model, test, reference_steps=rk4_steps)
    trained, fine = report.rows[0], report.rows[-1]
    return {
        "parameters": sum(weight.numpy().size for weight in model.trainable_weights),
        "solver": tfnode.solvers.serialize(model.get_layer("ode_block").solver),
        "accuracy": {"train_solver": trained.accuracy, "rk4_fine": fine.accuracy},
        "rk4_steps": fine.num_steps,
        "test_samples": test_samples,
        "is_ode": report.is_ode,
        "gap": report.gap,
    }


def parse(arguments):
    options = parser(__doc__)
    options.add_argument("--quick", action="store_true", help="the synthetic data sets only")
    args = options.parse_args(arguments)
    if args.quick and args.names:
        options.error(f"--quick chooses the weights itself. Received: {args.names}. Leave one out.")
    return args


def parser(description):
    """Returns a parser that takes the names of published weights."""
    options = command_line.parser(description)
    options.add_argument(
        "names", nargs="*", metavar="name", type=published, help="weights; all without one"
    )
    return options


def published(name):
    """Returns the name of a weight of the manifest, as the type of an argument."""
    names = list(manifest.read().weights)
    if name not in names:
        raise argparse.ArgumentTypeError(f"must be one of the weights {names}. Received: {name!r}")
    return name


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
