"""The goldens of pretrained weights: what they answer to stored inputs."""

import pathlib
from typing import Any

import numpy as np

import tfnode
import zoo
from scripts.paper.runs import Solver
from scripts.publishing import places
from tfnode import files
from zoo import manifest

SAMPLES = 8
# Where the inputs of a data set lie; images are in [0, 1].
RANGES = {"concentric_spheres": (-0.5, 0.5), "energy_landscape": (-2.0, 2.0)}


def write(entry: manifest.WeightsEntry) -> pathlib.Path:
    """Writes the golden of a weight, and returns its path."""
    path = path_of(entry)
    files.write_json(path, golden(entry))
    return path


def path_of(entry: manifest.WeightsEntry) -> pathlib.Path:
    """Where the golden of a weight lies."""
    return places.GOLDEN / f"{entry.name}.json"


def golden(entry: manifest.WeightsEntry) -> dict[str, Any]:
    """Returns the golden of a weight as plain values."""
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


def input_recipe(entry: manifest.WeightsEntry) -> dict[str, Any]:
    """Returns what `inputs` makes the inputs of a `WeightsEntry` from."""
    shape = zoo.get_model(entry.model).input_shape[1:]
    low, high = RANGES.get(entry.dataset.split("/")[0], (0.0, 1.0))
    return {"seed": 0, "low": low, "high": high, "shape": [SAMPLES, *shape]}


def inputs(recipe: dict[str, Any]) -> np.ndarray:
    """Returns the stored inputs, which are only a recipe of uniform random numbers."""
    # NumPy never changes the numbers of this generator, as it may those of the newer ones.
    generator = np.random.RandomState(recipe["seed"])
    x = generator.uniform(recipe["low"], recipe["high"], recipe["shape"])
    return x.astype("float32")


def logits(entry: manifest.WeightsEntry, solver: Solver, x: np.ndarray) -> np.ndarray:
    """Returns what a pretrained model answers under a solver."""
    model = zoo.get_model(entry.model, weights=entry.name, solver=solver)
    return model.predict(x, verbose=0)
