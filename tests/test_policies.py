"""The comparison of rules: which runs it asks for, and the cells of its table."""

import argparse
import math
import pathlib

import numpy as np
import pytest

import tfnode
from scripts.paper import experiments, measurements, policies
from scripts.paper.rules import WithoutLookAhead
from scripts.paper.runs import Run
from tfnode.adaption import Decision, Measurement

PAPER = {"quick": False, "paper": True, "seeds": None, "iterations": None, "dtype": None}


def arguments(**changes):
    return argparse.Namespace(**{**PAPER, "runs": pathlib.Path("nowhere"), **changes})


def test_one_thing_is_changed_at_a_time():
    runs = policies.runs(arguments())
    assert {len(runs["energy_landscape", rule]) for rule in policies.RULES} == {5}
    assert {len(runs["energy_landscape", name]) for name in policies.CONSTANTS} == {2}
    papers = runs["energy_landscape", "paper, from Euler"]
    assert papers == [Run("energy_landscape", None, seed, 30_000) for seed in range(5)]
    assert papers[0].rule() == "paper"
    finer = runs["energy_landscape", "paper, from Euler, threshold 0.01"][0]
    assert finer.rule() == tfnode.adaption.StepRule(threshold=0.01)
    assert finer.path == "energy_landscape/euler_adaption_30000_threshold0.01_seed0.json"
    found = {name: runs["energy_landscape", name][0] for name in policies.CONSTANTS}
    rules = [found[name].rule() for name in found if "check_every" not in name]
    assert [(r.threshold, r.shrink, r.growth) for r in rules] == [
        *((0.05, 0.5, 1.1), (0.2, 0.5, 1.1)),
        *((0.1, 0.75, 1.1), (0.1, 0.25, 1.1)),
        *((0.1, 0.5, 1.05), (0.1, 0.5, 1.2)),
    ]
    assert [found[f"paper, check_every {n}"].check_every for n in (25, 100)] == [25, 100]
    plain, on_test = (runs["energy_landscape", name][0] for name in policies.VARIANTS)
    assert plain.path == "energy_landscape/euler_adaption_30000_lookaheadFalse_seed0.json"
    assert plain.rule() == WithoutLookAhead()
    assert on_test.path == "energy_landscape/euler_adaption_30000_check1000_on_test_seed0.json"
    assert on_test.rule() == "paper"
    tolerance = runs["energy_landscape", "tolerance, Fehlberg 2(1)"][0]
    assert tolerance.path == "energy_landscape/fehlberg21_tolerance_30000_seed0.json"
    assert tolerance.start_solver() == tfnode.solvers.Fehlberg21()
    # The quick setting is for a look.
    quick = policies.runs(arguments(quick=True, paper=False))
    assert {rule for _, rule in quick} == set(policies.RULES)


@pytest.mark.parametrize(
    "train, reference, expected",
    [
        (0.9, 0.9, ("grow", 0.275)),
        (0.9, 0.5, ("shrink", 0.125)),
        (0.9, math.nan, ("shrink", 0.125)),
    ],
)
def test_without_look_ahead_nothing_is_tried(train, reference, expected):
    measurement = Measurement(train, reference, 0.0, pytest.fail)
    decision = WithoutLookAhead().decide(tfnode.solvers.Euler(0.25), (), measurement)
    assert (decision.action, decision.solver.step_size) == pytest.approx(expected)


def test_without_look_ahead_a_cap_is_kept():
    measurement = Measurement(0.9, 0.9, 0.0, pytest.fail)
    solver = tfnode.solvers.Euler(0.5)
    rule = WithoutLookAhead().within(0.1, 0.5)
    assert rule.decide(solver, (), measurement) == Decision(solver, (), "keep")


def test_a_tolerance_is_adapted_and_checked_on_a_whole_split(monkeypatch):
    monkeypatch.setattr(measurements, "sweep", lambda *of: {})
    options = {"solver": "fehlberg21", "policy": "tolerance", "t1": 0.25}
    options |= {"rk4_steps": 4, "test_samples": 64}
    of_checks = {"check_split": "test", "check_samples": 1000}
    run = Run("concentric_spheres_2d", None, 0, 50, **options, **of_checks)
    result = experiments.train(run, lambda fraction: None)
    history = result["history"]
    assert history["iteration"] == [50]
    correct = 1000 * np.array(history["train_accuracy"])
    assert np.allclose(correct, np.round(correct), atol=1e-3)
    # The least that single precision can meet, of which a tenth cannot be.
    floor = 10 * np.finfo("float32").eps
    assert history["tolerance"] == [pytest.approx(floor)]
    assert result["solvers"]["reference"]["config"]["rtol"] == pytest.approx(floor)
    assert result["nfe_per_iteration_with_checks"] > result["nfe_per_iteration"] > 0


def result(num_steps, accuracy, fine, **more):
    run = {"model": "energy_landscape", "num_steps": num_steps, "seed": 0, "iterations": 100}
    accuracies = {"train_solver": accuracy, "rk4_fine": fine}
    return {"run": {**run, "solver": "rk4"}, "accuracy": accuracies, **more}


def test_the_cells_of_a_rule_and_of_a_fixed_number_of_steps():
    adapted = [
        result(
            None,
            accuracy,
            fine,
            nfe_per_iteration=nfe,
            nfe_per_iteration_with_checks=nfe + 3,
            history={"action": actions},
        )
        for accuracy, fine, nfe, actions in (
            (0.9, 0.8, 20.0, ["keep", "shrink", "grow"]),
            (0.8, 0.8, 30.0, ["keep", "keep", "keep"]),
        )
    ]
    assert policies.cells("energy_landscape", "a rule", adapted, 5) == (
        *("Three Minima", "a rule", "2 of 5", "85.0 ± 7.1", "80.0 ± 0.0", "5.00 ± 7.07", "10.0"),
        *("25.0 ± 7.1", "28.0 ± 7.1", "1.0 ± 1.4"),
    )
    failed = [{"run": adapted[0]["run"], "error": "The loss is nan"}]
    assert policies.cells("energy_landscape", "a rule", adapted[:1] + failed, 5)[2] == "1 of 5"
    nothing = ("Three Minima", "a rule", "0 of 5", *[""] * 7)
    assert policies.cells("energy_landscape", "a rule", failed, 5) == nothing
    fixed = [result(8, 0.9, 0.9)]
    assert policies.cells("energy_landscape", "none", fixed, 1)[-3:] == ("32.0", "32.0", "0.0")


def test_what_is_no_number_is_none_in_the_history_of_a_result():
    # As under a solver whose outputs are not finite.
    records = [{"change": math.nan, "nfe": 4}, {"change": 0.5, "nfe": 2}]
    assert measurements.columns(records) == {"change": [None, 0.5], "nfe": [4, 2]}
    assert measurements.columns([]) == {}


def test_the_figure_of_the_rules_is_of_seed_0():
    def of_seed(seed):
        history = {"iteration": [50, 100], "nfe": [seed + 1, seed + 1]}
        return {"run": {"seed": seed}, "history": history}

    failed = {"run": {"seed": 0}, "error": "The loss is nan"}
    first, second, third = (("energy_landscape", rule) for rule in list(policies.RULES)[:3])
    results = {first: [of_seed(3), of_seed(0)], second: [of_seed(3)], third: [failed, of_seed(1)]}
    lines = policies.draw(results).axes[1].lines
    assert [line.get_ydata().tolist() for line in lines] == [[1, 1]]


@pytest.mark.parametrize(
    "every, iterations", [(25, [25, 50, 75, 100]), (40, [40, 80]), (100, [100])]
)
def test_checks_come_as_often_as_they_are_asked_for(every, iterations, monkeypatch):
    # What is measured at the end depends on no check.
    monkeypatch.setattr(measurements, "sweep", lambda *of: {})
    monkeypatch.setattr(measurements, "final_accuracies", lambda *of: {})
    setting = {"start_steps": 2, "batch_size": 8, "test_samples": 20, "rk4_steps": 2}
    run = Run("concentric_spheres_2d", None, 0, 100, check_every=every, **setting)
    result = experiments.train(run, lambda fraction: None)
    assert result["history"]["iteration"] == iterations
