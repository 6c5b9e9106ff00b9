"""Many independent runs, one JSON file each: in parallel, resumable, with progress.

A run is a frozen dataclass with a `path` (relative), a `cost` (any unit) and a function that turns
it into a dictionary of plain values. A file that exists is a finished run and is not run again.
"""

import json
import os
import pathlib
import signal
import tempfile

import joblib
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

# One thread each: these models are too small to gain from a second one.
_ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "2",
}


def run_all(function, runs, out, jobs, environment=None):
    """Runs `function(run)` for every run that has no file yet.

    Args:
        function: Function of a module, called in worker processes; returns a dictionary.
        runs: List of runs.
        out: Directory of the results.
        jobs: Integer, the number of worker processes.
        environment: Optional dictionary of further environment variables of the workers.
    """
    out = pathlib.Path(out)
    pending = [run for run in runs if not (out / run.path).exists()]
    # The longest first, so that no core is left with a long run at the end.
    pending.sort(key=lambda run: run.cost, reverse=True)
    os.environ.update({**_ONE_THREAD, **(environment or {})})
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f}%"),
        TextColumn("{task.fields[finished]} runs"),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, speed_estimate_period=3600) as progress:
        total = sum(run.cost for run in runs)
        done = total - sum(run.cost for run in pending)
        count = len(runs) - len(pending)
        task = progress.add_task(
            runs[0].model, total=total, completed=done, finished=f"{count}/{len(runs)}"
        )
        parallel = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered")
        for run in parallel(joblib.delayed(_run_one)(function, run, out) for run in pending):
            count += 1
            progress.update(task, advance=run.cost, finished=f"{count}/{len(runs)}")


def _run_one(function, run, out):
    # Ctrl-C reaches the whole process group; the parent alone answers it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    write_json(out / run.path, function(run))
    return run


def read_json(path):
    return json.loads(pathlib.Path(path).read_text())


def write_json(path, value):
    """Writes beside the target and renames, so that a file is complete or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        "w", dir=path.parent, prefix=".", suffix=".tmp", delete=False
    ) as file:
        try:
            json.dump(value, file, allow_nan=False)
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            os.unlink(file.name)
            raise
    os.replace(file.name, path)
