"""The outputs of a model under many solvers, in one pass over the data."""

import dataclasses
import operator
import time

import keras
import numpy as np
from keras import ops

from tfnode.measure import compiled
from tfnode.models import ode_blocks, replace_blocks

# Below this a bar would only flicker.
_QUIET_SECONDS = 5
_BATCH_SIZE = 1000


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What one pass gathered, sample by sample.

    Args:
        y: NumPy array, the labels.
        outputs: Dictionary from trials to NumPy arrays `(num_samples, ..., classes)`.
        costs: Dictionary from trials to dictionaries of `num_steps` and `nfe`, summed over the
            blocks, or None for adaptive solvers.
    """

    y: np.ndarray
    outputs: dict
    costs: dict


def evaluate(model, data, trials, verbose="auto"):
    """Returns the `Evaluation` of a model under every trial, without touching the model.

    The data is read once, for all the trials: it may come shuffled anew in every pass.
    """
    trials = list(dict.fromkeys(trials))
    twins = _twins(model, trials)
    labels, outputs = [], {trial: [] for trial in trials}
    progress = _Progress(_num_batches(data), len(trials), verbose)
    for x, y in _batches(data):
        labels.append(ops.convert_to_numpy(y))
        for trial, twin in twins:
            outputs[trial].append(twin.outputs(trial, x))
            progress.add()
    _check_not_empty(labels, data)
    return Evaluation(
        np.concatenate(labels),
        {trial: np.concatenate(parts) for trial, parts in outputs.items()},
        {trial: twin.cost(trial) for trial, twin in twins},
    )


def _twins(model, trials):
    """A twin for every trial; trials that differ in their step sizes share one, and its graph."""
    unrolled = any(block.unroll for block in ode_blocks(model))
    groups = {}
    for trial in trials:
        shared = not (trial.is_adaptive or unrolled)
        methods = tuple((type(solver), solver.tableau) for solver in trial.solvers)
        groups.setdefault(methods if shared else trial, []).append(trial)
    return [
        (trial, twin)
        for group in groups.values()
        for twin in [_Twin(model, group, assignable=not unrolled)]
        for trial in group
    ]


class _Twin:
    """A model that shares every weight of another, with the solvers of some trials."""

    def __init__(self, model, trials, assignable):
        # The finest step first: it bounds the steps of the compiled loop.
        finest = min(trials, key=_step_size)
        solvers = dict(zip(map(id, ode_blocks(model)), finest.solvers))
        self._model = replace_blocks(model, lambda block: block.with_solver(solvers[id(block)]))
        self._blocks = ode_blocks(self._model)
        self._assignable = assignable and not finest.is_adaptive
        self._call = compiled(lambda x: self._model(x, training=False), jit_compile=False)

    def outputs(self, trial, x):
        self._assign(trial)
        outputs = self._call(keras.tree.map_structure(ops.convert_to_tensor, x))
        if keras.tree.is_nested(outputs):
            raise ValueError(
                "A model must have one output to be judged by. "
                f"Received: {len(keras.tree.flatten(outputs))} outputs. Build a "
                "`keras.Model(model.inputs, output)` for each of them; it shares the weights."
            )
        outputs = ops.convert_to_numpy(outputs)
        return outputs[:, None] if outputs.ndim == 1 else outputs

    def cost(self, trial):
        if trial.is_adaptive:
            return {"num_steps": None, "nfe": None}
        self._assign(trial)
        return {
            "num_steps": sum(block.num_steps for block in self._blocks),
            "nfe": sum(block.nfe for block in self._blocks),
        }

    def _assign(self, trial):
        if self._assignable:
            for block, solver in zip(self._blocks, trial.solvers):
                block.step_size = solver.step_size


def _step_size(trial):
    return 0.0 if trial.is_adaptive else trial.solvers[0].step_size


def _batches(data):
    """Yields the `(inputs, labels)` of arrays in slices, or of a dataset's batches."""
    if isinstance(data, tuple):
        x, y = _arrays(data)
        for start in range(0, len(y), _BATCH_SIZE):
            rows = slice(start, start + _BATCH_SIZE)
            yield keras.tree.map_structure(operator.itemgetter(rows), x), y[rows]
        return
    for batch in data:
        if not isinstance(batch, (tuple, list)) or len(batch) < 2:
            raise ValueError(
                "Validity is measured on batches `(inputs, labels)`. "
                f"Received: data with a batch of type {type(batch).__name__}. Pass a dataset of "
                "such batches, or a tuple of arrays `(x, y)`."
            )
        yield batch[0], batch[1]


def _arrays(data):
    """Inputs, which may be nested, and labels as NumPy arrays of one length."""
    if len(data) != 2:
        raise ValueError(
            "Arrays are given as a tuple `(x, y)`. "
            f"Received: data, a tuple of length {len(data)}. Leave sample weights out."
        )
    x, y = keras.tree.map_structure(np.asarray, data[0]), np.asarray(data[1])
    lengths = {len(array) for array in keras.tree.flatten((x, y))}
    if len(lengths) != 1:
        raise ValueError(
            "Inputs and labels must have the same length. "
            f"Received: data with arrays of the lengths {sorted(lengths)}. Pass `(x, y)` with a "
            "label for every input."
        )
    return x, y


def _check_not_empty(labels, data):
    if not sum(map(len, labels)):
        raise ValueError(
            "Validity is measured on at least one sample. "
            f"Received: data={data!r}, which is empty. Is it a generator that was used up, or "
            "smaller than one batch with drop_remainder=True?"
        )


def _num_batches(data):
    """The number of batches, None if unknown."""
    if isinstance(data, tuple):
        return -(-len(data[-1]) // _BATCH_SIZE)
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

    def __init__(self, num_batches, num_trials, verbose):
        if verbose not in ("auto", 0, 1):
            raise ValueError(
                '`verbose` must be "auto", 0 or 1. '
                f"Received: verbose={verbose!r}. With the default a bar shows what takes long."
            )
        self._target = None if num_batches is None else num_batches * num_trials
        self._start = {"auto": time.monotonic() + _QUIET_SECONDS, 0: float("inf"), 1: 0.0}[verbose]
        self._bar = None
        self._done = 0

    def add(self):
        self._done += 1
        if self._bar is None and time.monotonic() >= self._start:
            self._bar = keras.utils.Progbar(self._target, unit_name="pass")
        if self._bar is not None:
            self._bar.update(self._done)
