"""Trains a weight of the zoo, measures it, and adds it to the manifest with its golden.

    python scripts/train.py --model energy_landscape --recipe rk4_damped
    python scripts/train.py --model mnist --recipe rk4_damped_small

This is the one way that any weight of the zoo was made. Interrupted, it goes on from the last
checkpoint. Called again for a weight that is there, it trains it again and compares: a published
weight never changes. `--default` moves the model's `DEFAULT` to a weight that is an ODE.
"""

import dataclasses
import hashlib
import pathlib
import shutil
import sys

import command_line
import experiments
import filelock
import numpy as np
import runs
import verify_zoo
import write_golden
from rich.progress import Progress

import tfnode
import zoo
from tfnode import files
from zoo import listing, manifest, weights

# For large models on a few cores: as many iterations as the paper's, on small batches, and an
# average of the weights against their noise. SGD keeps the field smooth where Adam makes it so
# stiff that the step shrinks and shrinks. The checks are rarer, every 1600 samples (the paper's:
# 12 800 images), and not on 8 samples, which would be noise. With few steps, backpropagation has
# memory enough, and computes none of them twice. The curve is that of few test samples.
SMALL = {
    "optimizer": "sgd",
    "learning_rate": 1e-2,
    "batch_size": 8,
    "average": 0.99,
    "check_every": 200,
    "check_samples": 32,
    "gradient": "backprop",
    "test_samples": 100,
}
# Against the noise of small batches, which ends a training at a learning rate that does not fall.
TUNED = {"learning_rate": 5e-3, "batch_size": 16, "average": 0.995}
# The paper's optimizer and iterations on an eighth of its batch, for the spheres in 900 dimensions;
# a check has as many samples as the paper's.
BATCH16 = {"batch_size": 16, "check_samples": 128}
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
    "euler_adapted_batch16": (
        {"solver": "euler", "policy": "paper", **BATCH16},
        "Step adaption by the rule of the paper, from Euler's method, on batches of 16, for a few "
        "cores: the paper's are of 128.",
    ),
    "rk4_damped_batch16": (
        {"solver": "rk4", "policy": "damped", **BATCH16},
        "Step adaption by the damped rule, from the classical Runge-Kutta method, on batches of "
        "16, for a few cores: the paper's are of 128.",
    ),
    "euler_adapted_small": (
        {"solver": "euler", "policy": "paper", **SMALL},
        "Step adaption by the rule of the paper, from Euler's method, on small batches: a recipe "
        "for a few cores, not the paper's.",
    ),
    "rk4_damped_small": (
        {"solver": "rk4", "policy": "damped", "start_steps": 1, **SMALL},
        "Step adaption by the damped rule, from one step of the classical Runge-Kutta method, on "
        "small batches: a recipe for a few cores, not the paper's.",
    ),
    "euler_adapted_tuned": (
        {
            "weights": "{model}_euler_adapted_small_v1",
            "solver": "euler",
            "policy": "paper",
            "start_steps": 5,
            **SMALL,
            **TUNED,
        },
        "What `euler_adapted_small` ended with, trained on at a smaller learning rate, with step "
        "adaption by the rule of the paper: a recipe for a few cores, not the paper's.",
    ),
    "rk4_damped_tuned": (
        {
            "weights": "{model}_rk4_damped_small_v1",
            "solver": "rk4",
            "policy": "damped",
            "start_steps": 4,
            **SMALL,
            **TUNED,
        },
        "What `rk4_damped_small` ended with, trained on at a smaller learning rate, with step "
        "adaption by the damped rule: a recipe for a few cores, not the paper's.",
    ),
}
# What a run measures, which the entry says of itself.
_MEASURED = ("test_samples", "rk4_steps")
RESULTS = pathlib.Path(__file__).parents[1] / "docs" / "results" / "zoo"


def main(arguments):
    args = parse(arguments)
    name = f"{args.model}_{args.recipe}_v{args.version}"
    run = run_of(args)
    published = manifest.read().weights.get(name)
    if published is not None and (different := differences(run, published)):
        print(
            f"{name} is published, and only its own recipe trains it again. Received: {different}. "
            "Ask for what is published, or for another --version.",
            file=sys.stderr,
        )
        return 1
    checkpoints = (args.checkpoints / run.path).with_suffix("")
    # Drawn by this thread: another one would race with TensorFlow's imports on demand.
    with Progress(auto_refresh=False) as bar:
        task = bar.add_task(name, total=1.0)

        def show(finished):
            bar.update(task, completed=finished, refresh=True)

        model, result = experiments.fit(run, show, checkpoints)
    if "error" in result:
        print(result["error"], file=sys.stderr)
        return 1
    if published is None:
        entry = publish(name, model, run, result, RECIPES[args.recipe][1])
    elif compare(model, published):
        entry = published
    else:
        print(f"Its last checkpoint stays in {checkpoints}.", file=sys.stderr)
        return 1
    shutil.rmtree(checkpoints, ignore_errors=True)
    return 0 if not args.default or make_default(entry) else 1


def run_of(args):
    """The `runs.Run` that the command line asks for."""
    options = {
        "num_steps": None,
        "rk4_steps": verify_zoo.extent(args.model)["rk4_steps"],
        **RECIPES[args.recipe][0],
    }
    if "weights" in options:
        options["weights"] = options["weights"].format(model=args.model)
    iterations = args.iterations or zoo.get_recipe(args.model).iterations
    return runs.Run(args.model, seed=args.seed, iterations=iterations, **options)


def recipe_of(run):
    """What the manifest says of a run: all but what it measures."""
    options = {k: v for k, v in dataclasses.asdict(run).items() if k not in _MEASURED}
    return {**options, **dataclasses.asdict(run.recipe())}


def differences(run, entry):
    """Says where a run is not the one of a published weight; empty if nowhere."""
    asked = recipe_of(run)
    return ", ".join(
        f"{key}={asked[key]!r}, published {value!r}"
        for key, value in entry.recipe.items()
        if asked[key] != value
    )


def compare(model, entry):
    """Says and returns whether a training has given a published weight once more."""
    there = zoo.get_model(entry.model, weights=entry.name)
    same = all(
        np.array_equal(np.asarray(a), np.asarray(b)) for a, b in zip(model.weights, there.weights)
    )
    print(
        f"{entry.name} is published, and this training gives {'the same' if same else 'another'}."
    )
    return same


def publish(name, model, run, result, note):
    """Writes the weight file, the result, the manifest's entry and the golden.

    Returns:
        The `zoo.manifest.WeightsEntry`.
    """
    path = save(model, weights.SHIPPED / f"{name}.weights.h5")
    entry = manifest.WeightsEntry.from_config(name, entry_of(path, model, run, result, note))
    files.write_json(RESULTS / f"{name}.json", result)
    change_manifest(entries={name: entry})
    files.write_json(write_golden.GOLDEN / f"{name}.json", write_golden.golden(entry))
    print(listing.pretrained([entry]))
    return entry


def make_default(entry):
    """Makes a weight the `DEFAULT` of its model; returns whether it may be that."""
    if not entry.is_ode:
        print(
            f"A DEFAULT must be an ODE. Received: {entry.name} with a gap of {entry.gap:.3f}. The "
            "DEFAULT has not moved.",
            file=sys.stderr,
        )
        return False
    change_manifest(default={entry.model: entry.name})
    return True


def change_manifest(entries=None, default=None):
    """Adds to the dictionaries of the manifest; other trainings may do so at the same time."""
    with filelock.FileLock(manifest.PATH.with_suffix(".lock")):
        found = manifest.read()
        weights = {**found.weights, **(entries or {})}
        content = {
            "weights": {name: entry.get_config() for name, entry in weights.items()},
            "default": {**found.default, **(default or {})},
        }
        files.write_json(manifest.PATH, content, indent=1)


def save(model, path):
    """Writes a weight file, which is complete or not there."""
    # Those of a copy, which has no optimizer.
    copy = tfnode.with_solver(model, model.get_layer("ode_block").solver)
    with files.beside(path) as written:
        copy.save_weights(written)
    return path


def entry_of(path, model, run, result, note):
    """The manifest's entry of a trained model, as a dictionary."""
    content, recipe = path.read_bytes(), run.recipe()
    versions = dict(result["versions"])
    return {
        "model": run.model,
        "file": path.name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "dataset": recipe.dataset,
        "seed": run.seed,
        "recipe": recipe_of(run),
        "machine": versions.pop("machine"),
        "versions": versions,
        "licence": manifest.LICENCE,
        "note": note,
        **verify_zoo.measure(model, recipe.dataset, **verify_zoo.extent(run.model)),
    }


def parse(arguments):
    parser = command_line.parser(__doc__)
    parser.add_argument("--model", choices=zoo.list_models(), required=True)
    parser.add_argument("--recipe", choices=RECIPES, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--version", type=command_line.positive, default=1, help="the N of _vN")
    parser.add_argument("--iterations", type=command_line.positive, help="in place of the paper's")
    parser.add_argument(
        "--checkpoints", type=pathlib.Path, default="results/checkpoints", help="(%(default)s)"
    )
    parser.add_argument("--default", action="store_true", help="make it the model's DEFAULT")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
