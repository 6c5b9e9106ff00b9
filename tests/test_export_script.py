"""The command that rebuilds the exported zoo, and the Python of docs/serving.md."""

import fences
import numpy as np
import pytest

import tfnode
import zoo
from scripts import export_saved_models
from tfnode.solvers import DormandPrince, Euler, Midpoint
from zoo import verification

X = np.random.default_rng(0).uniform(-1, 1, (60, 2)).astype("float32")


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Runs the command on 60 points; returns the exit status, the output and the errors."""

    def load(name, split, as_numpy):
        assert (name, as_numpy) == ("energy_landscape/three_minima", True)
        x = {"test": X, "test[:50]": X[:50]}[split]
        return x, np.zeros(len(x), int)

    monkeypatch.setattr(tfnode.datasets, "load", load)

    def run(*arguments):
        options = ("--models", "energy_landscape", "--reference-steps", "8")
        status = export_saved_models.main([*options, "--out", str(tmp_path / "out"), *arguments])
        return status, *capsys.readouterr()

    return run


def test_a_valid_model_and_a_finer_solver(command, tmp_path):
    weights = tmp_path / "model.weights.h5"
    # Zero logits, so that every solver predicts class 0.
    model = zoo.get_model("energy_landscape", step_size=1 / 2)
    model.get_layer("logits").set_weights([np.zeros((2, 3)), np.zeros(3)])
    model.save_weights(weights)
    status, output, errors = command("--weights", str(weights), "--samples", "50")
    assert (status, errors) == (0, "")
    out = tmp_path / "out"
    base = out / "energy_landscape"
    lines = output.splitlines()
    assert lines[:2] == [f"Written: {base}/euler_h0p5/1", f"Written: {base}/midpoint_h0p1/1"]
    assert lines[-1] == f"Written: {out}/models.config"
    assert not (base / "models.config").exists()
    config = (out / "models.config").read_text()
    assert 'base_path: "/models/energy_landscape/midpoint_h0p1"' in config
    # Each of the two by its two names.
    assert config.count('key: "stable" value: 1') == 4
    assert 'name: "energy_landscape_midpoint_10_steps"' in config
    card = (base / "euler_h0p5" / "1" / "assets.extra/validity.json").read_text()
    assert '"num_samples": 50' in card
    assert '"name": "energy_landscape/three_minima, test[:50]"' in card


def test_a_model_that_is_no_ode_is_left_out(command, tmp_path, monkeypatch):
    model = zoo.get_model("energy_landscape", step_size=1.0)
    # dz/dt = -3 z: one step of Euler's method changes the sign of the state, the flow does not.
    eye, zeros = np.eye(48), np.zeros(48)
    block = model.get_layer("ode_block")
    into = np.stack([eye[0] - eye[1], eye[2] - eye[3]])
    block.field.set_weights([into, zeros, eye, zeros, -3 * into.T, zeros[:2]])
    kernel, bias = np.array([[-1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]), np.array([0.0, 0.0, -9.0])
    model.get_layer("logits").set_weights([kernel, bias])
    monkeypatch.setattr(zoo, "get_model", lambda name, weights: model)
    status, output, errors = command("--weights", "none")
    assert status == 1
    gap = abs((X[:, 0] > 0).mean() - (X[:, 0] < 0).mean())
    assert output.startswith(f"energy_landscape is bound to its solver: gap {gap:.4f}")
    assert errors.startswith("energy_landscape is left out. With require_valid=True")
    assert errors.endswith("Left out: energy_landscape\n")
    assert not (tmp_path / "out").exists()
    status, _, _ = command("--weights", "none", "--include-invalid")
    assert status == 0
    config = (tmp_path / "out" / "models.config").read_text()
    assert 'key: "canary" value: 1' in config
    assert "stable" not in config


@pytest.mark.parametrize(
    "solver, finer",
    [
        (Euler(1 / 2), Midpoint(1 / 10)),
        (tfnode.solvers.RK4(1 / 4), tfnode.solvers.RK4(1 / 8)),
        (DormandPrince(1e-3, 1e-3), DormandPrince(1e-4, 1e-4)),
    ],
    ids=str,
)
def test_the_finer_solver(solver, finer):
    block = zoo.get_model("energy_landscape", solver=solver).get_layer("ode_block")
    own, found = verification.served_solvers(block)
    assert own == block.solver
    assert type(found) is type(finer)
    if isinstance(found, DormandPrince):
        assert (found.rtol, found.atol) == pytest.approx((finer.rtol, finer.atol))
    else:
        assert found.step_size == pytest.approx(finer.step_size)


def test_a_model_whose_weights_cannot_be_loaded_is_left_out(command, tmp_path):
    weights = tmp_path / "cut_short.weights.h5"
    weights.write_bytes(b"")
    status, output, errors = command("--weights", str(weights))
    assert (status, output) == (1, "")
    assert errors.startswith("energy_landscape is left out. ")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments", [["--models", "nonsense"], ["--samples", "0"], ["--outt", "a"]]
)
def test_misuse(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        export_saved_models.main(arguments)
    assert stopped.value.code == 2
    assert "error: " in capsys.readouterr().err


def test_the_export_of_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (code,) = fences.of("docs/serving.md", "python", 0)
    names = {}
    exec(code, names)
    assert [str(path) for path in names["paths"]] == [
        "served/energy_landscape/euler_h0p125/1",
        "served/energy_landscape/rk4_h0p0625/1",
    ]
    assert (tmp_path / "served" / "models.config").exists()
