"""The numbers of the README, of the cards and of the pages of results, from committed results."""

import argparse
import functools
import json
import pathlib
import re
import statistics

import pytest

from scripts.paper import policies, table1
from tfnode import tables

ROOT = pathlib.Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"
SPHERES, MINIMA = policies.MODELS
# Of the training that the README shows.
CHECKED = (300, 900, 3000, 9000, 15000, 30000)


@functools.cache
def readme():
    return (ROOT / "README.md").read_text(encoding="utf-8")


def in_one_line(text):
    return re.sub(r"\s+", " ", text)


@functools.cache
def runs(pattern):
    return [json.loads(path.read_text()) for path in sorted(RESULTS.glob(f"runs/{pattern}"))]


@functools.cache
def row(model):
    """A row of Table 1 from the runs at the paper's scale: Euler's method, the paper's rule."""
    iterations = {"mnist": 7020, "cifar10": 7800, SPHERES: 10_000, MINIMA: 30_000}[model]
    found = [*runs(f"{model}/euler_k*_{iterations}_*"), *runs(f"{model}/euler_adaption_*")]
    plain = [r for r in found if not r["run"].get("paths") and r["run"]["iterations"] == iterations]
    return table1.row(model, plain)


def lost(results):
    return [100 * (r["accuracy"]["train_solver"] - r["accuracy"]["rk4_fine"]) for r in results]


def one(values):
    """With one digit, as the README has them."""
    return f"{statistics.mean(values):.1f}"


def test_table_1():
    rows = [row(model) for model in (SPHERES, MINIMA, "mnist", "cifar10")]
    table = tables.markdown(table1.HEADER, table1.lines(rows))
    page = (RESULTS / "table1" / "table1.md").read_text(encoding="utf-8")
    assert table in page
    assert table in readme()
    assert tables.markdown(table1.GRID_HEADER, table1.grid_lines(rows)) in page


def test_what_the_readme_says_of_the_synthetic_rows():
    text = in_one_line(readme())
    gap = lambda model, k: next(e["gap"] for e in row(model)["grid"] if e["num_steps"] == k)
    assert f"at 32 steps the mean gap is {100 * gap(MINIMA, 32):.1f} points" in text
    assert f"at 64 steps the mean gap is {100 * gap(SPHERES, 64):.1f} points" in text
    own = {e["num_steps"]: f"{e['train_solver'][0]:.1f} %" for e in row(MINIMA)["grid"]}
    assert f"{own[1]} with one step, {own[8]} with eight, {own[256]} with 256" in text
    nfe = {m: f"{row(m)['adaption']['nfe_per_iteration']:.0f}" for m in (SPHERES, MINIMA)}
    assert (
        f"needs {nfe[SPHERES]} evaluations an iteration on the spheres, where the paper reports "
        f"100.5, and {nfe[MINIMA]} on Three Minima, where it reports 43.3" in text
    )
    adapted = {
        SPHERES: runs(f"{SPHERES}/euler_adaption_10000_seed*"),
        MINIMA: runs(f"{MINIMA}/euler_adaption_30000_seed*"),
    }
    assert (
        f"{one(lost(adapted[SPHERES]))} points on the spheres and {one(lost(adapted[MINIMA]))} on "
        "Three Minima in the mean" in text
    )
    finest = [
        lost(runs(f"{SPHERES}/euler_k256_10000_seed*")),
        lost(runs(f"{MINIMA}/euler_k256_30000_seed*")),
    ]
    assert max(statistics.mean(values) for values in finest) <= 0.2
    assert f"one of the ten runs loses {max(map(max, finest)):.1f}" in text
    best = row(MINIMA)["adaption"]["trained"]
    points = best["train_solver"][0] - best["rk4_fine"][0]
    assert f"where they lose {points:.1f} points" in text


def test_the_training_of_three_minima():
    curves = [run["test_curve"] for run in runs(f"{MINIMA}/euler_adaption_30000_seed*")]
    assert len(curves) == 5
    for name, key, form, factor in (
        ("iterations", "iteration", "{:.0f}", 1),
        ("steps of Euler's method", "num_steps", "{:.0f}", 1),
        ("test accuracy %", "train_solver", "{:.1f}", 100),
    ):
        means = [factor * statistics.mean(values) for values in zip(*(c[key] for c in curves))]
        cells = [form.format(means[iteration // 300 - 1]) for iteration in CHECKED]
        assert f"| {name} | {' | '.join(cells)} |" in readme()


def test_what_the_readme_says_of_the_damped_rule():
    damped = [
        runs(f"{SPHERES}/rk4_damped_10000_seed*"),
        runs(f"{MINIMA}/rk4_damped_30000_seed*"),
    ]
    points = " and ".join(f"{statistics.mean(lost(results)):.2f}" for results in damped)
    nfe = " and ".join(one([r["nfe_per_iteration"] for r in results]) for results in damped)
    text = in_one_line(readme())
    assert f"loses {points} points, with {nfe} evaluations an iteration" in text


@pytest.mark.parametrize("num_steps", [1, 2, 4, 8, None])
def test_the_runs_of_mnist(num_steps):
    name = f"k{num_steps:03d}" if num_steps else "adaption"
    (result,) = runs(f"mnist/euler_{name}_7020_rk4064_seed0.json")
    first = f"{num_steps} step{'s' * (num_steps > 1)}" if num_steps else "the paper's rule, "
    if not num_steps:
        first += f"{result['nfe_per_iteration']:.1f} evaluations an iteration"
    accuracy = result["accuracy"]
    cells = [f"{100 * accuracy[solver]:.1f}" for solver in ("train_solver", "rk4_fine")]
    assert result["device"] == "NVIDIA H200"
    assert f"| {first} | {' | '.join(cells)} | {result['seconds'] / 60:.1f} |" in readme()


def test_what_the_readme_says_of_cifar10():
    (result,) = runs("cifar10/euler_adaption_7800_rk4064_mixed_bfloat16_seed0.json")
    assert f"measured in float32, took {result['seconds'] / 60:.1f} minutes" in readme()
    weights = json.loads((ROOT / "zoo" / "weights.json").read_text())["weights"]
    conv = weights["cifar10_conv_rk4_damped_from_one_v1"]
    text = in_one_line(readme())
    assert f"{100 * conv['accuracy']['train_solver']:.1f} % of CIFAR-10's test set" in text
    assert f"at most {100 * conv['gap']:.2f} points between that and any better solver" in text
    assert conv["solver"]["config"]["step_size"] == 1 / 4
    gaps = {name: f"{100 * weights[name]['gap']:.1f}" for name in weights}
    assert (
        f"CIFAR-10 loses {gaps['cifar10_euler_adapted_small_v1']} points, and MNIST, trained on, "
        f"{gaps['mnist_euler_adapted_tuned_v1']}." in text
    )


@pytest.mark.parametrize("model, evaluations", [("mnist", 1), ("cifar10", 1), ("cifar10_conv", 4)])
def test_the_times_of_a_gpu(model, evaluations):
    found = json.loads((RESULTS / "gpu" / f"{model}.json").read_text())
    timing = found[f"timing of {model}"]
    beside, each = timing["ms_per_iteration"], timing["ms_per_evaluation"] / evaluations
    line = f"| `{model}` | {beside:.2f} | {each:.2f} | {1e3 / (beside + 8 * each):.0f} |"
    guide = in_one_line((ROOT / "docs" / "scaling.md").read_text(encoding="utf-8"))
    assert line in guide
    assert f"{found['gradient_difference']:.1e}".replace("e-0", "e-") in guide
    (run,) = runs("cifar10/euler_adaption_7800_rk4064_mixed_bfloat16_seed0.json")
    assert f"took {run['seconds'] / 60:.1f} minutes in bfloat16" in guide
    (run,) = runs("mnist/euler_adaption_7020_rk4064_seed0.json")
    assert f"{run['seconds'] / 60:.1f} minutes in float32" in guide


def test_the_rules_beside_each_other():
    page = (RESULTS / "policies" / "policies.md").read_text(encoding="utf-8")
    directory = RESULTS / "runs"
    setting = {"quick": False, "paper": True, "seeds": 5, "iterations": None, "dtype": "float32"}
    planned = policies.runs(argparse.Namespace(**setting, runs=directory))
    lines = []
    for (model, rule), of_rule in planned.items():
        paths = [directory / run.path for run in of_rule]
        results = [json.loads(path.read_text()) for path in paths if path.exists()]
        if results:
            lines.append(policies.cells(model, rule, results, len(of_rule)))
    table = tables.markdown(policies.HEADER, lines)
    assert table in page
    assert table in (ROOT / "docs" / "damped-rule.md").read_text(encoding="utf-8")
