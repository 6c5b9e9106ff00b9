"""The part of an `ODEBlock` that takes adaptive steps: its tolerances and its statistics."""

import dataclasses

import keras
import numpy as np
from keras import ops
from keras.src.backend import in_stateless_scope

from tfnode import adaptive, dormand_prince, embedded, integrate, solvers
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
        self._check_precision()
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
        rows, z0 = ops.shape(z0)[0], _with_some_row(z0)
        if training and self._block.gradient == "adjoint":
            z1, statistics = self._solve_with_adjoint(z0)
        else:
            z1, statistics = self._solve(z0, training)
        self._statistics.assign(statistics)
        if training:
            self._training_evaluations.assign_add(ops.cast(statistics[0], "int64"))
        return (z1 if training else ops.stop_gradient(z1))[:rows]

    def _solve(self, z0, training):
        problem = self._problem(self._field(training))
        solution = self._integrate(problem, ops.stop_gradient(z0), lands=not training)
        if training:
            grid, tableau = solution.grid, self._solver.tableau
            replay = ops.stack([grid.num_steps * tableau.num_stages, 0, 0])
            solution = dataclasses.replace(
                solution,
                z1=self._block.solve_on(grid, z0, tableau, training),
                statistics=solution.statistics + replay,
            )
        failed = adaptive.check(solution, problem)
        return ops.where(failed, float("nan"), solution.z1), solution.statistics

    def _field(self, training):
        block = self._block
        on_tensorflow = keras.backend.backend() == "tensorflow"
        if not (training and on_tensorflow and block.gradient == "discrete_adjoint"):
            return block.vector_field.function(training)
        # It refuses random and updating state, for which no step would ever be accurate enough.
        field, values = block.vector_field.pure(), [v.value for v in block.vector_field.values]
        return lambda t, z: field(values, t, z)

    def _solve_with_adjoint(self, z0):
        block, problem = self._block, self._problem(None)
        values = [ops.convert_to_tensor(v.value) for v in block.vector_field.values]
        solution = dormand_prince.solve_with_adjoint(
            problem, block.vector_field.pure(), values, z0, self._watch
        )
        failed = adaptive.check(solution, problem)
        return ops.where(failed, float("nan"), solution.z1), solution.statistics

    def _integrate(self, problem, z0, lands=True):
        if self._is_tfp:
            # In a stateless scope, such as that of an export, nothing may be assigned.
            watch = None if in_stateless_scope() else self._watch
            return dormand_prince.solve(problem, z0, watch, lands)
        return embedded.solve(problem, z0)

    def _problem(self, field):
        block = self._block
        # Copies: in eager mode TensorFlow would hand out the variables themselves.
        rtol, atol = ops.copy(self._rtol.value), ops.copy(self._atol.value)
        return Problem(field, block.t0, block.t1, rtol, atol, self._solver, block.name)

    def trajectory(self, z):
        if self._solver.per_sample:
            raise ValueError(
                "A trajectory has one time for all its states. "
                f"Received: per_sample=True for {self._block.name!r}, where every sample has times "
                "of its own. Integrate the samples one by one, or use `tfnode.with_solver` with "
                "per_sample=False."
            )
        problem = self._problem(self._block.vector_field.function(False))
        rows, z = z.shape[0], _with_some_row(z)
        solution = self._integrate(problem, z, lands=False)
        tableau, t1 = self._solver.tableau, self._block.t1
        times, path = integrate.trajectory(problem.field, z, solution.grid, t1, tableau)
        adaptive.check(dataclasses.replace(solution, z1=path[-1]), problem)
        return times, path[:, :rows]

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

    def _check_precision(self):
        block = self._block
        if block.variable_dtype not in ("float32", "float64"):
            raise ValueError(
                "Adaptive steps need a state in single or double precision, or their error "
                f"estimates are rounding. Received: dtype={block.variable_dtype!r} for "
                f'{block.name!r} with {self._solver}. Build the block with dtype="mixed_bfloat16", '
                "where only the field computes in half precision."
            )
        least = adaptive.smallest_step(block.t0, block.t1, block.time_dtype)
        if block.length < least:
            raise ValueError(
                "An interval must be longer than the smallest step that moves its times. "
                f"Received: t0={block.t0}, t1={block.t1} for {block.name!r} with dtype "
                f"{block.time_dtype}, where the smallest step is {least:.3g}. Shift the interval "
                'towards 0, or build the block with dtype="float64".'
            )

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


def _with_some_row(z):
    """The batch, with a row of zeros if it has none: the mean of no errors is not a number."""
    rows = ops.shape(z)[0]
    if isinstance(rows, int) and rows > 0:
        return z
    row = ops.zeros((ops.cast(ops.equal(rows, 0), "int32"), *ops.shape(z)[1:]), dtype=z.dtype)
    return ops.concatenate([z, row])
