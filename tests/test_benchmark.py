"""The benchmark of pretrained weights: what it asks for, what a process measures, its table."""

import argparse
import dataclasses

import zoo
from scripts.benchmarks import cases, tables, worker


def test_every_pretrained_weight_answers_one_sample_and_several():
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
