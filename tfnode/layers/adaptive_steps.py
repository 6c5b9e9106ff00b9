"""Adaptive steps: from a field and a state to the grid that an error estimate accepts."""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from tfnode import parts, solvers
from tfnode.integrate import adaptive
from tfnode.integrate.problems import Problem, Solution
from tfnode.keras_internals import in_stateless_scope
from tfnode.layers.checks import check_moves_times

tree = keras.tree

# The numbers that the guard of TensorFlow Probability's loop notes.
WATCHED = 7
# It imports `tf_keras`, and does not say so to an installer.
_TFP = ("tensorflow_probability", "tf_keras")


def available(solver: solvers.AdaptiveSolver) -> solvers.AdaptiveSolver:
    """The solver, or where TensorFlow Probability's is missing our own of the same method."""
    has_tfp = keras.backend.backend() == "tensorflow" and not parts.missing(*_TFP)
    if _is_tfp(solver) and not has_tfp:
        return dataclasses.replace(solver, per_sample=True)
    return solver


def _is_tfp(solver: solvers.AdaptiveSolver) -> bool:
    return isinstance(solver, solvers.DormandPrince) and not solver.per_sample


@dataclasses.dataclass(frozen=True)
class AdaptiveSteps:
    """The adaptive steps of a block.

    Args:
        solver: `tfnode.solvers.AdaptiveSolver`, for its method and budget.
        t0: Float, the time of the input, or a tensor.
        times: Tuple of floats, the times to land on, or a tensor.
        dtype: String, the dtype of times.
        name: String, the name of the block, for errors.
        time_dependent: Boolean, whether the field may depend on time.

    Raises:
        ValueError: If the dtype cannot meet the tolerances or tell the times apart, or if there is
            no such solver on the backend.
        ImportError: If TensorFlow Probability is asked for, and is not installed.
    """

    solver: solvers.AdaptiveSolver
    t0: Any
    times: Any
    dtype: str
    name: str
    time_dependent: bool

    def __post_init__(self) -> None:
        for name in ("rtol", "atol"):
            self.checked(name, getattr(self.solver, name))
        if self.is_tfp and keras.backend.backend() != "tensorflow":
            raise ValueError(
                "`DormandPrince` with one step for the batch is TensorFlow Probability's and needs "
                f"the TensorFlow backend. Received: {self.solver} with KERAS_BACKEND="
                f"{keras.backend.backend()!r}. Pass per_sample=True, which is our own."
            )
        if self.is_tfp:
            advice = "Or pass per_sample=True, which is our own."
            parts.require("`DormandPrince` with one step for the batch", *_TFP, advice=advice)
        if isinstance(self.times, tuple) and self.time_dependent:
            length = abs(self.times[-1] - self.t0)
            check_moves_times(length, self.t0, self.times[-1], self.dtype, self.name)

    @property
    def is_tfp(self) -> bool:
        """Whether TensorFlow Probability integrates, and not our own loop."""
        return _is_tfp(self.solver)

    @property
    def min_tolerance(self) -> float:
        """Ten spacings of the state's numbers at 1: an error below is rounding."""
        return 10 * float(np.finfo(self.dtype).eps)

    def problem(self, field: Callable | None, rtol: Any, atol: Any, times: Any) -> Problem:
        """What is integrated; through other times if they are given."""
        times = self.times if times is None else times
        given = self.solver, self.name, self.time_dependent
        return Problem(field, self.t0, times, rtol, atol, *given)

    def solve(self, problem: Problem, z0: Any, watch: Any, lands: bool = True) -> Solution:
        """Finds the solution from a state on, without gradient; without `lands` the steps only."""
        z0, problem = tree.map_structure(ops.stop_gradient, z0), problem.solvable
        if not self.is_tfp:
            return adaptive.solve(problem, z0, has_grid=not lands)
        from tfnode.integrate import tfp

        # In a stateless scope, such as that of an export, nothing may be assigned.
        return tfp.solve(problem, z0, None if in_stateless_scope() else watch, lands)

    def check_state(self, z0: Any) -> None:
        """Raises if a state has no number to estimate an error of."""
        shapes = [tuple(z.shape) for z in tree.flatten(z0)]
        if not all(shapes) or all(0 in shape[1:] for shape in shapes):
            raise ValueError(
                "Adaptive steps estimate errors of a batch of samples with at least one number "
                f"each. Received: states of the shapes {shapes} for {self.name!r}. Pass a state of "
                "shape (batch_size, features), or take fixed steps."
            )

    def checked(self, name: str, value: Any) -> float:
        """Returns a tolerance as a float, or raises if the dtype cannot meet it."""
        value = solvers.check_tolerance(value, name)
        # The weight may be single precision: its rounding is no reason to refuse.
        if value < self.min_tolerance * (1 - 1e-6):
            raise ValueError(
                "A tolerance must be at least ten times the rounding of the state's dtype, or no "
                f"step is ever accurate enough. Received: {name}={value} in block {self.name!r} "
                f"with dtype {self.dtype}, where the least is {self.min_tolerance:.3g}. Build the "
                'block with dtype="float64", or raise it.'
            )
        return value
