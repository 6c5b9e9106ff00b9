"""Runs on an engine: the parent writes what is computed anywhere; a failure ends no other run."""

import argparse
import concurrent.futures
import contextlib
import importlib.util
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import jobs
import pytest
from jobs import Errand

import tfnode
from scripts.paper import engines, runner

ROOT = pathlib.Path(__file__).parents[1]
ENVIRONMENT = {"OMP_NUM_THREADS": "1"}


class Inline:
    """Anything that has `submit`: this one computes at once, and counts."""

    def __init__(self):
        self.submitted = []

    def submit(self, function, /, *arguments):
        self.submitted.append(arguments[1])
        job = concurrent.futures.Future()
        try:
            job.set_result(function(*arguments))
        except Exception as error:
            job.set_exception(error)
        return job


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture
def run_all(tmp_path):
    def call(runs, executor):
        return runner.run_all(jobs.run, runs, executor, tmp_path / "out", tmp_path / "kept", "all")

    call.read = lambda errand: json.loads((tmp_path / "out" / errand.path).read_text())
    call.files = lambda: sorted(
        str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()
    )
    call.folder = tmp_path
    return call


class Light:
    """An engine whose workers do errands without the runner, and so start at once."""

    def __init__(self, engine):
        self._engine = engine

    def submit(self, function, /, _, errand, out, checkpoints):
        directory = runner.checkpoints_path(checkpoints, errand)
        return self._engine.submit(jobs.run_alone, errand, directory)


@pytest.fixture
def local():
    with contextlib.closing(engines.Local(2, ENVIRONMENT)) as engine:
        yield engine


def test_results_come_back_to_the_parent_longest_first(run_all):
    runs = [Errand("short"), Errand("long", cost=9), Errand("there", cost=99)]
    path = run_all.folder / "out" / runs[2].path
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    executor = Inline()
    assert run_all(runs, executor) == {}
    assert [run.name for run in executor.submitted] == ["long", "short"]
    assert run_all.read(runs[0]) == {"name": "short", "attempts": 1, "threads": "1"}
    # Neither progress nor a checkpoint is left of a run that has ended.
    assert run_all.files() == [f"out/errands/{name}.json" for name in ("long", "short", "there")]


def test_a_run_that_fails_is_tried_again_twice_and_ends_no_other(run_all):
    good, once, never = Errand("good"), Errand("once", "raises once"), Errand("never", "raises")
    executor = Inline()
    failed = run_all([never, good, once], executor)
    assert list(failed) == [never]
    assert str(failed[never]) == "never failed"
    assert [executor.submitted.count(run) for run in (good, once, never)] == [1, 2, 3]
    # What it had reached is there for the next attempt.
    assert run_all.read(once)["attempts"] == 2
    assert run_all.files() == [
        "kept/errands/never/attempts",
        "out/errands/good.json",
        "out/errands/once.json",
    ]


def test_a_result_that_is_no_json_ends_no_other_run(run_all):
    bad, good = Errand("bad", "returns no number", cost=2), Errand("good")
    failed = run_all([bad, good], Inline())
    assert list(failed) == [bad]
    assert "not JSON compliant" in str(failed[bad])
    assert run_all.read(good)["attempts"] == 1


def test_a_worker_that_dies_takes_no_other_run_with_it(run_all, local):
    runs = [Errand("dies", "dies"), Errand("once", "dies once"), *map(Errand, "abcd")]
    failed = run_all(runs, Light(local))
    assert list(failed) == [runs[0]]
    assert isinstance(failed[runs[0]], concurrent.futures.BrokenExecutor)
    assert run_all.read(runs[1])["attempts"] == 2
    assert [run_all.read(run)["attempts"] for run in runs[2:]] == [1] * 4


def test_an_error_of_the_parent_ends_the_workers(run_all, local, monkeypatch):
    """A result that cannot be written, while another run is under way."""
    pid = run_all.folder / "kept" / "errands" / "sleeps" / "pid"

    def write_text(path, text):
        wait_for(pid.exists)
        raise OSError("no space left")

    monkeypatch.setattr(runner.files, "write_text", write_text)
    with pytest.raises(OSError, match="no space left"), contextlib.closing(local):
        run_all([Errand("sleeps", "sleeps", cost=2), Errand("ends")], Light(local))
    wait_for(lambda: not is_alive(int(pid.read_text())))


# Computes one long errand on processes of this machine.
SCRIPT = """
import contextlib, pathlib, sys
from jobs import Errand, run
from scripts.paper import engines, runner
out = pathlib.Path(sys.argv[1])
with contextlib.closing(engines.Local(2, {"OMP_NUM_THREADS": "1"})) as local:
    print("starts", flush=True)
    runner.run_all(run, [Errand("sleeps", "sleeps")], local, out, out / "kept", "all")
"""
# The same without the runner, and so without Keras.
ALONE = """
import contextlib, pathlib, sys
from jobs import Errand, run_alone
from scripts.paper import engines
with contextlib.closing(engines.Local(2, {"OMP_NUM_THREADS": "1"})) as local:
    print("starts", flush=True)
    local.submit(run_alone, Errand("sleeps", "sleeps"), pathlib.Path(sys.argv[1])).result()
"""


@contextlib.contextmanager
def computing(out, script):
    """A process, in a group of its own, that computes an errand without an end."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(out)],
        env={**os.environ, **ENVIRONMENT, "PYTHONPATH": path, "TFDS_DATA_DIR": str(out)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout.readline() == "starts\n"
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_workers_end_with_a_parent_that_is_killed(tmp_path):
    pid = tmp_path / "pid"
    with computing(tmp_path, ALONE) as process:
        wait_for(lambda: pid.exists() and pid.read_text())
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        worker = int(pid.read_text())
        wait_for(lambda: not is_alive(worker), seconds=10)
        assert not is_alive(worker)


def test_a_worker_is_born_deaf_to_ctrl_c_and_its_parent_is_not():
    with contextlib.closing(engines.Local(1, ENVIRONMENT)) as local:
        assert signal.SIGINT in local.submit(jobs.blocked_signals).result()
    assert signal.SIGINT not in jobs.blocked_signals()


def test_ctrl_c_while_the_workers_start_is_answered_by_the_parent_alone(tmp_path):
    # The jobs that a shell runs in the background ignore Ctrl-C, and so would their children.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with computing(tmp_path, SCRIPT) as process:
            wait_for((tmp_path / "errands").exists)
            os.killpg(process.pid, signal.SIGINT)
            _, errors = process.communicate(timeout=60)
    finally:
        signal.signal(signal.SIGINT, before)
    # Here it is not caught, and of no thread or process does another traceback come.
    assert errors.count("Traceback (most recent call last)") == 1, errors
    assert errors.strip().endswith("KeyboardInterrupt")


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.05)


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# === The same everywhere ===
def test_the_result_of_a_run_does_not_depend_on_its_engine(tmp_path):
    """The same trainings as processes, by submitit and on a cluster of Ray with two workers."""
    tfnode.datasets.load("concentric_spheres/2d", "test", as_numpy=True)
    libraries = {"local": "joblib", "slurm": "submitit", "ray": "ray"}
    here = [name for name, library in libraries.items() if importlib.util.find_spec(library)]
    found = trained(here, tmp_path)
    for results in found.values():
        for ours, theirs in zip(results, found["local"], strict=True):
            assert {**ours, "seconds": 0} == {**theirs, "seconds": 0}
            assert ours["seconds"] > 0
    if len(found) < 3:
        pytest.skip(f"not installed: {sorted(libraries.keys() - found.keys())}")


def trained(names, folder):
    """The results of two runs on each engine, in a session of their own that is ended whole."""
    process = subprocess.Popen(
        [sys.executable, jobs.__file__, str(folder), *names],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(folder)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        printed, _ = process.communicate(timeout=300)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert printed.splitlines().count("{}") == len(names)
    read = lambda name, run: json.loads((folder / name / run.path).read_text())
    return {name: [read(name, run) for run in jobs.trainings()] for name in names}


# === The command line ===
def options(*arguments):
    parser = argparse.ArgumentParser()
    engines.add_options(parser)
    return parser.parse_args(arguments)


def test_the_options_of_an_engine():
    args = options("--engine", "slurm", "--slurm", "slurm_partition=cpu", "timeout_min=60")
    assert dict(args.slurm) == {"slurm_partition": "cpu", "timeout_min": 60}
    assert options().engine == "local"


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--slurm", "partition"], "must be NAME=VALUE. Received: partition"),
        (["--engine", "pbs"], "invalid choice: 'pbs'"),
        (["--jobs", "0"], "must be a positive integer. Received: 0"),
    ],
)
def test_options_that_are_refused(arguments, message, capsys):
    with pytest.raises(SystemExit):
        options(*arguments)
    assert message in capsys.readouterr().err


def test_an_engine_that_is_not_here_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    args = options("--engine", "ray")
    wanted = pytest.raises(engines.Unavailable, match=r"needs the package 'ray'.*tfnode\[ray\]")
    with wanted, engines.opened(args, {}):
        pass


def test_slurm_without_its_commands_is_refused(monkeypatch, tmp_path):
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(tmp_path))
    args = options("--engine", "slurm")
    args.runs = tmp_path
    wanted = pytest.raises(engines.Unavailable, match="Received: --engine slurm")
    with wanted, engines.opened(args, {}):
        pass
