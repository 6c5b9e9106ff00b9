"""Every public name refuses what it cannot take, before any work, by an error of three parts.

The table has a row for every public function and class, and in it a kind for every parameter. Of
the values below a kind accepts some; all others must be refused.
"""

import functools
import inspect
import math
import re
import time

import keras
import numpy as np
import pytest

import tfnode
import zoo
from tfnode import adaption, arguments, datasets, export, models, plots, solvers, tableaus, validity
from tfnode.solvers import RK4, Euler

VALUES = {
    "none": None,
    "nan": math.nan,
    "infinite": math.inf,
    "minus one": -1,
    "zero": 0,
    "true": True,
    "huge": 10**400,
    "complex": 1 + 2j,
    "text": "text",
    "bytes": b"text",
    "nothing": [],
    "texts": ["text"],
    "dictionary": {"a": 1},
    "array": np.zeros((2, 2)),
    "solver": Euler(1 / 2),
    "solvers": [Euler(1 / 2)],
    "object": object(),
    "class": Euler,
    "function": lambda: None,
}
NUMBERS = {"nan", "infinite", "minus one", "zero", "true", "complex", "array"}

# kind: the values that it accepts
KINDS = {
    "positive": set(),
    "not negative": {"zero"},
    "number": {"zero", "minus one"},
    "count": set(),
    "count from zero": {"zero"},
    "flag": {"true"},
    # As Keras, it takes a boolean for 0 or 1.
    "verbose": {"zero", "true"},
    "text": {"text"},
    "choice": set(),
    "path": {"text"},
    "solver": {"solver"},
    "a solver": {"solver"},
    "solvers": {"solvers"},
    "any solvers": {"solvers", "nothing"},
    "numbers": set(),
    "function": {"function"},
    "model": set(),
    # What a model makes of other tensors is another matter; see the tests of odeint and crossings.
    "tensor": NUMBERS,
    # What it holds is seen when it is read.
    "data": {"nothing", "texts", "solvers", "array"},
    "result": set(),
    "dictionary": set(),
    "row of a table": {"nothing"},
}


class Unread:
    """Batches that nobody may read: to refuse an argument is no work."""

    def __iter__(self):
        raise AssertionError("the data was read")


@functools.cache
def model():
    block = tfnode.ODEBlock(keras.layers.Rescaling(-1.0), Euler(1 / 2))
    made = keras.Sequential([keras.Input((2,)), block])
    made.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return made


@functools.cache
def report():
    return validity.check(model(), (np.eye(2), np.arange(2)), reference_steps=2, verbose=0)


def base(**given):
    """A call that could run."""
    return lambda: {name: v() if name in ("model", "report") else v for name, v in given.items()}


MODEL_AND_DATA = {"model": model, "data": Unread()}
CURVE = {n: [1.0] for n in ("iteration", "num_steps", "train_solver", "midpoint", "rk4")}
FIXED = {"step_size": "positive"}
ADAPTIVE = {
    "rtol": "positive",
    "atol": "positive",
    "max_num_steps": "count",
    "per_sample": "flag",
    "per_sample_failure": "choice",
}
STEP_BOUNDS = {
    "shrink": "positive",
    "growth": "positive",
    "min_step_size": "positive",
    "max_step_size": "positive",
}
CHECKS = {
    "data": "data",
    "every": "count",
    "policy": "choice",
    "threshold": "not negative",
    "shrink": "positive",
    "growth": "positive",
    "batch_size": "count",
    "log_dir": "path or none",
    "verbose": "verbose",
}
PAPER = {"threshold": "not negative", "shrink": "positive", "growth": "positive"}
TESTED = {"model": "model", "data": "data", "verbose": "verbose"}

# name: the rest of a call that could run, and the kind of every parameter
TABLE = {
    "tfnode.Augment": (base(), {"extra_dims": "count from zero"}),
    "tfnode.ODEBlock": (
        base(field=keras.layers.Rescaling(-1.0)),
        {
            "field": "model",
            "solver": "solver",
            "t0": "number",
            "t1": "number but zero",
            "time_dependent": "flag",
            "save_at": "numbers or none",
            "gradient": "choice",
            "unroll": "flag, which needs another gradient",
        },
    ),
    "tfnode.StepAdaption": (
        base(data=Unread()),
        {**CHECKS, "initial_step_size": "positive", "export_dir": "path or none"},
    ),
    "tfnode.ToleranceAdaption": (base(data=Unread()), {**CHECKS, "initial_tolerance": "positive"}),
    "tfnode.odeint": (
        base(field=lambda t, z: -z, z0=np.zeros((1, 2)), times=[0.0, 1.0], solver="rk4"),
        {
            "field": "function",
            "z0": "tensor",
            "times": "numbers",
            "solver": "solver",
            "conditions": "tensor or none",
        },
    ),
    "tfnode.with_solver": (base(model=model, solver="rk4"), {"model": "model", "solver": "solver"}),
    # === Solvers ===
    **{
        f"tfnode.solvers.{cls.__name__}": (base(), FIXED)
        for cls in (Euler, RK4, solvers.RK38, solvers.Midpoint, solvers.Heun)
    },
    "tfnode.solvers.FixedStepSolver": (base(), FIXED),
    "tfnode.solvers.RungeKutta": (base(tableau=tableaus.RK4), {**FIXED, "tableau": "result"}),
    **{
        f"tfnode.solvers.{name}": (base(), ADAPTIVE)
        for name in ("AdaptiveSolver", "BogackiShampine32", "DormandPrince", "Fehlberg21")
    },
    "tfnode.solvers.get": (
        base(identifier="rk4"),
        {"identifier": "solver", "step_size": "positive or none"},
    ),
    "tfnode.solvers.serialize": (base(), {"solver": "a solver"}),
    "tfnode.solvers.deserialize": (base(), {"config": "dictionary"}),
    "tfnode.tableaus.ButcherTableau": (
        base(name="euler", a=((),), b=(1,), c=(0,), order=1),
        {
            "name": "text",
            "a": "numbers",
            "b": "numbers",
            "c": "numbers",
            "order": "count",
            "b_error": "numbers or none",
        },
    ),
    # === Adaption ===
    "tfnode.adaption.StepRule": (base(), {"threshold": "not negative", **STEP_BOUNDS}),
    "tfnode.adaption.ToleranceRule": (
        base(),
        {**PAPER, "min_tolerance": "positive", "max_tolerance": "positive"},
    ),
    "tfnode.adaption.DampedRule": (
        base(),
        {
            "low": "positive",
            "high": "positive",
            "patience": "count",
            "memory": "count",
            **STEP_BOUNDS,
        },
    ),
    "tfnode.adaption.get": (base(policy="paper"), {"policy": "choice", **PAPER, "adaptive": "flag"}),
    "tfnode.adaption.initial_step_size": (
        base(field=lambda t, z: -z, t0=0.0, z0=np.ones((2, 2)), order=1, length=1.0),
        {
            "field": "function",
            "t0": "number",
            "z0": "states",
            "order": "count",
            "length": "positive",
            "direction": "direction",
        },
    ),
    "tfnode.adaption.reference_solver": (
        base(solver=Euler(1 / 2)),
        {"solver": "a solver", "length": "positive"},
    ),
    "tfnode.adaption.tighter_solver": (base(), {"solver": "result"}),
    # === Validity ===
    "tfnode.validity.check": (
        base(**MODEL_AND_DATA),
        {
            **TESTED,
            "threshold": "not negative",
            "task": "choice or none",
            "metric": "metric",
            "reference_steps": "count",
            "solvers": "any solvers",
            "stop_early": "flag",
        },
    ),
    "tfnode.validity.sweep": (
        base(**MODEL_AND_DATA),
        {
            **TESTED,
            "solvers": "any solvers or none",
            "factors": "numbers or none",
            "task": "choice or none",
            "metric": "metric",
        },
    ),
    "tfnode.validity.convergence_test": (
        base(**MODEL_AND_DATA),
        {
            **TESTED,
            "factors": "numbers",
            "margin": "not negative",
            "task": "choice or none",
            "reference_steps": "count",
        },
    ),
    "tfnode.validity.certify": (base(**MODEL_AND_DATA), {**TESTED, "reference_steps": "count"}),
    "tfnode.validity.crossings": (
        base(model=model, x=np.zeros((2, 2))),
        {"model": "model", "x": "tensor"},
    ),
    "tfnode.validity.critical_step": (
        base(gaps={1: 0.0}, threshold=0.1),
        {"gaps": "dictionary", "threshold": "not negative"},
    ),
    # === Export ===
    "tfnode.export.solver_slug": (base(), {"solver": "a solver"}),
    "tfnode.export.check_exportable": (
        base(model=model, base="base"),
        {"model": "model", "base": "path"},
    ),
    "tfnode.export.write_models_config": (
        base(repository="none of these"),
        {"repository": "nothing there", "mount": "nothing there"},
    ),
    "tfnode.export.export_saved_models": (
        base(**MODEL_AND_DATA, base="base", solvers=["rk4"]),
        {
            **TESTED,
            "base": "path",
            "solvers": "solvers",
            "data_name": "text or none",
            "require_valid": "flag",
            "threshold": "not negative",
            "reference_steps": "count",
            "as_signatures": "flag",
            "version": "count or none",
            "repository": "choice or none",
            "report": "result or none",
        },
    ),
    # === Data sets, figures, models, zoo ===
    "tfnode.datasets.list_datasets": (base(), {}),
    "tfnode.datasets.load": (
        base(name="mnist", split="test", batch_size=1, data_dir="none"),
        {
            "name": "choice",
            "split": "choice",
            "batch_size": "count",
            "as_numpy": "flag",
            "seed": "count from zero",
            "data_dir": "path or none",
        },
    ),
    "tfnode.plots.adaption_over_training": (
        base(curves={0: CURVE}),
        {"curves": "dictionary", "title": "text or none", "figure": "result or none"},
    ),
    "tfnode.plots.adaption_behaviour": (
        base(curve=CURVE),
        {"curve": "dictionary", "title": "text or none"},
    ),
    "tfnode.plots.validity": (base(report=report), {"report": "result", "title": "text or none"}),
    "tfnode.plots.convergence": (base(), {"result": "result", "title": "text or none"}),
    "tfnode.plots.crossings": (
        base(),
        {"found": "result", "classes": "numbers or none", "title": "text or none"},
    ),
    "tfnode.plots.trajectories": (
        base(axes=plots.Figure().subplots(), states=np.zeros((2, 1, 2)), classes=[0]),
        {"axes": "result", "states": "numbers", "classes": "numbers", "points": "points"},
    ),
    "tfnode.models.digest": (base(), {"model": "model"}),
    "tfnode.models.held_blocks": (base(), {"model": "model"}),
    "zoo.Recipe": (
        base(dataset="mnist", optimizer="sgd", learning_rate=0.1, batch_size=1, iterations=1),
        {
            "dataset": "text",
            "optimizer": "choice",
            "learning_rate": "positive",
            "batch_size": "count",
            "iterations": "count",
            "loss": "choice",
        },
    ),
    "zoo.get_model": (
        base(name="energy_landscape"),
        {
            "name": "choice",
            "weights": "choice or none",
            "solver": "solver or none",
            "step_size": "positive or none",
            "dtype": "choice or none",
            "seed": "count from zero or none",
        },
    ),
    "zoo.get_recipe": (base(), {"name": "choice"}),
    "zoo.get_report": (
        base(name="energy_landscape"),
        {"name": "choice", "weights": "choice"},
    ),
    "zoo.list_models": (base(), {"pretrained": "flag"}),
}
