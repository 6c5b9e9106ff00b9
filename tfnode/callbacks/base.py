"""What the adapting callbacks share: they count, check every so many iterations, record and log."""

import math

import keras
import numpy as np

from tfnode import validity
from tfnode.batches import endless_batches
from tfnode.callbacks.tensorboard import Writer

# Samples of the validity figure.
_FIGURE_SAMPLES = 1000


class SolverAdaption(keras.callbacks.Callback):
    """Base of the callbacks that check, every `every` iterations, and then change the solver.

    A subclass finds its blocks, starts them, builds what measures, and checks: `_find_blocks`,
    `_start`, `_prepare`, `_check`. `_training_evaluations` and `_values` tell what it did.
    """

    def __init__(self, data, every, batch_size, log_dir, verbose):
        super().__init__()
        _check_count("every", every)
        _check_count("batch_size", batch_size)
        self._data = data
        self._every = every
        self._batch_size = batch_size
        self._writer = None if log_dir is None else Writer(log_dir)
        self._verbose = verbose
        self._batches = None
        self._gap = self._change = math.nan
        self._training_iterations = 0
        self._training_nfe = 0
        self._checks_nfe = 0
        self.history = []

    @property
    def nfe_per_iteration(self):
        return self._training_nfe / max(1, self._training_iterations)

    @property
    def nfe_per_iteration_with_checks(self):
        return (self._training_nfe + self._checks_nfe) / max(1, self._training_iterations)

    def on_train_begin(self, logs=None):
        self._blocks = self._find_blocks()
        if not self._training_iterations:
            self._batches = endless_batches(self._data, self._batch_size)
            x, _ = next(self._batches)
            if not self.model.built:
                self.model.build(x.shape)
            self._start(x)
        self._prepare()
        self._seen_iterations = self._iterations()

    def on_train_batch_end(self, batch, logs=None):
        before, now = self._seen_iterations, self._iterations()
        check_loss(logs, now, self._describe())
        self._seen_iterations = now
        self._training_iterations += now - before
        self._training_nfe += self._training_evaluations(now - before)
        if now // self._every > before // self._every:
            self._check(now, *next(self._batches))
            if self._writer:
                self._writer.scalars(now, {**self._values(), "change": self._change})
        self._log(logs)

    def on_epoch_end(self, epoch, logs=None):
        self._log(logs)

    def on_train_end(self, logs=None):
        if self._writer:
            report = validity.check(self.model, self._some_samples(), verbose=0)
            self._writer.figure(self._iterations(), "validity", report.plot())

    def _iterations(self):
        return int(self.model.optimizer.iterations)

    def _some_samples(self):
        """The next batches of the checks, about 1000 samples, as arrays."""
        batches = [next(self._batches)]
        while sum(len(y) for _, y in batches) < _FIGURE_SAMPLES:
            batches.append(next(self._batches))
        # Inputs may be nested.
        return keras.tree.map_structure(lambda *parts: np.concatenate(parts), *batches)

    def _log(self, logs):
        if logs is not None:
            logs.update(self._values())


def check_loss(logs, iteration, solver):
    """Raises if the loss in a callback's `logs` is no longer finite.

    Args:
        logs: Dictionary with a `loss`, or None.
        iteration: Integer, the optimizer steps so far.
        solver: String, the solver's setting as `name=value`.

    Raises:
        FloatingPointError: If the loss is infinite or NaN.
    """
    loss = (logs or {}).get("loss", 0.0)
    if not math.isfinite(loss):
        raise FloatingPointError(
            "The loss must stay finite. "
            f"Received: loss={loss} at iteration {iteration} with {solver}. Training "
            "has stopped; the model and the records of its callbacks stay as they are. Try a "
            "smaller learning rate, gradient clipping (`clipnorm`), or a more accurate solver."
        )


def _check_count(name, value):
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(
            f"`{name}` must be a positive integer. Received: {name}={value!r}. "
            "The paper checks every 50 iterations on batches of 128 or 256."
        )
