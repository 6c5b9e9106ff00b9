"""One measurement of `benchmark.py`: a contestant, in this process."""

import math
import os
import resource
import sys
import time

import benchmark_ours
import benchmark_peers
import numpy as np

# Answers before the measured ones: the first trace, and allocate.
_WARM_UP = 10

CONTESTANTS = {
    "fit": benchmark_ours.ours_fit,
    "bare": benchmark_ours.ours_bare,
    "convolutions": benchmark_ours.bare_convolutions,
    "torchdiffeq": benchmark_peers.peer_torchdiffeq,
    "diffrax": benchmark_peers.peer_diffrax,
}

# Of the case `latency`, in which they answer instead of training.
ANSWERING = {
    "served": benchmark_ours.answer_served,
    "torchdiffeq": benchmark_peers.answer_torchdiffeq,
}

# These measure a whole training instead of its steps.
WHOLE_RUNS = {
    "traces": benchmark_ours.count_traces,
    "adaption": benchmark_ours.adaption_run,
    "replay": benchmark_ours.replay_run,
}


def measure(job):
    """Runs a job in this process and returns its results as plain values."""
    if job.contestant in WHOLE_RUNS:
        return WHOLE_RUNS[job.contestant](job)
    if job.case == "latency":
        return latencies(ANSWERING[job.contestant](job), job.steps)
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
    peak = _peak_bytes()
    return {
        "seconds_per_step": seconds,
        # On one core the two agree unless another process took it: the run was then disturbed.
        "cpu_seconds_per_step": cpu_seconds,
        "first_seconds": first_seconds,
        "peak_bytes": peak,
        "peak_increase_bytes": peak - resident,
    }


def latencies(answer, requests):
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


def _peak_bytes():
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _resident_bytes():
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return _peak_bytes()
