"""What ends an integration by TensorFlow Probability's Dormand-Prince solver that cannot end."""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from tfnode.integrate.problems import Problem

tree = tf.nest

EVALUATIONS = 6  # of an attempt; the last stage is reused


class Watch(NamedTuple):
    """What a guard has seen, scalars of one dtype.

    Args:
        calls: The calls of the field so far, the derivative at the start included.
        accepted: The attempts from a new start, so that at the end these are the accepted steps.
        failed: 1 if the integration cannot be finished, else 0.
        time: The time of the last call before it failed.
        step: The length of the last attempted step before it failed.
        last: The time of the last call.
        spoiled: 1 if a derivative of the present attempt was not finite, else 0.
    """

    calls: Any
    accepted: Any
    failed: Any
    time: Any
    step: Any
    last: Any
    spoiled: Any


def observe(watch: Watch, t: Any, is_finite: Any, smallest_step: Any, max_num_steps: int) -> tuple:
    """What one more call of the field tells.

    The stages of an attempt count from 0 to 5, at 1/5, 3/10, 4/5, 8/9, 1 and 1 of the step; -1 is
    the derivative at the start. An attempt whose first stage is later than the end of the one
    before tells that that one was accepted. The integration has failed when the derivative at the
    start is not finite, the step has collapsed or the budget is spent.

    Args:
        watch: `Watch`.
        t: Scalar tensor, the time of the call, which grows in the direction of integration.
        is_finite: Boolean scalar tensor, whether the derivative is finite.
        smallest_step: Float, or scalar tensor.
        max_num_steps: Integer.

    Returns:
        Tuple of the `Watch` with this call, a boolean scalar, whether the derivative is to be
        replaced, and a boolean scalar, whether the attempt is to be rejected by that.
    """
    stage = tf.where(watch.calls > 0, tf.math.floormod(watch.calls - 1, EVALUATIONS), -1)
    is_first, is_third = tf.equal(stage, 0), tf.equal(stage, 2)
    is_new = is_first & (t > watch.last)
    was_spoiled, has_failed = watch.spoiled > 0, watch.failed > 0
    step = tf.where(is_third, 2 * (t - watch.last), watch.step)
    fails = (
        has_failed
        | ~is_finite & (stage < 0)
        # Not `step < smallest_step`: a step that is NaN has collapsed, too.
        | is_third & ~(step >= smallest_step)
        # TFP calls the field once after its last attempt, so a first stage tells nothing.
        | (watch.calls > EVALUATIONS * max_num_steps + 1)
        | is_new & was_spoiled
    )
    spoiled = ~is_finite | was_spoiled & ~is_first
    seen = Watch(
        calls=watch.calls + 1,
        accepted=watch.accepted + tf.cast(is_new, t.dtype),
        failed=tf.cast(fails, t.dtype),
        time=tf.where(has_failed, watch.time, t),
        step=tf.where(has_failed, watch.step, step),
        last=t,
        spoiled=tf.cast(spoiled, t.dtype),
    )
    return seen, fails | spoiled, spoiled & ~fails & tf.equal(stage, EVALUATIONS - 1)


class Guard:
    """The field as TFP's solver calls it, which counts and lets a failed integration run out.

    An attempt in which a derivative is not finite is rejected: its further derivatives are 0, so
    that the solution stays finite, but for the last one, which counts for the error estimate only
    and is huge. Once the integration has failed, the field is 0 from there on: no error, the steps
    grow, and the end is near.

    Args:
        field: Callable `field(t, state, **constants)` for a nested state.
        problem: `tfnode.integrate.adaptive.Problem`.
        watch: Keras variable of shape `(len(Watch._fields),)` and the dtype of times, scratch for
            one integration.
        state: The state at the start.
        start: Scalar, the time at the start.
        knows_derivative: Boolean, whether the derivative at the start is known already.
    """

    def __init__(
        self,
        field: Callable,
        problem: Problem,
        watch: Any,
        state: Any,
        start: Any,
        knows_derivative: bool = False,
    ) -> None:
        self.is_on = True
        self._field = field
        self._problem = problem
        self._watch = watch
        dtype = tree.flatten(state)[0].dtype
        # From here on the solver's squares of an error may overflow, which gives NaN again.
        self._limit = tf.cast(dtype.max**0.5 / 100, dtype)
        # Not `watch.dtype`, which depends on Keras's autocast scope.
        numbers = knows_derivative, ~self._is_finite(state), start, 0.0
        calls, failed, start, zero = (tf.cast(v, watch.value.dtype) for v in numbers)
        watch.assign(tf.stack(Watch(calls, zero, failed, start, zero, start, zero)))

    def __call__(self, t: Any, state: Any, **constants: Any) -> Any:
        derivative = self._field(t, state, **constants)
        if not self.is_on:
            return derivative
        watch, solver = self.seen(), self._problem.solver
        t, is_finite = tf.cast(t, watch.last.dtype), self._is_finite(derivative)
        # Time runs over an interval of length 1.
        smallest_step = share_of(self._problem, self._problem.smallest_step)
        seen, replaces, rejects = observe(watch, t, is_finite, smallest_step, solver.max_num_steps)
        self._watch.assign(tf.stack(seen))
        instead = tf.where(rejects, self._limit, 0.0)
        return tree.map_structure(
            lambda d: tf.where(replaces, tf.cast(instead, d.dtype), d), derivative
        )

    def seen(self) -> Watch:
        """The `Watch` so far."""
        return Watch(*tf.unstack(tf.convert_to_tensor(self._watch.value)))

    def _is_finite(self, nest: Any) -> Any:
        small = [tf.reduce_all(tf.abs(x) < self._limit) for x in tree.flatten(nest)]
        return tf.reduce_all(small)


def share_of(problem: Problem, step: Any) -> Any:
    """A step as a share of the way; 0 where there is no way."""
    length = tf.convert_to_tensor(problem.length, problem.rtol.dtype)
    return tf.math.divide_no_nan(tf.cast(step, length.dtype), length)


def finite(nest: Any) -> Any:
    """The tensors of a nest with 0 in the place of what is not finite."""
    return tree.map_structure(lambda x: tf.where(tf.math.is_finite(x), x, 0), nest)
