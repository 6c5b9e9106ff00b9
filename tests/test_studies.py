"""The studies of the critical step: their runs, a training of each kind, and their pages."""

import argparse
import dataclasses
import pathlib

import numpy as np
import pytest
from PIL import Image

import tfnode
from scripts import study
from scripts.paper import experiments, measurements, runner, studies
from scripts.paper.runs import Run

ROOT = pathlib.Path(__file__).parents[1]
PAPER = {"quick": False, "paper": True, "seeds": None, "iterations": None, "dtype": None}


def test_the_names_are_those_of_the_studies():
    assert list(study.NAMES) == list(studies.STUDIES)


def test_one_thing_is_changed_at_a_time():
    args = argparse.Namespace(**PAPER, runs=pathlib.Path("nowhere"))
    inputs = studies.runs(studies.STUDIES["inputs"], args)
    assert {len(of_setting) for of_setting in inputs} == {5}
    assert [run[0].scale for run in inputs[:9]] == [0.5] * 3 + [1.0] * 3 + [2.0] * 3
    # Those of the paper's inputs are runs of Table 1.
    assert inputs[3][0] == Run("concentric_spheres_2d", 32, 0, 10_000)
    assert inputs[0][0].path == "concentric_spheres_2d/euler_k032_10000_inputs0.5_seed0.json"
    times = studies.runs(studies.STUDIES["integration_time"], args)
    sizes = [of_setting[0].start_solver().step_size for of_setting in times]
    assert sizes == [t1 / k for t1 in (0.5, 1, 2, 4) for k in (8, 16, 32, 64, 128)]


def test_regularization_is_compared_with_a_run_without_it():
    args = argparse.Namespace(**PAPER, runs=pathlib.Path("nowhere"))
    runs = [found[0] for found in studies.runs(studies.STUDIES["regularization"], args)]
    assert len(set(runs)) == len({run.path for run in runs}) == len(runs) == 18
    # That of the comparison of policies.
    assert runs[9].path == "energy_landscape/rk4_damped_30000_seed0.json"
    assert runs[0].regularization() == tfnode.Regularization(seed=0)
    assert runs[17].regularization() == tfnode.Regularization(0.01, 0.01, 0.25, seed=0)
    of_images = studies.runs(studies.STUDIES["regularization_mnist"], args)
    assert {run.model for found in of_images for run in found} == {"mnist"}


def test_a_line_of_regularization():
    """Of published runs, whose cost is in the README."""
    runs = [
        Run("energy_landscape", None, seed, 30_000, "rk4", policy="damped") for seed in range(5)
    ]
    results = runner.read_results(runs, ROOT / "docs" / "results" / "runs")
    cells = studies.cells_of_regularization(results, 5)
    assert cells[:5] == ("Three Minima", "0", "0", "0", "5 of 5")
    assert len(cells) == len(studies.OF_REGULARIZATION.header)
    assert dict(zip(studies.OF_REGULARIZATION.header, cells))["NFE in training"] == "55.0 ± 9.2"
    steps = [result["history"]["nfe"][-1] for result in results]
    assert cells[-3] == f"{np.mean(steps):.1f} ± {np.std(steps, ddof=1):.1f}"


@pytest.mark.parametrize("changes", [{"threshold": 0.01}, {"growth": 1.2}, {"look_ahead": False}])
def test_what_a_run_changes_of_the_paper_s_rule_is_no_other_rule_s(changes):
    """Its path would name a rule that it is not trained by."""
    assert Run("energy_landscape", None, 0, 50, **changes).rule() != "paper"
    with pytest.raises(ValueError, match=r"those of the paper's rule. Received: policy='damped'"):
        Run("energy_landscape", None, 0, 50, policy="damped", **changes)


def test_a_run_with_regularization_begins_as_one_without_it():
    plain = Run("energy_landscape", 4, 3, 50)
    run = dataclasses.replace(plain, kinetic=0.1, jacobian=0.2, end_time=0.25)
    model = experiments.compiled(run)
    block = model.get_layer("ode_block")
    assert block.regularization == tfnode.Regularization(0.1, 0.2, 0.25, seed=3)
    assert (block.num_steps, model.jit_compile) == (4, True)
    for ours, theirs in zip(model.get_weights(), experiments.compiled(plain).get_weights()):
        np.testing.assert_array_equal(ours, theirs)


def test_a_run_of_a_study(monkeypatch):
    changes = {"scale": 0.5, "t1": 2.0}
    monkeypatch.setattr(measurements, "sweep", lambda model, test: {})
    # XLA would compile for longer than all else takes.
    monkeypatch.setattr(experiments, "_COMPILED", ())
    run = Run("energy_landscape", 4, 0, 50, rk4_steps=8, test_samples=50, **changes)
    model, result = experiments.fit(run, lambda finished: None)
    block = model.get_layer("ode_block")
    assert (block.t1, block.num_steps, block.step_size) == (run.t1, 4, run.t1 / 4)
    # The weights of the same seed, and the accuracies of the same test samples.
    x, y = tfnode.datasets.load("energy_landscape/three_minima", "test", as_numpy=True)
    classes = model.predict(run.scale * x[:50], verbose=0).argmax(axis=-1)
    assert result["accuracy"]["train_solver"] == pytest.approx(np.mean(classes == y[:50]))
    assert set(result["validation"]) == {"train_solver", "reference", "rk4_fine"}
    cells = studies.cells_of_steps([result], 5)
    step_size = f"{run.t1 / 4:.4f}"
    assert cells[:6] == ("Three Minima", f"{run.scale:g}", f"{run.t1:g}", "4", step_size, "1 of 5")


def test_a_run_of_half_precision_is_measured_as_it_was_trained():
    options = {"t1": 4.0, "kinetic": 0.1, "dtype": "mixed_bfloat16", "gradient": "backprop"}
    run = Run("energy_landscape", 16, 0, 50, **options)
    model = experiments.compiled(run)
    measured = experiments._in_float32(model, run)
    theirs, ours = (m.get_layer("ode_block") for m in (model, measured))
    assert (ours.t1, ours.num_steps, ours.gradient) == (4.0, 16, "backprop")
    assert ours.regularization == theirs.regularization
    assert (theirs.compute_dtype, ours.compute_dtype) == ("bfloat16", "float32")
    for found, expected in zip(measured.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_the_picture_has_the_gaps_of_every_seed_and_their_means():
    def results(num_steps, t1, *gaps, model="energy_landscape"):
        runs = [Run(model, num_steps, seed, 50, t1=t1) for seed in range(len(gaps))]
        accuracies = [{"train_solver": 0.9, "reference": 0.9 - gap} for gap in gaps]
        return [
            {"run": dataclasses.asdict(run), "accuracy": accuracy}
            for run, accuracy in zip(runs, accuracies)
        ]

    failed = [{"run": dataclasses.asdict(Run("energy_landscape", 8, 0, 50)), "error": "nan"}]
    settings = [results(16, 1.0, 0.1, 0.3), results(32, 1.0, 0.1), results(32, 2.0, 0.4), failed]
    figure = studies.draw_gaps(settings)
    assert [ax.get_xlabel() for ax in figure.axes] == ["steps", "step size"]
    assert [text.get_text() for text in figure.legends[0].texts] == ["time 1", "time 2"]
    for ax, places in zip(figure.axes, ([16, 32, 32], [1 / 16, 1 / 32, 1 / 16])):
        drawn = [np.transpose(line.get_data()).ravel() for line in ax.lines]
        expected = [
            (places[0], 10, places[0], 30),
            (places[1], 10),
            (places[0], 20, places[1], 10),
            (places[2], 40),
            (places[2], 40),
        ]
        for found, wanted in zip(drawn, expected):
            np.testing.assert_allclose(found, wanted)
        assert ax.lines[-1].get_ydata() == [10, 10]
    # Where the time is one, a size says what a number does.
    spheres = results(16, 1.0, 0.2, model="concentric_spheres_2d")
    both = studies.draw_gaps([settings[0], spheres])
    assert [(ax.get_title(), ax.get_xlabel()) for ax in both.axes] == [
        ("Three Minima", "steps"),
        ("Concentric spheres 2d", "steps"),
    ]


def test_the_page_of_a_study_counts_the_runs_that_failed(tmp_path):
    accuracy = {"train_solver": 0.8, "reference": 0.7, "rk4_fine": 0.6}
    common = {"versions": {"machine": "m", "jax": "1"}, "backend": "jax", "device": "d"}
    common["commit"] = "c"

    def results(num_steps, errors):
        runs = [Run("energy_landscape", num_steps, seed, 50) for seed in range(len(errors))]
        outcomes = [{"error": "nan"} if error else {"accuracy": accuracy} for error in errors]
        return [
            {"run": dataclasses.asdict(run), **common, **one} for run, one in zip(runs, outcomes)
        ]

    settings = [results(16, [True, True]), results(32, [False, True]), []]
    planned = [3, 3, 3]
    studies.report({"inputs": settings}, {"inputs": planned}, tmp_path, "a command")
    page = (tmp_path / "inputs.md").read_text()
    with Image.open(tmp_path / "inputs.png") as picture:
        assert (picture.format, picture.mode) == ("PNG", "P")
    assert "](inputs.png)" in page
    lines = [line for line in page.splitlines() if line.startswith("| Three")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert [line[3:] for line in cells] == [
        ["16", "0.0625", "0 of 3", "", "", "", ""],
        ["32", "0.0312", "1 of 3", "80.0", "70.0", "60.0", "10.0"],
    ]
    assert "Runs: 4 of commit c" in page
    failed = studies.cells_of_regularization(results(None, [True]), 3)
    assert failed == ("Three Minima", "0", "0", "0", "0 of 3", *[""] * 7)
