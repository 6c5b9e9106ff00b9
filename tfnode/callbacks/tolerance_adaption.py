"""`ToleranceAdaption`: the paper's algorithm for blocks with an adaptive solver."""

import numpy as np

from tfnode import adaption, solvers
from tfnode.callbacks.base import SolverAdaption
from tfnode.measure import ToleranceTwin, total_variation
from tfnode.models import ode_blocks

# While the solver takes its fewest steps, a looser tolerance does nothing: see `ToleranceRule`.
_RECENT = 5


class ToleranceAdaption(SolverAdaption):
    """Finds the loosest tolerance that keeps the model an ODE, while it trains.

    The counterpart of `StepAdaption` for adaptive solvers (Ott et al., "When are Neural ODE
    Solutions Proper ODEs?", supplement B.6). Every `every` iterations the accuracy on one batch is
    measured with the training solver and with a tighter one: Dormand-Prince at a tenth of the
    tolerance, for lower orders at a fifth, and tighter still while Dormand-Prince evaluates the
    field no more often than in training. If they differ by more than `threshold` the tolerance is
    multiplied by `shrink`; otherwise by `growth`, if the training solver still agrees with the
    tighter one there and if the evaluations of the last five executions were not all the same.
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
        data: The batches that checks draw from, in turn: a `tf.data.Dataset` or other iterable of
            `(inputs, labels)` batches, or a tuple of arrays `(x, y)`. Labels are classes, one-hot
            rows, or 0/1 for a single output.
        every: Integer, the iterations (optimizer steps) between checks. With
            `steps_per_execution` above 1, a check waits for the end of the execution.
        threshold: Float, the largest accepted gap between the accuracies.
        shrink: Float in (0, 1), the factor after a larger gap.
        growth: Float above 1, the factor otherwise.
        initial_tolerance: Float. A tolerance below ten epsilons of the blocks' dtype cannot be
            met, and is raised to that. It is applied once: a later `fit` with the same callback
            goes on from the present tolerance.
        batch_size: Integer, the samples of a check when `data` is a tuple of arrays.
        log_dir: Optional path, for TensorBoard: see `StepAdaption`.
        verbose: 0 or 1. If 1, a line is printed for every change of the tolerance.

    Attributes:
        history: List of dictionaries, one a check: `iteration`, the checked `tolerance`, its `nfe`
            on the batch of the check, `train_accuracy`, `reference_accuracy`, the `change` of the
            class probabilities between the two, and the `action` that followed (`"shrink"`,
            `"grow"`, `"keep"`).
        nfe_per_iteration: Float, the evaluations of the vector fields in the forward passes of
            training, rejected steps included, per iteration.
        nfe_per_iteration_with_checks: Float, the same with the evaluations of the checks.

    Raises:
        ValueError: If an argument is not valid, if `data` is empty or has no labels, or if the
            model has no `ODEBlock`, or one that is not adaptive.
        FloatingPointError: If the loss is no longer finite. The model keeps its weights.
    """

    def __init__(
        self,
        data,
        every=50,
        threshold=0.1,
        shrink=0.5,
        growth=1.1,
        initial_tolerance=1e-6,
        batch_size=128,
        log_dir=None,
        verbose=0,
    ):
        rule = adaption.get("tolerance", threshold, shrink, growth, adaptive=True)
        super().__init__(rule, data, every, batch_size, log_dir, verbose)
        self._initial_tolerance = solvers.check_tolerance("initial_tolerance", initial_tolerance)
        self._nfe = 0.0

    # === Start ===
    def _find_blocks(self):
        return _adaptive_blocks(self.model)

    def _set_bounds(self):
        # Rounded as the weight rounds it, so that a tolerance at the floor is seen to be there.
        floor = max(block.min_tolerance for block in self._blocks)
        self._floor = np.array(floor, "float32").item()
        self._rule = self._rule.within(self._floor, 1.0)

    def _start(self, x):
        solver = self._blocks[0].solver.with_tolerance(self._initial_tolerance)
        self._assign(self._rule.start(solver).rtol)

    def _prepare(self):
        self._tolerance = self._blocks[0].solver.rtol
        self._train_twin = ToleranceTwin(self.model, lambda solver: solver)
        self._reference_twin = ToleranceTwin(self.model, self._better)
        self._seen_evaluations = self._evaluations()

    # === The solver ===
    def _assign(self, tolerance):
        for block in self._blocks:
            block.rtol = block.atol = tolerance
        self._tolerance = self._blocks[0].solver.rtol

    # === Checks ===
    def _check(self, iteration, x, y):
        train_accuracy, probabilities, nfe = self._measure(self._train_twin, self._tolerance, x, y)
        reference_accuracy, reference = self._measure_reference(nfe, x, y)

        def compared(accuracy, probabilities):
            change = total_variation(probabilities, reference)
            recent = self._recent_nfe
            return adaption.Measurement(accuracy, reference_accuracy, change, measure, recent)

        def measure(solver):
            return compared(*self._measure(self._train_twin, solver.rtol, x, y)[:2])

        measurement, before = compared(train_accuracy, probabilities), self._tolerance
        self._gap, self._change = measurement.gap, measurement.change
        decision = self._rule.decide(self._blocks[0].solver, self._memory, measurement)
        self._memory = decision.memory
        self.history.append(
            {
                "iteration": iteration,
                "tolerance": before,
                "nfe": nfe,
                "train_accuracy": train_accuracy,
                "reference_accuracy": reference_accuracy,
                "change": measurement.change,
                "action": decision.action,
            }
        )
        if decision.action != "keep":
            self._assign(decision.solver.rtol)
            if self._verbose:
                print(
                    f"\nIteration {iteration}: ToleranceAdaption {decision.action}s the tolerance "
                    f"from {before:.4g} to {self._tolerance:.4g} (accuracy gap {self._gap:.3f})."
                )

    def _measure_reference(self, train_nfe, x, y):
        """Measures with the tighter solver, which must see more of the field than training."""
        solver, floor = self._blocks[0].solver, self._floor
        same_method = isinstance(solver, solvers.DormandPrince)
        tolerance = self._better(solver).rtol
        while True:
            accuracy, probabilities, nfe = self._measure(self._reference_twin, tolerance, x, y)
            if nfe > train_nfe or not same_method or tolerance == floor:
                return accuracy, probabilities
            tolerance = max(tolerance / 10, floor)

    def _better(self, solver):
        return self._rule.reference(solver, self._blocks[0].length)

    def _measure(self, twin, tolerance, x, y):
        twin.assign(tolerance)
        accuracy, probabilities = twin.measure(x, y)
        self._checks_nfe += twin.evaluations
        return accuracy, probabilities, twin.evaluations

    # === Reports ===
    def _training_evaluations(self, iterations):
        before, self._seen_evaluations = self._seen_evaluations, self._evaluations()
        evaluations = self._seen_evaluations - before
        self._nfe = evaluations / max(1, iterations)
        self._recent_nfe = (*self._recent_nfe, self._nfe)[-_RECENT:]
        return evaluations

    def _evaluations(self):
        return sum(block.training_evaluations for block in self._blocks)

    def _values(self):
        return {"tolerance": self._tolerance, "nfe": self._nfe, "accuracy_gap": self._gap}

    def _describe(self):
        return f"tolerance={self._tolerance}"


def _adaptive_blocks(model):
    blocks = ode_blocks(model)
    methods = {type(block.solver) for block in blocks}
    if len(methods) != 1 or not issubclass(*methods, solvers.AdaptiveSolver):
        raise ValueError(
            "`ToleranceAdaption` needs a model with at least one `tfnode.ODEBlock`, all of them "
            f"with the same adaptive solver. Received: model={model.name!r} with blocks "
            f"{[(block.name, str(block.solver)) for block in blocks]}. Build the blocks with, for "
            "example, `tfnode.solvers.DormandPrince()`; for fixed steps take `StepAdaption`."
        )
    return blocks
