"""The part of an `ODEBlock` that takes fixed steps: its step-size weight and its grid."""

import math

import numpy as np
from keras import ops

from tfnode import integrate, solvers
from tfnode.integrate import TimeGrid

# The static bound on the loop. The paper's rule never goes below 1/500 of the interval.
_MAX_NUM_STEPS = 512


class FixedSteps:
    """Integrates for a block with a fixed step size.

    Args:
        block: `tfnode.ODEBlock`, the owner of field, interval and weights.
        solver: `tfnode.solvers.FixedStepSolver`.
        unroll: Boolean, whether every step is written into the graph.
    """

    def __init__(self, block, solver, unroll):
        self._block = block
        self._solver = solver
        self._unroll = unroll
        self._weight = None
        self._check_length(solver.step_size)
        # A margin of one, so that rounding in the weight's dtype never meets the bound.
        self._max_num_steps = max(_MAX_NUM_STEPS, math.ceil(block.length / solver.step_size) + 1)

    def build(self):
        step_size = self._solver.step_size
        self._weight = self._block.add_weight(
            name="step_size",
            shape=(),
            dtype=self._block.time_dtype,
            # `initializers.Constant` would round a double to single precision.
            initializer=lambda shape, dtype: ops.convert_to_tensor(np.asarray(step_size, dtype)),
            trainable=False,
        )

    @property
    def solver(self):
        if self._unroll or self._weight is None:
            return self._solver
        return self._solver.with_step_size(float(self._weight))

    @solver.setter
    def solver(self, solver):
        if not isinstance(solver, solvers.FixedStepSolver):
            raise ValueError(
                "A block with fixed steps keeps to them. "
                f"Received: solver={solver} for {self._block.name!r}. Make a model with adaptive "
                "steps by `tfnode.with_solver`."
            )
        self.assign(solver.step_size)
        self._solver = solver

    @property
    def step_size(self):
        if self._weight is None:
            raise ValueError(
                "The step size of an `ODEBlock` is a weight and exists once the block is built. "
                f"Received: built=False for {self._block.name!r}. Call the block or `build` it "
                "first."
            )
        return self._weight

    def assign(self, step_size):
        if self._unroll:
            raise ValueError(
                "An unrolled block has its number of steps written into the graph. "
                f"Received: step_size={step_size} for {self._block.name!r}, which has unroll=True. "
                "Build the block with unroll=False to change its step size."
            )
        self.step_size.assign(self._check_step_size(step_size))

    @property
    def num_steps(self):
        return self._static_grid().num_steps

    @property
    def nfe(self):
        return self.num_steps * self._solver.tableau.num_stages

    def solve(self, z0, training):
        tableau = self._solver.tableau
        if self._unroll:
            field = self._block.vector_field.function(training)
            return integrate.solve_unrolled(field, z0, self._static_grid(), tableau)
        return self._block.solve_on(self._grid(), z0, tableau, training)

    def trajectory(self, z):
        field, tableau = self._block.vector_field.function(False), self._solver.tableau
        return integrate.trajectory(field, z, self._static_grid(), self._block.t1, tableau)

    def describe(self):
        return f"{self.solver}, {self.num_steps} steps, {self.nfe} evaluations a pass"

    def saved_weights(self):
        return [self.step_size]

    def check_loaded(self, store):
        self._check_step_size(float(np.asarray(store["0"])))

    def _grid(self):
        # A copy: in eager mode TensorFlow would hand out the variable itself.
        step_size = ops.copy(self._weight.value)
        block = self._block
        return TimeGrid.from_step_size(block.t0, block.t1, step_size, self._max_num_steps)

    def _static_grid(self):
        """The grid of the present step size as NumPy numbers, by the arithmetic of the weight."""
        block = self._block
        step_size = np.dtype(block.time_dtype).type(self.solver.step_size)
        return TimeGrid.from_step_size(block.t0, block.t1, step_size, self._max_num_steps)

    def _check_step_size(self, step_size):
        step_size = solvers.check_step_size(step_size)
        self._check_length(step_size)
        if step_size * self._max_num_steps < self._block.length * (1 - 1e-6):
            raise ValueError(
                f"The loop of {self._block.name!r} takes at most {self._max_num_steps} steps, a "
                f"bound that XLA needs. Received: step_size={step_size}, on an interval of length "
                f"{self._block.length}. Build the block with a solver of that step size, or use "
                "`tfnode.with_solver`."
            )
        return step_size

    def _check_length(self, step_size):
        # The weight may be single precision: its rounding is no reason to refuse.
        block = self._block
        if step_size > block.length * (1 + 1e-6):
            raise ValueError(
                "A step must not be longer than the interval of integration. "
                f"Received: step_size={step_size} on [{block.t0}, {block.t1}], of length "
                f"{block.length}. Choose a step size up to the length."
            )
