"""Many independent runs, one JSON file each: on any engine, resumable, with progress.

A run is a frozen value with a `path` (relative, of its JSON file) and a `cost` (in any unit). A
file that exists is a finished run and is never run again.
"""

import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from scripts import command_line
from scripts.paper.engines import Engine, Job
from scripts.paper.runs import Result, Run
from tfnode import files

# What a worker calls: with the run, with what it tells the finished fraction, and with the
# directory of its checkpoints.
Function = Callable[[Run, Callable[[float], object], pathlib.Path], Result]

# A machine may fail under a run that has nothing to do with it.
_ATTEMPTS = 3
_SECONDS_BETWEEN_LOOKS = 0.1


def run_all(
    function: Function,
    runs: Sequence[Run],
    executor: Engine,
    out: pathlib.Path,
    checkpoints: pathlib.Path,
    title: str,
) -> dict[Run, Exception]:
    """Computes `function(run, report, directory)` for every run that has no file, and writes it.

    What a worker returns comes back to this process, which writes it. A run that fails is tried
    again, and goes on from its last checkpoint.

    Args:
        function: Function of a module, called by the workers of the engine. It returns a
            dictionary of plain values and calls `report(fraction)` now and then.
        runs: The runs; of one that has a file nothing is done.
        executor: `engines.Engine`, or anything else that has its `submit`.
        out: The directory of the results, and of files that tell the progress of a run to those
            who see the same directory.
        checkpoints: The directory of the checkpoints, likewise.
        title: Shown with the progress.

    Returns:
        Dictionary from the runs that failed every time to their last errors.

    Raises:
        OSError: If a result cannot be written.
    """
    out, checkpoints = out.absolute(), checkpoints.absolute()
    pending = [run for run in runs if not (out / run.path).exists()]
    # The longest first, so that no core is left with a long run at the end.
    pending.sort(key=lambda run: run.cost, reverse=True)
    for run in pending:
        (out / run.path).parent.mkdir(parents=True, exist_ok=True)
    submit = lambda run: executor.submit(_run_one, function, run, out, checkpoints)
    failures: dict[Run, list[Exception]] = {run: [] for run in pending}
    with _Progress(runs, out, title) as progress:
        under_way = {run: submit(run) for run in pending}
        while under_way:
            time.sleep(_SECONDS_BETWEEN_LOOKS)
            for run in [run for run, job in under_way.items() if job.done()]:
                result = _result(under_way.pop(run), failures[run])
                if result is not None:
                    files.write_text(out / run.path, result)
                    files.remove(checkpoints_path(checkpoints, run))
                elif len(failures[run]) < _ATTEMPTS:
                    under_way[run] = submit(run)
                progress_file(out, run).unlink(missing_ok=True)
            progress.update()
    return {run: errors[-1] for run, errors in failures.items() if len(errors) == _ATTEMPTS}


def _result(job: Job, failures: list[Exception]) -> str | None:
    """What a job has returned, as JSON; if it failed, its error becomes one of the failures."""
    try:
        return files.as_json(job.result())
    except Exception as error:
        failures.append(error)
        return None


def _run_one(function: Function, run: Run, out: pathlib.Path, checkpoints: pathlib.Path) -> Result:
    progress = progress_file(out, run)
    progress.parent.mkdir(parents=True, exist_ok=True)
    report = lambda fraction: files.note(progress, str(fraction))
    return function(run, report, checkpoints_path(checkpoints, run))


def checkpoints_path(directory: pathlib.Path, run: Run) -> pathlib.Path:
    """The directory of the checkpoints of a run."""
    return directory / run.path.removesuffix(".json")


def progress_file(directory: pathlib.Path, run: Run) -> pathlib.Path:
    """Where the finished fraction of a run stands while it is under way."""
    return (directory / run.path).with_suffix(".progress")


class _Progress:
    """Shows how much of the runs' cost is done, about once a second."""

    def __init__(self, runs: Sequence[Run], out: pathlib.Path, title: str):
        self._runs, self._out, self._title = runs, out, title
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:3.0f} %, {task.fields[finished]} runs, time left"),
            TimeRemainingColumn(),
            # A run is long: the speed is that of the last ten minutes.
            speed_estimate_period=600,
        )

    def __enter__(self) -> "_Progress":
        completed, finished = self._state()
        total = sum(run.cost for run in self._runs)
        self._task = self._bar.add_task(
            self._title, total=total, completed=completed, finished=finished
        )
        self._bar.start()
        self._updated = time.monotonic()
        return self

    def __exit__(self, *_: Any) -> None:
        self._show()
        self._bar.stop()

    def update(self) -> None:
        if time.monotonic() - self._updated >= 1:
            self._show()

    def _show(self) -> None:
        completed, finished = self._state()
        self._bar.update(self._task, completed=completed, finished=finished)
        self._updated = time.monotonic()

    def _state(self) -> tuple[float, str]:
        fractions = [_fraction(self._out, run) for run in self._runs]
        completed = sum(run.cost * fraction for run, fraction in zip(self._runs, fractions))
        return completed, f"{fractions.count(1.0)}/{len(self._runs)}"


def _fraction(out: pathlib.Path, run: Run) -> float:
    if (out / run.path).exists():
        return 1.0
    try:
        return min(float(progress_file(out, run).read_text(encoding="utf-8")), 0.99)
    except (FileNotFoundError, ValueError):
        return 0.0


def read_results(runs: Sequence[Run], out: pathlib.Path) -> list[Result]:
    """Returns the results of those runs that are finished.

    Raises:
        Stop: If one is not whole.
    """
    paths = [out / run.path for run in runs]
    return [command_line.read_json(path) for path in paths if path.exists()]
