"""Trains a weight of the zoo, measures it, and adds it to the manifest with its golden.

    python scripts/train.py --model energy_landscape --recipe rk4_damped

This is the one way that any weight of the zoo was made. Called again for a weight that is there,
it trains it again and compares: a published weight never changes.
"""

import dataclasses
import hashlib
import json
import pathlib
import sys
import tempfile

import command_line
import experiments
import numpy as np
import runner
import verify_zoo
import write_golden
from rich.progress import Progress

import zoo
from zoo import listing, manifest, weights

# name -> what a run is told, and what the manifest says of it
RECIPES = {
    "euler_coarse": (
        {"solver": "euler", "num_steps": 2},
        "Two steps of Euler's method: bound to its solver, to learn from.",
    ),
    "euler_adapted": (
        {"solver": "euler", "policy": "paper"},
        "Step adaption by the rule of the paper, from Euler's method.",
    ),
    "rk4_damped": (
        {"solver": "rk4", "policy": "damped"},
        "Step adaption by the damped rule, from the classical Runge-Kutta method.",
    ),
}
RK4_STEPS = 256
RESULTS = pathlib.Path(__file__).parents[1] / "docs" / "results" / "zoo"


def main(arguments):
    args = parse(arguments)
    name = f"{args.model}_{args.recipe}_v{args.version}"
    options, note = RECIPES[args.recipe]
    iterations = args.iterations or zoo.get_recipe(args.model).iterations
    options = {"num_steps": None, **options}
    run = experiments.Run(args.model, seed=args.seed, iterations=iterations, **options)
    # Drawn by this thread: another one would race with TensorFlow's imports on demand.
    with Progress(auto_refresh=False) as bar:
        task = bar.add_task(name, total=1.0)

        def show(finished):
            bar.update(task, completed=finished, refresh=True)

        model, result = experiments.fit(run, show)
    if "error" in result:
        print(result["error"], file=sys.stderr)
        return 1
    published = manifest.read().weights.get(name)
    if published is not None:
        return compare(model, published)
    publish(name, model, run, result, note, args.default)
    return 0


def compare(model, entry):
    """Says whether a training has given a published weight once more; returns the exit status."""
    there = zoo.get_model(entry.model, weights=entry.name)
    same = all(
        np.array_equal(np.asarray(a), np.asarray(b)) for a, b in zip(model.weights, there.weights)
    )
    print(
        f"{entry.name} is published, and this training gives {'the same' if same else 'another'}."
    )
    return 0 if same else 1


def publish(name, model, run, result, note, is_default):
    """Writes the weight file, the result, the manifest's entry and the golden."""
    path = save(model, weights.SHIPPED / f"{name}.weights.h5")
    entry = manifest.WeightsEntry.from_config(name, entry_of(path, model, run, result, note))
    found = manifest.read()
    entries = {n: e.get_config() for n, e in (found.weights | {name: entry}).items()}
    default = found.default | ({run.model: name} if is_default else {})
    runner.write_json(RESULTS / f"{name}.json", result)
    content = json.dumps({"weights": entries, "default": default}, indent=1)
    runner.write_text(manifest.PATH, content + "\n")
    runner.write_json(write_golden.GOLDEN / f"{name}.json", write_golden.golden(entry))
    print(listing.pretrained([entry]))


def save(model, path):
    """Writes a weight file beside its place and renames it when it is complete."""
    path.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as beside:
        temporary = pathlib.Path(beside) / path.name
        model.save_weights(temporary)
        temporary.replace(path)
    return path


def entry_of(path, model, run, result, note):
    """The manifest's entry of a trained model, as a dictionary."""
    content, recipe = path.read_bytes(), zoo.get_recipe(run.model)
    versions = dict(result["versions"])
    return {
        "model": run.model,
        "file": path.name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "dataset": recipe.dataset,
        "seed": run.seed,
        "recipe": {
            **dataclasses.asdict(run),
            **dataclasses.asdict(recipe),
            "iterations": run.iterations,
            "batch_size": run.batch_size or recipe.batch_size,
        },
        "machine": versions.pop("machine"),
        "versions": versions,
        "licence": manifest.LICENCE,
        "note": note,
        **verify_zoo.measure(model, recipe.dataset, RK4_STEPS),
    }


def parse(arguments):
    parser = command_line.parser(__doc__)
    parser.add_argument("--model", choices=zoo.list_models(), required=True)
    parser.add_argument("--recipe", choices=RECIPES, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--version", type=command_line.positive, default=1, help="the N of _vN")
    parser.add_argument("--iterations", type=command_line.positive, help="in place of the paper's")
    parser.add_argument("--default", action="store_true", help="make it the model's DEFAULT")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
