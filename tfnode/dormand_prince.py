"""TensorFlow Probability's Dormand-Prince solver behind the face of `tfnode.adaptive`.

What is done here about its ways, read from the source of TFP 0.25:

- It takes a first step of 1e-3 and grows it: here it is given one by Hairer's rule.
- It integrates forwards only: time is measured from `t0` in the direction of integration.
- It steps past `t1` and interpolates with order 4: here the last step is taken once more, clipped
  to land on `t1`, so that the solution is that of the method on the accepted grid.
- It counts neither the first nor the last evaluation, and reports no rejected steps: the field is
  guarded, and the guard counts.
- It squares the error norm twice: what it compares with 1 is the root of the mean *fourth* power
  of the error over the tolerance, squared once more, so that its controller is too eager and runs
  closer to the tolerance. It is handed half the tolerances: its errors on DETEST are then those of
  SciPy's RK45 at the full ones, within a few tolerances.
- A NaN makes it loop, and its error on a spent budget names nothing: the guard ends it. A guard
  needs a variable; where none may be assigned (an exported graph serves many requests at once)
  TFP keeps the budget.
"""

import dataclasses

from tfnode.adaptive import Solution, first_step
from tfnode.integrate import AcceptedGrid, runge_kutta_step

_EVALUATIONS = 6  # of an attempt; the last stage is reused

# What TFP is handed of a tolerance; see above.
_TOLERANCE = 0.5

# The length of the variable that a `_Guard` notes in.
WATCHED = 7


def solve(problem, z0, watch):
    """Integrates a `Problem` of `DormandPrince`; returns the `Solution`, without gradient.

    Args:
        problem: `tfnode.adaptive.Problem`.
        z0: TensorFlow tensor, the state at `t0`.
        watch: Keras variable of shape `(WATCHED,)` and the dtype of times, scratch for this call,
            or None: then no variable is assigned, and a failed integration is TFP's own error.
    """
    import tensorflow as tf
    import tensorflow_probability as tfp

    times = tfp.math.ode.ChosenBySolver(tf.constant(problem.length, z0.dtype))
    results = _integrate(problem, tf.stop_gradient(z0), times, watch, {})
    # The starts of the attempts, those after a rejection once more, and t1.
    starts, lengths = results.times[:-1], results.times[1:] - results.times[:-1]
    taken = tf.where(lengths > 0)[:, 0]
    t = problem.t0 + problem.sign * tf.gather(starts, taken)
    dt = problem.sign * tf.gather(lengths, taken)
    tableau, budget = problem.solver.tableau, problem.solver.max_num_steps
    z1 = runge_kutta_step(problem.field, t[-1], results.states[taken[-1]], dt[-1], tableau)
    # A failed integration may have wandered on for longer than its budget.
    t, dt = t[:budget], dt[:budget]
    rows = [[0, budget - tf.size(t)]]
    grid = AcceptedGrid(tf.pad(t, rows), tf.pad(dt, rows), tf.size(t), budget)
    if watch is None:
        # The first and the last evaluation are not among them.
        calls = 2 + results.diagnostics.num_ode_fn_evaluations
        watched = [calls, grid.num_steps, 0, problem.length, dt[-1]]
        watched = [tf.cast(value, problem.rtol.dtype) for value in watched]
    else:
        watched = tf.unstack(tf.convert_to_tensor(watch.value))
    return _solution(problem, z1, grid, watched, more_evaluations=tableau.num_stages)


def solve_with_adjoint(problem, pure_field, values, z0, watch):
    """Like `solve`, with TFP's gradient by the continuous adjoint, and without a grid.

    The solution at `t1` is TFP's, by interpolation. The adjoint equation is integrated backwards
    with the same tolerances (Chen et al., 2018, section 2).

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
    results = _integrate(problem, z0, times, watch, dict(zip(names, values)))
    watched = tf.unstack(tf.convert_to_tensor(watch.value))
    return _solution(problem, results.states[0], None, watched, more_evaluations=0)


def _integrate(problem, z0, times, watch, constants):
    import tensorflow as tf
    import tensorflow_probability as tfp

    start = dataclasses.replace(problem, field=lambda t, z: problem.field(t, z, **constants))
    _, h = first_step(start, tf.stop_gradient(z0))
    guard = _Guard(problem, watch)
    solver = tfp.math.ode.DormandPrince(
        _TOLERANCE * problem.rtol,
        _TOLERANCE * problem.atol,
        # Any number will do where the field is NaN: the guard takes over.
        first_step_size=tf.cast(tf.where(h > 0, h, tf.cast(problem.length, h.dtype)), z0.dtype),
        # A guard ends the integration before; this is then a bound on the adjoint equation.
        max_num_steps=problem.solver.max_num_steps * (10 if guard.is_on else 1),
    )
    results = solver.solve(guard, 0.0, z0, times, constants=constants)
    # The adjoint equation calls the field too, but later.
    guard.is_on = False
    return results


def _solution(problem, z1, grid, watched, more_evaluations):
    """The `Solution` by what a guard has `watched`, in its order."""
    import tensorflow as tf

    calls, accepted, failed, time, step, *_ = watched
    attempts = (calls - 1) // _EVALUATIONS
    # Two evaluations for the first step.
    counts = [2 + calls + more_evaluations, accepted, attempts - accepted]
    failed = failed > 0
    return Solution(
        z1=tf.where(failed, tf.constant(float("nan"), z1.dtype), z1),
        grid=grid,
        statistics=tf.cast(tf.stack(counts), tf.int32),
        failed=failed,
        time=problem.t0 + problem.sign * time,
        step=step,
    )


class _Guard:
    """The field as TFP calls it, which counts and lets a failed integration run out.

    TFP cannot leave its loop. So once the derivative is not finite, the step has collapsed or the
    budget is spent, the field is 0 from there on: no error, the steps grow, and the end is near.
    From the times of the first two stages of an attempt, at 1/5 and 3/10 of the step, follow its
    start and its step; an attempt from a new start tells that the one before was accepted.
    """

    def __init__(self, problem, watch):
        import tensorflow as tf

        self._problem = problem
        self._watch = watch
        self.is_on = watch is not None
        never = -problem.length
        if self.is_on:
            watch.assign(tf.cast([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, never], watch.dtype))

    def __call__(self, t, z, **constants):
        import tensorflow as tf

        problem = self._problem
        derivative = problem.sign * problem.field(problem.t0 + problem.sign * t, z, **constants)
        if not self.is_on:
            return derivative
        watched = tf.unstack(tf.convert_to_tensor(self._watch.value))
        calls, accepted, failed, time, step, last, start = watched
        t = tf.cast(t, calls.dtype)
        # The first call is for the derivative at t0; then the second of every six.
        is_second = tf.logical_and(calls > 0, tf.math.floormod(calls - 1, _EVALUATIONS) == 1)
        h = 10 * (t - last)
        this_start = t - 0.3 * h
        is_new = tf.logical_and(is_second, this_start > start + 0.05 * h)
        collapsed = tf.logical_and(is_second, ~(h >= problem.smallest_step))
        spent = calls > _EVALUATIONS * problem.solver.max_num_steps
        fails = collapsed | spent | ~tf.reduce_all(tf.math.is_finite(derivative))
        going = failed == 0
        self._watch.assign(
            tf.stack(
                [
                    calls + 1,
                    accepted + tf.cast(is_new, calls.dtype),
                    tf.cast(fails | ~going, calls.dtype),
                    tf.where(going, t, time),
                    tf.where(going & is_second, h, step),
                    t,
                    tf.where(is_new, this_start, start),
                ]
            )
        )
        return tf.where(fails | ~going, tf.zeros_like(derivative), derivative)
