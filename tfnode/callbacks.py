"""Keras callbacks that adapt the solver during `fit`: measure, ask `adaption`, assign, log."""

import dataclasses
import math
import pathlib

import keras
import numpy as np

from tfnode import adaption, export, solvers
from tfnode.batches import endless_batches
from tfnode.measure import Twin, initial_step_sizes
from tfnode.models import ode_blocks


class StepAdaption(keras.callbacks.Callback):
    """Finds the coarsest step size that keeps the model an ODE, while it trains.

    Before training, the step size is set by Hairer's rule. Then, every `every` iterations, the
    accuracy on one batch is measured with the training solver and with a better one. If they
    differ by more than `threshold` the model has grown together with its solver, and the step is
    multiplied by `shrink`; otherwise it is multiplied by `growth`, if the training solver still
    agrees with the better one there (Ott et al., "When are Neural ODE Solutions Proper ODEs?",
    algorithm 1). All ODE blocks of a model share one step size.

    `logs` gets `step_size`, `num_steps`, `nfe` (both summed over the blocks) and `accuracy_gap`,
    NaN before the first check. List this callback before those that shall see them.

    Examples:

    >>> field = keras.Sequential([keras.layers.Dense(8, "tanh"), keras.layers.Dense(2)])
    >>> model = keras.Sequential(
    ...     [keras.Input((2,)), tfnode.ODEBlock(field), keras.layers.Dense(2)]
    ... )
    >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    >>> model.compile("adam", loss, metrics=["accuracy"])
    >>> x = np.random.default_rng(0).normal(size=(256, 2)).astype("float32")
    >>> y = (x[:, 0] > 0).astype("int32")
    >>> step_adaption = StepAdaption((x, y), every=4)
    >>> history = model.fit(x, y, epochs=2, verbose=0, callbacks=[step_adaption])
    >>> [record["iteration"] for record in step_adaption.history]
    [4, 8, 12, 16]

    Args:
        data: The batches that checks draw from, in turn: a `tf.data.Dataset` or other iterable of
            `(inputs, labels)` batches, or a tuple of arrays `(x, y)`. Labels are classes, one-hot
            rows, or 0/1 for a single output.
        every: Integer, the iterations (optimizer steps) between checks. With
            `steps_per_execution` above 1, a check waits for the end of the execution.
        threshold: Float, the largest accepted gap between the accuracies.
        shrink: Float in (0, 1), the factor after a larger gap.
        growth: Float above 1, the factor otherwise.
        initial_step_size: `"auto"` for Hairer's rule, or a float. It is applied once: a later
            `fit` with the same callback goes on from the present step size.
        batch_size: Integer, the samples of a check when `data` is a tuple of arrays.
        export_dir: Optional path, of a directory that is new or empty at each `fit`. When
            training ends, `train/` and `reference/` below it become SavedModels with the training
            solver and the better one. TensorFlow only.
        verbose: 0 or 1. If 1, a line is printed for every change of the step size.

    Attributes:
        history: List of dictionaries, one a check: `iteration`, the checked `step_size` with its
            `num_steps` and `nfe`, `train_accuracy`, `reference_accuracy`, and the `action` that
            followed (`"shrink"`, `"grow"`, `"keep"`).
        nfe_per_iteration: Float, the evaluations of the vector fields in the forward passes of
            training, per iteration.
        nfe_per_iteration_with_checks: Float, the same with the evaluations of the checks.

    Raises:
        ValueError: If an argument is not valid, if `data` is empty or has no labels, if the model
            has no `ODEBlock` or an unrolled one, or if `export_dir` already holds models.
        FloatingPointError: If the loss is no longer finite. The model keeps its weights.
    """

    def __init__(
        self,
        data,
        every=50,
        threshold=0.1,
        shrink=0.5,
        growth=1.1,
        initial_step_size="auto",
        batch_size=128,
        export_dir=None,
        verbose=0,
    ):
        super().__init__()
        _check_count("every", every)
        _check_count("batch_size", batch_size)
        if initial_step_size != "auto":
            initial_step_size = solvers.check_step_size(initial_step_size)
        self._rule = adaption.StepRule(threshold, shrink, growth)
        self._data = data
        self._batch_size = batch_size
        self._every = every
        self._initial_step_size = initial_step_size
        self._export_dir = None if export_dir is None else pathlib.Path(export_dir)
        self._verbose = verbose
        self._gap = math.nan
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
        self._blocks = _adaptable_blocks(self.model)
        if self._export_dir is not None:
            export.check_export_dir(self._export_dir)
        if not self._training_iterations:
            self._start()
        self._read_step_size()
        finest = min(self._rule.min_step_size, self._step_size)
        self._train_twin = Twin(self.model, finest, lambda solver, _: solver)
        self._reference_twin = Twin(self.model, finest, adaption.reference_solver)
        self._seen_iterations = self._iterations()

    def _start(self):
        self._batches = endless_batches(self._data, self._batch_size)
        x, _ = next(self._batches)
        if not self.model.built:
            self.model.build(x.shape)
        self._set_caps()
        self._assign(self._first_step_size(x))

    def on_train_batch_end(self, batch, logs=None):
        before, now = self._seen_iterations, self._iterations()
        check_loss(logs, now, self._step_size)
        self._seen_iterations = now
        self._training_iterations += now - before
        self._training_nfe += (now - before) * self._nfe
        if now // self._every > before // self._every:
            self._check(now)
        self._log(logs)

    def on_epoch_end(self, epoch, logs=None):
        self._log(logs)

    def on_train_end(self, logs=None):
        if self._export_dir is not None:
            self._reference_twin.assign(self._step_size)
            export.export_saved_model(self.model, self._export_dir / "train")
            export.export_saved_model(self._reference_twin.model, self._export_dir / "reference")

    def _iterations(self):
        return int(self.model.optimizer.iterations)

    def _first_step_size(self, x):
        if self._initial_step_size != "auto":
            return min(self._initial_step_size, self._rule.max_step_size)
        return max(min(initial_step_sizes(self.model, x)), self._rule.min_step_size)

    def _set_caps(self):
        lengths = [block.length for block in self._blocks]
        # Rounded as the weight rounds them, so that a step size at a cap is seen to be there.
        caps = (min(max(lengths) / 500, min(lengths)), min(lengths))
        low, high = np.array(caps, self._blocks[0].step_size.dtype).tolist()
        self._rule = dataclasses.replace(self._rule, min_step_size=low, max_step_size=high)

    def _assign(self, step_size):
        for block in self._blocks:
            block.step_size = step_size
        self._read_step_size()

    def _read_step_size(self):
        """Takes what the weights hold, so that records and training agree."""
        self._step_size = self._blocks[0].solver.step_size
        self._num_steps = sum(block.num_steps for block in self._blocks)
        self._nfe = sum(block.nfe for block in self._blocks)

    def _check(self, iteration):
        x, y = next(self._batches)
        train_accuracy = self._measure(self._train_twin, self._step_size, x, y)
        reference_accuracy = self._measure(self._reference_twin, self._step_size, x, y)
        self._gap = abs(train_accuracy - reference_accuracy)
        step_size, action = adaption.next_step(
            self._rule,
            self._step_size,
            train_accuracy,
            reference_accuracy,
            accuracy_at=lambda step_size: self._measure(self._train_twin, step_size, x, y),
        )
        self.history.append(
            {
                "iteration": iteration,
                "step_size": self._step_size,
                "num_steps": self._num_steps,
                "nfe": self._nfe,
                "train_accuracy": train_accuracy,
                "reference_accuracy": reference_accuracy,
                "action": action,
            }
        )
        if action != "keep":
            if self._verbose:
                print(
                    f"\nIteration {iteration}: StepAdaption {action}s the step size from "
                    f"{self._step_size:.4g} to {step_size:.4g} (accuracy gap {self._gap:.3f})."
                )
            self._assign(step_size)

    def _measure(self, twin, step_size, x, y):
        self._checks_nfe += twin.assign(step_size)
        return twin.accuracy(x, y)

    def _log(self, logs):
        if logs is not None:
            logs.update(
                step_size=self._step_size,
                num_steps=self._num_steps,
                nfe=self._nfe,
                accuracy_gap=self._gap,
            )


def check_loss(logs, iteration, step_size):
    """Raises if the loss in a callback's `logs` is no longer finite.

    Args:
        logs: Dictionary with a `loss`, or None.
        iteration: Integer, the optimizer steps so far.
        step_size: Float.

    Raises:
        FloatingPointError: If the loss is infinite or NaN.
    """
    loss = (logs or {}).get("loss", 0.0)
    if not math.isfinite(loss):
        raise FloatingPointError(
            "The loss must stay finite. "
            f"Received: loss={loss} at iteration {iteration} with step_size={step_size}. Training "
            "has stopped; the model and the records of its callbacks stay as they are. Try a "
            "smaller learning rate, gradient clipping (`clipnorm`), or a smaller step size."
        )


def _check_count(name, value):
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(
            f"`{name}` must be a positive integer. Received: {name}={value!r}. "
            "The paper checks every 50 iterations on batches of 128 or 256."
        )


def _adaptable_blocks(model):
    blocks = ode_blocks(model)
    if not blocks or any(block.unroll for block in blocks):
        raise ValueError(
            "`StepAdaption` needs a model with at least one `tfnode.ODEBlock`, none of them "
            f"unrolled. Received: model={model.name!r} with blocks "
            f"{[(block.name, f'unroll={block.unroll}') for block in blocks]}. Add an `ODEBlock` "
            "with unroll=False to the model."
        )
    return blocks
