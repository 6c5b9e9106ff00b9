"""Every public name refuses what it cannot take, before any work, by an error of three parts.

The table has a row for every public function and class, and in it a kind for every parameter. Of
the values below a kind accepts some; all others must be refused.
"""

import dataclasses
import fractions
import functools
import inspect
import itertools
import math
import re

import keras
import numpy as np
import pytest

import tfnode
import zoo
from tfnode import adaption, arguments, models, plots, solvers, tableaus, validity
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
# kind: the values that it accepts, which are not tried
KINDS = {
    # Positive and finite, an integer from 1 up, one of some strings, an object of some class.
    "positive": set(),
    "count": set(),
    "one of": set(),
    "object": set(),
    "not negative": {"zero"},
    "real": {"zero", "minus one"},
    "sign": {"minus one"},
    "flag": {"true"},
    # As in Keras, a boolean stands for 0 or 1.
    "verbose": {"zero", "true"},
    "text": {"text"},
    "path": {"text"},
    "solver": {"solver"},
    "list": set(),
    "solvers": {"solvers"},
    "any solvers": {"solvers", "nothing"},
    "function": {"function"},
    "metric": {"none", "function"},
    "array": {"array"},
    "points": {"array", "nothing"},
    # What a field or a model makes of a tensor is another matter: see their own tests.
    "tensors": {"nan", "infinite", "minus one", "zero", "true", "complex", "dictionary", "array"},
    # What they hold is seen when they are read.
    "data": {"nothing", "texts", "solvers", "array"},
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


@functools.cache
def resnet():
    return validity.ResNetReport(True, 0.0, 0.1, (), report())


@functools.cache
def series():
    made = tfnode.ODEBlock(keras.layers.Rescaling(-1.0), Euler(1 / 2), save_at=[0.5, 1.0])
    made(np.eye(2))
    return made


@functools.cache
def block(solver="euler"):
    return tfnode.ODEBlock(keras.layers.Rescaling(-1.0), solver)


def base(**given):
    """A call that could run; what is cached above is made when it is needed."""
    return lambda: {
        name: value() if isinstance(value, functools._lru_cache_wrapper) else value
        for name, value in given.items()
    }


MODEL_AND_DATA = {"model": model, "data": Unread()}
PATHS, NO_POINTS = np.zeros((2, 1, 2)), np.zeros((0, 2))
FOUND = validity.Crossings(0, 1, 0.0, NO_POINTS, NO_POINTS, NO_POINTS, PATHS, PATHS)
RESULT = validity.ConvergenceResult((), None, 1, False, None, 0.5, None, None)
ROW = validity.SeriesRow(1.0, 0.5, 0.5, 2, 0.0, 0.1, 0.1, None, None)
SERIES = validity.SeriesReport(True, 0.0, 0.0, 0.1, False, 1, 1.0, (ROW,), ROW)
CURVE = {n: [1.0] for n in ("iteration", "num_steps", "train_solver", "midpoint", "rk4")}
FIXED = {"step_size": "positive"}
ADAPTIVE = {
    "rtol": "positive",
    "atol": "positive",
    "max_num_steps": "count",
    "per_sample": "flag",
    "per_sample_failure": "one of",
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
    "policy": "one of",
    "threshold": "not negative",
    "shrink": "positive",
    "growth": "positive",
    "batch_size": "count",
    "log_dir": "path or none",
    "verbose": "verbose",
}
PAPER = {"threshold": "not negative", "shrink": "positive", "growth": "positive"}
TESTED = {"model": "object", "data": "data", "verbose": "verbose"}

# name: the rest of a call that could run, and the kind of every parameter
TABLE = {
    "tfnode.Augment": (base(), {"extra_dims": "not negative"}),
    "tfnode.ODEBlock": (
        base(field=keras.layers.Rescaling(-1.0)),
        {
            "field": "object",
            "solver": "solver",
            "t0": "real",
            "t1": "sign",
            "time_dependent": "flag",
            "save_at": "list or none",
            "gradient": "one of",
            "unroll": "one of",
            "regularization": "object or none",
        },
    ),
    "tfnode.Regularization": (
        base(),
        {
            "kinetic": "not negative",
            "jacobian": "not negative",
            "end_time": "not negative",
            "seed": "not negative or none",
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
            "z0": "tensors",
            "times": "list",
            "solver": "solver",
            "conditions": "tensors or none",
        },
    ),
    "tfnode.with_solver": (
        base(model=model, solver="rk4"),
        {"model": "object", "solver": "solver"},
    ),
    # === Solvers ===
    **{
        f"tfnode.solvers.{cls.__name__}": (base(), FIXED)
        for cls in (Euler, RK4, solvers.RK38, solvers.Midpoint, solvers.Heun)
    },
    "tfnode.solvers.FixedStepSolver": (base(), FIXED),
    "tfnode.solvers.RungeKutta": (base(tableau=tableaus.RK4), {**FIXED, "tableau": "object"}),
    **{
        f"tfnode.solvers.{name}": (base(), ADAPTIVE)
        for name in ("AdaptiveSolver", "BogackiShampine32", "DormandPrince", "Fehlberg21")
    },
    "tfnode.solvers.get": (
        base(identifier="rk4"),
        {"identifier": "solver", "step_size": "positive or none"},
    ),
    "tfnode.solvers.serialize": (base(), {"solver": "solver"}),
    "tfnode.solvers.deserialize": (base(), {"config": "object"}),
    "tfnode.tableaus.ButcherTableau": (
        base(name="euler", a=((),), b=(1,), c=(0,), order=1),
        {
            "name": "text",
            "a": "list",
            "b": "list",
            "c": "list",
            "order": "count",
            "b_error": "list or none",
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
    "tfnode.adaption.get": (
        base(policy="paper"),
        {"policy": "one of", **PAPER, "adaptive": "flag"},
    ),
    "tfnode.adaption.initial_step_size": (
        base(field=lambda t, z: -z, t0=0.0, z0=np.ones((2, 2)), order=1, length=1.0),
        {
            "field": "function",
            "t0": "real",
            "z0": "array",
            "order": "count",
            "length": "positive",
            "direction": "sign",
        },
    ),
    "tfnode.adaption.reference_solver": (
        base(solver=Euler(1 / 2)),
        {"solver": "solver", "length": "positive"},
    ),
    "tfnode.adaption.tighter_solver": (base(), {"solver": "object"}),
    # === Validity ===
    "tfnode.validity.check": (
        base(**MODEL_AND_DATA),
        {
            **TESTED,
            "threshold": "not negative",
            "task": "one of or none",
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
            "factors": "list or none",
            "task": "one of or none",
            "metric": "metric",
        },
    ),
    "tfnode.validity.convergence_test": (
        base(**MODEL_AND_DATA),
        {
            **TESTED,
            "factors": "list",
            "margin": "not negative",
            "task": "one of or none",
            "reference_steps": "count",
        },
    ),
    "tfnode.validity.check_series": (
        base(model=series, data=Unread()),
        {
            **TESTED,
            "times": "list or none",
            "solver": "solver or none",
            "every": "count",
            "trained_until": "real or none",
            "factors": "list",
            "threshold": "not negative",
            "margin": "not negative",
            "reference_steps": "count",
        },
    ),
    "tfnode.validity.check_resnet": (
        base(**MODEL_AND_DATA),
        {
            **TESTED,
            "states": "list or none",
            "threshold": "not negative",
            "task": "one of or none",
            "metric": "metric",
            "reference_steps": "count",
        },
    ),
    "tfnode.validity.certify": (base(**MODEL_AND_DATA), {**TESTED, "reference_steps": "count"}),
    "tfnode.validity.crossings": (
        base(model=model, x=np.zeros((2, 2))),
        {"model": "object", "x": "tensors"},
    ),
    "tfnode.validity.critical_step": (
        base(gaps={1: 0.0}, threshold=0.1),
        {"gaps": "object", "threshold": "not negative"},
    ),
    # === Export ===
    "tfnode.export.solver_slug": (base(), {"solver": "solver"}),
    "tfnode.export.solver_name": (
        base(solver=Euler(1 / 2)),
        {"solver": "solver", "interval": "positive or none"},
    ),
    "tfnode.export.check_exportable": (
        base(model=model, base="base"),
        {"model": "object", "base": "path"},
    ),
    "tfnode.export.write_models_config": (
        base(repository="none of these"),
        {"repository": "one of", "mount": "one of or none"},
    ),
    "tfnode.export.export_saved_models": (
        base(**MODEL_AND_DATA, base="base", solvers=["rk4"]),
        {
            **TESTED,
            "data": "data or none",
            "base": "path",
            "solvers": "solvers",
            "data_name": "text or none",
            "require_valid": "flag",
            "threshold": "not negative",
            "reference_steps": "count",
            "as_signatures": "flag",
            "version": "count or none",
            "repository": "one of or none",
            "report": "object or none",
        },
    ),
    # === Data sets, figures, models, zoo ===
    "tfnode.datasets.list_datasets": (base(), {}),
    "tfnode.datasets.load": (
        base(name="mnist", split="test", batch_size=1, data_dir="none"),
        {
            "name": "one of",
            "split": "one of",
            "batch_size": "count",
            "as_numpy": "flag",
            "seed": "not negative",
            "data_dir": "path or none",
        },
    ),
    "tfnode.plots.adaption_over_training": (
        base(curves={0: CURVE}),
        {"curves": "object", "title": "text or none", "figure": "object or none"},
    ),
    "tfnode.plots.adaption_behaviour": (
        base(curve=CURVE),
        {"curve": "object", "title": "text or none"},
    ),
    "tfnode.plots.validity": (base(report=report), {"report": "object", "title": "text or none"}),
    "tfnode.plots.convergence": (
        base(result=RESULT),
        {"result": "object", "title": "text or none"},
    ),
    "tfnode.plots.series": (base(report=SERIES), {"report": "object", "title": "text or none"}),
    "tfnode.plots.resnet": (base(report=resnet), {"report": "object", "title": "text or none"}),
    "tfnode.plots.crossings": (
        base(found=FOUND),
        {"found": "object", "classes": "list or none", "title": "text or none"},
    ),
    "tfnode.plots.trajectories": (
        base(axes=plots.Figure().subplots(), states=PATHS, classes=[0]),
        {"axes": "object", "states": "list", "classes": "list", "points": "points"},
    ),
    "tfnode.models.digest": (base(), {"model": "object"}),
    "tfnode.models.held_blocks": (base(), {"model": "object"}),
    "tfnode.models.some_blocks": (base(), {"model": "object"}),
    "zoo.Recipe": (
        base(dataset="mnist", optimizer="sgd", learning_rate=0.1, batch_size=1, iterations=1),
        {
            "dataset": "text",
            "optimizer": "one of",
            "learning_rate": "positive",
            "batch_size": "count",
            "iterations": "count",
            "loss": "one of",
            "schedule": "one of",
            "weight_decay": "not negative",
            "augment": "flag",
        },
    ),
    "zoo.get_model": (
        base(name="energy_landscape"),
        {
            "name": "one of",
            "weights": "one of or none",
            "solver": "solver or none",
            "step_size": "positive or none",
            "dtype": "one of or none",
            "seed": "not negative or none",
            "classes": "count or none",
            "include_top": "flag",
        },
    ),
    "zoo.get_recipe": (base(), {"name": "one of"}),
    "zoo.get_report": (
        base(name="energy_landscape"),
        {"name": "one of", "weights": "one of"},
    ),
    "zoo.get_weights": (base(), {"name": "one of"}),
    "zoo.push": (
        base(model=model, address="hf://user/model"),
        {"model": "object", "address": "one of", "report": "object or none", "private": "flag"},
    ),
    "zoo.list_models": (base(), {"pattern": "text or none", "pretrained": "flag"}),
}

# === Methods ===
TABLE |= {
    "tfnode.ODEBlock.trajectory": (
        base(self=block, z=np.zeros((1, 2))),
        {"z": "tensors", "conditions": "tensors or none"},
    ),
    "tfnode.ODEBlock.with_solver": (
        base(self=block, solver="rk4"),
        {"solver": "solver", "save_at": "list or none"},
    ),
    "tfnode.ODEBlock.summary": (base(self=block), {"print_fn": "function"}),
    "tfnode.StepAdaption.set_state": (
        base(self=tfnode.StepAdaption(Unread())),
        {"state": "object"},
    ),
    "tfnode.solvers.Euler.with_step_size": (base(self=Euler()), FIXED),
    "tfnode.solvers.Fehlberg21.with_tolerance": (
        base(self=solvers.Fehlberg21()),
        {"tolerance": "positive"},
    ),
    "tfnode.solvers.Fehlberg21.scaled": (base(self=solvers.Fehlberg21()), {"factor": "positive"}),
    **{
        f"tfnode.solvers.{name}.from_config": (base(), {"config": "object"})
        for name in ("Euler", "Fehlberg21", "RungeKutta")
    },
    **{
        f"tfnode.adaption.{cls.__name__}.{name}": (
            base(self=cls(), **dict.fromkeys(kinds, 1.0)),
            kinds,
        )
        for cls in (adaption.StepRule, adaption.DampedRule, adaption.ToleranceRule)
        for name, kinds in {
            "within": {"low": "positive", "high": "positive"},
            "start": {"solver": "solver"},
            "methods": {"solver": "solver"},
        }.items()
    },
    "tfnode.adaption.DampedRule.reference": (
        base(self=adaption.DampedRule(), solver=Euler(1 / 2), length=1.0),
        {"solver": "solver", "length": "positive"},
    ),
    "tfnode.adaption.StepRule.reference": (
        base(self=adaption.StepRule(), solver=Euler(1 / 2), length=1.0),
        {"solver": "solver", "length": "positive"},
    ),
    **{
        f"tfnode.validity.{name}.from_json": (base(), {"text": "object"})
        for name in ("ConvergenceResult", "ValidityReport")
    },
    "tfnode.validity.ResNetReport.plot": (base(self=resnet), {"title": "text or none"}),
    "tfnode.validity.ResNetReport.to_html": (
        base(self=resnet, path="report.html"),
        {"path": "path", "title": "text or none"},
    ),
    "tfnode.validity.SeriesReport.plot": (base(self=SERIES), {"title": "text or none"}),
    "tfnode.validity.SeriesReport.to_html": (
        base(self=SERIES, path="report.html"),
        {"path": "path", "title": "text or none"},
    ),
    "tfnode.validity.ValidityReport.plot": (base(self=report), {"title": "text or none"}),
    "tfnode.validity.ValidityReport.to_html": (
        base(self=report, path="report.html"),
        {"path": "path", "class_names": "list or none", "title": "text or none"},
    ),
    "tfnode.validity.ConvergenceResult.plot": (base(self=RESULT), {"title": "text or none"}),
    "tfnode.validity.Crossings.plot": (
        base(self=FOUND),
        {"classes": "list or none", "title": "text or none"},
    ),
}
# Not called by users: they are what functions return, or what a class of the user's is like.
RECORDS = {
    "tfnode.adaption.DampedMemory": "a rule remembers it, and a weight gives it back",
    "tfnode.adaption.Decision": "a rule returns it",
    "tfnode.adaption.Measurement": "a callback measures it; accuracies may be any numbers",
    "tfnode.adaption.Rule": "a protocol",
    "tfnode.validity.Certificate": "`certify` returns it",
    "tfnode.validity.CheckRow": "`check` returns it",
    "tfnode.validity.ClassChange": "`check` returns it",
    "tfnode.validity.ConvergenceResult": "`convergence_test` returns it",
    "tfnode.validity.ConvergenceRow": "`convergence_test` returns it",
    "tfnode.validity.Crossings": "`crossings` returns it",
    "tfnode.validity.Details": "`check` returns it",
    "tfnode.validity.NearSample": "`check` returns it",
    "tfnode.validity.ResNetReport": "`check_resnet` returns it",
    "tfnode.validity.ResNetStage": "`check_resnet` returns it",
    "tfnode.validity.SeriesReport": "`check_series` returns it",
    "tfnode.validity.SeriesRow": "`check_series` returns it",
    "tfnode.validity.SweepRow": "`sweep` returns it",
    "tfnode.validity.ValidityReport": "`check` returns it",
    "zoo.WeightsEntry": "the manifest's; see test_manifest.py",
    # What others of this package call, with what they have checked.
    "tfnode.models.Reached": "`reached_blocks` returns it",
    "tfnode.models.Twin": "callbacks and verdicts measure with it",
    "tfnode.models.calls_of": "they count with it",
    "tfnode.models.looked_at": "they look at models with it",
    "tfnode.models.reached_blocks": "likewise",
    "tfnode.models.solver_scope": "twins open it",
    "tfnode.solvers.check_num_steps": "a check itself",
    "tfnode.solvers.check_solver": "likewise",
    "tfnode.solvers.check_step_size": "likewise",
    "tfnode.solvers.check_tolerance": "likewise",
}
# Methods that others of this package call, with what they have checked or measured.
ASKED = {
    "tfnode.validity.ValidityReport.value_of",
    *("tfnode.ODEBlock.from_config", "zoo.WeightsEntry.from_config", "tfnode.models.Twin.assign"),
    *(f"tfnode.adaption.Rule.{name}" for name in dir(adaption.Rule)),
    *(f"tfnode.adaption.{n}Rule.decide" for n in ("Step", "Damped", "Tolerance")),
    *(f"tfnode.adaption.{n}Rule.exceeded" for n in ("Step", "Tolerance")),
    *(f"tfnode.adaption.DampedRule.{n}" for n in ("coarser", "finer", "num_steps", "snapped")),
    # A tighter solver, whatever the length is.
    *("tfnode.adaption.StepRule.propose", "tfnode.adaption.ToleranceRule.reference"),
}
# What an error may call a parameter of which a part is wrong.
PARTS = {
    "identifier": "solver|class_name",
    "solver": "solver|class_name",
    "solvers": "solvers?",
    "methods": "methods|solver",
    "config": "config|class_name",
    "low": r"low|min_\w+",
    "high": r"high|max_\w+|min_\w+",
    "step_size": r"\w*step_size",
    "tolerance": "rtol",
}


def public():
    """The public functions and classes by their dotted names."""
    packages = [tfnode, zoo, *(getattr(tfnode, name) for name in tfnode.__all__)]
    packages = [p for p in packages if inspect.ismodule(p)] + [adaption, models, plots]
    found = {}
    for package in packages:
        names = getattr(package, "__all__", None)
        for name, value in inspect.getmembers(package):
            own = name in names if names else getattr(value, "__module__", "") == package.__name__
            # Types of annotations are neither.
            is_called = inspect.isclass(value) or inspect.isfunction(value)
            if own and is_called and not name.startswith("_") and value not in found.values():
                found[f"{package.__name__}.{name}"] = value
    return found


PUBLIC = public()
METHODS = TABLE.keys() - PUBLIC.keys()


def function_of(name):
    """A public function or class, or a method, which takes its object as `self`."""
    if name in PUBLIC:
        return PUBLIC[name]
    owner, _, method = name.rpartition(".")
    return getattr(PUBLIC[owner], method)


def parameters(function):
    found = inspect.signature(function).parameters.values()
    return [p.name for p in found if p.kind is not p.VAR_KEYWORD and p.name != "self"]


def test_the_table_has_a_row_for_every_public_name():
    assert set(TABLE) - METHODS | set(RECORDS) == set(PUBLIC)
    assert not set(TABLE) & set(RECORDS)


def test_a_row_has_a_kind_for_every_parameter():
    wanted = {name: sorted(parameters(function_of(name))) for name in TABLE}
    assert {name: sorted(kinds) for name, (_, kinds) in TABLE.items()} == wanted


def test_the_table_has_a_row_for_every_method():
    """Of those with parameters that neither Keras calls nor the table has of another class."""
    known = {inspect.unwrap(getattr(f, "__func__", f)) for f in map(function_of, METHODS)}
    keras_calls = {*dir(keras.layers.Layer), *dir(keras.callbacks.Callback)}
    found = {
        f"{name}.{method}"
        for name, cls in PUBLIC.items()
        if inspect.isclass(cls)
        for base in cls.__mro__
        if base.__module__.startswith(("tfnode", "zoo"))
        for method, member in vars(base).items()
        if not method.startswith("_") and method not in keras_calls - {"from_config"}
        if (f := getattr(member, "__func__", member)) not in known
        if inspect.isfunction(f) and len(inspect.signature(f).parameters) > 1
    }
    assert sorted(found - ASKED) == []


def has_three_parts(text, parameter):
    """Whether a text has a rule, what was received, and what to do next, as sentences."""
    parts = re.fullmatch(r"[A-Z`].{5,}\. Received: (.+)[.?] [A-Z`].{5,}\.", text, re.DOTALL)
    return bool(parts and re.search(rf"\b({parameter})\b", parts[1]))


@pytest.mark.parametrize(
    "text, good",
    [
        ("`n` must be a count. Received: n=-1. Pass one.", True),
        ("`n` must be a count. Received: m=-1. Pass one.", False),
        ("`n` must be a count. Received: n=-1.", False),
        ("`n` must be a count, not -1.", False),
        ("could not convert string to float: 'n'", False),
    ],
)
def test_the_parts_of_a_message_are_seen(text, good):
    assert has_three_parts(text, "n") == good


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch, tmp_path):
    """What is taken in silence may write."""
    monkeypatch.chdir(tmp_path)


def answer(function, given, parameter):
    """What is wrong with how a call is refused; None if nothing is."""
    try:
        function(**given)
    except ValueError as error:
        text = str(error)
        if not has_three_parts(text, PARTS.get(parameter, parameter)):
            return f"is refused by: {text}"
    except Exception as error:
        return f"raises {type(error).__name__}: {error}"
    else:
        return "is taken in silence"
    return None


@pytest.mark.parametrize(
    "name, parameter",
    [(name, parameter) for name, (_, kinds) in TABLE.items() for parameter in kinds],
)
def test_bad_values_are_refused(name, parameter):
    make, kinds = TABLE[name]
    given = make()
    kind = kinds[parameter].removesuffix(" or none")
    accepted = KINDS[kind] | ({"none"} if kind != kinds[parameter] else set())
    wrong = {}
    for label in VALUES.keys() - accepted:
        found = answer(function_of(name), {**given, parameter: VALUES[label]}, parameter)
        if found is not None:
            wrong[label] = found
    assert not wrong


# === The checks themselves ===
@pytest.mark.parametrize(
    "value",
    [
        *(3, np.int8(3), np.array(3), 3.0, np.float32(3), np.float64(3), np.array(3.0)),
        *(fractions.Fraction(3), keras.ops.convert_to_tensor(3.0), keras.Variable(3.0)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_numbers_of_every_kind_become_floats(value):
    found = arguments.number("x", value, advice="Pass one.")
    assert (type(found), found) == (float, 3.0)


def test_a_double_keeps_its_digits():
    for value in (0.1, np.float64(0.1), np.array(0.1)):
        assert arguments.number("x", value, advice="Pass one.") == 0.1


@pytest.mark.parametrize("value", [3, np.int8(3), np.uint64(3), np.array(3)])
def test_integers_of_every_kind_become_int(value):
    found = arguments.count("n", value, advice="Pass one.")
    assert (type(found), found) == (int, 3)


@pytest.mark.parametrize("value", [True, np.True_, np.array(True)])
def test_booleans_of_every_kind_become_bool(value):
    assert arguments.flag("b", value) is True


@pytest.mark.parametrize("value", [3.0, np.float32(3), np.True_, "3", np.array([3])])
def test_these_are_no_integers(value):
    with pytest.raises(ValueError, match="`n` must be an integer from 1 to"):
        arguments.count("n", value, advice="Pass one.")


@pytest.mark.parametrize(
    "ends, inside",
    [("()", [False, True, False]), ("[]", [True] * 3), ("[)", [True, True, False])],
)
def test_brackets_say_which_ends_belong(ends, inside):
    call = functools.partial(arguments.number, "x", low=0, high=1, ends=ends, advice="Pass one.")
    found = [answer(call, {"value": x}, "x") for x in (0, 0.5, 1)]
    assert found == ["is taken in silence" if x else None for x in inside]


def test_what_is_endless_is_no_list():
    call = functools.partial(arguments.items, "x", what="numbers", advice="Pass a list.")
    assert answer(call, {"value": itertools.count()}, "x") is None
    assert call(value=iter((1, 2))) == [1, 2]


class Unsayable:
    def __repr__(self):
        raise RuntimeError


@pytest.mark.parametrize(
    "value, text",
    [
        (10**5000, "<int>"),
        (Unsayable(), "<Unsayable>"),
        ("a" * 1000, "'" + "a" * 199 + "..."),
        (np.arange(300.0), "<ndarray of shape (300,) and dtype float64>"),
        (np.arange(2), "array([0, 1])"),
    ],
    ids=["digits", "object", "text", "array", "small array"],
)
def test_what_was_received_is_short(value, text):
    assert arguments.shown(value) == text


# === What is assigned, and what a block is called with ===
@pytest.mark.parametrize(
    "solver, name, kind",
    [
        ("euler", "step_size", "positive"),
        ("euler", "solver", "solver"),
        ("euler", "methods", "solvers"),
        ("fehlberg21", "rtol", "positive"),
        ("fehlberg21", "atol", "positive"),
    ],
)
def test_bad_values_are_not_assigned(solver, name, kind):
    made = tfnode.ODEBlock(keras.layers.Rescaling(-1.0), solver)
    before = made.solver, made.methods
    wrong = {}
    for label in VALUES.keys() - KINDS[kind]:
        found = answer(lambda v: setattr(made, name, v), {"v": VALUES[label]}, name)
        if found is not None:
            wrong[label] = found
    assert not wrong
    assert (made.solver, made.methods) == before


@pytest.fixture
def unframed():
    """Errors inside of a call as they are, without what Keras writes around them."""
    keras.config.disable_traceback_filtering()
    yield
    keras.config.enable_traceback_filtering()


@pytest.mark.parametrize(
    "name, accepted",
    [
        # A solution that cannot be had is NaN, as it is for times in a graph.
        ("t1", {"none", "nan", "infinite", "minus one", "zero"}),
        ("save_at", {"none", "array"}),
        ("conditions", {"none", *KINDS["tensors"]}),
    ],
)
def test_a_block_is_not_called_with_bad_values(name, accepted, unframed):
    wrong = {}
    for label in VALUES.keys() - accepted:
        call = functools.partial(block(), np.zeros((2, 2), "float32"))
        found = answer(call, {name: VALUES[label]}, name)
        if found is not None:
            wrong[label] = found
    assert not wrong


@pytest.mark.parametrize("name, value", [("t1", [[0.5]]), ("save_at", 0.5), ("save_at", "text")])
def test_a_symbolic_call_refuses_them_alike(name, value, unframed):
    found = answer(functools.partial(block(), keras.Input((2,))), {name: value}, name)
    assert found is None


# === Good types, bad content ===
X, Y = np.eye(2, dtype="float32"), np.arange(2)


def unbuilt():
    return keras.Sequential([tfnode.ODEBlock(keras.layers.Dense(2))])


def without_block():
    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])


def used_up():
    batches = iter([(X, Y)])
    next(batches)
    return batches


def integrate(**given):
    return tfnode.odeint(
        **{"field": lambda t, z: -z, "z0": X, "times": [0.0, 1.0], "solver": "rk4", **given}
    )


def built(**given):
    return tfnode.ODEBlock(keras.layers.Rescaling(-1.0), Euler(1 / 2), **given)


def checked(**given):
    return validity.check(**{"model": model(), "data": (X, Y), "reference_steps": 2, **given})


def exported(**given):
    rest = {"model": model(), "base": "nowhere", "solvers": ["rk4"], "data": (X, Y)}
    return tfnode.export.export_saved_models(**{**rest, **given})


@pytest.mark.parametrize(
    "call, part",
    [
        *(
            (lambda times=times: integrate(times=times), "times")
            for times in ([0.0, 1.0, 0.5], [0.0, math.nan], [], [0.0], [[0.0], [1.0, 2.0]])
        ),
        (lambda: integrate(times=["0", "1"]), "times"),
        (lambda: integrate(z0=["text"]), "z0"),
        (lambda: integrate(z0=np.eye(2, dtype=int)), "z0"),
        (lambda: integrate(z0={}), "z0"),
        (lambda: integrate(conditions={"a": None}), "conditions"),
        *(
            (lambda times=times: built(save_at=times), "save_at")
            for times in ([0.5, 0.2], [math.nan], [0.5, 2.0], [[0.5]], ["0.5"])
        ),
        (lambda: built(t0="0"), "t0"),
        (lambda: built(t1="1"), "t1"),
        (lambda: built(t1=1 / 4), "step_size"),
        (lambda: tfnode.with_solver(model(), Euler(2.0)), "step_size"),
        (lambda: setattr(block(), "step_size", 2.0), "step_size"),
        (lambda: validity.sweep(model(), (X, Y), solvers=[Euler(2.0)]), "solvers"),
        (lambda: tfnode.with_solver(without_block(), "rk4"), "model"),
        (lambda: tfnode.with_solver(keras.Model, "rk4"), "model"),
        (lambda: checked(model=without_block()), "model"),
        (lambda: checked(model=unbuilt()), "model"),
        (lambda: checked(data=(X, Y[:1])), "data"),
        (lambda: checked(data=(X[:0], Y[:0])), "data"),
        (lambda: checked(data=(X,)), "data"),
        (lambda: checked(data=(X, "text")), "data"),
        (lambda: checked(data=used_up()), "data"),
        (lambda: checked(data=[X]), "data"),
        (lambda: checked(data=(X, Y + 5)), "y"),
        (lambda: checked(data=(X, np.array(["a", "b"]))), "y"),
        (lambda: checked(metric="no such metric"), "metric"),
        (lambda: validity.crossings(without_block(), X), "model"),
        (lambda: validity.crossings(model(), np.array([["a"], ["b"]])), "x"),
        (lambda: exported(report=report().to_json()), "report"),
        (lambda: exported(report=dataclasses.replace(report(), digest="")), "report"),
        (lambda: exported(solvers=[Euler(2.0)]), "step_size"),
        (lambda: exported(base="\0"), "base"),
        (lambda: plots.adaption_behaviour({**CURVE, "rk4": []}), "curve"),
        (lambda: plots.crossings(FOUND, classes=[0, 1]), "classes"),
        (lambda: solvers.deserialize({"class_name": "Euler", "config": {"steps": 8}}), "config"),
    ],
)
def test_bad_content_is_refused(call, part):
    found = answer(call, {}, part)
    assert found is None
