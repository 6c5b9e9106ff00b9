"""Our error-controlled loop for embedded Runge-Kutta pairs, for the batch or for each sample.

It finds the steps, and has no gradient: that of a solution is the gradient of the discrete one on
the grid of the accepted steps, held fixed.
"""

from typing import Any, NamedTuple

import keras
from keras import ops

from tfnode.integrate.doubles import larger, smaller
from tfnode.integrate.failures import Failure
from tfnode.integrate.grids import accepted_grid
from tfnode.integrate.problems import Problem, Solution, first_step
from tfnode.integrate.runge_kutta import moved, runge_kutta_stages, spread, weighted_sum
from tfnode.tableaus import ButcherTableau

tree = keras.tree

# The controller (Hairer et al., *Solving ODEs I*, eq. II.4.13).
SAFETY, MIN_FACTOR, MAX_FACTOR = 0.9, 0.2, 10.0

# The most numbers in a table of steps with one column for each sample: 1 GiB in single precision.
MAX_TABLE = 2**28

# A step within a hundredth of a time to land on is stretched to it, so that no sliver is left.
_STRETCH = 1.01


class _State(NamedTuple):
    """What the loop carries: tensors, with steps per sample one number for each sample.

    Args:
        attempts: The steps tried so far, for the whole batch.
        way: How far from `t0` it has come, unsigned.
        target: The number of times that were landed on.
        h: The length of the next step, unsigned.
        z: The state there.
        f: The derivative there, where the method reuses its last stage.
        was_rejected: Whether the last attempt was.
        accepted: The accepted steps.
        rejected: The rejected steps.
        starts: How far from `t0` the accepted steps start, of shape `(max_num_steps, ...)`; empty
            where only the solution is asked for.
        steps: Their unsigned lengths.
    """

    attempts: Any
    way: Any
    target: Any
    h: Any
    z: Any
    f: Any
    was_rejected: Any
    accepted: Any
    rejected: Any
    starts: Any
    steps: Any


def solve(problem: Problem, z0: Any, has_grid: bool = True) -> Solution:
    """Integrates a `Problem` by the embedded pair of its solver.

    The better solution of the pair is propagated. A step whose error is not finite is rejected.

    Args:
        problem: `Problem`.
        z0: The state at `t0`: a tensor or a nested structure of tensors.
        has_grid: Boolean. If false, the grid of the accepted steps is left out.

    Raises:
        ValueError: If a table of the steps of every sample would be too large.
    """
    loop = _Loop(problem, has_grid)
    state = ops.while_loop(
        lambda *state: loop.goes_on(_State(*state)),
        lambda *state: tuple(loop.attempt(_State(*state))),
        tuple(loop.start(z0)),
        maximum_iterations=problem.solver.max_num_steps,
    )
    return loop.solution(_State(*state))


def next_factor(norm: Any, order: int) -> Any:
    """The factor by which the step changes, `0.9 norm^(-1/order)`, within [0.2, 10].

    Args:
        norm: Tensor, the error over its tolerance; infinite for an error that is not finite.
        order: Integer, the order of the propagated solution, one more than that of the error
            estimate.
    """
    # A minimum of 1e-30 instead of 0: the power stays finite, and the factor is clipped anyway.
    factor = SAFETY * ops.power(larger(1e-30, norm), -1.0 / order)
    return ops.clip(factor, MIN_FACTOR, MAX_FACTOR)


class _Loop:
    """The parts of the loop: its start, its condition, one turn of it, and its result."""

    def __init__(self, problem: Problem, has_grid: bool) -> None:
        self._problem = problem
        self._has_grid = has_grid
        self._ends, self._sign = problem.ends, problem.sign
        self._smallest_step = problem.smallest_step
        self._reuses_last = _reuses_last_stage(problem.solver.tableau)

    def start(self, z0: Any) -> _State:
        solver, dtype = self._problem.solver, self._problem.rtol.dtype
        f, h = first_step(self._problem, z0)
        shape = (ops.shape(tree.flatten(z0)[0])[0],) if solver.per_sample else ()
        num_rows = solver.max_num_steps if self._has_grid else 0
        if num_rows and shape and isinstance(shape[0], int):
            _check_table(num_rows, shape[0], self._problem)
        rows = (num_rows, *shape)
        return _State(
            attempts=ops.zeros((), "int32"),
            way=ops.zeros(shape, dtype),
            # A first time at t0 has been reached.
            target=ops.broadcast_to(ops.cast(ops.equal(self._ends[0], 0), "int32"), shape),
            h=ops.broadcast_to(h, shape),
            z=z0,
            f=f,
            was_rejected=ops.zeros(shape, "bool"),
            accepted=ops.zeros(shape, "int32"),
            rejected=ops.zeros(shape, "int32"),
            # A sample that has arrived before others takes steps of length 0 at its end.
            starts=ops.broadcast_to(self._ends[-1], rows),
            steps=ops.zeros(rows, dtype),
        )

    def goes_on(self, state: _State) -> Any:
        going = ops.any(self._active(state))
        if not self._problem.solver.isolates_failures:
            going = ops.logical_and(going, ops.logical_not(ops.any(self._collapsed(state))))
        return ops.logical_and(going, state.attempts < self._problem.solver.max_num_steps)

    def attempt(self, state: _State) -> _State:
        problem, dtype = self._problem, state.way.dtype
        tableau, way, h, z = problem.solver.tableau, state.way, state.h, state.z
        end = self._next_end(state.target)
        active, lands = self._active(state), end - way <= _STRETCH * h
        way_new = ops.cast(ops.where(lands, end, way + h), dtype)
        # By this much the rounded ways differ: the state must not run ahead of its time.
        length = way_new - way
        step = self._sign * length
        first = state.f if self._reuses_last else None
        stages = runge_kutta_stages(problem.derivative, self._sign * way, z, step, tableau, first)
        z_new = moved(z, step, tableau.b, stages)
        norm = problem.norm(_error(z, step, tableau, stages), z, z_new)
        norm = ops.where(problem.is_finite(norm, z_new), norm, float("inf"))
        accept = ops.logical_and(active, norm <= 1)
        reject = ops.logical_and(active, norm > 1)
        factor = next_factor(norm, problem.solver.order)
        # No growth right after a rejection (Hairer et al., p. 168).
        factor = ops.where(state.was_rejected, smaller(1.0, factor), factor)
        h_new = length * factor
        # A step that was cut short by a time to land on does not shorten the next one.
        h_new = ops.where(ops.logical_and(accept, lands), larger(h, h_new), h_new)
        choose = lambda new, old: tree.map_structure(
            lambda a, b: ops.where(_spread_bool(accept, b), a, b), new, old
        )
        return _State(
            attempts=state.attempts + 1,
            way=ops.where(accept, way_new, way),
            target=state.target + ops.cast(ops.logical_and(accept, lands), "int32"),
            h=ops.where(active, ops.cast(h_new, dtype), h),
            z=choose(z_new, z),
            f=choose(stages[-1], state.f) if self._reuses_last else state.f,
            was_rejected=reject,
            accepted=state.accepted + ops.cast(accept, "int32"),
            rejected=state.rejected + ops.cast(reject, "int32"),
            starts=self._write(state.starts, state.accepted, way),
            steps=self._write(state.steps, state.accepted, ops.where(accept, length, 0)),
        )

    def solution(self, state: _State) -> Solution:
        problem, solver = self._problem, self._problem.solver
        per_attempt = solver.tableau.num_stages - int(self._reuses_last)
        remaining, way, h, sign = self._remaining(state), state.way, state.h, self._sign
        # Not `remaining > 0`: a time that is not a number is never reached.
        failed = ops.logical_not(remaining <= 0)
        t = ops.convert_to_tensor(problem.t0, dtype=way.dtype) + sign * way
        if solver.per_sample:
            # One whose step has collapsed, else the one that is furthest behind.
            behind = ops.where(self._collapsed(state), problem.length + remaining, remaining)
            worst = ops.argmax(behind)
            t, h = ops.take(t, worst), ops.take(h, worst)
        counts = [
            2 + per_attempt * state.attempts,
            ops.sum(state.accepted),
            ops.sum(state.rejected),
        ]
        statistics = ops.stack(counts)
        grid = None
        if self._has_grid:
            num_steps, steps = ops.max(state.accepted), sign * state.steps
            grid = accepted_grid(state.starts, steps, num_steps, problem.t0, problem.times)
        return Solution(state.z, grid, statistics, Failure(failed, t, h, statistics[0]))

    def _remaining(self, state: _State) -> Any:
        """The length of what is left of the way."""
        return self._ends[-1] - state.way

    def _collapsed(self, state: _State) -> Any:
        # Not `h < smallest`: a step that is NaN has collapsed, too.
        too_small = ops.logical_not(state.h >= self._smallest_step)
        return ops.logical_and(self._remaining(state) > 0, too_small)

    def _active(self, state: _State) -> Any:
        """Whether it is under way, and can go on."""
        can = ops.logical_not(self._collapsed(state))
        return ops.logical_and(self._remaining(state) > 0, can)

    def _write(self, rows: Any, index: Any, values: Any) -> Any:
        """Writes `values` into `rows` at an index, or for each sample at its own."""
        if not self._has_grid:
            return rows
        if len(values.shape) == 0:
            return ops.scatter_update(rows, ops.reshape(index, (1, 1)), ops.reshape(values, (1,)))
        samples = ops.arange(ops.shape(index)[0], dtype="int32")
        return ops.scatter_update(rows, ops.stack([index, samples], axis=1), values)

    def _next_end(self, target: Any) -> Any:
        num_times = self._ends.shape[0]
        if num_times == 1:
            return self._ends[0]
        index = ops.minimum(target, num_times - 1)
        if len(self._ends.shape) == 1:
            return ops.take(self._ends, index, axis=0)
        return ops.take_along_axis(self._ends, index[None], axis=0)[0]


def _error(z: Any, step: Any, tableau: ButcherTableau, stages: list) -> Any:
    weights = tableau.b_error
    assert weights is not None
    return tree.map_structure(
        lambda z, *ks: spread(step, z) * weighted_sum(weights, ks), z, *stages
    )


def _spread_bool(v: Any, z: Any) -> Any:
    return ops.reshape(v, (-1, *(1 for _ in z.shape[1:]))) if len(v.shape) else v


def _reuses_last_stage(tableau: ButcherTableau) -> bool:
    """Whether the last stage is the derivative at the end of the step ("first same as last")."""
    return tableau.a[-1] == tableau.b[:-1] and tableau.b[-1] == 0


def _check_table(num_rows: int, num_samples: int, problem: Problem) -> None:
    if num_rows * num_samples > MAX_TABLE:
        raise ValueError(
            "The steps of every sample are kept in a table of `max_num_steps` times the samples, "
            f"at most {MAX_TABLE} numbers. Received: max_num_steps={num_rows} for {num_samples} "
            f"samples in {problem.name!r}. Lower `max_num_steps`, or the batch size."
        )
