"""The command that makes weights of the zoo: published once, trained again to the same."""

import dataclasses
import json

import numpy as np
import pytest

import tfnode
import zoo
from scripts import command_line, train
from scripts.paper import checkpoints, data, experiments, measurements
from scripts.publishing import entries, goldens, measuring, places, training
from tfnode import files
from zoo import manifest, reports, weights

FEW_STEPS = {"rk4_steps": 8, "test_samples": None}
NAME = "energy_landscape_euler_coarse_v1"


@pytest.fixture
def empty_zoo(tmp_path, monkeypatch):
    """An empty zoo."""
    empty = tmp_path / "weights.json"
    empty.write_text(json.dumps({"weights": {}, "default": {}}))
    monkeypatch.setattr(manifest, "PATH", empty)
    monkeypatch.setattr(weights, "SHIPPED", tmp_path / "pretrained")
    monkeypatch.setattr(places, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(places, "GOLDEN", tmp_path / "golden")
    monkeypatch.setattr(reports, "DIRECTORY", tmp_path / "reports")
    monkeypatch.setattr(measuring, "EXTENTS", {"energy_landscape": FEW_STEPS})
    # XLA would compile each training for longer than it takes.
    monkeypatch.setattr(experiments, "_COMPILED", ())
    # A function of the weights, and most of the time.
    monkeypatch.setattr(measurements, "sweep", lambda model, test: {})
    return tmp_path


def test_a_recipe_goes_on_from_weights_of_its_model():
    run = training.run_of("mnist", "rk4_damped_tuned", seed=0, iterations=10)
    assert (run.weights, run.iterations, run.rk4_steps) == ("mnist_rk4_damped_small_v1", 10, 8)
    run = training.run_of("mnist", "rk4_damped_small", seed=2, iterations=None)
    assert (run.weights, run.iterations, run.seed) == (None, 7020, 2)


def test_a_recipe_for_a_few_cores_has_the_papers_optimizer_and_checks():
    name = "concentric_spheres_900d"
    run = training.run_of(name, "rk4_damped_batch16", seed=0, iterations=None)
    papers = zoo.get_recipe(name)
    assert run.recipe() == dataclasses.replace(papers, batch_size=16)
    assert run.check_samples == papers.batch_size


@pytest.mark.parametrize("model", ["energy_landscape", "mnist", "cifar10"])
def test_nothing_is_chosen_by_the_test_set(model, monkeypatch):
    loaded = []
    arrays = np.zeros((3000, 2)), np.zeros(3000)
    monkeypatch.setattr(data, "load", lambda name, split: loaded.append(split) or arrays)
    run = training.run_of(model, "rk4_damped", seed=0, iterations=10)
    x, y = experiments._to_choose_by(run)
    (split,) = loaded
    assert split in set(data.splits(run.recipe().dataset)) - {"test"}
    assert (len(x), len(y)) == ((3000, 3000) if model == "energy_landscape" else (1000, 1000))


def test_a_weight_is_published_once_and_repeated(empty_zoo, capsys, monkeypatch):
    judge, verdict, splits = measuring.judge, {"is_ode": False}, []

    def judged(model, dataset, rk4_steps, samples, split="test"):
        splits.append(split)
        return dataclasses.replace(judge(model, dataset, rk4_steps, samples, split), **verdict)

    fit, trained = experiments.fit, []
    monkeypatch.setattr(measuring, "judge", judged)
    monkeypatch.setattr(experiments, "fit", lambda *of: trained.append(fit(*of)) or trained[-1])
    arguments = ["--model", "energy_landscape", "--recipe", "euler_coarse", "--iterations", "50"]
    arguments += ["--checkpoints", str(empty_zoo / "checkpoints")]
    assert train.main([*arguments, "--default"]) == 1
    assert f"must be an ODE. Received: {NAME} with a gap" in capsys.readouterr().err
    assert manifest.read().default == {}
    # No choice is made by the test set.
    assert splits == ["test", "validation"]
    entry = manifest.read().weights[NAME]
    assert (entry.solver.step_size, entry.seed, entry.recipe["iterations"]) == (0.5, 0, 50)
    assert (entry.recipe["optimizer"], entry.recipe["num_steps"]) == ("adam", 2)
    assert entry.recipe["batch_size"] == 128
    result = json.loads((empty_zoo / "results" / f"{NAME}.json").read_text())
    assert entry.accuracy["train_solver"] == pytest.approx(result["accuracy"]["train_solver"])
    golden = json.loads((empty_zoo / "golden" / f"{NAME}.json").read_text())
    model = zoo.get_model("energy_landscape", weights=NAME)
    x = goldens.inputs(golden["inputs"])
    np.testing.assert_allclose(model(x), golden["outputs"][0]["logits"], rtol=1e-5, atol=1e-6)

    before = manifest.PATH.read_text()
    # As if it had been killed between the manifest and the golden, which the same command writes.
    (empty_zoo / "golden" / f"{NAME}.json").unlink()
    assert train.main(arguments) == 0
    again = json.loads((empty_zoo / "golden" / f"{NAME}.json").read_text())
    assert again == golden
    assert f"{NAME} is published, and this training gives the same." in capsys.readouterr().out
    assert train.main([*arguments, "--seed", "1"]) == 1
    assert "Received: seed=1, published 0. Ask for" in capsys.readouterr().err
    assert manifest.PATH.read_text() == before

    verdict["is_ode"] = True
    # Trained twice, and what the recipe gives is known.
    assert len(trained) == 2
    monkeypatch.setattr(experiments, "fit", lambda *of: trained[0])
    second = NAME.replace("v1", "v2")
    assert train.main([*arguments, "--version", "2", "--default"]) == 0
    assert manifest.read().default == {"energy_landscape": second}
    monkeypatch.setattr(training, "compare", lambda model, entry: False)
    assert train.main(arguments) == 1
    assert "Its last checkpoint stays in" in capsys.readouterr().err


def test_what_another_machine_has_trained_is_published(empty_zoo, monkeypatch):
    run = training.run_of("energy_landscape", "euler_coarse", seed=0, iterations=50)
    run = dataclasses.replace(run, rk4_steps=16, test_samples=50)
    model, result = experiments.fit(run, lambda finished: None)
    monkeypatch.setattr(places, "RUNS", empty_zoo / "runs")
    files.write_json(empty_zoo / "runs" / run.path, result)
    path = empty_zoo / "came back" / run.weights_path
    path.parent.mkdir(parents=True)
    model.save_weights(path)
    report = measuring.judge(model, run.recipe().dataset, run.rk4_steps, run.test_samples)
    judged = empty_zoo / "came back" / run.report_path
    judged.write_text(report.to_json(), encoding="utf-8")

    # It is neither trained nor judged again.
    monkeypatch.setattr(training.experiments, "fit", None)
    monkeypatch.setattr(measuring, "judge", None)
    arguments = ["--model", "energy_landscape", "--recipe", "euler_coarse", "--iterations", "50"]
    with pytest.raises(command_line.Stop, match="published under the recipe that it was trained"):
        train.main([*arguments, "--seed", "1", "--trained", str(path)])
    other = path.with_name(f"another_{path.name}")
    other.touch()
    with pytest.raises(command_line.Stop, match="The result of a run that is published lies in"):
        train.main([*arguments, "--trained", str(other)])
    assert manifest.read().weights == {}
    assert train.main([*arguments, "--trained", str(path)]) == 0
    entry = manifest.read().weights[NAME]
    assert (entry.rk4_steps, entry.test_samples) == (report.rows[-1].num_steps, 50)
    assert entry.accuracy["train_solver"] == report.rows[0].accuracy
    assert reports.read(entry) == report
    assert command_line.read_json(places.RESULTS / f"{NAME}.json")["elsewhere"] is True
    there = zoo.get_model("energy_landscape", weights=NAME)
    for ours, theirs in zip(there.trainable_weights, model.trainable_weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_an_interrupted_training_goes_on(empty_zoo, monkeypatch):
    monkeypatch.setattr(checkpoints, "_SECONDS_BETWEEN", 0)
    extent = {**FEW_STEPS, "test_samples": 100}
    monkeypatch.setattr(measuring, "EXTENTS", {"energy_landscape": extent})
    arguments = ["--model", "energy_landscape", "--recipe", "euler_coarse", "--iterations", "100"]
    arguments += ["--checkpoints", str(empty_zoo / "checkpoints")]
    seen = []

    class Interrupted(training.Progress):
        def update(self, task, completed, refresh):
            seen.append(completed)
            if len(seen) == 2:
                raise KeyboardInterrupt

    monkeypatch.setattr(training, "Progress", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        train.main(arguments)
    (found,) = (empty_zoo / "checkpoints").glob("*/*/iteration_*")
    assert found.name == "iteration_000050"
    assert train.main(arguments) == 0
    # It did not begin again, and the checkpoint has served its time.
    assert seen == [0.5, 1.0, 1.0]
    assert not found.parent.exists()
    entry = manifest.read().weights[NAME]
    assert (entry.rk4_steps, entry.test_samples) == (8, 100)


def test_a_published_weight_remembers_no_rule(tmp_path):
    model = zoo.get_model("energy_landscape", solver="euler", step_size=1 / 8)
    block = model.get_layer("ode_block")
    # As a training leaves it that has climbed.
    block.methods = (tfnode.solvers.Euler(1 / 8), tfnode.solvers.RK4(1 / 8))
    block.solver = tfnode.solvers.RK4(1 / 4)
    block.adaption_memory.assign(np.ones(8))
    path = entries.save(model, tmp_path / "energy_landscape_rk4_v1.weights.h5")
    there = zoo.get_model("energy_landscape", weights=path, solver="rk4")
    assert there.get_layer("ode_block").solver == tfnode.solvers.RK4(1 / 4)
    assert not there.get_layer("ode_block").adaption_memory.numpy().any()
    for ours, theirs in zip(there.trainable_weights, model.trainable_weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_what_cannot_be_published_is_not_trained(empty_zoo, monkeypatch):
    (empty_zoo / "golden").touch()
    monkeypatch.setattr(training.experiments, "fit", None)
    arguments = ["--model", "energy_landscape", "--recipe", "euler_coarse"]
    with pytest.raises(command_line.Stop, match="must be a directory that can be written to"):
        train.main([*arguments, "--checkpoints", str(empty_zoo / "checkpoints")])
