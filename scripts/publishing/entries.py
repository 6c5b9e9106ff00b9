"""From a trained model to a published weight: its file, its entry of the manifest, its golden."""

import dataclasses
import hashlib
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

import keras

import zoo
from scripts.paper import data
from scripts.paper.runs import Result, Run
from scripts.publishing import goldens, measuring, places
from tfnode import files
from tfnode.validity import ValidityReport
from zoo import listing, manifest, reports, verification, weights

# What a run measures, which the entry says of itself.
_MEASURED = ("test_samples", "rk4_steps")


def publish(
    name: str,
    model: keras.Model,
    run: Run,
    result: Result,
    note: str,
    report: ValidityReport | None = None,
) -> manifest.WeightsEntry:
    """Writes the weight file, the result, the manifest's entry and the golden.

    Args:
        name: That of the weight.
        model: The trained model.
        run: What it was trained by.
        result: What the run gave.
        note: What the manifest says of the run.
        report: The verdict on all that `run` measures; without it, the model is judged here.
    """
    path = save(model, weights.SHIPPED / f"{name}.weights.h5")
    extent = {name: getattr(run, name) for name in ("rk4_steps", "test_samples")}
    if report is None:
        extent = measuring.extent(run.model)
        report = measuring.judge(model, run.recipe().dataset, *extent.values())
    measured = verification.measure(model, report, extent["test_samples"])
    config = {**entry_of(path, run, result, note), **measured}
    entry = manifest.WeightsEntry.from_config(name, config)
    files.write_json(places.RESULTS / f"{name}.json", result)
    reports.write(entry, report)
    change_manifest(entries={name: entry})
    finish(entry)
    print(listing.WeightsTable([entry], default=[]))
    return entry


def finish(entry: manifest.WeightsEntry) -> None:
    """Writes the golden of a weight, which comes last, unless it is there already."""
    if not goldens.path_of(entry).exists():
        goldens.write(entry)


def make_default(entry: manifest.WeightsEntry) -> bool:
    """Makes a weight the `DEFAULT` of its model; returns whether it may be that.

    No choice is made by the test set.
    """
    model = zoo.get_model(entry.model, weights=entry.name)
    split, samples = data.to_choose_by(entry.dataset)
    report = measuring.judge(model, entry.dataset, entry.rk4_steps, samples, split)
    if not report.is_ode:
        print(
            f"A DEFAULT must be an ODE. Received: {entry.name} with a gap of {report.gap:.3f} on "
            f"the {split} split. The DEFAULT has not moved.",
            file=sys.stderr,
        )
        return False
    change_manifest(default={entry.model: entry.name})
    return True


def change_manifest(
    entries: Mapping[str, manifest.WeightsEntry] | None = None,
    default: Mapping[str, str] | None = None,
) -> None:
    """Adds to the dictionaries of the manifest; other trainings may do so at the same time."""
    with files.locked(manifest.PATH.with_suffix(".lock")):
        found = manifest.read()
        published = {**found.weights, **(entries or {})}
        content = {
            "weights": {name: entry.get_config() for name, entry in published.items()},
            "default": {**found.default, **(default or {})},
        }
        files.write_json(manifest.PATH, content, indent=1)


def save(model: keras.Model, path: pathlib.Path) -> pathlib.Path:
    """Writes a weight file, and returns its path."""
    # Those of a fresh model. It has no optimizer, and its block does not remember that a rule has
    # adapted it: a training that starts from a published weight chooses its first step anew.
    fresh = zoo.get_model(model.name, solver=model.get_layer("ode_block").solver)
    for ours, theirs in zip(fresh.trainable_weights, model.trainable_weights, strict=True):
        ours.assign(theirs)
    with files.beside(path) as written:
        fresh.save_weights(written)
    return path


def entry_of(path: pathlib.Path, run: Run, result: Result, note: str) -> dict[str, Any]:
    """What the manifest says of a trained model beside what is measured, as plain values."""
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
    }


def recipe_of(run: Run) -> dict[str, Any]:
    """What the manifest says of a run: all but what it measures."""
    options = {k: v for k, v in dataclasses.asdict(run).items() if k not in _MEASURED}
    return {**options, **dataclasses.asdict(run.recipe())}
