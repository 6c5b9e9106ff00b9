"""`StepAdaption`: the paper's algorithm, and a damped one, for blocks with a fixed step."""

import pathlib

import numpy as np

from tfnode import adaption, export, solvers
from tfnode.callbacks.base import SolverAdaption
from tfnode.measure import StepTwin, initial_step_sizes, total_variation
from tfnode.models import ode_blocks


class StepAdaption(SolverAdaption):
    """Finds the coarsest step size that keeps the model an ODE, while it trains.

    Before training, the step size is set by Hairer's rule. Then, every `every` iterations, the
    accuracy on one batch is measured with the training solver and with a better one. If they
    differ by more than `threshold` the model has grown together with its solver, and the step is
    multiplied by `shrink`; otherwise it is multiplied by `growth`, if the training solver still
    agrees with the better one there (Ott et al., "When are Neural ODE Solutions Proper ODEs?",
    algorithm 1). All ODE blocks of a model share one step size.

    That rule grows the step until the model is bound to it again, and so for ever.
    `policy="damped"` does not: it looks at how far the class probabilities lie apart under the two
    solvers, leaves the step alone while that is in a band, and remembers where it failed. Where
    Euler's method keeps failing it moves to the midpoint method and on to RK4, at equal cost
    (`tfnode.adaption.DampedRule`). It may as well start from RK4, which then is the cheapest way
    that we know to a model that is an ODE.

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
        policy: `"paper"`, `"damped"`, or a `tfnode.adaption.Rule` for fixed steps: for example a
            `DampedRule` with other constants, or one of your own. Its floor and its cap are those
            of the blocks.
        threshold: Float, the largest accepted gap between the accuracies. This and the next two
            are the paper's rule's; every other rule has constants of its own.
        shrink: Float in (0, 1), the factor after a larger gap.
        growth: Float above 1, the factor otherwise.
        initial_step_size: `"auto"` for Hairer's rule, or a float, which the rule brings into what
            it allows. It is applied once: a later `fit` with the same callback goes on from the
            present step size.
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
            `step_size` with `num_steps` and `nfe`, `train_accuracy`, `reference_accuracy`, the
            `change` of the class probabilities between the two, and the `action` that followed
            (`"shrink"`, `"grow"`, `"keep"`; damped also `"climb"`, to a better method).
        nfe_per_iteration: Float, the evaluations of the vector fields in the forward passes of
            training, per iteration.
        nfe_per_iteration_with_checks: Float, the same with the evaluations of the checks.

    Raises:
        ValueError: If an argument is not valid, if `data` is empty or has no labels, if the model
            has no `ODEBlock`, or one that is unrolled or adaptive, if a rule that changes the
            method meets blocks of different ones, or if `export_dir` is a file.
        FloatingPointError: If the loss is no longer finite. The model keeps its weights.
    """

    def __init__(
        self,
        data,
        every=50,
        policy="paper",
        threshold=0.1,
        shrink=0.5,
        growth=1.1,
        initial_step_size="auto",
        batch_size=128,
        export_dir=None,
        log_dir=None,
        verbose=0,
    ):
        rule = adaption.get(policy, threshold, shrink, growth)
        super().__init__(rule, data, every, batch_size, log_dir, verbose)
        if initial_step_size != "auto":
            initial_step_size = solvers.check_step_size(initial_step_size)
        self._initial_step_size = initial_step_size
        self._export_dir = None if export_dir is None else pathlib.Path(export_dir)

    def on_train_begin(self, logs=None):
        if self._export_dir is not None:
            export.check_exportable(self.model, self._export_dir)
        super().on_train_begin(logs)

    def on_train_end(self, logs=None):
        super().on_train_end(logs)
        if self._export_dir is not None:
            length = min(block.length for block in self._blocks)
            export.export_saved_models(
                self.model,
                self._export_dir,
                [self._solver, self._rule.reference(self._solver, length)],
                self._some_samples(),
                data_name="batches that StepAdaption was given",
                verbose=0,
            )

    # === Start ===
    def _find_blocks(self):
        return _adaptable_blocks(self.model, self._rule)

    def _start(self, x):
        solver = self._blocks[0].solver.with_step_size(self._first_step_size(x))
        self._assign(self._rule.start(solver).step_size)

    def _first_step_size(self, x):
        if self._initial_step_size != "auto":
            return self._initial_step_size
        return max(min(initial_step_sizes(self.model, x)), self._floor)

    def _set_bounds(self):
        lengths = [block.length for block in self._blocks]
        # Rounded as the weight rounds them, so that a step size at a cap is seen to be there.
        caps = (min(max(lengths) / 500, min(lengths)), min(lengths))
        self._floor, cap = np.array(caps, self._blocks[0].time_dtype).tolist()
        self._rule = self._rule.within(self._floor, cap)

    def _prepare(self):
        self._read_solver()
        finest = min(self._floor, self._solver.step_size)
        self._train_twin = StepTwin(self.model, finest, lambda solver, _: solver)
        self._reference_twin = StepTwin(self.model, finest, self._rule.reference)

    # === The solver ===
    def _assign(self, step_size):
        for block in self._blocks:
            block.step_size = step_size
        self._read_solver()

    def _change_method(self, solver):
        for block in self._blocks:
            block.solver = solver
        # What was traced has the old method in it.
        self.model.make_train_function(force=True)
        self.model.test_function = self.model.predict_function = None
        self._prepare()

    def _read_solver(self):
        """Takes what the weights hold, so that records and training agree."""
        self._solver = self._blocks[0].solver
        self._num_steps = sum(block.num_steps for block in self._blocks)
        self._nfe = sum(block.nfe for block in self._blocks)

    # === Checks ===
    def _check(self, iteration, x, y):
        before = self._solver
        record = {
            "iteration": iteration,
            "method": before.tableau.name,
            "step_size": before.step_size,
            "num_steps": self._num_steps,
            "nfe": self._nfe,
        }
        measurement = self._measurement(x, y)
        self._gap, self._change = measurement.gap, measurement.change
        decision = self._rule.decide(before, self._memory, measurement)
        self._memory = decision.memory
        self.history.append(
            {
                **record,
                "train_accuracy": measurement.accuracy,
                "reference_accuracy": measurement.reference_accuracy,
                "change": measurement.change,
                "action": decision.action,
            }
        )
        if decision.action == "keep":
            return
        if decision.action == "climb":
            self._change_method(decision.solver)
        else:
            self._assign(decision.solver.step_size)
        if self._verbose:
            self._print(iteration, decision.action, before)

    def _measurement(self, x, y):
        """What the rule is told: the present solver, and any other, against the better one."""

        def measure(solver):
            accuracy, probabilities = self._measure(self._train_twin, solver, x, y)
            change = total_variation(probabilities, reference)
            return adaption.Measurement(accuracy, reference_accuracy, change, measure)

        reference_accuracy, reference = self._measure(self._reference_twin, self._solver, x, y)
        return measure(self._solver)

    def _measure(self, twin, solver, x, y):
        self._checks_nfe += twin.assign(solver.step_size)
        return twin.measure(x, y)

    # === Reports ===
    def _training_evaluations(self, iterations):
        return iterations * self._nfe

    def _values(self):
        return {
            "step_size": self._solver.step_size,
            "num_steps": self._num_steps,
            "nfe": self._nfe,
            "accuracy_gap": self._gap,
        }

    def _describe(self):
        return f"step_size={self._solver.step_size}"

    def _print(self, iteration, action, before):
        if action == "climb":
            what = f"from {before} to {self._solver}"
        else:
            what = f"the step size from {before.step_size:.4g} to {self._solver.step_size:.4g}"
        print(
            f"\nIteration {iteration}: StepAdaption {action}s {what} "
            f"(accuracy gap {self._gap:.3f})."
        )


def _adaptable_blocks(model, rule):
    blocks = ode_blocks(model)
    unfit = [b for b in blocks if b.unroll or not isinstance(b.solver, solvers.FixedStepSolver)]
    if not blocks or unfit:
        raise ValueError(
            "`StepAdaption` needs a model with at least one `tfnode.ODEBlock`, none of them "
            f"unrolled or adaptive. Received: model={model.name!r} with blocks "
            f"{[(b.name, str(b.solver), f'unroll={b.unroll}') for b in blocks]}. Add an "
            "`ODEBlock` with a fixed-step solver and unroll=False to the model."
        )
    methods = {block.solver.tableau.name for block in blocks}
    changes = any(len(rule.methods(block.solver)) > 1 for block in blocks)
    if changes and len(methods) > 1:
        raise ValueError(
            f"`{type(rule).__name__}` changes the method of all blocks together, so they must "
            f"start from one. Received: model={model.name!r} with methods {sorted(methods)}. Build "
            "the blocks with the same solver."
        )
    return blocks
