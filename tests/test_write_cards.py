"""The cards of pretrained weights: what they say, and that every weight has one."""

import csv
import dataclasses
import json
import re

import numpy as np
import pytest
from stand_ins import StandInZoo

import tfnode
import zoo
from scripts import write_cards
from scripts.publishing import card_index, cards, costs, measuring, places, wording
from zoo import facts, reports

RECIPE = {"optimizer": "adam", "learning_rate": 5e-4, "batch_size": 128, "iterations": 10}


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "CARDS", tmp_path / "cards")
    monkeypatch.setattr(places, "RESULTS", tmp_path)
    monkeypatch.setattr(places, "WHOLE_TEST_SETS", tmp_path / "whole_test_sets.json")
    monkeypatch.setattr(places, "ANSWER_TIMES", tmp_path / "benchmark_zoo.json")
    return StandInZoo(tmp_path, monkeypatch)


def judged(name, model):
    """The verdict that a weight is published with."""
    entry = zoo.manifest.read().weights[name]
    report = measuring.judge(model, entry.dataset, entry.rk4_steps, entry.test_samples)
    reports.write(entry, report)
    return report


def test_a_card_is_written_from_manifest_run_and_verdict(stand_in, tmp_path, monkeypatch):
    name, model = stand_in.add(rk4_steps=16, recipe=RECIPE)
    result = {"run": {"num_steps": 8}, "seconds": 12.4}
    (tmp_path / f"{name}.json").write_text(json.dumps(result))
    report = judged(name, model)
    assert write_cards.main([name]) == 0

    page = (tmp_path / "cards" / f"{name}.md").read_text()
    verdict = "An ODE" if report.is_ode else "Not an ODE"
    trained, fine = report.rows[0], report.rows[-1]
    assert f"**{verdict}: {100 * trained.accuracy:.1f} % under the solver of its" in page
    assert f"{100 * fine.accuracy:.1f} % under RK4 with 16 steps" in page
    assert page.count("\n| Euler ") + page.count("\n| Midpoint ") + page.count("\n| RK4 ") == len(
        report.rows
    )
    (first, *_) = [line for line in page.splitlines() if line.startswith("| Euler ")]
    assert [cell.strip() for cell in first.split("|")[1:5]] == ["Euler", "8", "0.1250", "8"]
    assert "--model energy_landscape --recipe euler_fresh --iterations 10`" in page
    assert "On the 1000 samples of the test set. *Loses*" in page
    assert "- 10 iterations of 128 samples with adam, learning rate 0.0005, seed 0" in page
    assert "- 8 steps of Euler throughout" in page
    assert stand_in.content["weights"][name]["sha256"] in page
    assert (tmp_path / "cards" / f"{name}.png").stat().st_size > 5000

    names = {}
    x = np.random.default_rng(0).uniform(-1, 1, (8, 2))
    load, serve = [part.split("```")[0] for part in page.split("```python\n")[1:]]
    exec(load, names)
    np.testing.assert_array_equal(names["model"](x), model(x))
    monkeypatch.chdir(tmp_path)
    valid = dataclasses.replace(report, is_ode=True)
    reports.write(zoo.manifest.read().weights[name], valid)
    exec(serve, names)
    assert (tmp_path / "served" / "energy_landscape" / "euler_h0p125" / "1").is_dir()
    (line,) = [
        line for line in (tmp_path / "cards" / "README.md").read_text().splitlines() if name in line
    ]
    cells = [cell.strip() for cell in line.split("|")[2:-1]]
    gap = f"{100 * zoo.manifest.read().weights[name].gap:.1f}"
    assert cells == ["Euler", "8", "8", "98.5 %", "75.0 %", gap, "98.5 %", "not an ODE", ""]


def test_a_card_from_a_part_of_the_test_set_says_so(stand_in, tmp_path):
    recipe = {**RECIPE, "iterations": 30_000}
    name, model = stand_in.add(rk4_steps=16, test_samples=100, recipe=recipe)
    run = {"num_steps": 8, "weights": "another_v1"}
    result = {"run": run, "seconds": 7200.0, "device": "A GPU", "elsewhere": True}
    (tmp_path / f"{name}.json").write_text(json.dumps(result))
    judged(name, model)
    assert write_cards.main([name]) == 0
    page = (tmp_path / "cards" / f"{name}.md").read_text()
    x, y = tfnode.datasets.load("energy_landscape/three_minima", "test", as_numpy=True)
    classes = np.argmax(np.array(model(x)), axis=1)
    assert (
        " That is on the first 100 samples of the test set; of all 1000 the solver of its training "
        f"has {100 * (classes == y).mean():.1f} % right.**"
    ) in page
    assert "On the first 100 samples of the test set. *Loses*" in page
    (line,) = [
        line for line in (tmp_path / "cards" / "README.md").read_text().splitlines() if name in line
    ]
    assert line.split("|")[8].strip() == f"{100 * (classes == y).mean():.1f} %"
    assert f": {100 * (classes == y)[:100].mean():.1f} % under the solver of its" in page
    assert "--recipe euler_fresh`" in page
    assert "- from the weights of [another_v1](another_v1.md)" in page
    assert (
        "- trained by `scripts/train_on_gpu.py --models energy_landscape --dtype float32`" in page
    )
    assert "- 2.0 h on A GPU, " in page
    # What was measured once is not measured again.
    found = json.loads((tmp_path / "whole_test_sets.json").read_text())
    assert found == {name: {"accuracy": (classes == y).mean(), "samples": 1000}}
    (tmp_path / "whole_test_sets.json").write_text(
        json.dumps({name: {"accuracy": 0.123, "samples": 1000}})
    )
    assert write_cards.main([name]) == 0
    page = (tmp_path / "cards" / f"{name}.md").read_text()
    assert "of all 1000 the solver of its training has 12.3 % right." in page


def test_what_a_card_says_of_the_cost_and_of_the_paper(stand_in):
    name, _ = stand_in.add()
    entry = zoo.manifest.read().weights[name]
    # Two times the products of a field of 2, 48, 48 and 2 units.
    flops = 2 * (2 * 48 + 48 * 48 + 48 * 2)
    assert costs.in_words(entry) == (
        "8 evaluations of the field, each of 5 thousand floating-point operations a sample: 40 "
        "thousand in all."
    )
    assert (flops, 8 * flops) == (4992, 39_936)
    assert wording.rounded(151_584_768) == "150 million"
    assert wording.rounded(2_425_356_288) == "2.4 billion"
    assert wording.rounded(999) == "1 thousand"
    _, text = cards.papers_row(entry)
    assert "76.5 ± 1.6 % with its step adaption, at 43.3 evaluations an iteration" in text
    assert " This is one seed. Ours by the paper's rule, at its scale, " in text
    assert "By the damped rule" not in text
    damped, _ = stand_in.add(how="damped_v1", solver=tfnode.solvers.RK4(1 / 8))
    _, text = cards.papers_row(zoo.manifest.read().weights[damped])
    assert " By the damped rule, as this one, 5 seeds: " in text
    beyond, _ = stand_in.add("cifar10_conv")
    assert cards.papers_row(zoo.manifest.read().weights[beyond]) == []
    block = zoo.get_model("mnist").get_layer("ode_block")
    products = 784 * (96 + 9 * 96 * 96 + 96)
    assert costs.flops_of(block.field, block.output.shape) == 2 * products


def test_a_card_says_how_long_an_answer_takes_where_it_was_measured(tmp_path, stand_in):
    assert costs.milliseconds("a_v1") == ""
    one = {"contestant": "a_v1", "batch": 32}
    results = [
        {**one, "p50_seconds": 0.0072, "batch_p50_seconds": 0.2},
        {**one, "p50_seconds": 0.0074, "batch_p50_seconds": 0.3},
        {"contestant": "b_v1", "batch": 32, "error": "no result in 5 s"},
    ]
    machine = {"cores": 2, "processor": "a processor"}
    content = {"command": "a command", "machine": machine, "results": results}
    places.ANSWER_TIMES.write_text(json.dumps(content))
    assert costs.milliseconds("a_v1") == (
        "The exported model answers one sample in 7.3 ms and 32 at once in 250 ms, in the median, "
        "on 2 cores of a processor (`a command`)."
    )
    assert costs.milliseconds("b_v1") == costs.milliseconds("c_v1") == ""


def test_classes_and_solvers_are_named_for_people():
    digits = cards.classes(facts.of("mnist"))
    assert digits == "The classes are the digits 0 to 9."
    assert cards.classes(facts.of("cifar10")).startswith("The classes: 0 airplane, 1 auto")
    assert cards.solver_in_words(tfnode.solvers.Euler(0.17261357605457306)) == (
        "Euler with a step size of 0.1726"
    )
    adaptive = tfnode.solvers.BogackiShampine32(1e-3, 1e-4)
    assert cards.solver_in_words(adaptive) == str(adaptive)


def test_the_header_is_metadata(stand_in):
    name, _ = stand_in.add(test_samples=100)
    lines = cards.header(zoo.manifest.read().weights[name]).splitlines()
    assert lines[0] == lines[-1] == "---"
    assert f"- name: {name}" in lines
    assert '    dataset: {name: "Three Minima", type: "energy_landscape/three_minima", ' in "".join(
        lines
    )


@pytest.mark.parametrize(
    "seconds, text", [(12.4, "12 s"), (119.6, "120 s"), (3600, "60 min"), (10314, "2.9 h")]
)
def test_a_duration_is_for_people(seconds, text):
    assert wording.duration(seconds) == text


@pytest.mark.parametrize(
    "percent, text", [(0.00317, "0.0032"), (0.51, "0.51"), (9.96, "10"), (100.4, "100")]
)
def test_a_distance_has_two_digits_or_all_before_the_point(percent, text):
    assert wording.two_digits(percent) == text


@pytest.mark.parametrize(
    "num_bytes, text", [(75_648, "76 kB"), (762_768, "763 kB"), (1_551_416, "1.6 MB")]
)
def test_the_size_of_a_file_is_for_people(num_bytes, text):
    assert wording.size(num_bytes) == text


def test_every_weight_has_its_card():
    for name, entry in zoo.manifest.read().weights.items():
        page = (places.CARDS / f"{name}.md").read_text()
        assert entry.sha256 in page
        assert f"```python\n{cards.code(entry)}\n```" in page
        assert f"**{'An' if entry.is_ode else 'Not an'} ODE: " in page
        assert f"{100 * entry.accuracy['train_solver']:.1f} % under the solver of its" in page
        assert f"{100 * entry.accuracy['rk4_fine']:.1f} % under RK4" in page
        assert f"{100 * entry.gap:.1f} points between the solver of" in page
        assert (places.CARDS / f"{name}.png").exists()


def test_the_results_are_those_of_every_weight():
    text = (places.CARDS / "results.csv").read_text()
    rows = {row["weights"]: row for row in csv.DictReader(text.splitlines())}
    assert set(rows) == set(zoo.manifest.read().weights)
    row = rows["energy_landscape_rk4_damped_v1"]
    assert [row[key] for key in ("steps", "nfe", "accuracy", "gap")] == [
        "12",
        "48",
        "0.91",
        "0.001",
    ]
    assert (row["test_samples"], row["is_ode"], row["default"]) == ("", "True", "True")


def test_the_index_takes_adaptive_solvers(stand_in):
    name, _ = stand_in.add(solver=tfnode.solvers.DormandPrince(1e-3, 1e-3))
    row = f"| [{name}]({name}.md) | DormandPrince | adaptive | "
    assert row in re.sub(" +", " ", card_index.page(zoo.manifest.read()))


def test_a_card_says_how_and_where_a_weight_was_trained(stand_in):
    name, _ = stand_in.add(recipe={**RECIPE, "iterations": 30_000})
    entry = zoo.manifest.read().weights[name]
    part = {"backend": "jax", "versions": {"jax": "0.11"}, "commit": "c" * 40, "device": "A GPU"}
    result = {"run": {"num_steps": 8}, "seconds": 60.0, "backend": "jax"}

    def lines(**more):
        return list(cards.training_lines(entry, {**result, **more}))

    # JAX trains on a processor as well, and on a GPU by the first command.
    for here in ({"device": "A processor"}, {"device": "NVIDIA H200", "elsewhere": False}):
        assert not any("train_on_gpu" in line for line in lines(**here))
    # A result of before this was noted.
    assert any("train_on_gpu" in line for line in lines(device="NVIDIA H200"))
    *_, last = lines(device="A processor", elsewhere=False, earlier=[part])
    assert ", at a commit that was not noted, begun by commit cccccccccc on A GPU by" in last
    *_, last = lines(device="A processor", elsewhere=False, commit="d" * 40)
    assert last.endswith(", at the commit dddddddddd")


def test_a_card_says_how_a_model_is_built_and_what_its_recipe_has_beside_the_rate(stand_in):
    name, _ = stand_in.add("cifar10_conv", recipe=RECIPE)
    _, line, *_ = cards.training_lines(
        zoo.manifest.read().weights[name], {"run": {"num_steps": 8}, "seconds": 60.0}
    )
    assert (
        "learning rate 0.0005, which rises over the first twentieth and then falls by half a "
        "cosine, weight decay 0.05, images mirrored at random and moved by up to 4 pixels, seed 0"
    ) in line
    assert facts.of("cifar10_conv").architecture.startswith("Beyond the paper: ")
    assert facts.of("concentric_spheres_10d").inputs.startswith("Points `(10,)`, ")
    for model in set(zoo.list_models()) - {"cifar10_conv"}:
        assert facts.of(model).architecture.startswith("The paper's")
