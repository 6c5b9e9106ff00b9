"""The runs one after the other within a time, whatever becomes of one of them."""

import os
import pathlib
import tempfile
import time
from collections.abc import Sequence
from typing import Any

from scripts.gpu import parcels, plan, self_check, worker
from scripts.paper import engines
from scripts.paper.runs import Run
from tfnode import files

# Before the end: a training leaves its checkpoint; and the last archives are written.
_SECONDS_TO_SAVE = 25.0
_SECONDS_TO_PACK = 8.0
_SECONDS_BETWEEN_LINES = 10.0
# Nothing is begun that would be ended at once.
_SHORTEST = 15.0


class Session:
    """Trains what is pending in a process of its own, and packs what is finished.

    Args:
        runs: The runs, the most telling first.
        out: Where the archives lie, which are then all that is kept.
        finished: A directory with the results of earlier runs, which are not trained again.
        seconds: Float, the time that everything together may take.
        work: Where results, weights and checkpoints are written; those that are there are gone on
            with.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        out: pathlib.Path,
        finished: pathlib.Path,
        seconds: float,
        work: pathlib.Path,
    ):
        self._start = time.time()
        self._end = self._start + seconds
        self._runs, self._out, self._work = list(runs), out, work
        self._skipped = [run for run in runs if (finished / run.path).exists()]
        self._tried: list[Run] = []
        self._executor = None

    def run(self) -> int:
        """Returns the exit status of the command: 0 unless the machine computes wrongly."""
        try:
            found = self._call("self-check", self_check.check, self._pending)
            estimates = self._estimates(found)
            if found and not found["report"].get("gradient_difference", 0.0) <= 1e-2:
                self._say("gradients are wrong here: no run is trained")
                return 1
            while self._pending and self._left > _SHORTEST:
                run = plan.choose(self._pending, estimates, self._left)
                self._train(run, estimates[run.model])
        finally:
            if self._executor is not None:
                self._executor.shutdown(kill_workers=True)
            parcels.pack_results(self._work, self._out)
            parcels.pack_checkpoints(self._work, self._out)
        done = sum((self._work / run.path).exists() for run in self._runs)
        self._say(f"{done} of {len(self._runs)} runs are finished and in {self._out}")
        return 0

    @property
    def _pending(self) -> list[Run]:
        """The runs to train; one that failed is not tried again."""
        return [
            run
            for run in self._runs
            if run not in self._skipped + self._tried and not (self._work / run.path).exists()
        ]

    @property
    def _left(self) -> float:
        """The seconds until a training has to leave its checkpoint."""
        return self._end - _SECONDS_TO_SAVE - time.time()

    def _estimates(self, found: dict[str, Any] | None) -> dict[str, plan.Estimate]:
        estimates = dict(found["estimates"]) if found else {}
        for model in dict.fromkeys(run.model for run in self._runs):
            # Without a timing: a guess, which the first run corrects.
            estimates.setdefault(model, plan.Estimate(2e-3, 2e-3, 30.0))
        seconds = {run.path: round(estimates[run.model].of(run), 1) for run in self._pending}
        for path, estimate in seconds.items():
            self._say(f"estimate {estimate:6.1f} s {path}")
        report = found["report"] if found else {"problems": ["the self-check ended early"]}
        for problem in report["problems"]:
            self._say(f"PROBLEM: {problem}")
        files.write_json(self._out / "self_check.json", {**report, "estimates": seconds}, indent=1)
        return estimates

    def _train(self, run: Run, estimate: plan.Estimate) -> None:
        self._tried.append(run)
        start = time.time()
        self._say(f"{run.path}: begins, estimate {estimate.of(run):.0f} s")
        ends_at = self._end - _SECONDS_TO_SAVE
        outcome = self._call(run.path, worker.train, run, self._work, ends_at)
        if outcome:
            self._say(f"{run.path}: {outcome}")
        if (self._work / run.path).exists():
            estimate.learn(run, time.time() - start)
            parcels.pack_results(self._work, self._out)

    def _call(self, name: str, function: Any, *arguments: Any) -> Any:
        """What a function returns in the other process, or None if it failed or took too long."""
        if self._executor is None:
            self._executor = engines.process()
        future = engines.submitted(self._executor, function, *arguments)
        while True:
            left = self._end - _SECONDS_TO_PACK - time.time()
            try:
                return future.result(timeout=max(0.0, min(_SECONDS_BETWEEN_LINES, left)))
            except Exception as error:
                if not future.done() and left > 0:
                    self._say(f"{name}: under way {self._progress(name)}")
                    continue
                why = f"failed: {type(error).__name__}: {error}" if left > 0 else "out of time"
                self._say(f"{name}: {why}")
            # Whatever state it is in, the next function finds a new process.
            self._executor.shutdown(kill_workers=True)
            self._executor = None
            return None

    def _progress(self, name: str) -> str:
        progress = (self._work / name).with_suffix(".progress")
        return progress.read_text(encoding="utf-8") if progress.exists() else ""

    def _say(self, text: str) -> None:
        print(f"[{time.time() - self._start:6.1f} s] {text}", flush=True)


def train(
    runs: Sequence[Run],
    out: pathlib.Path,
    finished: pathlib.Path,
    checkpoints: pathlib.Path,
    seconds: float,
) -> int:
    """Trains runs within a time; see `Session`. What is in `out` and `checkpoints` is taken up."""
    out.mkdir(parents=True, exist_ok=True)
    with files.temporary_in(pathlib.Path(tempfile.gettempdir())) as work:
        parcels.unpack(out, work, work, work)
        parcels.copy_checkpoints(checkpoints, work, runs)
        # Memory as it is needed: the processes that check and train may be two.
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        # Runs of one model are compiled once.
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", f"{work}/.compiled")
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
        return Session(runs, out, finished, seconds, work).run()
