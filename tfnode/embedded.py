"""Adaptive integration by embedded Runge-Kutta pairs: the loop and its controller."""

from typing import Any, NamedTuple

from keras import ops

from tfnode.adaptive import Solution, first_step
from tfnode.integrate import AcceptedGrid, runge_kutta_stages, weighted_sum

# The controller (Hairer et al., *Solving ODEs I*, eq. II.4.13).
SAFETY, MIN_FACTOR, MAX_FACTOR = 0.9, 0.2, 10.0

# A step within a hundredth of the end is stretched to it, so that no sliver is left.
_STRETCH = 1.01


class _State(NamedTuple):
    """What the loop carries: tensors, with steps per sample one number for each sample.

    Args:
        attempts: The steps tried by now, for the whole batch.
        t: The time reached.
        h: The length of the next step, unsigned.
        z: The state at `t`.
        f: The derivative at `t`, where the method reuses its last stage.
        was_rejected: Whether the last attempt was.
        accepted: The accepted steps.
        rejected: The rejected steps.
        times: The starts of the accepted steps, of shape `(max_num_steps, ...)`.
        steps: Their signed lengths.
    """

    attempts: Any
    t: Any
    h: Any
    z: Any
    f: Any
    was_rejected: Any
    accepted: Any
    rejected: Any
    times: Any
    steps: Any


def solve(problem, z0):
    """Integrates a `Problem` by the embedded pair of its solver; returns the `Solution`.

    The better solution of the pair is propagated. A step whose error is not finite is rejected.

    Args:
        problem: `tfnode.adaptive.Problem`.
        z0: Tensor, the state at `t0`.
    """
    state = ops.while_loop(
        lambda *state: _goes_on(problem, _State(*state)),
        lambda *state: tuple(_attempt(problem, _State(*state))),
        tuple(_start(problem, z0)),
        maximum_iterations=problem.solver.max_num_steps,
    )
    return _solution(problem, _State(*state))


def next_factor(norm, order):
    """The factor by which the step changes, `0.9 norm^(-1/order)`, within [0.2, 10].

    Args:
        norm: Tensor, the error over its tolerance; infinite for an error that is not finite.
        order: Integer, the order of the propagated solution, one more than that of the error
            estimate.
    """
    # A minimum of 1e-30 instead of 0: the power stays finite, and the factor is clipped anyway.
    factor = SAFETY * ops.power(ops.maximum(norm, 1e-30), -1.0 / order)
    return ops.clip(factor, MIN_FACTOR, MAX_FACTOR)


def _start(problem, z0):
    solver, dtype = problem.solver, problem.rtol.dtype
    f, h = first_step(problem, z0)
    shape = (ops.shape(z0)[0],) if solver.per_sample else ()
    rows = (solver.max_num_steps, *shape)
    return _State(
        attempts=ops.zeros((), "int32"),
        t=ops.full(shape, problem.t0, dtype=dtype),
        h=h,
        z=z0,
        f=f,
        was_rejected=ops.zeros(shape, "bool"),
        accepted=ops.zeros(shape, "int32"),
        rejected=ops.zeros(shape, "int32"),
        # A sample that has arrived before others takes steps of length 0 at t1.
        times=ops.full(rows, problem.t1, dtype=dtype),
        steps=ops.zeros(rows, dtype),
    )


def _collapsed(problem, state):
    # Not `h < smallest`: a step that is NaN has collapsed, too.
    too_small = ops.logical_not(state.h >= problem.smallest_step)
    return ops.logical_and(problem.remaining(state.t) > 0, too_small)


def _goes_on(problem, state):
    is_under_way = ops.any(problem.remaining(state.t) > 0)
    going = ops.logical_and(is_under_way, ops.logical_not(ops.any(_collapsed(problem, state))))
    return ops.logical_and(going, state.attempts < problem.solver.max_num_steps)


def _attempt(problem, state):
    tableau, dtype = problem.solver.tableau, state.t.dtype
    t, h, z = state.t, state.h, state.z
    reuses_last = _reuses_last_stage(tableau)
    remaining = problem.remaining(t)
    active, last = remaining > 0, remaining <= _STRETCH * h
    t_new = ops.cast(ops.where(last, problem.t1, t + problem.sign * h), dtype)
    # By this much the rounded times differ: the state must not run ahead of its time.
    step = t_new - t
    dt, first = problem.spread(step, z), state.f if reuses_last else None
    stages = runge_kutta_stages(problem.field, problem.time(t, z), z, dt, tableau, first)
    z_new = z + dt * weighted_sum(tableau.b, stages)
    norm = problem.norm(dt * weighted_sum(tableau.b_error, stages), z, z_new)
    norm = ops.where(problem.is_finite(norm, z_new), norm, float("inf"))
    accept = ops.logical_and(active, norm <= 1)
    reject = ops.logical_and(active, norm > 1)
    factor = next_factor(norm, problem.solver.order)
    # No growth right after a rejection (Hairer et al., p. 168).
    factor = ops.where(state.was_rejected, ops.minimum(factor, 1), factor)
    spread_accept = problem.spread(accept, z, "bool")
    return _State(
        attempts=state.attempts + 1,
        t=ops.where(accept, t_new, t),
        h=ops.where(active, ops.cast(ops.abs(step) * factor, dtype), h),
        z=ops.where(spread_accept, z_new, z),
        f=ops.where(spread_accept, stages[-1], state.f) if reuses_last else state.f,
        was_rejected=reject,
        accepted=state.accepted + ops.cast(accept, "int32"),
        rejected=state.rejected + ops.cast(reject, "int32"),
        times=_write(state.times, state.accepted, t),
        steps=_write(state.steps, state.accepted, ops.where(accept, step, 0)),
    )


def _solution(problem, state):
    solver = problem.solver
    per_attempt = solver.tableau.num_stages - int(_reuses_last_stage(solver.tableau))
    remaining = problem.remaining(state.t)
    t, h = state.t, state.h
    if solver.per_sample:
        # One whose step has collapsed, else the one that is furthest behind.
        collapsed = _collapsed(problem, state)
        worst = ops.argmax(ops.where(collapsed, problem.length + remaining, remaining))
        t, h = ops.take(t, worst), ops.take(h, worst)
    counts = [2 + per_attempt * state.attempts, ops.sum(state.accepted), ops.sum(state.rejected)]
    return Solution(
        z1=state.z,
        grid=AcceptedGrid(
            # The gradient of a solution holds its steps fixed.
            ops.stop_gradient(problem.spread_grid(state.times, state.z)),
            ops.stop_gradient(problem.spread_grid(state.steps, state.z)),
            ops.max(state.accepted),
            solver.max_num_steps,
        ),
        statistics=ops.stack(counts),
        failed=ops.any(remaining > 0),
        time=t,
        step=h,
    )


def _reuses_last_stage(tableau):
    """Whether the last stage is the derivative at the end of the step ("first same as last")."""
    return tableau.a[-1] == tableau.b[:-1] and tableau.b[-1] == 0


def _write(rows, index, values):
    """Writes `values` into `rows` at an index, or for each sample at its own."""
    if len(values.shape) == 0:
        return ops.scatter_update(rows, ops.reshape(index, (1, 1)), ops.reshape(values, (1,)))
    samples = ops.arange(ops.shape(index)[0], dtype="int32")
    return ops.scatter_update(rows, ops.stack([index, samples], axis=1), values)
