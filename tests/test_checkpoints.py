"""A training that is interrupted and taken up ends as one that was not."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

import tfnode
import zoo
from scripts import machine
from scripts.paper import checkpoints, experiments, measurements, origins, runs


class Interruption(Exception):
    pass


def interrupt_at(fraction):
    def report(finished):
        if finished >= fraction:
            raise Interruption

    return report


def fit(run, directory=None, interrupted=None):
    report = interrupt_at(interrupted) if interrupted else lambda finished: None
    return experiments.fit(run, report, directory)


@pytest.mark.parametrize(
    "interruptions, options",
    [
        # Climbs to the midpoint method.
        (2, {"solver": "euler", "policy": "damped", "start_steps": 1}),
        (1, {"solver": "euler", "policy": "paper", "batch_size": 32, "average": 0.9}),
    ],
    ids=["damped", "paper"],
)
def test_goes_on_to_the_same_result(tmp_path, monkeypatch, interruptions, options):
    monkeypatch.setattr(checkpoints, "_SECONDS_BETWEEN", 0)
    # Functions of the weights, and most of the time.
    monkeypatch.setattr(measurements, "sweep", lambda model, test: {})
    monkeypatch.setattr(measurements, "final_accuracies", lambda *of: {})
    options = {"num_steps": None, "rk4_steps": 8, "test_samples": 100, **options}
    run = runs.Run("concentric_spheres_2d", seed=1, iterations=100 * interruptions, **options)
    straight, expected = fit(run)
    for i in range(interruptions):
        with pytest.raises(Interruption):
            fit(run, tmp_path / "checkpoints", interrupted=(i + 1) / interruptions)
        # The report comes before the checkpoint of its iteration.
        saved = 50 + 100 * i
        names = [path.name for path in (tmp_path / "checkpoints").iterdir()]
        assert names == [f"iteration_{saved:06d}"]
    content = json.loads((tmp_path / "checkpoints" / names[0] / "states.json").read_text())
    saved_seconds = content["states"]["curve"]["seconds"]
    resumed, result = fit(run, tmp_path / "checkpoints")
    ours, theirs = (model.get_layer("ode_block") for model in (resumed, straight))
    assert ours.solver == theirs.solver
    np.testing.assert_array_equal(ours.adaption_memory, theirs.adaption_memory)
    for ours, theirs in zip(resumed.trainable_weights, straight.trainable_weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert {"shrink", "grow", "climb"} & set(result["history"]["action"])
    if run.policy == "damped":
        # Before the last checkpoint, so that the resumed model has begun with the better method.
        assert result["history"]["action"].index("climb") < 3
    # The time of the parts, the lost ones left out.
    assert result.pop("seconds") > saved_seconds > 0
    expected.pop("seconds")
    assert result.pop("loss") == pytest.approx(expected.pop("loss"), rel=1e-6)
    assert result == expected


def test_the_average_of_a_run_interrupted_while_it_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "_SECONDS_BETWEEN", 0)
    run = runs.Run("concentric_spheres_2d", 1, 0, 50, rk4_steps=8, test_samples=10, average=0.9)
    measured = []

    def interrupted(run, model, *of, **callbacks):
        measured.append(model.get_weights())
        raise Interruption

    monkeypatch.setattr(experiments, "_measured", interrupted)
    for _ in range(2):
        with pytest.raises(Interruption):
            fit(run, tmp_path)
    for ours, theirs in zip(*measured, strict=True):
        np.testing.assert_array_equal(ours, theirs)


RUN = runs.Run("concentric_spheres_2d", 1, 0, 100, rk4_steps=8, test_samples=10)


@pytest.fixture(scope="module")
def left(tmp_path_factory):
    """What `RUN` leaves that is interrupted at its end."""
    directory = tmp_path_factory.mktemp("left")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Interruption):
        patch.setattr(checkpoints, "_SECONDS_BETWEEN", 0)
        fit(RUN, directory, interrupted=1)
    return directory


@pytest.fixture
def interrupted(left, tmp_path):
    """A copy of it."""
    return shutil.copytree(left, tmp_path / "interrupted")


def test_a_checkpoint_of_another_run_is_refused(interrupted):
    with pytest.raises(ValueError, match="goes on from a checkpoint of its own") as error:
        fit(dataclasses.replace(RUN, gradient="backprop"), interrupted)
    assert f"Remove {interrupted}." in str(error.value)


def test_a_checkpoint_older_than_an_option_is_taken_up(interrupted, monkeypatch):
    (states,) = interrupted.glob("*/states.json")
    content = json.loads(states.read_text())
    del content["origin"]["run"]["look_ahead"]
    states.write_text(json.dumps(content))

    def taken_up(model, *of, **callbacks):
        assert int(model.optimizer.iterations) == 50
        raise Interruption

    monkeypatch.setattr(experiments, "compiled", pytest.fail)
    monkeypatch.setattr(experiments, "_train", taken_up)
    with pytest.raises(Interruption):
        fit(RUN, interrupted)


def test_every_place_is_named_where_a_training_has_gone_on(interrupted, monkeypatch):
    (states,) = interrupted.glob("*/states.json")
    here = json.loads(states.read_text())["origin"]
    here.pop("run")
    monkeypatch.setattr(experiments, "_train", lambda *of, **callbacks: None)
    monkeypatch.setattr(experiments, "_measured", lambda *of, **callbacks: {})
    monkeypatch.setenv(machine.COMMIT, "b" * 40)
    monkeypatch.setattr(experiments, "_device", lambda: "A GPU")
    _, result = fit(RUN, interrupted)
    assert (result["commit"], result["device"]) == ("b" * 40, "A GPU")
    assert result["earlier"] == [here]
    device, commit = here["device"], machine.short_commit(here["commit"])
    version = here["versions"]["tensorflow"]
    assert origins.in_words([result]) == (
        f"Runs: 1 of commit {'b' * 10} on A GPU by tensorflow {version} in float32, begun by "
        f"commit {commit} on {device} by tensorflow {version}."
    )
    # Back where it was begun.
    there = {**result, "run": {}}
    assert experiments._earlier({**there, "earlier": [here]}, {"run": {}, **here}) == [
        {name: result[name] for name in here}
    ]


def test_checks_have_samples_of_their_own():
    def first_batch(**options):
        run = runs.Run("concentric_spheres_2d", None, 0, 10, batch_size=8, **options)
        return next(iter(experiments._batches(run, 0, run.check_samples)))[0]

    assert first_batch().shape == (8, 2)
    assert first_batch(check_samples=32).shape == (32, 2)


def test_a_run_starts_from_the_weights_that_it_names():
    name = "energy_landscape_rk4_damped_v1"
    options = {"solver": "rk4", "start_steps": 4, "weights": name}
    model = experiments.compiled(runs.Run("energy_landscape", None, 0, 10, **options))
    assert model.get_layer("ode_block").solver == tfnode.solvers.RK4(1 / 4)
    there = zoo.get_model("energy_landscape", weights=name)
    for ours, theirs in zip(model.trainable_weights, there.trainable_weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_run_replaces_what_it_names_in_the_recipe():
    run = runs.Run(
        "mnist", None, 0, 10, optimizer="adam", learning_rate=1e-3, batch_size=32, start_steps=1
    )
    recipe, paper = run.recipe(), zoo.get_recipe("mnist")
    assert (recipe.optimizer, recipe.learning_rate, recipe.batch_size) == ("adam", 1e-3, 32)
    assert (recipe.dataset, recipe.loss, recipe.iterations) == ("mnist", paper.loss, 10)
    assert run.start_solver().step_size == 1.0
    assert runs.Run("mnist", 4, 0, 7020).recipe() == paper
    changes = {"start_steps": 2, "check_every": 100, "check_samples": 64, "optimizer": "sgd"}
    changes |= {
        "learning_rate": 1e-2,
        "batch_size": 16,
        "test_samples": 5,
        "rk4_steps": 8,
        "average": 0.9,
        "weights": "mnist_rk4_damped_small_v1",
    }
    others = [dataclasses.replace(run, **{name: value}) for name, value in changes.items()]
    assert len({other.path for other in (run, *others)}) == 1 + len(changes)
