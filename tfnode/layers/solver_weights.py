"""A block's solver as weights: the one place that says what it is, and where it is changed."""

import dataclasses
import warnings
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops

from tfnode import solvers, tableaus
from tfnode.integrate.grids import Grid
from tfnode.integrate.problems import Problem, Statistics
from tfnode.layers.adaptive_steps import WATCHED, AdaptiveSteps
from tfnode.layers.fixed_steps import FixedSteps
from tfnode.tableaus import ButcherTableau

# Where a file has the state of what a block draws from, if it draws.
RANDOM_STATE = "random_state"

# Makes a non-trainable weight from a name, a shape, a value and a dtype.
Make = Callable[[str, tuple, float, str], Any]


class FixedStepWeights:
    """Step size and method of a block with fixed steps.

    Args:
        solver: `tfnode.solvers.FixedStepSolver`.
        steps: `FixedSteps`.
        unroll: Boolean, whether every step is written into the graph.
        make: Callable that makes a weight.
    """

    saved = ("step_size",)

    def __init__(
        self, solver: solvers.FixedStepSolver, steps: FixedSteps, unroll: bool, make: Make
    ) -> None:
        self.steps = steps.reaching(solver)
        self._unroll = unroll
        self._methods: tuple[solvers.FixedStepSolver, ...] = (solver,)
        self._traced: list[ButcherTableau] | None = None
        self.step_size = make("step_size", (), solver.step_size, steps.dtype)
        self._method = make("method", (), _number_of(solver), "int32")
        self.variables = {"step_size": self.step_size, "method": self._method}

    @property
    def solver(self) -> solvers.FixedStepSolver:
        if self._unroll:
            return self._methods[0]
        number = int(read(self._method))
        for method in self._methods:
            if _number_of(method) == number:
                return method.with_step_size(float(read(self.step_size)))
        raise ValueError(
            "The weights of a block must come from one with the same method. "
            f"Received: weights of another one for {self.steps.name!r}, which has "
            f"{' or '.join(m.tableau.name for m in self._methods)}. Build the block with the "
            "method it was saved with, or assign `methods` that have it."
        )

    def assign(self, solver: solvers.Solver) -> None:
        if not isinstance(solver, solvers.FixedStepSolver):
            raise refused(solver, self.solver, self.steps.name)
        self.assign_number("step_size", solver.step_size)
        if solver.tableau not in self.tableaus:
            self._methods = (solver,)
        if self._traced is not None and solver.tableau not in self._traced:
            self._warn_of_graphs(solver)
        self._method.assign(_number_of(solver))

    def _warn_of_graphs(self, solver: solvers.FixedStepSolver) -> None:
        if _number_of(solver) == int(read(self._method)):
            return
        names = " or ".join(tableau.name for tableau in self._traced or ())
        warnings.warn(
            "A graph keeps the methods that it was traced with, whatever the block says. Received: "
            f"{solver} for {self.steps.name!r}, of which a graph has {names}. Compile the model "
            "again, or take `tfnode.with_solver(model, solver)`.",
            stacklevel=5,
        )

    @property
    def tableaus(self) -> list[ButcherTableau]:
        return [method.tableau for method in self._methods]

    def note_trace(self) -> None:
        """Notes that a graph is traced, which has the present methods."""
        self._traced = self.tableaus

    @property
    def is_stale(self) -> bool:
        """Whether the graph that was traced last has other methods."""
        return self._traced is not None and self._traced != self.tableaus

    def assign_number(self, name: str, value: Any) -> None:
        if self._unroll:
            raise ValueError(
                "An unrolled block has its number of steps written into the graph. "
                f"Received: {name}={value} for {self.steps.name!r}, which has unroll=True. "
                "Build the block with unroll=False to change its step size."
            )
        self.step_size.assign(self.checked(name, value))

    def checked(self, name: str, value: Any) -> float:
        return self.steps.checked(value)

    @property
    def methods(self) -> tuple[solvers.FixedStepSolver, ...]:
        return self._methods

    def allow(self, methods: tuple[solvers.FixedStepSolver, ...]) -> None:
        """Lets a graph change between methods, of which the present one must be one."""
        if self._unroll or int(read(self._method)) not in map(_number_of, methods):
            raise ValueError(
                "The present method of a block, which must not be unrolled, is one of its methods. "
                f"Received: methods={methods} for {self.steps.name!r}, which has {self._methods} "
                f"and unroll={self._unroll}. Add the present method."
            )
        self._methods = methods

    def assign_method(self, label: str) -> None:
        """Takes the method of a label, which must be that of one of `methods`."""
        self._method.assign(_number_of(self._methods[labels_of(self).index(label)]))

    @property
    def chosen(self) -> Any:
        """The index of the present method among `methods`, a tensor; None if there is but one."""
        if len(self._methods) == 1:
            return None
        numbers = ops.convert_to_tensor([_number_of(m) for m in self._methods], dtype="int32")
        return ops.argmax(ops.cast(ops.equal(numbers, self._method.value), "int32"))

    def grid(self, times: Any) -> Grid:
        """The grid of the present step size, through other times if they are given."""
        # A copy: in eager mode TensorFlow would hand out the variable itself.
        return self.steps.grid(ops.copy(self.step_size.value), times)

    @property
    def static_grid(self) -> Grid:
        return self.steps.static_grid(self.solver.step_size)

    @property
    def nfe(self) -> int:
        return self.counts()[1]

    def counts(self) -> tuple[int, int]:
        """The steps of a pass and its evaluations."""
        solver = self.solver
        num_steps = self.steps.num_steps(solver.step_size)
        return num_steps, num_steps * solver.tableau.num_stages

    def describe(self) -> str:
        num_steps, nfe = self.counts()
        return f"{num_steps} steps, {nfe} evaluations a pass"


class ToleranceWeights:
    """Tolerances and statistics of a block with adaptive steps.

    Args:
        steps: `AdaptiveSteps`.
        make: Callable that makes a weight.
    """

    saved = ("rtol", "atol")

    def __init__(self, steps: AdaptiveSteps, make: Make) -> None:
        self.steps = steps
        self.rtol = make("rtol", (), steps.solver.rtol, steps.dtype)
        self.atol = make("atol", (), steps.solver.atol, steps.dtype)
        self._statistics = make("statistics", (3,), 0, "int32")
        self._training_evaluations = make("training_evaluations", (), 0, "int32")
        self.watch = make("watch", (WATCHED,), 0, steps.dtype) if steps.is_tfp else None
        self.variables = {
            "rtol": self.rtol,
            "atol": self.atol,
            "statistics": self._statistics,
            "training_evaluations": self._training_evaluations,
            **({} if self.watch is None else {"watch": self.watch}),
        }

    @property
    def solver(self) -> solvers.AdaptiveSolver:
        rtol, atol = float(read(self.rtol)), float(read(self.atol))
        return dataclasses.replace(self.steps.solver, rtol=rtol, atol=atol)

    def assign(self, solver: solvers.Solver) -> None:
        present = self.steps.solver
        if type(solver) is not type(present) or any(
            getattr(solver, name) != getattr(present, name)
            for name in ("per_sample", "per_sample_failure")
        ):
            raise refused(solver, self.solver, self.steps.name)
        self.assign_number("rtol", solver.rtol)
        self.assign_number("atol", solver.atol)

    def assign_number(self, name: str, value: Any) -> None:
        getattr(self, name).assign(self.checked(name, value))

    def checked(self, name: str, value: Any) -> float:
        return self.steps.checked(name, value)

    @property
    def methods(self) -> tuple[solvers.AdaptiveSolver, ...]:
        return (self.steps.solver,)

    def assign_method(self, label: str) -> None:
        """An adaptive block has one method, and keeps it."""

    def problem(self, field: Any, times: Any = None) -> Problem:
        # Copies: in eager mode TensorFlow would hand out the variables themselves.
        tolerances = ops.copy(self.rtol.value), ops.copy(self.atol.value)
        return self.steps.problem(field, *tolerances, times)

    def note(self, statistics: Any, training: bool | None) -> None:
        """Takes the statistics of a call."""
        self._statistics.assign(statistics)
        if training:
            self._training_evaluations.assign_add(statistics[0])

    @property
    def statistics(self) -> Statistics:
        return Statistics(*map(int, read(self._statistics)))

    @property
    def training_evaluations(self) -> int:
        return int(read(self._training_evaluations))

    @property
    def nfe(self) -> int:
        return self.statistics.evaluations

    def describe(self) -> str:
        loop = "TensorFlow Probability's loop" if self.steps.is_tfp else "tfnode's own loop"
        return f"by {loop}, in the latest call {self.statistics}"


SolverWeights = FixedStepWeights | ToleranceWeights


def save(weights: SolverWeights, memory: Any, store: Any) -> None:
    """Writes the numbers of a solver, its method, and what a rule remembers into a file's group."""
    for i, name in enumerate(weights.saved):
        store[str(i)] = read(getattr(weights, name))
    store["adaption_memory"] = read(memory)
    store["method"] = np.frombuffer(_label(weights.solver).encode(), "uint8")


def load(weights: SolverWeights, memory: Any, store: Any) -> None:
    """Reads what `save` wrote; files of the first versions hold the numbers only.

    Raises:
        ValueError: If the file comes from another kind of steps or another method, or if a number
            is not valid.
    """
    present = weights.solver if weights.saved == ("rtol", "atol") else weights.methods[0]
    entries = set(store.keys())
    keys = entries - {"method", "adaption_memory", RANDOM_STATE}
    if keys != {str(i) for i in range(len(weights.saved))}:
        raise ValueError(
            "A file must hold the step size of a block with fixed steps, or the two "
            f"tolerances of one with adaptive steps. Received: {len(keys)} values for "
            f"{weights.steps.name!r} with {present}. Load it into a model with the solver it was "
            "saved with, and then use `tfnode.with_solver`."
        )
    values = {name: float(np.asarray(store[str(i)])) for i, name in enumerate(weights.saved)}
    values = {name: weights.checked(name, value) for name, value in values.items()}
    if "method" in entries:
        labels = labels_of(weights)
        label = bytes(np.asarray(store["method"])).decode()
        # Files of the first versions name a method of a user's own alone.
        names = [method.tableau.name for method in weights.methods]
        label = dict(zip(names, labels)).get(label, label)
        if label not in labels:
            raise ValueError(
                "A file must come from a block with the same method. Received: values of "
                f"{label!r} for {weights.steps.name!r}, which has {' or '.join(labels)}. "
                "Load it into a model with the method it was saved with, and then use "
                "`tfnode.with_solver`."
            )
        weights.assign_method(label)
        memory.assign(np.asarray(store["adaption_memory"]))
    for name, value in values.items():
        getattr(weights, name).assign(value)


def labels_of(weights: SolverWeights) -> list[str]:
    """The labels of the methods of a block."""
    return list(map(_label, weights.methods))


def read(variable: Any) -> np.ndarray:
    """The value of a variable, on every backend and however many devices mirror it.

    Raises:
        ValueError: In a graph, which has no values while it is written.
    """
    try:
        return ops.convert_to_numpy(variable.value)
    # TensorFlow's and JAX's own, which name no block.
    except (NotImplementedError, TypeError) as error:
        raise ValueError(
            "The numbers of a block, and what depends on them such as `num_steps`, `nfe` and "
            f"`trajectory`, are read eagerly. Received: {variable.name!r}, read in a graph. Read "
            "it outside of `tf.function` or `jax.jit`; call the block with `save_at=times` for "
            "states on the way."
        ) from error


def refused(solver: solvers.Solver, present: solvers.Solver, name: str) -> ValueError:
    return ValueError(
        "A block with fixed steps keeps to them, and one with adaptive steps keeps its method. "
        f"Received: solver={solver} for {name!r}, which has {present}. Make a model with another "
        "solver by `tfnode.with_solver`."
    )


def _number_of(solver: solvers.Solver) -> int:
    """What the weight says of a method: the same number in every block, whatever its `methods`."""
    return zlib.crc32(_label(solver).encode()) & 0x7FFFFFFF


def _label(solver: solvers.Solver) -> str:
    """The name of a method, and a hash of a user's own, as two of them may have one name."""
    tableau = solver.tableau
    if tableau.name in tableaus.KNOWN:
        return tableau.name
    coefficients = repr((tableau.a, tableau.b, tableau.c, tableau.b_error))
    return f"{tableau.name} {zlib.crc32(coefficients.encode()):08x}"
