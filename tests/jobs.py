"""What workers of the tests of engines compute: functions that they can import.

As a command it computes two small trainings on each of some engines, as `reproduce_table1.py`
would. Keras is imported by those functions alone that need it: a worker starts the sooner.
"""

import contextlib
import dataclasses
import os
import pathlib
import signal
import sys
import time


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


def run_alone(errand, directory):
    """The same in a process that imports neither Keras nor the runner."""
    return run(errand, lambda fraction: None, directory)


def blocked_signals():
    return signal.pthread_sigmask(signal.SIG_BLOCK, [])


def trainings():
    from scripts.paper.runs import Run

    return [Run("concentric_spheres_2d", n, 0, 50, test_samples=100, rk4_steps=8) for n in (1, 2)]


def train(training, report, directory):
    from scripts.paper import experiments, measurements

    # Functions of the weights, and most of the time: the weights say more.
    measurements.sweep = lambda model, test: {}
    measurements.final_accuracies = lambda model, *data: {
        "weights": [weight.tolist() for weight in model.get_weights()]
    }
    return experiments.train(training, report, directory)


def main(folder, *names):
    from scripts.paper import engines, experiments, runner

    environment = {**engines.ENVIRONMENT, **experiments.ENVIRONMENT, "KERAS_BACKEND": "tensorflow"}
    for name in names:
        out = pathlib.Path(folder) / name
        engine = {
            "local": lambda: contextlib.closing(engines.Local(1, environment)),
            "slurm": lambda out=out: engines.slurm(out / "jobs", {}, environment, cluster="local"),
            "ray": lambda: engines.ray(None, environment),
        }
        with engine[name]() as executor:
            print(runner.run_all(train, trainings(), executor, out, out / "kept", name))


if __name__ == "__main__":
    main(*sys.argv[1:])
