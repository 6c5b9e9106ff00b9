"""What workers of the tests of engines compute: functions that they can import.

As a command it computes two small trainings on each of some engines, as `reproduce_table1.py`
would.
"""

import contextlib
import dataclasses
import os
import pathlib
import signal
import sys
import time

from scripts.paper import engines, experiments, measurements, runner
from scripts.paper.runs import Run

ENVIRONMENT = {**engines.ENVIRONMENT, **experiments.ENVIRONMENT}
RUNS = [Run("concentric_spheres_2d", n, 0, 50, test_samples=100, rk4_steps=8) for n in (1, 2)]


@dataclasses.dataclass(frozen=True)
class Errand:
    """A run without a training: what it does, and where it notes that it was begun."""

    name: str
    does: str = "returns"
    cost: int = 1

    @property
    def path(self):
        return f"errands/{self.name}.json"


def run(errand, report, directory):
    """Does what the errand says; its attempts are the lines of a file in `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "attempts").open("a") as file:
        file.write("begun\n")
    attempts = len((directory / "attempts").read_text().splitlines())
    report(0.5)
    if errand.does == "raises" or (errand.does == "raises once" and attempts == 1):
        raise ArithmeticError(f"{errand.name} failed")
    if errand.does == "dies" or (errand.does == "dies once" and attempts == 1):
        os.kill(os.getpid(), signal.SIGKILL)
    if errand.does == "sleeps":
        pathlib.Path(directory / "pid").write_text(str(os.getpid()))
        time.sleep(600)
    if errand.does == "returns no number":
        return {"accuracy": float("nan")}
    return {"name": errand.name, "attempts": attempts, "threads": os.environ["OMP_NUM_THREADS"]}


def train(training, report, directory):
    # A function of the weights, and most of the time.
    measurements.sweep = lambda model, test: {}
    return experiments.train(training, report, directory)


def main(folder, *names):
    for name in names:
        out = pathlib.Path(folder) / name
        engine = {
            "local": lambda: contextlib.closing(engines.Local(2, ENVIRONMENT)),
            "slurm": lambda out=out: engines.slurm(out / "jobs", {}, ENVIRONMENT, cluster="local"),
            "ray": lambda: engines.ray(None, ENVIRONMENT),
        }
        with engine[name]() as executor:
            print(runner.run_all(train, RUNS, executor, out, out / "kept", name))


if __name__ == "__main__":
    main(*sys.argv[1:])
