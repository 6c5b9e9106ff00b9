"""What the adapting callbacks share: they count, check every so many iterations, record and log."""

import copy
import math
from collections.abc import Callable, Hashable
from typing import Any

import keras
import numpy as np
from keras import ops

from tfnode import arguments
from tfnode.adaption import Measurement, Rule
from tfnode.batches import check_data, check_inputs
from tfnode.callbacks.batches import CheckBatches, rereadable
from tfnode.callbacks.checks import check_loss, check_optimizer
from tfnode.callbacks.processes import is_first
from tfnode.callbacks.reports import TensorBoardWriter, ValidityFigure
from tfnode.keras_internals import iterations_of
from tfnode.layers import ODEBlock
from tfnode.layers.ode_block import MEMORY
from tfnode.models import Reached, Twin, held_blocks, looked_at
from tfnode.models.judge import Judge, NothingCounts
from tfnode.models.outputs import judged_output, with_mask
from tfnode.typing import Data, PathLike


class SolverAdaption(keras.callbacks.Callback):
    """Base of the callbacks that check, every `every` iterations, and then change the solver.

    The solver and what the rule remembers are weights of the blocks, and are read there: a
    checkpoint, or a callback that restores weights, leaves nothing behind here.

    A subclass says which blocks it can adapt, within which bounds, where it starts, which twins
    measure, and what a record holds.
    """

    def __init__(
        self,
        rule: Rule[Any],
        data: Data,
        every: int,
        batch_size: int,
        log_dir: PathLike | None,
        verbose: int,
    ) -> None:
        super().__init__()
        advice = "The paper checks every 50 iterations on batches of 128 or 256."
        self._every = arguments.count("every", every, advice=advice)
        batch_size = arguments.count("batch_size", batch_size, advice=advice)
        self._verbose = arguments.verbosity(verbose)
        remembered = len(rule.first_memory())
        if remembered >= MEMORY:
            raise ValueError(
                f"A rule may remember {MEMORY - 1} numbers at most, which a weight of each block "
                f"holds. Received: policy={rule!r} with a memory of {remembered}. Let it remember "
                "fewer."
            )
        check_data(data)
        data = self._data = rereadable(data)
        self._given_rule = self._rule = rule
        self._writer = None if log_dir is None else TensorBoardWriter(log_dir)
        self._reports: list[keras.callbacks.Callback] = []
        if self._writer:
            self._reports.append(ValidityFigure(self._writer, data, batch_size))
        self._reached: list[Reached] = []
        self._batches = CheckBatches(data, batch_size)
        self._forget_run()
        self._gap = self._change = math.nan
        self._training_iterations = 0
        self._training_nfe = 0
        self._checks_nfe = 0
        self._recent_nfe: tuple[float, ...] = ()
        self.history: list[dict[str, Any]] = []

    def _forget_run(self) -> None:
        """Drops what belongs to one `fit`."""
        self._twins: dict[Hashable, Twin] = {}
        self._logged: dict[str, Any] = {}
        self._is_ready = False
        self._first: Any = None
        self._mask: np.ndarray | None = None

    def __deepcopy__(self, memo: dict) -> "SolverAdaption":
        """A callback of its own, with the same data, that goes on where this one stands."""
        new = copy.copy(self)
        keras.callbacks.Callback.set_model(new, None)
        new._reached, new._batches = [], self._batches.copy()
        new._forget_run()
        new.history = copy.deepcopy(self.history, memo)
        new._reports = [copy.copy(report) for report in self._reports]
        return new

    @property
    def nfe_per_iteration(self) -> float:
        return self._training_nfe / max(1, self._training_iterations)

    @property
    def nfe_per_iteration_with_checks(self) -> float:
        return (self._training_nfe + self._checks_nfe) / max(1, self._training_iterations)

    def get_state(self) -> dict[str, Any]:
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
            "num_batches": self._batches.used,
            "training_iterations": self._training_iterations,
            "training_nfe": self._training_nfe,
            "checks_nfe": self._checks_nfe,
            "recent_nfe": list(self._recent_nfe),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes up a state, so that the next `fit` goes on as the one that it was saved from.

        The model must be the saved one, as its blocks hold the present solver and what the rule
        remembers: save it with `model.save` and load it with `keras.saving.load_model`. `data`
        must give the same batches in the same order; those that were used are read and passed
        over.

        Args:
            state: Dictionary, from `get_state`.

        Raises:
            ValueError: If it is the state of another callback.
        """
        advice = "Pass what `get_state` returned."
        arguments.mapping("state", state, self.get_state(), advice=advice)
        if state["callback"] != type(self).__name__:
            raise ValueError(
                f"A state must come from `get_state` of the same class, {type(self).__name__}. "
                f"Received: state of {state['callback']!r}. Pass the state of this callback."
            )
        self.history = list(state["history"])
        self._batches = self._batches.copy()
        self._batches.used = state["num_batches"]
        self._training_iterations = state["training_iterations"]
        self._training_nfe = state["training_nfe"]
        self._checks_nfe = state["checks_nfe"]
        self._recent_nfe = tuple(state["recent_nfe"])
        if self.history:
            last = self.history[-1]
            self._gap = last["gap"]
            self._change = last["change"]

    # === Keras calls ===
    def set_model(self, model: keras.Model) -> None:
        super().set_model(model)
        # Before another callback restores weights, which may be of another of the rule's methods.
        self._allow_methods(held_blocks(model))
        for report in self._reports:
            report.set_model(model)

    def on_train_begin(self, logs: Any = None) -> None:
        x, y, weights = self._look_at_data()
        check_optimizer(self.model)
        x = keras.tree.map_structure(ops.convert_to_tensor, x)
        if not self.model.built:
            self.model(x, training=False)
        self._reached, given = looked_at(self.model, x)
        outputs, self._mask = judged_output(*with_mask(given))
        self._check_blocks()
        check_inputs(x, outputs, "the first batch")
        for report in self._reports:
            report.on_train_begin(logs)
        # What cannot be judged is refused now; that a later batch does not count is no fault.
        self._judge(outputs, y, weights, is_all=not self._training_iterations)
        self._allow_methods(self._blocks)
        self._rule = self._given_rule.within(*self._bounds())
        if not self._is_started:
            self._assign(self._rule.start(self._first_solver()))
            self._memory = self._rule.first_memory()

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        # Not when training begins: another callback may have restored weights since.
        if not self._is_ready:
            self._seen_iterations = self._optimizer_steps
            self._prepare()
            self._logged = self._values()
            self._is_ready = True
        self._first_of_execution = batch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        before, now = self._seen_iterations, self._optimizer_steps
        check_loss(logs, now, self._describe())
        self._seen_iterations = now
        self._training_iterations += now - before
        self._training_nfe += self._training_evaluations(self._batches_until(batch))
        if now // self._every > before // self._every:
            self._sync()
            self._check(now, self._batches.draw())
            self._logged = self._values()
            if self._writer:
                self._writer.scalars(now, {**self._logged, "change": self._change})
        if logs is not None:
            logs.update(self._logged)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._logged = self._values()
        if logs is not None:
            logs.update(self._logged)

    def on_train_end(self, logs: Any = None) -> None:
        for report in self._reports:
            report.on_train_end(logs)
        self._twins, self._is_ready = {}, False

    # === Iterations and batches ===
    def _sync(self) -> None:
        """Brings the state of JAX's training into the variables, which are purged meanwhile."""
        if keras.backend.backend() == "jax":
            self.model.jax_state_sync()

    @property
    def _optimizer_steps(self) -> int:
        return int(ops.convert_to_numpy(iterations_of(self.model)))

    def _batches_until(self, batch: int) -> int:
        """The batches of an execution: the optimizer may take fewer steps, or none."""
        # The last execution of an epoch may end before the index that Keras gives it.
        end = min(batch + 1, (self.params or {}).get("steps") or batch + 1)
        return max(1, end - self._first_of_execution)

    def _look_at_data(self) -> Any:
        """A batch to look for blocks with: one of its own before the first `fit`."""
        if not self._training_iterations:
            self._first = self._batches.draw()
        elif self._first is None:
            self._first = self._batches.peek()
        return self._first

    # === The solver ===
    @property
    def _blocks(self) -> list[ODEBlock]:
        return [found.block for found in self._reached]

    @property
    def _solver(self) -> Any:
        """The solver of all blocks, as their weights have it."""
        return self._blocks[0].solver

    @property
    def _is_started(self) -> bool:
        return bool(self._remembered[0])

    @property
    def _remembered(self) -> np.ndarray:
        return ops.convert_to_numpy(self._blocks[0].adaption_memory)

    @property
    def _memory(self) -> tuple[float, ...]:
        """What the rule remembers, as the weight of the first block has it."""
        return tuple(self._remembered[1 : 1 + len(self._rule.first_memory())].tolist())

    @_memory.setter
    def _memory(self, memory: tuple[float, ...]) -> None:
        values = np.zeros(self._blocks[0].adaption_memory.shape)
        values[: 1 + len(memory)] = 1, *memory
        for block in self._blocks:
            block.adaption_memory.assign(values)

    def _prepare(self) -> None:
        """What has to be read of the model before its first batch."""

    def _allow_methods(self, blocks: list[ODEBlock]) -> None:
        """Lets the graphs change between the methods of the rule."""

    def _assign(self, solver: Any) -> None:
        for block in self._blocks:
            block.solver = solver

    # === Checks ===
    def _measuring_twin(self, name: Hashable, each: list) -> Twin:
        """The twin of a name, made at the first call."""
        if name not in self._twins:
            by_xla = bool(self.model.jit_compile)
            self._twins[name] = Twin(self.model, self._reached, each, with_mask, jit_compile=by_xla)
        return self._twins[name]

    def _measure(self, twin: Twin, each: list, x: Any) -> tuple[np.ndarray, int]:
        """Outputs and evaluations of a twin with some solvers."""
        twin.assign(each)
        # The mask comes from the inputs: under every solver it is the same.
        outputs, self._mask = judged_output(*twin(x))
        nfe = twin.nfe
        self._checks_nfe += nfe
        return outputs, nfe

    def _judge(self, outputs: np.ndarray, y: Any, weights: Any, is_all: bool = True) -> Judge:
        y, weights = (v if v is None else ops.convert_to_numpy(v) for v in (y, weights))
        return Judge(
            self.model,
            y,
            outputs,
            weights=weights,
            mask=self._mask,
            is_all=is_all,
            remedy="compile the model with a loss for {task}",
        )

    def _check(self, iteration: int, batch: tuple) -> None:
        before = self._solver
        record = self._record(before)
        # The data may come from another backend's pipeline, as `fit` takes it.
        x = keras.tree.map_structure(ops.convert_to_tensor, batch[0])
        try:
            measurement, nfe = self._measurement(before, (x, *batch[1:]))
        except NothingCounts:
            # A gap that is not a number would shrink the step, and this batch speaks for none.
            return
        self._gap, self._change = measurement.gap, measurement.change
        decision = self._rule.decide(before, self._memory, measurement)
        self._memory = decision.memory
        if decision.action != "keep":
            self._assign(decision.solver)
        self.history.append(
            {
                "iteration": iteration,
                **record,
                "nfe": nfe,
                "train_accuracy": measurement.accuracy,
                "reference_accuracy": measurement.reference_accuracy,
                "gap": measurement.gap,
                "change": measurement.change,
                "action": decision.action,
            }
        )
        if self._verbose and decision.action != "keep" and is_first():
            print(
                f"\nIteration {iteration}: {type(self).__name__} {decision.action}s "
                f"{self._in_words(before, self._solver)} (gap {self._gap:.3f})."
            )

    def _measurement_of(
        self,
        outputs: np.ndarray,
        reference: np.ndarray,
        batch: tuple,
        measure: Callable[[Any], Measurement],
    ) -> Measurement:
        check_inputs(batch[0], reference, f"the batch at index {self._batches.used - 1}")
        judge = self._judge(reference, *batch[1:])
        return Measurement(
            judge.accuracy(outputs),
            judge.accuracy(reference),
            judge.change(outputs, reference),
            measure,
            self._recent_nfe,
        )
