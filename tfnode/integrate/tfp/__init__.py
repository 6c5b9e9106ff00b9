"""TensorFlow Probability's Dormand-Prince solver, and all that is done here about its ways.

Read from the source of TFP 0.25:

- It takes a first step of 1e-3 and grows it: here it is given one by Hairer's rule.
- It integrates forwards only, and squares numbers that depend on the unit of time: here time runs
  from 0 at `t0` to 1 at the end, also where the end is `t0`: the field is 0 there.
- It steps past the end and interpolates with order 4: here the accepted steps are cut to land on
  every time that was asked for, so that the solution is that of the method on the grid. The field
  must be finite a little behind the end, too.
- It rounds its coefficients to single precision, which in double precision leaves errors of 1e-7:
  there every accepted step is taken once more, with our own.
- It estimates two thirds of the error that Dormand and Prince do (Shampine, 1986), and squares the
  norm of it twice: what it compares with 1 is the root of the mean *fourth* power, squared once
  more, so that its controller changes a step by the power 1/3 of the error instead of 1/5. It is
  handed half the tolerances, and a safety factor with which it settles where Hairer's does. Its
  errors on DETEST are then those of SciPy's RK45 at the full tolerances, within a few of them.
- It counts neither the first nor the last evaluation, and reports no rejected steps.
- It does not leave its loop: a NaN makes it repeat a step for ever, and its error on a spent budget
  names nothing. But it calls the field, and so the field is guarded (`guard.py`).

What a guard has seen lies in a variable: an eager call has one of its own, but the runs of one
graph must not overlap in time. Where no variable may be assigned (an exported graph serves many
requests at once) there is no guard: TFP keeps the budget, and its own error ends what cannot end.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tfnode.integrate import walks
from tfnode.integrate.failures import Failure, check
from tfnode.integrate.grids import Grid, accepted_grid
from tfnode.integrate.problems import Problem, Solution, first_step
from tfnode.integrate.runge_kutta import runge_kutta_step
from tfnode.integrate.tfp.guard import EVALUATIONS, Guard, Watch, finite, share_of

# What TFP is handed of a tolerance, and its safety factor; see above.
_TOLERANCE = 0.5
_SAFETY = 0.9 ** (5 / 3)

tree = tf.nest


def solve(problem: Problem, z0: Any, watch: Any, lands: bool = True) -> Solution:
    """Integrates a `Problem` of `DormandPrince`, without gradient.

    Args:
        problem: `tfnode.integrate.adaptive.Problem`.
        z0: The state at `t0`: a TensorFlow tensor or a nested structure of them.
        watch: Keras variable of shape `(len(Watch._fields),)` and the dtype of times, scratch for
            this call, or None: then no variable is assigned, and a failed integration is TFP's own
            error.
        lands: Boolean. If false, the steps are found, and the solution is left out.
    """
    import tensorflow_probability as tfp

    tableau, dtype = problem.solver.tableau, problem.rtol.dtype
    z0 = tree.map_structure(tf.stop_gradient, z0)
    times = tfp.math.ode.ChosenBySolver(tf.ones((), tree.flatten(z0)[0].dtype))
    results, seen = _integrate(problem, z0, times, watch, {})
    # The starts of the attempts, those after a rejection once more, and the end.
    ways = results.times * tf.cast(problem.length, results.times.dtype)
    starts, lengths = ways[:-1], ways[1:] - ways[:-1]
    taken = tf.where(lengths > 0)[:, 0]
    # Without a way the one step is of length 0.
    accepted = tf.where(problem.ends[-1] > 0, tf.size(taken), 1)
    seen = seen._replace(accepted=tf.cast(accepted, seen.accepted.dtype))
    starts, lengths = (tf.cast(tf.gather(v, taken), dtype) for v in (starts, lengths))
    grid = _grid(problem, starts, lengths, seen.failed > 0)
    if not lands:
        return _solution(problem, seen, None, grid)
    if dtype == tf.float64:
        field = lambda weights, constants, t, z: problem.field(t, z)
        states = walks.solve(field, z0, grid, (tableau,))
        z1, num_taken = tree.map_structure(lambda z: z[-1], states), grid.num_steps
    else:
        # The last step once more, now with the end that was asked for.
        latest = tf.reduce_max(tf.concat([[0], taken], 0))
        last = tree.map_structure(lambda states: states[latest], results.states)
        z1 = runge_kutta_step(
            problem.field,
            grid.starts[grid.num_steps - 1],
            last,
            grid.steps[grid.num_steps - 1],
            tableau,
        )
        num_taken = 1
    return _solution(problem, seen, z1, grid, num_taken * tableau.num_stages)


def _grid(problem: Problem, starts: Any, lengths: Any, failed: Any) -> Grid:
    """The accepted steps, those cut in two that a time to land on lies within."""
    ends = problem.ends
    num_times = ends.shape[0]
    if num_times > 1:
        knots = tf.sort(tf.concat([starts, ends[:-1]], 0))
        lengths = tf.concat([knots[1:], ends[-1:]], 0) - knots
        # Not those of length 0: a time may fall on a start.
        used = tf.where(lengths > 0)[:, 0]
        starts, lengths = tf.gather(knots, used), tf.gather(lengths, used)
    budget = problem.solver.max_num_steps + num_times - 1
    num_steps = tf.where(failed, 0, tf.size(starts))
    # A failed integration may have wandered on for longer than its budget.
    missing = tf.maximum(budget - tf.size(starts), 0)
    starts = tf.concat([starts, tf.fill([missing], ends[-1])], 0)[:budget]
    lengths = tf.concat([lengths, tf.zeros([missing], lengths.dtype)], 0)[:budget]
    starts.set_shape([budget])
    lengths.set_shape([budget])
    steps = tf.cast(problem.sign, lengths.dtype) * lengths
    return accepted_grid(starts, steps, num_steps, problem.t0, problem.times)


def solve_with_adjoint(
    problem: Problem, field: Callable, values: Any, z0: Any, watch: Any
) -> Solution:
    """Like `solve`, with TFP's gradient by the continuous adjoint, and without a grid.

    The solution is TFP's, by interpolation, at all times of the problem. The adjoint equation is
    integrated backwards with the same tolerances and budget (Chen et al., 2018, section 2).

    Args:
        problem: `tfnode.integrate.adaptive.Problem`.
        field: Callable `field(values, t, z)`, a pure function.
        values: Nested structure of tensors that the field depends on, which get gradients.
        z0: The state at `t0`.
        watch: As in `solve`.
    """
    flat = tree.flatten(values)
    names = [f"value_{i}" for i in range(len(flat))]
    dtype = tree.flatten(z0)[0].dtype
    # Any times will do where the field is 0.
    ends = tf.where(problem.ends[-1] > 0, problem.ends, tf.ones_like(problem.ends))
    times = tf.cast(ends / ends[-1], dtype)

    def with_constants(t: Any, z: Any, **constants: Any) -> Any:
        return field(tree.pack_sequence_as(values, [constants[n] for n in names]), t, z)

    problem = dataclasses.replace(problem, field=with_constants)
    results, seen = _integrate(problem, z0, times, watch, dict(zip(names, flat)))
    return _solution(problem, seen, results.states, None)


def _integrate(problem: Problem, z0: Any, times: Any, watch: Any, constants: dict) -> tuple:
    """Returns TFP's results and what the guard has seen."""
    if watch is not None and tf.executing_eagerly():
        # Threads that call a block at once must not share one; a graph can make none of its own.
        watch = keras.Variable(tf.zeros_like(watch.value), trainable=False)
    start = dataclasses.replace(problem, field=lambda t, z: problem.field(t, z, **constants))
    _, h = first_step(start, tree.map_structure(tf.stop_gradient, z0))
    h = share_of(problem, h)
    # TFP does not stop where a step lands on the end. Any step will do if this one is NaN, or 0.
    h = tf.where((h > 0) & (h < 1), h, tf.cast(1.01, h.dtype))
    dtype = tree.flatten(z0)[0].dtype
    t0, way = tf.cast(problem.t0, dtype), tf.cast(problem.sign * problem.length, dtype)

    def field(share: Any, z: Any, **constants: Any) -> Any:
        derivative = problem.field(t0 + way * share, z, **constants)
        return tree.map_structure(lambda d: tf.cast(way, d.dtype) * d, derivative)

    solver = _solver(problem, watch, tf.cast(h, dtype))
    if watch is None:
        results = solver.solve(field, 0.0, z0, times, constants=constants)
        return results, _unwatched(problem, results)
    guarded = Guard(field, problem, watch, z0, 0.0)
    results = solver.solve(guarded, 0.0, finite(z0), times, constants=constants)
    # The adjoint equation calls the field too, but later.
    guarded.is_on = False
    return results, guarded.seen()


def _solver(problem: Problem, watch: Any, first_step_size: Any) -> Any:
    """Returns TFP's solver, with a guarded one for its adjoint equation."""
    import tensorflow_probability as tfp

    arguments = {
        "rtol": _TOLERANCE * problem.rtol,
        "atol": _TOLERANCE * problem.atol,
        "first_step_size": first_step_size,
        "safety_factor": _SAFETY,
        # A guard ends the integration, with an error that tells more.
        "max_num_steps": problem.solver.max_num_steps if watch is None else None,
    }

    class AdjointSolver(tfp.math.ode.DormandPrince):
        def solve(
            self,
            ode_fn: Callable,
            initial_time: Any,
            previous_solver_internal_state: Any,
            **kwargs: Any,
        ) -> Any:
            state = previous_solver_internal_state
            guarded = Guard(ode_fn, problem, watch, state, initial_time, knows_derivative=True)
            results = super().solve(
                ode_fn=guarded,
                initial_time=initial_time,
                previous_solver_internal_state=finite(state),
                **kwargs,
            )
            seen = guarded.seen()
            # The call of the start was none. Time runs from -1 to 0.
            seen = seen._replace(calls=seen.calls - 1, time=-seen.time)
            failure = _solution(problem, seen, None, None).failure
            failed = check(failure, None, problem, ", in the adjoint equation")
            nan_if_failed = lambda x: tf.where(failed, tf.constant(float("nan"), x.dtype), x)
            return results._replace(states=tree.map_structure(nan_if_failed, results.states))

    return tfp.math.ode.DormandPrince(
        **arguments, make_adjoint_solver_fn=lambda: AdjointSolver(**arguments)
    )


def _solution(
    problem: Problem, seen: Any, z1: Any, grid: Grid | None, more_evaluations: Any = 0
) -> Solution:
    attempts = (seen.calls - 1) // EVALUATIONS
    counts = [seen.calls, seen.accepted, attempts - seen.accepted]
    # Two evaluations for the first step.
    evaluations = tf.stack([2 + more_evaluations, 0, 0])
    statistics = evaluations + tf.cast(tf.stack(counts), tf.int32)
    time = problem.t0 + problem.sign * problem.length * seen.time
    step = problem.length * seen.step
    return Solution(z1, grid, statistics, Failure(seen.failed > 0, time, step, statistics[0]))


def _unwatched(problem: Problem, results: Any) -> Watch:
    """What TFP's results tell of an integration without a guard, which has not failed."""
    # The first and the last evaluation are not among them.
    calls = tf.cast(2 + results.diagnostics.num_ode_fn_evaluations, problem.rtol.dtype)
    zero = tf.zeros_like(calls)
    return Watch(calls, zero, zero, zero + 1, zero, zero, zero)
