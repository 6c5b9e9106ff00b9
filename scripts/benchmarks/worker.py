"""One measurement of `benchmark.py`: a contestant, in a process of its own."""

import json
import math
import os
import pathlib
import resource
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

if not __package__:  # run by its path: the checkout, in the place of scripts/benchmarks/
    sys.path[0] = str(pathlib.Path(__file__).parents[2])

import numpy as np

from scripts.benchmarks import ours, peers

# The environment variable with another checkout, whose tfnode and zoo are measured.
BEFORE = "TFNODE_BEFORE"

# Answers before the measured ones: the first trace, and allocate.
_WARM_UP = 10

CONTESTANTS = {
    "fit": ours.fit,
    "fit_before": ours.fit,
    "fit_jax": ours.fit,
    "fit_torch": ours.fit,
    "fit_bfloat16": ours.fit,
    "bare": ours.bare,
    "convolutions": ours.bare_convolutions,
    "convolutions_bfloat16": ours.bare_convolutions,
    "gpu_jax": ours.fit_on_gpu,
    "gpu_jax_bfloat16": ours.fit_on_gpu,
    "gpu_torchdiffeq": peers.train_torchdiffeq,
    "gpu_torchdiffeq_bfloat16": peers.train_torchdiffeq,
    "torchdiffeq": peers.train_torchdiffeq,
    "diffrax": peers.train_diffrax,
}

# Of the case `latency`, in which they answer instead of training.
ANSWERING = {
    "served": ours.answer_served,
    "torchdiffeq": peers.answer_torchdiffeq,
}

# These measure a whole training instead of its steps.
WHOLE_RUNS = {
    "traces": ours.count_traces,
    "traces_jax": ours.count_traces,
    "adaption": ours.adaption_run,
}


def main(arguments: Sequence[str]) -> None:
    job = peers.Job(**json.loads(arguments[0]))
    # Before any framework counts the cores.
    if job.one_core and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    if before := os.environ.get(BEFORE):
        # Behind the imports above, so that the scripts are the present ones.
        sys.path.insert(0, before)
    print(json.dumps(measure(job)))


def measure(job: peers.Job) -> dict[str, Any]:
    """Runs a job in this process and returns its results as plain values."""
    if job.contestant in WHOLE_RUNS:
        return WHOLE_RUNS[job.contestant](job)
    if job.case == "latency":
        return latencies(ANSWERING[job.contestant](job), job.steps)
    if job.case == "zoo":
        several = latencies(ours.answer_pretrained(job, job.batch), math.ceil(job.steps / 10))
        one = latencies(ours.answer_pretrained(job, 1), job.steps)
        return {**one, **{f"batch_{name}": seconds for name, seconds in several.items()}}
    train = CONTESTANTS[job.contestant](job)
    resident = _resident_bytes()
    start = time.perf_counter()
    train(job.steps_per_execution)
    first_seconds = time.perf_counter() - start
    start, cpu_start = time.perf_counter(), time.process_time()
    loss = train(job.steps)
    seconds = (time.perf_counter() - start) / job.steps
    cpu_seconds = (time.process_time() - cpu_start) / job.steps
    if not math.isfinite(loss):
        raise FloatingPointError(f"The loss must stay finite. Received: loss={loss}.")
    return {
        "seconds_per_step": seconds,
        # On one core the two agree unless another process took it: the run was then disturbed.
        "cpu_seconds_per_step": cpu_seconds,
        "first_seconds": first_seconds,
        **({} if job.case.startswith(peers.GPU) else _memory(resident)),
    }


def latencies(answer: Callable[[], object], requests: int) -> dict[str, float]:
    """The median and the 99th percentile of the seconds that an answer takes."""
    for _ in range(_WARM_UP):
        answer()
    seconds = []
    for _ in range(requests):
        start = time.perf_counter()
        answer()
        seconds.append(time.perf_counter() - start)
    p50, p99 = np.percentile(seconds, (50, 99)).tolist()
    return {"p50_seconds": p50, "p99_seconds": p99}


def _memory(resident: int) -> dict[str, int]:
    """The peak of the memory of the host, and by how much it is above what was there before."""
    peak = _peak_bytes()
    return {"peak_bytes": peak, "peak_increase_bytes": peak - resident}


def _peak_bytes() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _resident_bytes() -> int:
    try:
        with open("/proc/self/statm", encoding="utf-8") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return _peak_bytes()


if __name__ == "__main__":
    main(sys.argv[1:])
