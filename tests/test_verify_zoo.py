"""The command that measures the pretrained weights again."""

import numpy as np
import pytest
from stand_ins import StandInZoo

import tfnode
import zoo
from scripts import verify_zoo
from scripts.models import IMAGES
from scripts.publishing import measuring
from zoo import verification


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    return StandInZoo(tmp_path, monkeypatch)


def printed_table(capsys):
    """The lines of the table, which a progress bar may go before if it takes long."""
    lines = capsys.readouterr().out.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("weights"))
    return lines[start:]


@pytest.mark.parametrize("test_samples", [None, 100])
def test_measures_are_those_of_the_whole_test_set_or_of_its_first_samples(stand_in, test_samples):
    _, model = stand_in.add()
    judged = measuring.judge(model, "energy_landscape/three_minima", 16, test_samples)
    found = verification.measure(model, judged, test_samples)
    x, y = tfnode.datasets.load("energy_landscape/three_minima", "test", as_numpy=True)
    assert len(x) == 1000
    x, y = x[:test_samples], y[:test_samples]
    assert found["test_samples"] == test_samples
    twin = tfnode.with_solver(model, tfnode.solvers.RK4(1 / 16))
    for name, measured in {"train_solver": model, "rk4_fine": twin}.items():
        right = np.argmax(np.array(measured(x)), axis=1) == y
        assert found["accuracy"][name] == right.mean()
    report = tfnode.validity.check(model, (x, y), reference_steps=16, verbose=0)
    assert (found["is_ode"], found["gap"]) == (report.is_ode, report.gap)
    assert (found["parameters"], found["rk4_steps"]) == (2603, 16)
    assert found["solver"] == tfnode.solvers.serialize(tfnode.solvers.Euler(1 / 8))


def test_weights_that_agree(stand_in, capsys):
    name, model = stand_in.add(rk4_steps=8)
    report = measuring.judge(model, "energy_landscape/three_minima", 8, None)
    stand_in.change(name, **verification.measure(model, report, None))
    assert verify_zoo.main([]) == 0
    header, *rows = printed_table(capsys)
    assert header.split() == ["weights", "quantity", "expected", "found"]
    assert [row.split()[:2] for row in rows] == [
        [name, quantity]
        for quantity in (
            *("parameters", "rk4_steps", "solver", "is_ode"),
            *("train_solver", "rk4_fine", "gap"),
        )
    ]
    for row in rows:
        _, _, expected, found = row.split()
        assert expected == found


@pytest.mark.parametrize(
    "found, quantity",
    [
        ({"parameters": 2604}, "parameters"),
        ({"is_ode": True}, "is_ode"),
        ({"gap": 0.235 + 0.0021}, "gap"),
        ({"gap": 0.235 - 0.002}, None),
        ({"accuracy": {"train_solver": 0.985, "rk4_fine": 0.7479}}, "rk4_fine"),
        ({"accuracy": {"train_solver": 0.9871, "rk4_fine": 0.75}}, "train_solver"),
        ({"accuracy": {"train_solver": 0.987, "rk4_fine": 0.752}}, None),
        ({"accuracy": {"train_solver": 0.985, "rk4_fine": float("nan")}}, "rk4_fine"),
    ],
)
def test_a_number_that_differs(stand_in, monkeypatch, capsys, found, quantity):
    name, _ = stand_in.add()
    measured = {**stand_in.content["weights"][name], **found}
    monkeypatch.setattr(verification, "measure", lambda *_: measured)
    monkeypatch.setattr(verification, "judge", lambda *_: None)
    assert verify_zoo.main([name]) == (0 if quantity is None else 1)
    rows = [row.split() for row in printed_table(capsys)[1:] if row.endswith("differs")]
    assert [row[:2] for row in rows] == ([] if quantity is None else [[name, quantity]])
    assert all(row[2] != row[3] for row in rows)


def test_a_step_size_that_is_not_the_files_differs(stand_in, capsys):
    name, _ = stand_in.add(rk4_steps=8)
    stand_in.change(name, solver=tfnode.solvers.serialize(tfnode.solvers.Euler(1 / 4)))
    assert verify_zoo.main([]) == 1
    rows = [row.split() for row in printed_table(capsys)]
    row = [name, "solver", "Euler(step_size=0.25)", "Euler(step_size=0.125)", "differs"]
    assert row in rows


def test_quick_leaves_the_images_out(stand_in, monkeypatch, capsys):
    image, _ = stand_in.add("mnist", tfnode.solvers.Euler(1.0))
    name, _ = stand_in.add()
    compared = []
    monkeypatch.setattr(verification, "compare", lambda entry: compared.append(entry.name) or [])
    for arguments, expected in {
        (): [image, name],
        ("--quick",): [name],
        (image,): [image],
    }.items():
        compared.clear()
        assert verify_zoo.main(arguments) == 0
        assert compared == expected


def test_quick_takes_no_names(stand_in, capsys):
    name, _ = stand_in.add()
    with pytest.raises(SystemExit) as error:
        verify_zoo.main(["--quick", name])
    assert error.value.code == 2
    assert f"Received: {[name]}" in capsys.readouterr().err


def test_an_empty_manifest_and_an_unknown_name(stand_in, capsys):
    assert verify_zoo.main([]) == 0
    assert capsys.readouterr().out == "There are no weights to verify.\n"
    with pytest.raises(SystemExit) as error:
        verify_zoo.main(["mnist_euler_fresh_v1"])
    assert error.value.code == 2
    assert "Received: name='mnist_euler_fresh_v1'" in capsys.readouterr().err


def test_the_synthetic_data_sets_are_all_others():
    datasets = {zoo.get_recipe(model).dataset for model in zoo.list_models()}
    assert set(IMAGES) < datasets
    assert all(
        name.split("/")[0] in ("concentric_spheres", "energy_landscape")
        for name in datasets - set(IMAGES)
    )
