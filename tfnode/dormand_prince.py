"""TensorFlow Probability's Dormand-Prince solver behind the face of `tfnode.adaptive`.

What is done here about its ways, read from the source of TFP 0.25:

- It takes a first step of 1e-3 and grows it: here it is given one by Hairer's rule.
- It integrates forwards only: time is measured from `t0` in the direction of integration.
- It steps past `t1` and interpolates with order 4: here the last step is taken once more, clipped
  to land on `t1`, so that the solution is that of the method on the accepted grid. The field must
  be finite a little behind `t1`, too.
- It rounds its coefficients to single precision, which in double precision leaves errors of 1e-7:
  there every accepted step is taken once more, with our own.
- It estimates two thirds of the error that Dormand and Prince do (Shampine, 1986), and squares the
  norm of it twice: what it compares with 1 is the root of the mean *fourth* power, squared once
  more, so that its controller changes a step by the power 1/3 of the error instead of 1/5. It is
  handed half the tolerances, and a safety factor with which it settles where Hairer's does. Its
  errors on DETEST are then those of SciPy's RK45 at the full tolerances, within a few of them.
- It counts neither the first nor the last evaluation, reports no rejected steps, and cannot leave
  its loop: see `tfnode.guard`.

What a guard has seen lies in a variable, so calls of one block must not overlap in time. Where no
variable may be assigned (an exported graph serves many requests at once) there is no guard: TFP
keeps the budget, and its own error ends what cannot end.
"""

import dataclasses

from tfnode.adaptive import Solution, check, first_step
from tfnode.guard import EVALUATIONS, Guard, Watch, finite
from tfnode.integrate import AcceptedGrid, runge_kutta_step
from tfnode.integrate import solve as solve_on_grid

# The length of the variable that a guard notes in.
WATCHED = len(Watch._fields)

# What TFP is handed of a tolerance, and its safety factor; see above.
_TOLERANCE = 0.5
_SAFETY = 0.9 ** (5 / 3)


def solve(problem, z0, watch, lands=True):
    """Integrates a `Problem` of `DormandPrince`; returns the `Solution`, without gradient.

    Args:
        problem: `tfnode.adaptive.Problem`.
        z0: TensorFlow tensor, the state at `t0`.
        watch: Keras variable of shape `(WATCHED,)` and the dtype of times, scratch for this call,
            or None: then no variable is assigned, and a failed integration is TFP's own error.
        lands: Boolean. If false, the steps are found, and the solution at `t1` is left out.
    """
    import tensorflow as tf
    import tensorflow_probability as tfp

    tableau, budget = problem.solver.tableau, problem.solver.max_num_steps
    times = tfp.math.ode.ChosenBySolver(tf.constant(problem.length, z0.dtype))
    results, seen = _integrate(problem, tf.stop_gradient(z0), times, watch, {})
    # The starts of the attempts, those after a rejection once more, and t1.
    starts, lengths = results.times[:-1], results.times[1:] - results.times[:-1]
    taken = tf.where(lengths > 0)[:, 0]
    # The gradient of a solution holds its steps fixed.
    t = tf.stop_gradient(problem.t0 + problem.sign * tf.gather(starts, taken))
    dt = tf.stop_gradient(problem.sign * tf.gather(lengths, taken))
    seen = seen._replace(accepted=tf.cast(tf.size(t), t.dtype))
    num_steps = tf.where(seen.failed > 0, 0, tf.size(t))
    # A failed integration may have wandered on for longer than its budget.
    rows = [[0, tf.maximum(budget - tf.size(t), 0)]]
    grid = AcceptedGrid(tf.pad(t, rows)[:budget], tf.pad(dt, rows)[:budget], num_steps, budget)
    if not lands:
        return _solution(problem, seen, None, grid)
    if z0.dtype == tf.float64:
        z1, num_taken = solve_on_grid(problem.field, z0, grid, tableau), num_steps
    else:
        last = results.states[taken[-1]]
        z1, num_taken = runge_kutta_step(problem.field, t[-1], last, dt[-1], tableau), 1
    return _solution(problem, seen, z1, grid, num_taken * tableau.num_stages)


def solve_with_adjoint(problem, pure_field, values, z0, watch):
    """Like `solve`, with TFP's gradient by the continuous adjoint, and without a grid.

    The solution at `t1` is TFP's, by interpolation. The adjoint equation is integrated backwards
    with the same tolerances and the same budget (Chen et al., 2018, section 2).

    Args:
        problem: `tfnode.adaptive.Problem`.
        pure_field: Callable `pure_field(values, t, z)`, the field as a pure function.
        values: List of tensors that the field depends on, which get gradients.
        z0: TensorFlow tensor.
        watch: As in `solve`.
    """
    import tensorflow as tf

    names = [f"value_{i}" for i in range(len(values))]
    times = tf.constant([problem.length], z0.dtype)

    def field(t, z, **constants):
        return pure_field([constants[name] for name in names], t, z)

    problem = dataclasses.replace(problem, field=field)
    results, seen = _integrate(problem, z0, times, watch, dict(zip(names, values)))
    return _solution(problem, seen, results.states[0], None)


def _integrate(problem, z0, times, watch, constants):
    """Returns TFP's results and what the guard has seen."""
    import tensorflow as tf

    start = dataclasses.replace(problem, field=lambda t, z: problem.field(t, z, **constants))
    _, h = first_step(start, tf.stop_gradient(z0))
    # TFP does not stop where a step lands on t1. Any step will do if this one is NaN.
    h = tf.where(h < problem.length, h, 1.01 * problem.length)

    def field(t, z, **constants):
        return problem.sign * problem.field(problem.t0 + problem.sign * t, z, **constants)

    solver = _solver(problem, watch, tf.cast(h, z0.dtype))
    if watch is None:
        results = solver.solve(field, 0.0, z0, times, constants=constants)
        return results, _unwatched(problem, results)
    guarded = Guard(field, problem, watch, z0, 0.0)
    results = solver.solve(guarded, 0.0, finite(z0), times, constants=constants)
    # The adjoint equation calls the field too, but later.
    guarded.is_on = False
    return results, guarded.seen()


def _unwatched(problem, results):
    """What TFP's results tell of an integration without a guard, which has not failed."""
    import tensorflow as tf

    # The first and the last evaluation are not among them.
    calls = tf.cast(2 + results.diagnostics.num_ode_fn_evaluations, problem.rtol.dtype)
    zero = tf.zeros_like(calls)
    return Watch(calls, zero, zero, zero + problem.length, zero, zero, zero)


def _solver(problem, watch, first_step_size):
    """Returns TFP's solver, with a guarded one for its adjoint equation."""
    import tensorflow as tf
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
        def solve(self, ode_fn, initial_time, previous_solver_internal_state, **kwargs):
            state = previous_solver_internal_state
            guarded = Guard(ode_fn, problem, watch, state, initial_time, knows_derivative=True)
            results = super().solve(
                ode_fn=guarded,
                initial_time=initial_time,
                previous_solver_internal_state=finite(state),
                **kwargs,
            )
            seen = guarded.seen()
            # The call of the start was none. Time runs from minus the length to 0.
            seen = seen._replace(calls=seen.calls - 1, time=-seen.time)
            solution = _solution(problem, seen, None, None)
            failed = check(solution, problem, ", in the adjoint equation")
            nan_if_failed = lambda x: tf.where(failed, tf.constant(float("nan"), x.dtype), x)
            states = tf.nest.map_structure(nan_if_failed, results.states)
            return results._replace(states=states)

    return tfp.math.ode.DormandPrince(
        **arguments, make_adjoint_solver_fn=lambda: AdjointSolver(**arguments)
    )


def _solution(problem, seen, z1, grid, more_evaluations=0):
    import tensorflow as tf

    attempts = (seen.calls - 1) // EVALUATIONS
    counts = [seen.calls, seen.accepted, attempts - seen.accepted]
    # Two evaluations for the first step.
    evaluations = tf.stack([2 + more_evaluations, 0, 0])
    return Solution(
        z1=z1,
        grid=grid,
        statistics=evaluations + tf.cast(tf.stack(counts), tf.int32),
        failed=seen.failed > 0,
        time=problem.t0 + problem.sign * seen.time,
        step=seen.step,
    )
