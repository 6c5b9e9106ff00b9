"""Fixed steps: from a step size to a grid, and which step sizes there may be."""

import dataclasses
import math
from typing import Any

import numpy as np

from tfnode import solvers
from tfnode.integrate.grids import Grid, fixed_grid, num_fixed_steps, smallest_step
from tfnode.layers.checks import check_moves_times

# The static bound on the loop. The floor of `StepRule` is 1/500 of the interval.
_MAX_NUM_STEPS = 512


@dataclasses.dataclass(frozen=True)
class FixedSteps:
    """The fixed steps of a block.

    Args:
        t0: Float, the time of the input.
        times: Tuple of floats, the times to land on.
        dtype: String, the dtype of times.
        name: String, the name of the block, for errors.
        time_dependent: Boolean, whether the field depends on time.
        max_num_steps: Integer, the bound of the loop for one time.
    """

    t0: float
    times: tuple[float, ...]
    dtype: str
    name: str
    time_dependent: bool
    max_num_steps: int = _MAX_NUM_STEPS

    def reaching(self, solver: solvers.FixedStepSolver) -> "FixedSteps":
        """The same, with a loop that is long enough for a solver."""
        self._check(solver.step_size)
        bound = self.max_num_steps
        if self.time_dependent:
            # A graph takes the finest step that moves its times, whatever the weight asks for.
            bound = int(
                min(bound, self.length / smallest_step(self.t0, self.times[-1], self.dtype))
            )
        # A margin of one, so that rounding in the weight's dtype never meets the bound.
        needed = math.ceil(self.length / solver.step_size) + 1
        return dataclasses.replace(self, max_num_steps=max(bound, needed))

    @property
    def length(self) -> float:
        return abs(self.times[-1] - self.t0)

    @property
    def min_step_size(self) -> float:
        """The finest step that `checked` takes."""
        least = self.length / self.max_num_steps
        if not self.time_dependent:
            return least
        return max(least, smallest_step(self.t0, self.times[-1], self.dtype))

    def grid(self, step_size: Any, times: Any = None) -> Grid:
        """The grid of a step size, a tensor; through other times if they are given."""
        times = self.times if times is None else times
        return fixed_grid(self.t0, times, step_size, self.max_num_steps, self.time_dependent)

    def static_grid(self, step_size: float) -> Grid:
        """The same as NumPy arrays, by the arithmetic of the weight."""
        return self.grid(np.dtype(self.dtype).type(step_size))

    def num_steps(self, step_size: float) -> int:
        """The steps of that grid."""
        rounded = np.dtype(self.dtype).type(step_size)
        return num_fixed_steps(self.t0, self.times, rounded, self.max_num_steps)

    def checked(self, step_size: Any) -> float:
        """Returns a step size as a float, or raises if the loop cannot take it."""
        step_size = solvers.check_step_size(step_size)
        self._check(step_size)
        if step_size * self.max_num_steps < self.length * (1 - 1e-6):
            raise ValueError(
                f"The loop of {self.name!r} takes at most {self.max_num_steps} steps, a bound that "
                f"XLA needs. Received: step_size={step_size}, on an interval of length "
                f"{self.length}. Build the block with a solver of that step size, or use "
                "`tfnode.with_solver`."
            )
        return step_size

    def _check(self, step_size: float) -> None:
        # The weight may be single precision: its rounding is no reason to refuse.
        if step_size > self.length * (1 + 1e-6):
            raise ValueError(
                "A step must not be longer than the interval of integration. "
                f"Received: step_size={step_size} on [{self.t0}, {self.times[-1]}], of length "
                f"{self.length}. Choose a step size up to the length."
            )
        solvers.check_num_steps(step_size, self.length, self.name)
        if self.time_dependent:
            check_moves_times(step_size, self.t0, self.times[-1], self.dtype, self.name)
