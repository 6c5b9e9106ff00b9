"""The command that reproduces the figures: end to end, again without training."""

import dataclasses
import json

import keras
import numpy as np

import tfnode
from scripts import reproduce_figures
from scripts.paper import measurements, runner
from scripts.paper.figures_by_number import FIGURES


def test_end_to_end_and_again(tmp_path, capsys, monkeypatch):
    options = ["--seeds", "1", "--iterations", "50", "--jobs", "1"]
    places = ["--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]
    assert reproduce_figures.main(["--quick", *options, *places, "1", "2"]) == 0
    printed = capsys.readouterr().out
    assert f"Written: {tmp_path / 'out' / 'figure01.png'}" in printed
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [
        "README.md",
        *(f"figure0{i}.{e}" for i in "12" for e in ("json", "pdf", "png")),
    ]
    note = json.loads((tmp_path / "out" / "figure01.json").read_text())
    assert (note["setting"], note["runs"], note["finished"]) == ("quick", 2, 2)
    page = (tmp_path / "out" / "README.md").read_text()
    assert "Drawn from 2 of 2 runs in the quick setting, 50 iterations." in page
    assert page.count("`python scripts/reproduce_figures.py --quick --seeds 1 --iterations 50") == 2
    assert "Not drawn yet, as none of their runs is there: 3, 4, 5, " in page
    paths = [
        json.loads(p.read_text())["paths"] for p in sorted((tmp_path / "runs").rglob("*.json"))
    ]
    shapes = [
        (p["num_steps"], len(p["states"]), len(p["states"][0]), len(p["classes"])) for p in paths
    ]
    assert shapes == [(8, 9, 30, 30), (256, 65, 30, 30)]

    monkeypatch.setattr(runner, "run_all", None)
    assert reproduce_figures.main(["--quick", "--finished", *options, *places, "1", "3"]) == 0
    printed = capsys.readouterr().out
    assert "figure01.png" in printed
    left_out = f"Figure 3 needs a finished run below {tmp_path / 'runs'} and is left out."
    assert left_out in printed


def test_paths_are_kept_every_fourth_step_and_their_crossings_are_those_of_all():
    """Of a turn around 0, of which coarse steps of Euler's method make spirals outwards."""
    field = keras.layers.Dense(2, use_bias=False, name="turn")
    block = tfnode.ODEBlock(field, tfnode.solvers.Euler(1 / 8), t1=32.0, name="ode_block")
    model = keras.Sequential([keras.Input((2,)), block])
    field.set_weights([np.array([[0.0, 1.0], [-1.0, 0.0]])])
    x = np.random.default_rng(0).normal(size=(40, 2)).astype("float32") / 100
    every = tfnode.validity.crossings(model, x[:30])
    kept = measurements.paths(model, x)
    assert (len(kept["states"]), kept["num_steps"], kept["crossings"]) == (65, 256, every.count)
    np.testing.assert_allclose(kept["states"], every.states[::4], atol=1e-4)
    np.testing.assert_allclose(kept["points"], every.points, atol=1e-4)
    assert every.count > 0


def test_failed_runs_are_told_from_those_that_were_not_run(tmp_path, capsys):
    arguments = ["--quick", "--finished", "--seeds", "2", "--iterations", "49"]
    arguments += ["--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]
    (tmp_path / "runs").mkdir()
    args = reproduce_figures.parse(arguments)
    euler, rk4 = FIGURES[17].runs(args).values()
    small, large = FIGURES[1].runs(args).values()
    (adapted, *_) = FIGURES[6].runs(args).values()
    columns = {"solver": ["Euler"] * 2, "factor": [1, 0.5], "step_size": [1, 0.5]}
    common = {"versions": {"machine": "m", "jax": "1"}, "backend": "jax", "commit": "c"}
    accuracies = {
        "accuracy": {"train_solver": 0.8, "reference": 0.7, "rk4_fine": 0.7},
        "solvers": {"train_solver": {"class_name": "Euler"}},
        "sweep": {**columns, "accuracy": [0.8, 0.7]},
        "test_curve": {},
    }
    for run in (*euler[:2], *rk4[:2], *small, *large, *adapted):
        failed = run in (euler[1], *rk4[:2], *large)
        outcome = {"error": "The loss is nan"} if failed else accuracies
        result = {"run": dataclasses.asdict(run), "device": "d", **common, **outcome}
        path = tmp_path / "runs" / run.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result))
    # What lacks something does not keep the others from being drawn.
    assert reproduce_figures.main([*arguments, "1", "5", "6", "17", "18"]) == 0
    printed = capsys.readouterr().out
    for number, words in {
        1: "a finished run of each panel",
        5: "a finished run of 50 iterations or more, which has a curve,",
        6: "a finished run of 50 iterations or more, which has a curve,",
        18: "a finished run",
    }.items():
        assert f"Figure {number} needs {words} below {tmp_path / 'runs'} and is left" in printed
    title = "Concentric spheres 3d, trained with"
    note = json.loads((tmp_path / "out" / "figure17.json").read_text())
    failed = [f"{title} Euler (1 of {len(euler)})", f"{title} RK4 (2 of {len(rk4)})"]
    assert note["failed"] == failed
    assert (note["finished"], note["not_run"]) == (1, [])
    in_part = [f"{title} Euler (2 of {len(euler)} runs)", f"{title} RK4 (2 of {len(rk4)} runs)"]
    assert note["in_part"] == in_part
    page = (tmp_path / "out" / "README.md").read_text()
    assert f"Failed: {', '.join(failed)}. In part: {', '.join(in_part)}.*" in page
