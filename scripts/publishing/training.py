"""The training of a weight of the zoo, which is then published, or compared if it is already."""

import pathlib
import sys

import keras
import numpy as np
from rich.progress import Progress

import zoo
from scripts.paper import experiments, reproducing, runner
from scripts.paper.runs import Run
from scripts.publishing import entries, measuring, places
from scripts.publishing.recipes import RECIPES
from tfnode import files
from zoo import manifest, reports, weights


def train(name: str, run: Run, note: str, checkpoints: pathlib.Path, default: bool) -> int:
    """Trains a weight and publishes it, or says whether it is the published one once more.

    Args:
        name: That of the weight.
        run: What to train.
        note: What the manifest says of the run.
        checkpoints: The directory below which an interrupted training leaves its own.
        default: Whether the weight becomes the `DEFAULT` of its model.

    Returns:
        The exit status of the command.
    """
    published = manifest.read().weights.get(name)
    if published is not None and (different := differences(run, published)):
        print(
            f"{name} is published, and only its own recipe trains it again. Received: {different}. "
            "Ask for what is published, or for another --version.",
            file=sys.stderr,
        )
        return 1
    places.check_writable(
        weights.SHIPPED, places.RESULTS, places.GOLDEN, reports.DIRECTORY, manifest.PATH.parent
    )
    checkpoints = runner.checkpoints_path(checkpoints, run)
    if run.dtype != "float32":
        print(f"Training in {run.dtype}.")
    # Drawn by this thread: another one would race with TensorFlow's imports on demand.
    with Progress(auto_refresh=False) as bar:
        task = bar.add_task(name, total=1.0)

        def show(finished: float) -> None:
            bar.update(task, completed=finished, refresh=True)

        model, result = experiments.fit(run, show, checkpoints)
    if "error" in result:
        print(result["error"], file=sys.stderr)
        return 1
    if published is None:
        entry = entries.publish(name, model, run, result, note)
    elif compare(model, published):
        entry = published
        entries.finish(entry)
    else:
        print(f"Its last checkpoint stays in {checkpoints}.", file=sys.stderr)
        return 1
    files.remove(checkpoints)
    return 0 if not default or entries.make_default(entry) else 1


def run_of(
    model: str, recipe: str, seed: int, iterations: int | None, dtype: str = "float32"
) -> Run:
    """Returns the run of a recipe for a model; with no number of iterations, the paper's."""
    options = {
        "num_steps": None,
        "rk4_steps": measuring.extent(model)["rk4_steps"],
        **RECIPES[recipe][0],
    }
    if "weights" in options:
        options["weights"] = options["weights"].format(model=model)
    iterations = iterations or zoo.get_recipe(model).iterations
    return Run(model, seed=seed, iterations=iterations, dtype=dtype, **options)


def dtype_of(name: str, model: str) -> str:
    """The dtype policy of a published weight, or for a new one that which is fastest here."""
    published = manifest.read().weights.get(name)
    if published is None:
        return reproducing.fastest_dtype(model)
    return published.recipe.get("dtype", "float32")


def differences(run: Run, entry: manifest.WeightsEntry) -> str:
    """Says where a run is not the one of a published weight; empty if nowhere."""
    asked = entries.recipe_of(run)
    # Entries of the first versions also hold what was measured, which trains nothing.
    return ", ".join(
        f"{key}={asked[key]!r}, published {value!r}"
        for key, value in entry.recipe.items()
        if key in asked and asked[key] != value
    )


def compare(model: keras.Model, entry: manifest.WeightsEntry) -> bool:
    """Says and returns whether a training has given a published weight once more."""
    there = zoo.get_model(entry.model, weights=entry.name)
    pairs = zip(model.trainable_weights, there.trainable_weights, strict=True)
    # Of the block, what is published is its solver, and not what a rule remembers.
    same = model.get_layer("ode_block").solver == there.get_layer("ode_block").solver and all(
        np.array_equal(np.asarray(a), np.asarray(b)) for a, b in pairs
    )
    print(
        f"{entry.name} is published, and this training gives {'the same' if same else 'another'}."
    )
    return same
