"""The part of an `ODEBlock` that takes adaptive steps: its tolerances and its statistics."""

import dataclasses

import keras
import numpy as np
from keras import ops
from keras.src.backend import in_stateless_scope

from tfnode import adaptive, dormand_prince, integrate, solvers
from tfnode.adaptive import Problem, Statistics


class AdaptiveSteps:
    """Integrates for a block with steps that an error estimate chooses.

    Training needs a gradient: it takes the accepted steps once more, now with one. Inference has
    none.

    Args:
        block: `tfnode.ODEBlock`, the owner of field, interval and weights.
        solver: `tfnode.solvers.AdaptiveSolver`.
    """

    def __init__(self, block, solver):
        self._block = block
        self._solver = solver
        self._is_tfp = isinstance(solver, solvers.DormandPrince) and not solver.per_sample
        self._rtol = self._atol = None
        for name in ("rtol", "atol"):
            self._check_tolerance(name, getattr(solver, name))
        self._check_backend()

    def build(self):
        dtype = self._block.time_dtype
        self._rtol, self._atol = (
            self._weight(name, (), dtype, getattr(self._solver, name)) for name in ("rtol", "atol")
        )
        # Scratch, which no file holds.
        self._statistics = self._weight("statistics", (3,), "int32", 0)
        self._training_evaluations = self._weight("training_evaluations", (), "int64", 0)
        if self._is_tfp:
            self._watch = self._weight("watch", (dormand_prince.WATCHED,), dtype, 0)

    def _weight(self, name, shape, dtype, value):
        return self._block.add_weight(
            name=name,
            shape=shape,
            dtype=dtype,
            initializer=lambda shape, dtype: ops.convert_to_tensor(np.full(shape, value, dtype)),
            trainable=False,
        )

    @property
    def solver(self):
        if self._rtol is None:
            return self._solver
        tolerances = {"rtol": float(self._rtol), "atol": float(self._atol)}
        return dataclasses.replace(self._solver, **tolerances)

    @solver.setter
    def solver(self, solver):
        if type(solver) is not type(self._solver) or solver.per_sample != self._solver.per_sample:
            raise ValueError(
                "A block with adaptive steps keeps its method. "
                f"Received: solver={solver} for {self._block.name!r}, which has {self._solver}. "
                "Make a model with another method by `tfnode.with_solver`."
            )
        self.assign("rtol", solver.rtol)
        self.assign("atol", solver.atol)
        self._solver = solver

    @property
    def min_tolerance(self):
        """Float, ten spacings of the state's numbers at 1: an error below is rounding."""
        return 10 * float(np.finfo(self._block.time_dtype).eps)

    def tolerance(self, name):
        weight = self._rtol if name == "rtol" else self._atol
        if weight is None:
            raise ValueError(
                "The tolerances of an `ODEBlock` are weights and exist once the block is built. "
                f"Received: built=False for {self._block.name!r}. Call the block or `build` it "
                "first."
            )
        return weight

    def assign(self, name, value):
        self.tolerance(name).assign(self._check_tolerance(name, value))

    @property
    def nfe(self):
        return self.statistics.evaluations

    @property
    def statistics(self):
        return Statistics(*map(int, ops.convert_to_numpy(self._statistics.value)))

    @property
    def training_evaluations(self):
        return int(self._training_evaluations)

    def solve(self, z0, training):
        block = self._block
        if training and block.gradient == "adjoint":
            problem = self._problem(None)
            values = [ops.convert_to_tensor(v.value) for v in block.field_values()]
            solution = dormand_prince.solve_with_adjoint(
                problem, block.pure_field(), values, z0, self._watch
            )
            self._note(solution.statistics, training)
            return adaptive.check(solution, problem, block.name)
        problem = self._problem(block.field_function(training))
        solution = self._integrate(problem, ops.stop_gradient(z0))
        statistics, z1 = solution.statistics, adaptive.check(solution, problem, block.name)
        if training:
            tableau = self._solver.tableau
            replayed = block.solve_on(solution.grid, z0, tableau, training)
            z1 = ops.where(solution.failed, float("nan"), replayed)
            evaluations = solution.grid.num_steps * tableau.num_stages
            statistics = statistics + ops.stack([evaluations, 0, 0])
        self._note(statistics, training)
        return z1 if training else ops.stop_gradient(z1)

    def _integrate(self, problem, z0):
        if self._is_tfp:
            # In a stateless scope, such as that of an export, nothing may be assigned.
            watch = None if in_stateless_scope() else self._watch
            return dormand_prince.solve(problem, z0, watch)
        return adaptive.solve(problem, z0)

    def _problem(self, field):
        block = self._block
        # Copies: in eager mode TensorFlow would hand out the variables themselves.
        rtol, atol = ops.copy(self._rtol.value), ops.copy(self._atol.value)
        return Problem(field, block.t0, block.t1, rtol, atol, self._solver)

    def _note(self, statistics, training):
        self._statistics.assign(statistics)
        if training:
            self._training_evaluations.assign_add(ops.cast(statistics[0], "int64"))

    def trajectory(self, z):
        if self._solver.per_sample:
            raise ValueError(
                "A trajectory has one time for all its states. "
                f"Received: per_sample=True for {self._block.name!r}, where every sample has times "
                "of its own. Integrate the samples one by one, or use `tfnode.with_solver` with "
                "per_sample=False."
            )
        problem = self._problem(self._block.field_function(False))
        solution = self._integrate(problem, z)
        adaptive.check(solution, problem, self._block.name)
        tableau = self._solver.tableau
        return integrate.trajectory(problem.field, z, solution.grid, self._block.t1, tableau)

    def describe(self):
        return f"{self.solver}, in the latest call {self.statistics}"

    def saved_weights(self):
        return [self.tolerance("rtol"), self.tolerance("atol")]

    def check_loaded(self, store):
        for key, name in (("0", "rtol"), ("1", "atol")):
            self._check_tolerance(name, float(np.asarray(store[key])))

    def _check_tolerance(self, name, value):
        value = solvers.check_tolerance(name, value)
        # The weight may be single precision: its rounding is no reason to refuse.
        if value < self.min_tolerance * (1 - 1e-6):
            raise ValueError(
                "A tolerance must be at least ten times the rounding of the state's dtype, or no "
                f"step is ever accurate enough. Received: {name}={value} in block "
                f"{self._block.name!r} with dtype {self._block.time_dtype}, where the least is "
                f'{self.min_tolerance:.3g}. Build the block with dtype="float64", or raise it.'
            )
        return value

    def _check_backend(self):
        if self._is_tfp and keras.backend.backend() != "tensorflow":
            raise ValueError(
                "`DormandPrince` with one step for the batch is TensorFlow Probability's and needs "
                f"the TensorFlow backend. Received: {self._solver} with KERAS_BACKEND="
                f"{keras.backend.backend()!r}. Pass per_sample=True, which is our own."
            )
        if self._block.gradient == "adjoint" and not self._is_tfp:
            raise ValueError(
                "The continuous adjoint is TensorFlow Probability's, for `DormandPrince` with one "
                f'step for the batch. Received: gradient="adjoint" with {self._solver}. Keep the '
                'default gradient="discrete_adjoint", which is exact.'
            )
