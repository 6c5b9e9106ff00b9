"""A forward pass of a block, with the gradient that the block was built with."""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from tfnode.integrate import failures, loops, walks
from tfnode.integrate.grids import Grid
from tfnode.integrate.problems import Problem
from tfnode.layers.adaptive_steps import AdaptiveSteps
from tfnode.layers.altered_fields import Field, regularized, with_penalty
from tfnode.layers.fixed_steps import FixedSteps
from tfnode.layers.regularization import Regularization
from tfnode.tableaus import ButcherTableau

tree = keras.tree


@dataclasses.dataclass(frozen=True)
class ForwardPass:
    """A field, on the way from a state to others.

    Every method returns states at times, tensors of shape `(num_times, batch_size, ...)`, with a
    metered field pairs of them and of the penalties so far, `(num_times, batch_size)`.

    Args:
        field: `GivenField`, or another field.
        gradient: String, as for `ODEBlock`.
        training: Boolean or None.
        metered: A field that is walked in the place of the field, from the state with a
            penalty of 0 beside it; None where there is no penalty. Steps are searched without it.
    """

    field: Field
    gradient: str
    training: bool | None
    metered: Field | None = None

    def along(
        self, grid: Grid, z0: Any, tableaus: tuple[ButcherTableau, ...], method: Any = None
    ) -> Any:
        """Walks along a grid."""
        # Inference keeps no states, and a graph without a custom gradient can be exported. JAX has
        # no gradient of a loop of unknown length but ours, which is free where it is not used.
        has_gradient = self.training or keras.backend.backend() == "jax"
        walked, z0 = self._walked(z0)
        if has_gradient and self.gradient != "backprop":
            return walks.solve(
                walked.pure(self.training),
                z0,
                grid,
                tableaus,
                method,
                weights=walked.operands,
                constants=walked.constants,
                gradient="discrete_adjoint",
            )
        field = walked.function(self.training)
        plain = lambda weights, constants, t, z: field(t, z)
        gradient = "backprop" if has_gradient else None
        return walks.solve(plain, z0, grid, tableaus, method, gradient=gradient)

    def unrolled(self, grid: Grid, z0: Any, tableau: ButcherTableau) -> Any:
        """Writes the steps of a grid of NumPy arrays into the graph."""
        walked, z0 = self._walked(z0)
        field = walked.function(self.training)
        states = walks.solve_unrolled(field, z0, grid, tableau)
        stops = [states[int(stop)] for stop in grid.stops]
        return tree.map_structure(lambda *z: ops.stack(z), *stops)

    def regularized(
        self, regularization: Regularization, z0: Any, t0: float, generator: Any
    ) -> "ForwardPass":
        """The pass from a state at `t0` with what is drawn for it, and with the penalties."""
        field, metered = regularized(self.field, regularization, z0, t0, generator)
        return dataclasses.replace(self, field=field, metered=metered)

    def _walked(self, z0: Any) -> tuple:
        """The field that is walked along, and where it starts."""
        return (self.field, z0) if self.metered is None else (self.metered, with_penalty(z0))

    def adaptive(self, steps: AdaptiveSteps, problem: Problem, z0: Any, watch: Any) -> tuple:
        """Finds the steps, and takes them once more where they need a gradient.

        Returns:
            Tuple of the states and the statistics.
        """
        steps.check_state(z0)
        rows = ops.shape(tree.flatten(z0)[0])[0]
        # JAX asks for the shapes alone where it does not know the size of the batch.
        is_known = isinstance(rows, int) or keras.backend.backend() == "jax"
        if not is_known or (isinstance(rows, int) and rows == 0):
            z0 = tree.map_structure(with_some_row, z0)
            metered = self.metered and self.metered.mapped(with_some_row)
            padded = dataclasses.replace(
                self, field=self.field.mapped(with_some_row), metered=metered
            )
            states, statistics = padded.search(steps, problem, z0, watch)
            return tree.map_structure(lambda z: z[:, :rows], states), statistics
        return self.search(steps, problem, z0, watch)

    def search(self, steps: AdaptiveSteps, problem: Problem, z0: Any, watch: Any) -> tuple:
        """As `adaptive`, for a batch that has a sample."""
        problem = dataclasses.replace(problem, field=self._searched_field())
        if self.training and self.gradient == "adjoint":
            states, solution = self._continuous_adjoint(problem, z0, watch)
            statistics = solution.statistics
        elif self.training or problem.ends.shape[0] > 1:
            solution = steps.solve(problem, z0, watch, lands=False)
            grid, tableau = solution.grid, steps.solver.tableau
            assert grid is not None
            states = self.along(grid, z0, (tableau,))
            replay = ops.stack([grid.num_steps * tableau.num_stages, 0, 0])
            statistics = solution.statistics + replay
        else:
            solution = steps.solve(problem, z0, watch)
            states = tree.map_structure(lambda z: z[None], solution.z1)
            statistics = solution.statistics
        failed = failures.check(solution.failure, states, problem)
        states = tree.map_structure(lambda z: _nan_where(failed, z), states)
        if self.training is None:
            # It may be inference, or a training that Keras was not told of.
            sources = tree.flatten((z0, self.field.operands))
            flat = loops.without_gradient(tree.flatten(states), sources, _refusal(steps.name))
            states = tree.pack_sequence_as(states, flat)
        elif not self.training:
            states = tree.map_structure(ops.stop_gradient, states)
        return states, statistics

    def trajectory(
        self, grid: Grid, z0: Any, tableau: ButcherTableau, steps: FixedSteps | AdaptiveSteps
    ) -> tuple:
        """Returns the times and the states, all those on the way, eagerly."""
        field = self.field.function(self.training)
        return walks.trajectory(field, z0, grid, steps.times[-1], tableau)

    def adaptive_trajectory(
        self, steps: AdaptiveSteps, problem: Problem, z0: Any, watch: Any
    ) -> tuple:
        """As `trajectory`, along the steps that are accepted."""
        if steps.solver.per_sample:
            raise ValueError(
                "A trajectory has one time for all its states. "
                f"Received: per_sample=True for {steps.name!r}, where every sample has times "
                "of its own. Integrate the samples one by one, or use `tfnode.with_solver` with "
                "per_sample=False."
            )
        problem = dataclasses.replace(problem, field=self._searched_field())
        solution = steps.solve(problem, z0, watch, lands=False)
        assert solution.grid is not None
        times, path = self.trajectory(solution.grid, z0, steps.solver.tableau, steps)
        failures.check(solution.failure, path, problem)
        return times, path

    def _searched_field(self) -> Callable:
        """The field that steps are searched with, which is not differentiated."""
        is_pure = self.training and self.gradient == "discrete_adjoint"
        if not is_pure and keras.backend.backend() != "jax":
            return self.field.function(self.training)
        # It refuses random and updating state, for which no step would ever be accurate enough.
        field = self.field.pure(self.training)
        values = self.field.operands, self.field.constants
        values = tree.map_structure(ops.stop_gradient, values)
        return lambda t, z: field(*values, t, z)

    def _continuous_adjoint(self, problem: Problem, z0: Any, watch: Any) -> tuple:
        from tfnode.integrate import tfp

        field, constants = self.field.pure(True), self.field.constants
        of_operands = lambda operands, t, z: field(operands, constants, t, z)
        solution = tfp.solve_with_adjoint(
            problem.solvable, of_operands, self.field.operands, z0, watch
        )
        return solution.z1, solution


def _nan_where(failed: Any, z: Any) -> Any:
    """The states `(num_times, batch_size, ...)`, NaN where all or their sample failed."""
    if len(failed.shape):
        failed = ops.reshape(failed, (1, -1, *(1 for _ in z.shape[2:])))
    return ops.where(failed, float("nan"), z)


def with_some_row(z: Any) -> Any:
    """The batch, with a row of zeros if it has none: the mean of no errors is not a number.

    What has no axes is for all samples.
    """
    if len(z.shape) == 0:
        return z
    missing = ops.cast(ops.equal(ops.shape(z)[0], 0), "int32")
    row = ops.zeros((missing, *ops.shape(z)[1:]), dtype=z.dtype)
    return ops.concatenate([z, row])


def _refusal(name: str) -> str:
    return (
        "A block with adaptive steps has a gradient in training alone, where it keeps its steps. "
        f"Received: training=None for {name!r}, and a gradient through it. Call the model with "
        "training=True, and give the `call` of your own model an argument `training`, which Keras "
        "then passes; with training=False no gradient goes through the block."
    )
