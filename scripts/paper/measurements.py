"""What is measured of a run on its test data, while it trains and when it is trained."""

import contextlib
import math
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

import tfnode
import tfnode.adaption
import tfnode.callbacks
from scripts.paper.data import Data
from scripts.paper.runs import ITERATIONS_AT_ONCE, Solver
from tfnode.models import held_blocks

# The trajectories of a figure, and where a vector field is drawn in each direction.
_NUM_PATHS = 30
_NUM_ARROWS = 21


class TestCurve(keras.callbacks.Callback):
    """Test accuracy at about 100 times of a training, and at each tenth also with better solvers.

    Of a large test set, which would take a good part of the training, at fewer times.

    It keeps the mean loss of the whole training, and stops one whose loss is no longer finite, as
    `StepAdaption` does.
    """

    def __init__(self, test: Data, iterations: int, report: Callable[[float], object]):
        super().__init__()
        self._test = test
        self._iterations = iterations
        self._report = report
        # In whole executions.
        self._every = ITERATIONS_AT_ONCE * max(1, iterations // (100 * ITERATIONS_AT_ONCE))
        self._solvers_every = 10 * self._every
        if len(test[0]) >= 10_000:
            self._every *= 5
        # What was there when the training was taken up.
        self.before = {"iteration": 0, "loss": 0.0, "seconds": 0.0}
        self.loss = 0.0
        self.records = []

    def get_state(self) -> dict[str, Any]:
        """Returns plain values that `set_state` takes, as those of `tfnode.StepAdaption`."""
        return {
            "iteration": int(self.model.optimizer.iterations),
            "loss": self.loss,
            "seconds": self.before["seconds"] + time.perf_counter() - self._start,
            "records": self.records,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        self.before, self.loss, self.records = state, state["loss"], state["records"]

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._twins = {}
        self._start = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        iteration = int(self.model.optimizer.iterations)
        solver = self.model.get_layer("ode_block").solver
        tfnode.callbacks.check_loss(logs, iteration, f"solver={solver}")
        self._report(iteration / self._iterations)
        # Keras's mean, which begins anew where a training is taken up.
        part = (iteration - self.before["iteration"]) / iteration
        self.loss = self.before["loss"] + part * (logs["loss"] - self.before["loss"])
        if iteration % self._every:
            return
        record = {"iteration": iteration, "num_steps": None, "midpoint": None, "rk4": None}
        record["train_solver"] = self._accuracy_under(solver)
        if isinstance(solver, tfnode.solvers.FixedStepSolver):
            record["num_steps"] = self.model.get_layer("ode_block").num_steps
            if iteration % self._solvers_every == 0:
                for better in (tfnode.solvers.Midpoint, tfnode.solvers.RK4):
                    name = better.tableau.name
                    record[name] = self._accuracy_under(better(solver.step_size))
        self.records.append(record)

    def _accuracy_under(self, solver: Solver) -> float:
        # One compiled twin a method; it takes another step size without retracing.
        if type(solver) not in self._twins:
            self._twins[type(solver)] = _evaluator(self.model, solver)
        twin = self._twins[type(solver)]
        (block,) = held_blocks(twin)
        block.solver = solver
        return _accuracy(twin, self._test)


def final_accuracies(
    model: keras.Model, test: Data, validation: Data, rk4_steps: int
) -> dict[str, Any]:
    """The accuracies of a trained model under its own solver and under better ones.

    `"accuracy"` is that on the test data, and `"validation"` that on the data by which runs are
    chosen.
    """
    fine = tfnode.solvers.RK4(1 / rk4_steps)
    block = model.get_layer("ode_block")
    if isinstance(block.solver, tfnode.solvers.FixedStepSolver):
        reference = tfnode.adaption.reference_solver(block.solver, block.length)
        num_steps = block.num_steps
    else:
        tighter = tfnode.adaption.tighter_solver(block.solver)
        tolerance = max(tighter.rtol, block.min_tolerance)
        reference, num_steps = tighter.with_tolerance(tolerance), None
    solvers = {"train_solver": block.solver, "reference": reference, "rk4_fine": fine}
    splits = {"accuracy": test, "validation": validation}
    found: dict[str, dict[str, float]] = {split: {} for split in splits}
    for name, solver in solvers.items():
        twin = _evaluator(model, solver)
        for split, data in splits.items():
            found[split][name] = _accuracy(twin, data)
    return {
        **found,
        "solvers": {name: tfnode.solvers.serialize(s) for name, s in solvers.items()},
        "num_steps": num_steps,
    }


def sweep(model: keras.Model, test: Data) -> dict[str, list]:
    """The test accuracies under every solver and step size of the paper's section 4.1, as columns.

    The factors apply to the step size, or to the tolerance; steps longer than the interval are
    left out.
    """
    names = ("solver", "factor", "step_size", "tolerance")
    with full_precision():
        rows = tfnode.validity.sweep(model, test, verbose=0)
    return columns(
        [
            {**{name: getattr(row, name) for name in names}, "accuracy": round(row.accuracy, 6)}
            for row in rows
        ]
    )


def paths(model: keras.Model, x: np.ndarray) -> dict[str, Any]:
    """The trajectories of the first test samples, their classes and crossings, and the field."""
    x = x[:_NUM_PATHS]
    found = tfnode.validity.crossings(model, x)
    # About 64 states of each: more would not be seen.
    every = max(1, (len(found.states) - 1) // 64)
    return {
        "states": found.states[::every].round(4).tolist(),
        "classes": model.predict(x, verbose=0).argmax(axis=-1).tolist(),
        "num_steps": len(found.states) - 1,
        "crossings": found.count,
        "points": found.points.round(4).tolist(),
        "field": field(model, found.states[0]),
    }


def field(model: keras.Model, states: np.ndarray) -> dict[str, list]:
    """The vector field of a model of states in the plane, on a grid around some of them."""
    low, high = states.min(axis=0), states.max(axis=0)
    lines = [np.linspace(a, b, _NUM_ARROWS) for a, b in zip(low, high)]
    grid = np.stack(np.meshgrid(*lines), axis=-1).reshape(-1, 2).astype("float32")
    slopes = keras.ops.convert_to_numpy(model.get_layer("ode_block").field(grid))
    return {"states": grid.round(4).tolist(), "slopes": slopes.round(4).tolist()}


def _evaluator(model: keras.Model, solver: Solver) -> keras.Model:
    twin = tfnode.with_solver(model, solver)
    # On TensorFlow, XLA takes longer to compile than it saves.
    jit_compile = keras.backend.backend() == "jax"
    # By its name the metric would be made while TensorFlow traces, which then traces once more.
    accuracy = keras.metrics.SparseCategoricalAccuracy("accuracy")
    twin.compile(loss=model.loss, metrics=[accuracy], jit_compile=jit_compile)
    return twin


def full_precision() -> contextlib.AbstractContextManager:
    """Lets a GPU compute products of float32 in float32, which JAX does not ask of it by itself."""
    if keras.backend.backend() != "jax":
        return contextlib.nullcontext()
    import jax

    return jax.default_matmul_precision("highest")


def _accuracy(model: keras.Model, test: Data) -> float:
    with full_precision():
        logs = model.evaluate(*test, batch_size=1000, verbose=0, return_dict=True)
    return round(logs["accuracy"], 6)


def history(records: list[dict]) -> dict[str, list]:
    """Returns the records of an adaption as columns, the change of the outputs with six digits.

    No rule goes by it, and in full it would be a quarter of a file.
    """
    return columns([record | {"change": float(f"{record['change']:.6g}")} for record in records])


def columns(records: list[dict]) -> dict[str, list]:
    """Returns records with the same keys as one dictionary of columns.

    A number that is not finite, as the change of outputs that are not, is None: JSON has none.
    """
    if not records:
        return {}
    return {name: [_finite(record[name]) for record in records] for name in records[0]}


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
