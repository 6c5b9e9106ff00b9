"""The command that reproduces Table 1: end to end, resumed, interrupted."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from scripts import reproduce_table1

SCRIPT = pathlib.Path(__file__).parents[1] / "scripts" / "reproduce_table1.py"


def start(*arguments, data_dir):
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TFDS_DATA_DIR": str(data_dir)},
        start_new_session=True,
    )


@pytest.fixture
def small(tmp_path):
    """A setting of seconds: two runs of 50 iterations in one process."""
    runs, out = tmp_path / "runs", tmp_path / "out"
    options = ("--quick", "--rows", "energy_landscape", "--seeds", 1, "--jobs", 1)
    options += ("--runs", runs, "--out", out)

    def run(*more):
        return start(*options, *more, data_dir=tmp_path / "data")

    run.options = options
    # The jobs that a shell runs in the background ignore Ctrl-C, and so would their children.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield runs, out, run
    signal.signal(signal.SIGINT, before)


def test_end_to_end_interrupted_and_again(small, capsys):
    runs, out, run = small
    arguments = ("--iterations", 50, "--grid", 2, 1)
    # The one with adaption costs most and comes first; the others take seconds after it.
    process = run(*arguments)
    first = runs / "energy_landscape" / "euler_adaption_50_seed0.json"
    deadline = time.monotonic() + 120
    while not first.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Interrupted. 1 of 3 runs are finished and kept" in errors
    assert list(runs.glob("*/*.json")) == [first]
    kept = first.stat().st_mtime_ns
    # In this process, which has imported TensorFlow.
    again = lambda: reproduce_table1.main([*map(str, (*run.options, *arguments))])
    assert again() == 0
    printed = capsys.readouterr().out
    assert first.stat().st_mtime_ns == kept
    assert "| Three Minima | ours" in printed
    assert f"Written: {out / 'figure5_energy_landscape.png'}" in printed
    assert sorted(path.name for path in out.iterdir()) == [
        *("figure5_energy_landscape.png", "figure6_energy_landscape.png"),
        *("table1.csv", "table1.json", "table1.md"),
    ]
    files = sorted(path.name for path in (runs / "energy_landscape").iterdir())
    assert files == [first.name, "euler_k001_50_seed0.json", "euler_k002_50_seed0.json"]
    result = json.loads((runs / "energy_landscape" / files[0]).read_text())
    assert result["history"]["iteration"] == [50]
    assert result["nfe_per_iteration"] == result["history"]["nfe"][0]
    row = json.loads((out / "table1.json").read_text())["rows"][0]
    assert row["adaption"]["rk4_fine"][0] == pytest.approx(100 * result["accuracy"]["rk4_fine"])

    times = {path: path.stat().st_mtime_ns for path in (runs / "energy_landscape").iterdir()}
    assert again() == 0
    assert capsys.readouterr().out.endswith(printed.split("3/3 runs")[-1].split("\n", 1)[1])
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_a_number_of_steps_that_is_given_twice_is_run_once():
    args = reproduce_table1.parse(["--quick", "--seeds", "2", "--grid", "8", "4", "8"])
    runs = reproduce_table1.runs_of("energy_landscape", args)
    assert [(run.num_steps, run.seed) for run in runs] == [
        (count, seed) for count in (None, 8, 4) for seed in (0, 1)
    ]


def test_a_place_that_cannot_be_written_to_is_named(small, capsys):
    runs, _, run = small
    runs.mkdir()
    (runs / "energy_landscape").write_text("a file where the directory should be")
    arguments = (*run.options, "--iterations", 50, "--grid", 2)
    assert reproduce_table1.main([*map(str, arguments)]) == 1
    errors = capsys.readouterr().err
    assert "A result could not be written: [Errno 17] File exists" in errors
    assert "0 of 2 runs are finished" in errors
