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

    A subclass finds its blocks and the bounds of what it adapts, starts them, builds what measures,
    and checks: `_find_blocks`, `_set_bounds`, `_start`, `_prepare`, `_check`.
    `_training_evaluations` and `_values` tell what it did. What its rule remembers from one check
    to the next is `_memory`; the present solver is in the blocks.
    """

    def __init__(self, rule, data, every, batch_size, log_dir, verbose):
        super().__init__()
        _check_count("every", every)
        _check_count("batch_size", batch_size)
        self._rule = rule
        self._memory = rule.first_memory()
        self._recent_nfe = ()
        self._data = data
        self._every = every
        self._batch_size = batch_size
        self._writer = None if log_dir is None else Writer(log_dir)
        self._verbose = verbose
        self._batches = None
        self._num_batches = 0
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

    def get_state(self):
        """Returns what to save beside the model to go on in another process.

        Examples:

        >>> field = keras.layers.Dense(2, "tanh")
        >>> model = keras.Sequential([keras.Input((2,)), tfnode.ODEBlock(field)])
        >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        >>> model.compile("adam", loss)
        >>> x, y = np.ones((64, 2)), np.ones(64, int)
        >>> step_adaption = tfnode.StepAdaption((x, y), every=1)
        >>> history = model.fit(x, y, verbose=0, callbacks=[step_adaption])
        >>> restored = tfnode.StepAdaption((x, y), every=1)
        >>> restored.set_state(step_adaption.get_state())
        >>> restored.history == step_adaption.history
        True

        Returns:
            Dictionary of plain values, for example for `json.dump`.
        """
        return {
            "callback": type(self).__name__,
            "history": list(self.history),
            "num_batches": self._num_batches,
            "training_iterations": self._training_iterations,
            "training_nfe": self._training_nfe,
            "checks_nfe": self._checks_nfe,
            "memory": list(self._memory),
            "recent_nfe": list(self._recent_nfe),
        }

    def set_state(self, state):
        """Takes up a state, so that the next `fit` goes on as the one that it was saved from.

        The model must be the saved one, as its blocks hold the present solver: save it with
        `model.save` and load it with `keras.saving.load_model`. `data` must give the same batches
        in the same order; those that were used are read and passed over.

        Args:
            state: Dictionary, from `get_state`.

        Raises:
            ValueError: If it is the state of another callback.
        """
        if state.get("callback") != type(self).__name__:
            raise ValueError(
                f"A state must come from `get_state` of the same class, {type(self).__name__}. "
                f"Received: state of {state.get('callback')!r}. Pass the state of this callback."
            )
        self.history = list(state["history"])
        self._num_batches = state["num_batches"]
        self._training_iterations = state["training_iterations"]
        self._training_nfe = state["training_nfe"]
        self._checks_nfe = state["checks_nfe"]
        self._memory = tuple(state["memory"])
        self._recent_nfe = tuple(state["recent_nfe"])
        self._batches = None
        if self.history:
            last = self.history[-1]
            self._gap = abs(last["train_accuracy"] - last["reference_accuracy"])
            self._change = last["change"]

    def on_train_begin(self, logs=None):
        self._blocks = self._find_blocks()
        self._set_bounds()
        if not self._training_iterations:
            self._open_batches(used=0)
            x, _ = self._next_batch()
            if not self.model.built:
                self.model.build(x.shape)
            self._start(x)
        elif self._batches is None:
            self._open_batches(used=self._num_batches)
        self._prepare()
        self._seen_iterations = self._iterations()

    def on_train_batch_end(self, batch, logs=None):
        before, now = self._seen_iterations, self._iterations()
        check_loss(logs, now, self._describe())
        self._seen_iterations = now
        self._training_iterations += now - before
        self._training_nfe += self._training_evaluations(now - before)
        if now // self._every > before // self._every:
            self._check(now, *self._next_batch())
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

    def _open_batches(self, used):
        self._batches, self._num_batches = endless_batches(self._data, self._batch_size), 0
        for _ in range(used):
            self._next_batch()

    def _next_batch(self):
        self._num_batches += 1
        return next(self._batches)

    def _some_samples(self):
        """The next batches of the checks, about 1000 samples, as arrays."""
        batches = [self._next_batch()]
        while sum(len(y) for _, y in batches) < _FIGURE_SAMPLES:
            batches.append(self._next_batch())
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
