"""`ToleranceAdaption`: the algorithm of the paper's authors for adaptive solvers."""

from typing import Any

import numpy as np

from tfnode import adaption, solvers
from tfnode.adaption import Measurement, Rule
from tfnode.callbacks.base import SolverAdaption
from tfnode.layers.adaptive_steps import available
from tfnode.models import Twin
from tfnode.solvers import AdaptiveSolver
from tfnode.typing import Data, PathLike

# While the solver takes its fewest steps, a looser tolerance does nothing: see `ToleranceRule`.
_RECENT = 5


class ToleranceAdaption(SolverAdaption):
    """Finds the loosest tolerance that keeps the model an ODE, while it trains.

    The counterpart of `StepAdaption` for adaptive solvers, which the paper leaves to future work
    (section 6), as the authors' later code has it (see `tfnode.adaption.ToleranceRule`). Every
    `every` iterations the accuracy on one batch is measured with the training solver and with a
    tighter one: Dormand-Prince at a tenth of the tolerance, for lower orders at a fifth (on JAX and
    torch with steps for each sample), and tighter still while Dormand-Prince evaluates the field no
    more often than in training. If they differ by more than `threshold` the tolerance is multiplied
    by `shrink`; otherwise by `growth`, if the training solver still agrees with the tighter one
    there and if the evaluations of the last five executions were not all the same.
    All ODE blocks of a model share one tolerance, which is both `rtol` and `atol`.

    `logs` gets `tolerance`, `nfe` (the evaluations of a forward pass, the mean over the last
    execution) and `accuracy_gap`, NaN before the first check. List this callback before those
    that shall see them.

    Examples:

    >>> field = keras.Sequential([keras.layers.Dense(8, "tanh"), keras.layers.Dense(2)])
    >>> block = tfnode.ODEBlock(field, tfnode.solvers.BogackiShampine32())
    >>> model = keras.Sequential([keras.Input((2,)), block, keras.layers.Dense(2)])
    >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    >>> model.compile("adam", loss, metrics=["accuracy"])
    >>> x = np.random.default_rng(0).normal(size=(256, 2)).astype("float32")
    >>> y = (x[:, 0] > 0).astype("int32")
    >>> tolerance_adaption = ToleranceAdaption((x, y), every=4, initial_tolerance=1e-3)
    >>> history = model.fit(x, y, epochs=2, verbose=0, callbacks=[tolerance_adaption])
    >>> [record["iteration"] for record in tolerance_adaption.history]
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
        policy: `"tolerance"` for the authors' rule, or any `tfnode.adaption.Rule` for tolerances.
        threshold: Float, the largest accepted gap between the accuracies. This and the next two
            are constants of that rule.
        shrink: Float in (0, 1), the factor after a larger gap.
        growth: Float above 1, the factor otherwise.
        initial_tolerance: Float. A tolerance below ten epsilons of the blocks' dtype cannot be
            met, and is raised to that. It is applied to a model that was not adapted before: a
            later `fit`, with this callback or with a new one, goes on from the tolerance in the
            weights. Assign zeros to `block.adaption_memory` to start anew.
        batch_size: Integer, the samples of a check when `data` is a tuple of arrays.
        log_dir: Optional path, for TensorBoard: see `StepAdaption`.
        verbose: 0 or 1. If 1, a line is printed for every change of the tolerance.

    Attributes:
        history: List of dictionaries, one a check: `iteration`, the checked `tolerance`, its `nfe`
            on the batch of the check, `train_accuracy`, `reference_accuracy`, `gap`, `change`, as
            in `StepAdaption`, and the `action` that followed (`"shrink"`, `"grow"`, `"keep"`).
        nfe_per_iteration: Float, the evaluations of the vector fields in the forward passes of
            training, rejected steps included, per iteration.
        nfe_per_iteration_with_checks: Float, the same with the evaluations of the checks.

    Raises:
        ValueError: If an argument is not valid, if `data` is empty, not finite or has no labels, or
            if the model has no `ODEBlock`, or one that is not adaptive.
        FloatingPointError: If the loss is no longer finite. The model keeps its weights.
    """

    def __init__(
        self,
        data: Data,
        every: int = 50,
        policy: str | Rule = "tolerance",
        threshold: float = 0.1,
        shrink: float = 0.5,
        growth: float = 1.1,
        initial_tolerance: float = 1e-6,
        batch_size: int = 128,
        log_dir: PathLike | None = None,
        verbose: int = 0,
    ) -> None:
        rule = adaption.get(policy, threshold, shrink, growth, adaptive=True)
        super().__init__(rule, data, every, batch_size, log_dir, verbose)
        self._initial_tolerance = solvers.check_tolerance(initial_tolerance, "initial_tolerance")
        self._latest_nfe = 0.0

    # === Start ===
    def _check_blocks(self) -> None:
        methods = {type(block.solver) for block in self._blocks}
        if len(methods) != 1 or not all(issubclass(m, AdaptiveSolver) for m in methods):
            raise ValueError(
                "`ToleranceAdaption` needs a model with at least one `tfnode.ODEBlock`, all of "
                f"them with the same adaptive solver. Received: model={self.model.name!r} with "
                f"blocks {[(block.name, str(block.solver)) for block in self._blocks]}. Build the "
                "blocks with, for example, `tfnode.solvers.DormandPrince()`; for fixed steps take "
                "`StepAdaption`."
            )

    def _bounds(self) -> tuple[float, float]:
        # Rounded as the weight rounds it, so that a tolerance at the floor is seen to be there.
        floor = max(block.min_tolerance for block in self._blocks)
        return np.array(floor, "float32").item(), 1.0

    def _first_solver(self) -> AdaptiveSolver:
        return self._solver.with_tolerance(self._initial_tolerance)

    def _prepare(self) -> None:
        self._seen_evaluations = self._evaluations()

    # === Checks ===
    def _measurement(self, solver: AdaptiveSolver, batch: tuple) -> tuple[Measurement, int]:
        own = self._measuring_twin("itself", [block.solver for block in self._blocks])
        # Another method, which has a loop for the batch on TensorFlow only.
        each = [available(self._rule.reference(r.block.solver, r.way)) for r in self._reached]
        better = self._measuring_twin("reference", each)
        outputs, nfe = self._measure_at(own, solver.rtol, batch[0])
        reference = self._measure_reference(better, each[0], nfe, batch[0])

        def measure(solver: AdaptiveSolver) -> Measurement:
            outputs, _ = self._measure_at(own, solver.rtol, batch[0])
            return self._measurement_of(outputs, reference, batch, measure)

        return self._measurement_of(outputs, reference, batch, measure), nfe

    def _measure_reference(
        self, twin: Twin, better: AdaptiveSolver, train_nfe: int, x: Any
    ) -> np.ndarray:
        """Measures with the tighter solver, which must see more of the field than training."""
        same_method, floor = type(better) is type(self._solver), self._bounds()[0]
        tolerance = better.rtol
        while True:
            outputs, nfe = self._measure_at(twin, tolerance, x)
            if nfe > train_nfe or not same_method or tolerance == floor:
                return outputs
            tolerance = max(tolerance / 10, floor)

    def _measure_at(self, twin: Twin, tolerance: float, x: Any) -> tuple[np.ndarray, int]:
        each = [block.solver.with_tolerance(tolerance) for block in twin.blocks]
        return self._measure(twin, each, x)

    # === Reports ===
    def _record(self, solver: AdaptiveSolver) -> dict[str, Any]:
        return {"tolerance": solver.rtol}

    def _training_evaluations(self, batches: int) -> int:
        self._sync()
        before, self._seen_evaluations = self._seen_evaluations, self._evaluations()
        evaluations = self._seen_evaluations - before
        self._latest_nfe = evaluations / batches
        self._recent_nfe = (*self._recent_nfe, self._latest_nfe)[-_RECENT:]
        self._logged = self._values()
        return evaluations

    def _evaluations(self) -> int:
        return sum(block.training_evaluations for block in self._blocks)

    def _values(self) -> dict[str, Any]:
        return {
            "tolerance": self._solver.rtol,
            "nfe": self._latest_nfe,
            "accuracy_gap": self._gap,
        }

    def _describe(self) -> str:
        return f"tolerance={self._logged['tolerance']}"

    def _in_words(self, before: AdaptiveSolver, after: AdaptiveSolver) -> str:
        return f"the tolerance from {before.rtol:.4g} to {after.rtol:.4g}"
