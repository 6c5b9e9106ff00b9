"""Many independent runs, one JSON file each: in parallel, resumable, with progress.

A run is a frozen value with a `path` (relative, of its JSON file) and a `cost` (in any unit). A
file that exists is a finished run and is never run again.
"""

import concurrent.futures
import json
import pathlib
import signal
import threading
from collections.abc import Callable, Sequence

from joblib.externals.loky import ProcessPoolExecutor
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from scripts.paper.runs import Result, Run
from tfnode import files

# One thread for each process: these models are too small to gain from a second one.
_WORKER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}


def run_all(
    function: Callable[[Run, Callable[[float], object]], Result],
    runs: Sequence[Run],
    out: pathlib.Path,
    jobs: int,
    title: str,
    environment: dict[str, str] | None = None,
) -> None:
    """Runs `function(run, report)` for every run that has no file yet, and writes its result.

    Args:
        function: Function of a module, called in worker processes. It returns a dictionary of
            plain values and calls `report(fraction)` now and then.
        runs: The runs; of one that has a file nothing is done.
        out: The directory of the results.
        jobs: The number of worker processes.
        title: Shown with the progress.
        environment: Further environment variables of the workers.
    """
    pending = [run for run in runs if not (out / run.path).exists()]
    for run in pending:
        _progress_file(out, run).unlink(missing_ok=True)
    # The longest first, so that no core is left with a long run at the end.
    pending.sort(key=lambda run: run.cost, reverse=True)
    executor = ProcessPoolExecutor(
        max(1, min(jobs, len(pending))),
        initializer=_ignore_interrupts,
        env=_WORKER_ENVIRONMENT | (environment or {}),
    )
    with _progress(runs, out, title):
        try:
            futures = [executor.submit(_run_one, function, run, out) for run in pending]
            for future in concurrent.futures.as_completed(futures):
                future.result()
        finally:
            # Nobody waits for runs under way when one failed or Ctrl-C was pressed.
            executor.shutdown(kill_workers=True)


def _ignore_interrupts() -> None:
    # Ctrl-C reaches the whole process group; the parent alone answers it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _run_one(function: Callable, run: Run, out: pathlib.Path) -> None:
    progress_file = _progress_file(out, run)
    progress_file.parent.mkdir(parents=True, exist_ok=True)
    try:
        files.write_json(out / run.path, function(run, lambda f: progress_file.write_text(str(f))))
    finally:
        progress_file.unlink(missing_ok=True)


class _progress:
    """Context that shows how much of the runs' cost is done, once a second, from their files."""

    def __init__(self, runs: Sequence[Run], out: pathlib.Path, title: str):
        self._runs, self._out = runs, out
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:3.0f} %, {task.fields[finished]} runs, time left"),
            TimeRemainingColumn(),
            # A run is long: the speed is that of the last ten minutes.
            speed_estimate_period=600,
        )
        completed, finished = self._state()
        total = sum(run.cost for run in runs)
        self._task = self._bar.add_task(title, total=total, completed=completed, finished=finished)

    def __enter__(self) -> None:
        self._bar.start()
        self._thread.start()

    def __exit__(self, *_) -> None:
        self._stop.set()
        self._thread.join()
        self._update()
        self._bar.stop()

    def _watch(self) -> None:
        while not self._stop.wait(1.0):
            self._update()

    def _update(self) -> None:
        completed, finished = self._state()
        self._bar.update(self._task, completed=completed, finished=finished)

    def _state(self) -> tuple[float, str]:
        fractions = [_fraction(self._out, run) for run in self._runs]
        completed = sum(run.cost * fraction for run, fraction in zip(self._runs, fractions))
        return completed, f"{fractions.count(1.0)}/{len(self._runs)}"


def _fraction(out: pathlib.Path, run: Run) -> float:
    if (out / run.path).exists():
        return 1.0
    try:
        return min(float(_progress_file(out, run).read_text()), 0.99)
    except (FileNotFoundError, ValueError):
        return 0.0


def _progress_file(out: pathlib.Path, run: Run) -> pathlib.Path:
    return (out / run.path).with_suffix(".progress")


def read_results(runs: Sequence[Run], out: pathlib.Path) -> list[Result]:
    """Returns the results of those runs that are finished."""
    paths = [out / run.path for run in runs]
    return [json.loads(path.read_text()) for path in paths if path.exists()]
