"""Every measurement in a process of its own, round by round."""

import dataclasses
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from scripts import machine
from scripts.benchmarks import worker
from scripts.benchmarks.peers import GPU, ON_GPU, PEERS, Job

# As the runner starts its workers; a single core besides, so that no contestant evades it.
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
}
EVERYWHERE = {
    "KERAS_BACKEND": "tensorflow",
    "CUDA_VISIBLE_DEVICES": "-1",
    "JAX_PLATFORMS": "cpu",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}


def run_all(
    groups: list[list[Job]], rounds: int, timeout: int, before: str | None = None
) -> Iterator[dict[str, Any]]:
    """Yields the result of every job, round by round; what failed once is not run again.

    `before` is the path of another checkout, that of the contestant `fit_before`.
    """
    errors = {}
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        task = progress.add_task("", total=rounds * sum(map(len, groups)))
        for group in groups:
            for number in range(rounds):
                for job in group:
                    name = f"{job.case} K={job.num_steps} {job.contestant}"
                    progress.update(task, description=f"{name}, round {number + 1}")
                    measured = errors.get(job) or run_one(job, timeout, before)
                    if "error" in measured:
                        errors[job] = measured
                    yield {**dataclasses.asdict(job), "round": number, **measured}
                    progress.advance(task)


def run_one(job: Job, timeout: int, before: str | None = None) -> dict[str, Any]:
    """Measures a job in a process of its own; returns its results or an `error`."""
    needs = {**PEERS, **ON_GPU}.get(job.contestant.removesuffix("_bfloat16"), ())
    absent = [name for name in needs if importlib.util.find_spec(name) is None]
    if job.case.startswith(GPU) and not machine.gpu():
        absent.append("a GPU")
    if absent:
        return {"error": f"not installed: {', '.join(absent)}"}
    command = [sys.executable, worker.__file__, json.dumps(dataclasses.asdict(job))]
    variables = environment(job)
    if before and job.contestant.endswith("_before"):
        variables[worker.BEFORE] = str(pathlib.Path(before).absolute())
    try:
        process = subprocess.run(
            command, env=variables, timeout=timeout, capture_output=True, encoding="utf-8"
        )
    except subprocess.TimeoutExpired:
        return {"error": f"no result in {timeout} s"}
    if process.returncode:
        sys.stderr.write(process.stderr)
        return {"error": f"failed with exit status {process.returncode}"}
    return json.loads(process.stdout.splitlines()[-1])


def environment(job: Job) -> dict[str, str]:
    variables = {k: v for k, v in os.environ.items() if k not in ONE_THREAD}
    if job.case.startswith(GPU):
        return {**variables, "KERAS_BACKEND": "jax", "TF_CPP_MIN_LOG_LEVEL": "3"}
    variables |= EVERYWHERE
    if job.contestant.endswith(("_jax", "_torch")):
        variables["KERAS_BACKEND"] = job.contestant.rpartition("_")[2]
    if job.one_core:
        variables |= ONE_THREAD
    if job.contestant in ("diffrax", "fit_jax") and job.one_core:
        variables["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    if job.model == "concentric_spheres_2d":
        # As in `experiments.ENVIRONMENT`, which cannot be imported without TensorFlow.
        variables["TF_ENABLE_ONEDNN_OPTS"] = "0"
    return variables
