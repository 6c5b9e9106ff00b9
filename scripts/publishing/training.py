"""The training of a weight of the zoo, which is then published, or compared if it is already."""

import pathlib
import sys

import keras
import numpy as np
from rich.progress import Progress

import tfnode
import zoo
from scripts import command_line
from scripts.command_line import Stop
from scripts.paper import experiments, reproducing, runner
from scripts.paper.runs import WEIGHTS, Result, Run
from scripts.publishing import entries, measuring, places
from scripts.publishing.recipes import RECIPES
from tfnode import files
from tfnode.validity import ValidityReport
from zoo import manifest, reports, weights

# The model, the result and, if it was judged already, the verdict.
Trained = tuple[keras.Model, Result, ValidityReport | None]


def train(
    name: str,
    run: Run,
    note: str,
    checkpoints: pathlib.Path,
    default: bool,
    trained: Trained | None = None,
) -> int:
    """Trains a weight and publishes it, or says whether it is the published one once more.

    Args:
        name: That of the weight.
        run: What to train.
        note: What the manifest says of the run.
        checkpoints: The directory below which an interrupted training leaves its own.
        default: Whether the weight becomes the `DEFAULT` of its model.
        trained: The training, if another machine has done it.

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
        weights.SHIPPED, places.RESULTS, places.GOLDEN, reports.DIRECTORY, manifest.PATH
    )
    checkpoints = runner.checkpoints_path(checkpoints, run)
    model, result, report = trained or _trained_here(name, run, checkpoints)
    if "error" in result:
        print(result["error"], file=sys.stderr)
        return 1
    if published is None:
        entry = entries.publish(name, model, run, result, note, report)
    elif compare(model, published):
        entry = published
        entries.finish(entry)
    else:
        print(f"Its last checkpoint stays in {checkpoints}.", file=sys.stderr)
        return 1
    files.remove(checkpoints)
    return 0 if not default or entries.make_default(entry) else 1


def _trained_here(name: str, run: Run, checkpoints: pathlib.Path) -> Trained:
    if run.dtype != "float32":
        print(f"Training in {run.dtype}.")
    # Drawn by this thread: another one would race with TensorFlow's imports on demand.
    with Progress(auto_refresh=False) as bar:
        task = bar.add_task(name, total=1.0)

        def show(finished: float) -> None:
            bar.update(task, completed=finished, refresh=True)

        model, result = experiments.fit(run, show, checkpoints)
    return model, {**result, "elsewhere": False}, None


def trained_elsewhere(path: pathlib.Path, run: Run) -> tuple[Run, Trained]:
    """Returns a run that `scripts/train_on_gpu.py --unpack` has brought, and its training.

    Args:
        path: The weight file. The result lies where those of runs lie, and the verdict, if there
            is one, beside the file.
        run: What the recipe asks for; what is measured of it may differ.

    Raises:
        Stop: If the file is of another run, or of none that is there.
    """
    name = f"{path.parent.name}/{path.name.removesuffix(WEIGHTS)}.json"
    if not (places.RUNS / name).exists():
        raise Stop(
            f"The result of a run that is published lies in {places.RUNS}. Received: "
            f"{str(path)!r}, and no {name!r} there. Bring both by `train_on_gpu.py --unpack`."
        )
    result = command_line.read_json(places.RUNS / name)
    found = Run(**result["run"])
    if entries.recipe_of(found) != entries.recipe_of(run):
        raise Stop(
            "A weight is published under the recipe that it was trained by. "
            f"Received: {str(path)!r}, trained by {entries.recipe_of(found)}. Name its --recipe, "
            "--seed and --dtype."
        )
    solver = tfnode.solvers.deserialize(result["solvers"]["train_solver"])
    model = zoo.get_model(found.model, weights=path, solver=solver)
    model.compile(loss=found.recipe().build_loss())
    judged = path.parents[1] / found.report_path
    report = None
    if judged.exists():
        report = ValidityReport.from_json(judged.read_text(encoding="utf-8"))
    return found, (model, {**result, "elsewhere": True}, report)


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
