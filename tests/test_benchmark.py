"""The benchmark of pretrained weights: what it asks for, what a process measures, its table."""

import argparse
import dataclasses

import zoo
from scripts.benchmarks import cases, processes, tables, worker
from scripts.benchmarks.peers import Job


def test_every_pretrained_weight_is_asked_for_one_sample_and_several():
    args = argparse.Namespace(quick=False, requests=2)
    groups = cases.zoo(args)
    names = [job.contestant for (job,) in groups]
    assert sorted(names) == sorted(zoo.list_models(pretrained=True))
    (job,) = next(group for group in groups if group[0].model == "energy_landscape")
    found = worker.measure(job)
    assert 0 < found["p50_seconds"] <= found["p99_seconds"]
    assert 0 < found["batch_p50_seconds"] <= found["batch_p99_seconds"]
    result = {**dataclasses.asdict(job), "round": 0, **found}
    table = tables.answers_table([result])
    cells = [cell.strip() for cell in table.splitlines()[2].strip("|").split("|")]
    assert cells[:2] == [job.contestant, f"{1e3 * found['p50_seconds']:.2f}"]
    assert cells[3:5] == ["32", f"{1e3 * found['batch_p50_seconds']:.2f}"]
    assert tables.answers_table([{**result, "case": "latency"}]) == ""


def test_what_is_compared_is_the_tfnode_of_the_other_checkout_alone(tmp_path):
    for name, status in {"tfnode": 7, "zoo": 7, "scripts": 8}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise SystemExit({status})")
    job = Job("energy", "fit_before", "energy_landscape", 8, 128, 5, 5, True)
    found = processes.run_one(job, timeout=60, before=str(tmp_path))
    assert found == {"error": "failed with exit status 7"}


def cells_of(case, rounds):
    measured = {"seconds_per_step": 0.01, "peak_bytes": 5e9, "peak_increase_bytes": 1e9}
    told = {"case": case, "num_steps": 8, "contestant": "fit"}
    table = tables.steps_table([{**told, "round": i, **measured} for i in range(rounds)])
    return [cell.strip() for cell in table.splitlines()[2].strip("|").split("|")][3:]


def test_a_table_says_nothing_that_was_not_measured():
    assert cells_of("mnist", 2) == ["10.00", "10.00 - 10.00", "5000", "1000"]
    # One round has no spread, and the memory of the host is not that of a GPU.
    assert cells_of("mnist", 1) == ["10.00", "", "5000", "1000"]
    assert cells_of("gpu_mnist", 2) == ["10.00", "10.00 - 10.00", "", ""]
