"""Writes the goldens of pretrained weights: what they answer to stored inputs.

    python scripts/write_golden.py energy_landscape_euler_adapted_v1

One JSON file a weight, below tests/golden; without names, for every weight of the manifest. A
golden is written once, when its weight is published; the tests compare with it ever after.
"""

import pathlib
import sys

import numpy as np
import verify_zoo

import tfnode
import zoo
from tfnode import files
from zoo import manifest

GOLDEN = pathlib.Path(__file__).parents[1] / "tests" / "golden"
SAMPLES = 8
# Where the inputs of a data set lie; images are in [0, 1].
RANGES = {"concentric_spheres": (-0.5, 0.5), "energy_landscape": (-2.0, 2.0)}


def main(arguments):
    entries = manifest.read().weights
    for name in verify_zoo.parser(__doc__).parse_args(arguments).names or entries:
        path = GOLDEN / f"{name}.json"
        files.write_json(path, golden(entries[name]))
        print(f"Written: {path}")
    return 0


def golden(entry):
    """Returns the golden of a `WeightsEntry` as plain values."""
    recipe = input_recipe(entry)
    solvers = [entry.solver, tfnode.solvers.RK4(1 / 32), tfnode.solvers.Midpoint(1 / 16)]
    x = inputs(recipe)
    return {
        "sha256": entry.sha256,
        "inputs": recipe,
        "outputs": [
            {
                "solver": tfnode.solvers.serialize(solver),
                "logits": logits(entry, solver, x).tolist(),
            }
            for solver in solvers
        ],
    }


def input_recipe(entry):
    """Returns what `inputs` makes the inputs of a `WeightsEntry` from."""
    shape = zoo.get_model(entry.model).input_shape[1:]
    low, high = RANGES.get(entry.dataset.split("/")[0], (0.0, 1.0))
    return {"seed": 0, "low": low, "high": high, "shape": [SAMPLES, *shape]}


def inputs(recipe):
    """Returns the stored inputs, which are only a recipe of uniform random numbers."""
    # NumPy never changes the numbers of this generator, as it may those of the newer ones.
    generator = np.random.RandomState(recipe["seed"])
    x = generator.uniform(recipe["low"], recipe["high"], recipe["shape"])
    return x.astype("float32")


def logits(entry, solver, x):
    """Returns what a pretrained model answers under a solver, as a NumPy array."""
    model = zoo.get_model(entry.model, weights=entry.name, solver=solver)
    return model.predict(x, verbose=0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
