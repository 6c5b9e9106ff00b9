"""`StepAdaption`: the paper's algorithm, and a damped one, for blocks with a fixed step."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tfnode import adaption, solvers
from tfnode.adaption import Measurement, Rule
from tfnode.callbacks.base import SolverAdaption
from tfnode.callbacks.reports import ExportAtEnd
from tfnode.callbacks.start import initial_step_sizes
from tfnode.layers import ODEBlock
from tfnode.models import calls_of
from tfnode.solvers import FixedStepSolver
from tfnode.typing import Data, PathLike


class StepAdaption(SolverAdaption):
    """Adapts the step size while the model trains, so that it can stay an ODE.

    Before training, the step size is set by Hairer's rule. Then, every `every` iterations, the
    accuracy on one batch is measured with the training solver and with a better one. If they
    differ by more than `threshold` the model has grown together with its solver, and the step is
    multiplied by `shrink`; otherwise it is multiplied by `growth`, if the training solver still
    agrees with the better one there (Ott et al., "When are Neural ODE Solutions Proper ODEs?",
    algorithm 1; the last condition is of the authors' later code, see
    `tfnode.adaption.StepRule`). All ODE blocks of a model share one step size.

    That rule grows the step until the model is bound to it again, and so for ever.
    `policy="damped"` does not: it looks at how far the class probabilities lie apart under the two
    solvers, leaves the step alone while that is in a band, and remembers where it failed. Where
    Euler's method keeps failing it moves to the midpoint method and on to RK4, at equal cost
    (`tfnode.adaption.DampedRule`). It may as well start from RK4, which costs about as much and
    keeps the model an ODE from its first iterations on.

    `logs` gets `step_size`, `num_steps`, `nfe` (both summed over the blocks) and `accuracy_gap`,
    NaN before the first check. List this callback before those that shall see them.

    A training loop of one's own calls it by `keras.callbacks.CallbackList([...], model=model)`, and
    sets `model.optimizer` if the model is not compiled.

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
        data: The batches that checks draw from, in turn, in any form that `fit` takes: arrays
            `(x, y)`, or a `tf.data.Dataset` or other iterable of batches `(inputs, labels)`;
            sample weights may follow. Of a generator the first 100 batches are kept, and drawn
            again and again. Where the loss is one of classes accuracies are compared, in
            regression, and under a loss of your own on a single output, the outputs: `gap` is then
            their relative change. What cannot be judged is refused before the first iteration.
        every: Integer, the iterations (optimizer steps) between checks. With
            `steps_per_execution` above 1, a check waits for the end of the execution.
        policy: `"paper"`, `"damped"`, or a `tfnode.adaption.Rule` for fixed steps: for example a
            `DampedRule` with other constants, or one of your own. Its floor and its cap are those
            of the blocks: a 500th of the longest interval, and the longest step that all take,
            which is no longer than the way between two times of `save_at`; the floor is no more
            than an eighth of that.
        threshold: Float, the largest accepted gap between the accuracies. This and the next two
            are the paper's rule's; every other rule has constants of its own.
        shrink: Float in (0, 1), the factor after a larger gap.
        growth: Float above 1, the factor otherwise.
        initial_step_size: `"auto"` for Hairer's rule, or a float, which the rule brings into what
            it allows. It is applied to a model that was not adapted before: a later `fit`, with
            this callback or with a new one, goes on from the step size in the weights. Assign
            zeros to `block.adaption_memory` to start anew.
        batch_size: Integer, the samples of a check when `data` is a tuple of arrays.
        export_dir: Optional path. When training ends, SavedModels with the training solver and
            the better one become the next version below it (`tfnode.export`), with a validity
            card from as many batches of `data` as hold 1000 samples. TensorFlow only.
        log_dir: Optional path. TensorBoard finds there, for every check, what `logs` gets and the
            `change`; and when training ends the validity figure of the model, drawn from as many
            batches of `data` as hold 1000 samples.
        verbose: 0 or 1. If 1, a line is printed for every change of the step size.

    Attributes:
        history: List of dictionaries, one a check: `iteration`, the checked `method` and
            `step_size` with `num_steps` and `nfe`, `train_accuracy` and `reference_accuracy`, None
            in regression, the `gap` between them, the `change` of the outputs (of the class
            probabilities, where the loss tells them), and the `action` that followed (`"shrink"`,
            `"grow"`, `"keep"`; damped also `"climb"`, to a better method).
        nfe_per_iteration: Float, the evaluations of the vector fields in the forward passes of
            training, per iteration.
        nfe_per_iteration_with_checks: Float, the same with the evaluations of the checks.

    Raises:
        ValueError: If an argument is not valid, if `data` is empty, not finite or has no labels, if
            the step size starts from a field that is not finite, if the model has no `ODEBlock`, or
            one that is unrolled or adaptive, if blocks of different methods meet a rule that
            changes the method, `export_dir` or `log_dir`, or if one of these two cannot be written
            to.
        FloatingPointError: If the loss is no longer finite. The model keeps its weights.
    """

    def __init__(
        self,
        data: Data,
        every: int = 50,
        policy: str | Rule = "paper",
        threshold: float = 0.1,
        shrink: float = 0.5,
        growth: float = 1.1,
        initial_step_size: str | float = "auto",
        batch_size: int = 128,
        export_dir: PathLike | None = None,
        log_dir: PathLike | None = None,
        verbose: int = 0,
    ) -> None:
        rule = adaption.get(policy, threshold, shrink, growth)
        super().__init__(rule, data, every, batch_size, log_dir, verbose)
        if not isinstance(initial_step_size, str) or initial_step_size != "auto":
            initial_step_size = solvers.check_step_size(initial_step_size, "initial_step_size")
        self._initial_step_size = initial_step_size
        if export_dir is not None:
            self._reports.append(ExportAtEnd(export_dir, rule, self._data, batch_size))

    # === Start ===
    def _check_blocks(self) -> None:
        blocks = self._blocks
        unfit = [b for b in blocks if b.unroll or not isinstance(b.solver, FixedStepSolver)]
        if unfit:
            raise ValueError(
                "`StepAdaption` needs a model with at least one `tfnode.ODEBlock`, none of them "
                f"unrolled or adaptive. Received: model={self.model.name!r} with blocks "
                f"{[(b.name, str(b.solver), f'unroll={b.unroll}') for b in blocks]}. Add an "
                "`ODEBlock` with a fixed-step solver and unroll=False to the model."
            )
        methods = {block.solver.tableau: block.solver.tableau.name for block in blocks}
        changes = any(len(self._given_rule.methods(block.solver)) > 1 for block in blocks)
        if changes and len(methods) > 1:
            raise ValueError(
                "A rule that changes the method changes that of all blocks together, so they must "
                f"start from one. Received: model={self.model.name!r} with methods "
                f"{sorted(methods.values())} and policy={self._given_rule!r}. Build the blocks "
                "with the same solver."
            )

    def _allow_methods(self, blocks: list[ODEBlock]) -> None:
        for block in blocks:
            methods = [m for m in block.methods if isinstance(m, FixedStepSolver)]
            if block.unroll or not methods:
                continue
            # Not the present one: weights may have come of one that the rule has still to allow.
            solver = methods[0]
            known = {method.tableau for method in methods}
            more = [m(solver.step_size) for m in self._given_rule.methods(solver)[1:]]
            more = [method for method in more if method.tableau not in known]
            if more:
                block.methods = (*methods, *more)
            if more or block.is_stale:
                # What was traced has the old methods in it.
                self.model.make_train_function(force=True)
                self.model.test_function = self.model.predict_function = None

    def _bounds(self) -> tuple[float, float]:
        # A longer step would be cut, so that half of it might be the same.
        high = min(found.longest_step for found in self._reached)
        # Where there are many times there must be steps between them, which the loops take.
        finest = max(found.block.min_step_size for found in self._reached)
        wanted = min(max(found.way for found in self._reached) / 500, high / 8)
        low = min(max(wanted, finest), high)
        # Rounded as the weight rounds them, so that a step size at a cap is seen to be there.
        low, high = np.array((low, high), self._blocks[0].time_dtype).tolist()
        return low, high

    def _first_solver(self) -> FixedStepSolver:
        if self._initial_step_size != "auto":
            return self._solver.with_step_size(self._initial_step_size)
        # Not `min`, which passes over what is not a number.
        step_size = np.min([size for found in self._reached for size in initial_step_sizes(found)])
        return self._solver.with_step_size(max(float(step_size), self._bounds()[0]))

    # === Checks ===
    def _assign(self, solver: FixedStepSolver) -> None:
        # Blocks may have different methods, if the rule does not change them.
        blocks = self._blocks
        present = [block.solver for block in blocks] if len(blocks) > 1 else []
        differ = len({solver.tableau for solver in present}) > 1
        for i, block in enumerate(blocks):
            block.solver = present[i].with_step_size(solver.step_size) if differ else solver

    def _measurement(self, solver: FixedStepSolver, batch: tuple) -> tuple[Measurement, int]:
        """What the rule is told: the present solver, and any other, against the better one."""
        present = [block.solver for block in self._blocks]
        least = min(self._bounds()[0], *(s.step_size for s in present))
        # The twins of a method have loops that are long enough for its finest step.
        finest = [s.with_step_size(least) for s in present]
        own = self._measuring_twin(("itself", solver.tableau), finest)
        better = self._measuring_twin(("reference", solver.tableau), self._references(finest))
        reference, _ = self._measure(better, self._references(present), batch[0])

        def measure(solver: FixedStepSolver) -> Measurement:
            each = [own_solver.with_step_size(solver.step_size) for own_solver in present]
            outputs, _ = self._measure(own, each, batch[0])
            return self._measurement_of(outputs, reference, batch, measure)

        return measure(solver), self._nfe

    def _references(self, each: Sequence[FixedStepSolver]) -> list[FixedStepSolver]:
        return [self._rule.reference(s, r.way) for s, r in zip(each, self._reached)]

    # === Reports ===
    @property
    def _nfe(self) -> int:
        return sum(calls * block.nfe for calls, block in self._calls())

    @property
    def _num_steps(self) -> int:
        return sum(calls * block.num_steps for calls, block in self._calls())

    def _calls(self) -> Iterator[tuple[int, ODEBlock]]:
        return zip(calls_of(self._reached, self._blocks), self._blocks)

    def _record(self, solver: FixedStepSolver) -> dict[str, Any]:
        return {
            "method": solver.tableau.name,
            "step_size": solver.step_size,
            "num_steps": self._num_steps,
        }

    def _training_evaluations(self, batches: int) -> int:
        return batches * self._logged["nfe"]

    def _values(self) -> dict[str, Any]:
        return {
            "step_size": self._solver.step_size,
            "num_steps": self._num_steps,
            "nfe": self._nfe,
            "accuracy_gap": self._gap,
        }

    def _describe(self) -> str:
        return f"step_size={self._logged['step_size']}"

    def _in_words(self, before: FixedStepSolver, after: FixedStepSolver) -> str:
        if type(before) is not type(after):
            return f"from {before} to {after}"
        return f"the step size from {before.step_size:.4g} to {after.step_size:.4g}"
