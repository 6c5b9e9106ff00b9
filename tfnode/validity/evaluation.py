"""The outputs of a model under many solvers, in one pass over the data."""

import dataclasses
import itertools
import time
from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from tfnode import arguments, batches
from tfnode.layers import ODEBlock
from tfnode.layers.checks import epsilon
from tfnode.models import Reached, Twin, looked_at
from tfnode.models.judge import PASS_TASK, Judge
from tfnode.models.outputs import judged_output, with_mask
from tfnode.solvers import FixedStepSolver, Solver
from tfnode.typing import Data, Metric, Nested
from tfnode.validity.trials import Trial

# Below this a bar would only flicker.
_QUIET_SECONDS = 5
_BATCH_SIZE = 1000


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What one pass gathered, sample by sample.

    Args:
        y: NumPy array, the labels.
        weights: NumPy array, the samples' weights, or None if they all count alike.
        mask: NumPy array of Booleans, the Keras mask of the outputs, or None. It comes from the
            inputs, so that all trials have the same.
        outputs: Dictionary from trials to NumPy arrays `(num_samples, ..., classes)`.
        costs: Dictionary from trials to dictionaries of `num_steps` and `nfe`, summed over the
            blocks, or None for adaptive solvers.
    """

    y: np.ndarray
    weights: np.ndarray | None
    mask: np.ndarray | None
    outputs: dict[Trial, np.ndarray]
    costs: dict[Trial, dict[str, int | None]]

    def judge(
        self,
        model: keras.Model,
        trial: Trial,
        task: str | None,
        metric: Metric | None = None,
        remedy: str = PASS_TASK,
    ) -> Judge:
        """The judge of the outputs, which takes what they mean from those of one trial."""
        outputs = self.outputs[trial]
        return Judge(model, self.y, outputs, task, metric, self.weights, self.mask, remedy=remedy)

    def joined(self, other: "Evaluation") -> "Evaluation":
        """This and another evaluation on the same samples."""
        outputs, costs = {**self.outputs, **other.outputs}, {**self.costs, **other.costs}
        return dataclasses.replace(self, outputs=outputs, costs=costs)

    def only(self, trials: Iterable[Trial]) -> "Evaluation":
        """What it has of some trials, in their order."""
        trials = list(trials)
        outputs = {trial: self.outputs[trial] for trial in trials}
        costs = {trial: self.costs[trial] for trial in trials}
        return dataclasses.replace(self, outputs=outputs, costs=costs)


class Samples:
    """Data that is read once, of which the first batch may be looked at before.

    Args:
        data: `tf.data.Dataset` or other finite iterable of batches `(inputs, labels)` or `(inputs,
            labels, weights)`, or a tuple of such arrays.
    """

    def __init__(self, data: Data) -> None:
        self.num_batches = _num_batches(data)
        stream = _batches(data)
        first = next(stream, None)
        if first is None:
            raise batches.empty(data)
        self._first = first
        self._batches: Iterable[tuple] = stream
        self.data = data

    @property
    def first_inputs(self) -> Nested:
        """The inputs of the first batch."""
        return keras.tree.map_structure(ops.convert_to_tensor, self._first[0])

    @property
    def first_labels(self) -> np.ndarray:
        """The labels of the first batch."""
        return batches.to_numpy(self._first[1])

    @property
    def first_weights(self) -> np.ndarray | None:
        """The samples' weights of the first batch, or None."""
        weights = self._first[2]
        return None if weights is None else batches.to_numpy(weights)

    def __iter__(self) -> Iterator[tuple]:
        return itertools.chain([self._first], self._batches)

    def keep(self) -> None:
        """Reads all into memory, so that it can be read again."""
        self._batches = list(self._batches)


@dataclasses.dataclass(frozen=True)
class Subject:
    """A model that is judged, on some samples.

    Args:
        model: Keras model, built.
        reached: List of `tfnode.models.Reached`, the blocks that it calls.
        samples: `Samples`.
        task: `"classification"` or `"regression"`.
    """

    model: keras.Model
    reached: list[Reached]
    samples: Samples
    task: str = "regression"

    @classmethod
    def of(
        cls,
        model: keras.Model,
        data: Data,
        task: str | None = None,
        metric: Metric | None = None,
        is_scored: bool = True,
        remedy: str = PASS_TASK,
    ) -> "Subject":
        """The subject, after a look at what the model makes of the first samples.

        What cannot be judged, or has no loss or metric where it `is_scored`, is refused now, and
        not after it has been evaluated. The `remedy` is that of a `Judge`.
        """
        batches.check_data(data)
        check_built(model)
        samples = Samples(data)
        reached, given = looked_at(model, samples.first_inputs)
        outputs, mask = judged_output(*with_mask(given))
        batches.check_inputs(samples.first_inputs, outputs, "the first batch")
        y, weights = samples.first_labels, samples.first_weights
        judge = Judge(model, y, outputs, task, metric, weights, mask, is_all=False, remedy=remedy)
        if is_scored:
            judge.check_scores(outputs)
        return cls(model, reached, samples, judge.task)

    @property
    def blocks(self) -> list[ODEBlock]:
        return [found.block for found in self.reached]

    @property
    def rounding(self) -> float:
        """The spacing at 1 of the coarsest numbers that a field computes in."""
        return max(epsilon(block.compute_dtype) for block in self.blocks)


def check_built(model: keras.Model) -> None:
    """Raises if a model has no weights yet, or is none."""
    advice = (
        "Build one with `tfnode.ODEBlock` as a layer of it; `check_series` judges a field of "
        "`tfnode.odeint`."
    )
    if not arguments.instance("model", model, keras.Layer, "a Keras model", advice=advice).built:
        raise ValueError(
            "The model must be built: it has no weights to judge yet. Received: built=False "
            f"for model={model.name!r}. Train it first, or call it once."
        )


def evaluate(subject: Subject, trials: Iterable[Trial], verbose: int | str = "auto") -> Evaluation:
    """Returns the `Evaluation` of a model under every trial, without touching the model.

    The data is read once, for all the trials: it may come shuffled anew in every pass.
    """
    trials = list(dict.fromkeys(trials))
    twins = _twins(subject, trials)
    labels: list[np.ndarray] = []
    weights: list[np.ndarray] = []
    masks: list[np.ndarray] = []
    outputs: dict[Trial, list[np.ndarray]] = {trial: [] for trial in trials}
    progress = _Progress(subject.samples.num_batches, len(trials), verbose)
    for index, (x, y, w) in enumerate(subject.samples):
        _append(labels, ops.convert_to_numpy(y), "labels")
        if w is not None:
            _append(weights, ops.convert_to_numpy(w), "weights")
        x = keras.tree.map_structure(ops.convert_to_tensor, x)
        for trial, twin in twins:
            twin.assign(trial.solvers)
            output, mask = judged_output(*twin(x))
            batches.check_inputs(x, output, f"the batch at index {index}")
            _append(outputs[trial], output, "outputs")
            progress.add()
        masks += [] if mask is None else [mask]
    return Evaluation(
        np.concatenate(labels),
        np.concatenate(weights) if weights else None,
        np.concatenate(masks) if masks else None,
        {trial: np.concatenate(parts) for trial, parts in outputs.items()},
        {trial: _cost(trial, twin) for trial, twin in twins},
    )


def _append(parts: list[np.ndarray], array: np.ndarray, what: str) -> None:
    """Adds what belongs to a batch, which must be such that all can be judged as one."""
    if parts and array.shape[1:] != parts[0].shape[1:]:
        raise batches.not_alike(what, array, parts[0])
    parts.append(array)


def _twins(subject: Subject, trials: list[Trial]) -> list[tuple[Trial, Twin]]:
    """A twin for every trial; trials that differ in their step sizes share one, and its graph."""
    groups: dict[Any, list[Trial]] = {}
    for trial in trials:
        methods = tuple((type(solver), solver.tableau) for solver in trial.solvers)
        key = trial if trial.is_adaptive else (methods, trial.save_at)
        groups.setdefault(key, []).append(trial)
    twins = []
    for group in groups.values():
        # The finest step of each block bounds the steps of its compiled loop.
        each = [min(of_block, key=_step_size) for of_block in zip(*(t.solvers for t in group))]
        save_at = group[0].save_at
        twin = Twin(subject.model, subject.reached, each, with_mask, save_at=save_at)
        twins += [(trial, twin) for trial in group]
    return twins


def _step_size(solver: Solver) -> float:
    """Where steps are adaptive, a trial has a twin of its own."""
    return solver.step_size if isinstance(solver, FixedStepSolver) else 0.0


def _cost(trial: Trial, twin: Twin) -> dict[str, int | None]:
    if trial.is_adaptive:
        return {"num_steps": None, "nfe": None}
    twin.assign(trial.solvers)
    return {"num_steps": twin.num_steps, "nfe": twin.nfe}


def _batches(data: Data) -> Iterator[batches.Batch]:
    """Yields slices of arrays, or the batches of a dataset."""
    if not isinstance(data, tuple):
        yield from batches.batches(data)
        return
    arrays = batches.arrays(data)
    for start in range(0, len(arrays[1]), _BATCH_SIZE):
        yield batches.rows(arrays, slice(start, start + _BATCH_SIZE))


def _num_batches(data: Data) -> int | None:
    """The number of batches, None if unknown."""
    if isinstance(data, tuple):
        return -(-len(data[1]) // _BATCH_SIZE)
    cardinality = getattr(data, "cardinality", None)
    number = -2 if cardinality is None else int(cardinality())
    if number == -1:
        raise ValueError(
            "The data must come to an end, as every sample counts once. "
            f"Received: data={data!r}, which repeats for ever. Leave out its `repeat()`."
        )
    return number if number >= 0 else None


class _Progress:
    """A bar over batches and trials, at once if `verbose` is 1, after a while if `"auto"`."""

    def __init__(self, num_batches: int | None, num_trials: int, verbose: int | str) -> None:
        self._target = None if num_batches is None else num_batches * num_trials
        self._start = {"auto": time.monotonic() + _QUIET_SECONDS, 0: float("inf"), 1: 0.0}[verbose]
        self._bar: Any = None
        self._done = 0

    def add(self) -> None:
        self._done += 1
        if self._bar is None and time.monotonic() >= self._start:
            self._bar = keras.utils.Progbar(self._target, unit_name="pass")
        if self._bar is not None:
            self._bar.update(self._done)
