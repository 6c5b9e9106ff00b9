"""Checkpoints of a training: the model with its optimizer, and the states of its callbacks."""

import dataclasses
import json
import pathlib
import time
from collections.abc import Mapping

import keras

from scripts import command_line
from scripts.paper.runs import Run
from tfnode import files

# A checkpoint of a small model would cost more than the iterations between two of them.
_SECONDS_BETWEEN = 60


# What must be the same where a training goes on.
_BINDING = ("keras", "tfnode")


class OutOfTime(Exception):
    """A training has left a checkpoint, and was ended."""


class Checkpoint(keras.callbacks.Callback):
    """Saves a training about once a minute, so that `load` takes it up where it was.

    It comes last of the callbacks, whose states are then those after the iteration.

    Args:
        directory: A checkpoint in it replaces the one before.
        origin: Plain values, what the training is; `load` wants the same.
        callbacks: Callbacks with `get_state`, by name.
        ends_at: Float, the `time.time()` from which on a training is saved and ended with
            `OutOfTime`; one that comes to its end before is saved as well, as it has still to be
            measured. If None, it takes the time that it needs.
    """

    def __init__(
        self,
        directory: pathlib.Path,
        origin: dict,
        callbacks: Mapping[str, keras.callbacks.Callback],
        ends_at: float | None = None,
    ):
        super().__init__()
        self._ends_at = ends_at
        self._directory = directory
        self._origin = origin
        self._callbacks = callbacks

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._last = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        if time.monotonic() - self._last >= _SECONDS_BETWEEN:
            self.save()
            self._last = time.monotonic()
        if self._ends_at is not None and time.time() >= self._ends_at:
            self.save()
            raise OutOfTime(f"saved in {self._directory}")

    def on_train_end(self, logs: dict | None = None) -> None:
        if self._ends_at is not None:
            self.save()

    def save(self) -> None:
        """Writes a checkpoint beside its place, and then removes those before it."""
        target = self._directory / f"iteration_{int(self.model.optimizer.iterations):06d}"
        if target.exists():
            return
        old = _complete(self._directory)
        with files.beside(target) as written:
            written.mkdir()
            self.model.save(written / "model.keras")
            states = {name: callback.get_state() for name, callback in self._callbacks.items()}
            content = {"origin": self._origin, "states": states}
            # A record may hold a NaN, which the results may not.
            (written / "states.json").write_text(json.dumps(content), encoding="utf-8")
        for path in old:
            files.remove(path)


def load(directory: pathlib.Path, origin: dict) -> tuple[keras.Model, dict[str, dict], dict] | None:
    """Returns the model of the last checkpoint, the states by name and its origin; None without.

    Raises:
        ValueError: If the checkpoint is of another training.
    """
    complete = _complete(directory)
    if not complete:
        return None
    content = command_line.read_json(complete[-1] / "states.json")
    if _identity(content["origin"]) != _identity(origin):
        raise ValueError(
            "A training goes on from a checkpoint of its own. "
            f"Received: checkpoint of {content['origin']} for {origin}. Remove {directory}."
        )
    model = keras.saving.load_model(complete[-1] / "model.keras")
    return model, content["states"], content["origin"]


def _identity(origin: dict) -> dict:
    """What a training is, wherever it runs: its results differ elsewhere by rounding alone."""
    versions = {name: origin["versions"][name] for name in _BINDING}
    # An older checkpoint does not know what has become an option since.
    defaults = {field.name: field.default for field in dataclasses.fields(Run)}
    return {
        "run": {**defaults, **origin["run"]},
        "versions": versions,
        "backend": origin["backend"],
    }


def _complete(directory: pathlib.Path) -> list[pathlib.Path]:
    return sorted(directory.glob("iteration_*"))
