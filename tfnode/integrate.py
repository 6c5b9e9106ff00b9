"""Integration on a grid: its times, one Runge-Kutta step, the loop, its discrete adjoint.

Written on `keras.ops`; only the discrete adjoint is TensorFlow's. The number of steps is read
from the grid when the loop runs, so that one trace serves every step size.
"""

import dataclasses
from typing import Any

import numpy as np
from keras import backend, ops


@dataclasses.dataclass(frozen=True)
class TimeGrid:
    """The times `t_k = t0 + k h` for `k < num_steps`, and `t1` behind them.

    Times are multiples of the step, not a running sum, so that rounding does not compound.

    Args:
        t0: Float, the first time.
        t1: Float, the last time; `t1 < t0` integrates backwards.
        h: Scalar tensor or NumPy scalar, the signed step size.
        num_steps: int32 scalar tensor or integer, the number of steps N.
        max_num_steps: Integer, the static bound on N that XLA asks of a loop.
    """

    t0: float
    t1: float
    h: Any
    num_steps: Any
    max_num_steps: int

    @classmethod
    def from_step_size(cls, t0, t1, step_size, max_num_steps):
        """The grid of `N = ceil(|t1 - t0| / step_size)` steps, protected against rounding.

        Rounding must not add a step: the interval 1 at step size 1/10 takes 10 steps, not 11. A
        step size that is too small for `max_num_steps`, negative or NaN becomes the finest one, as
        a compiled graph cannot raise and the finest step is the safe side.

        Args:
            t0: Float.
            t1: Float.
            step_size: Scalar tensor, or a NumPy scalar for a grid of NumPy numbers.
            max_num_steps: Integer.
        """
        xp = np if isinstance(step_size, np.generic) else ops
        length = abs(t1 - t0)
        finest = xp.full_like(step_size, length / max_num_steps, dtype=step_size.dtype)
        step_size = xp.minimum(xp.where(step_size > finest, step_size, finest), length)
        rounding = 8 * float(np.finfo(backend.standardize_dtype(step_size.dtype)).eps)
        num_steps = xp.clip(xp.ceil(length / step_size * (1 - rounding)), 1, max_num_steps)
        num_steps = int(num_steps) if xp is np else ops.cast(num_steps, "int32")
        return cls(t0, t1, step_size if t1 > t0 else -step_size, num_steps, max_num_steps)

    def step(self, k, dtype):
        """Returns the start and the signed length of step `k`; the last step lands on `t1`."""
        t = self.t0 + ops.cast(k, self.h.dtype) * self.h
        dt = ops.where(k == self.num_steps - 1, self.t1 - t, self.h)
        return ops.cast(t, dtype), ops.cast(dt, dtype)


@dataclasses.dataclass(frozen=True)
class AcceptedGrid:
    """The steps that an adaptive solver accepted.

    A time and a step are a scalar, or with steps per sample of shape `(batch_size, 1, ...)`; a
    sample that has arrived before others has steps of length 0.

    Args:
        times: Tensor of shape `(max_num_steps, ...)`, the starts of the steps.
        steps: Tensor of the same shape, the signed lengths of the steps.
        num_steps: int32 scalar tensor, the steps in use.
        max_num_steps: Integer.
    """

    times: Any
    steps: Any
    num_steps: Any
    max_num_steps: int

    def step(self, k, dtype):
        """Returns the start and the signed length of step `k`."""
        t, dt = ops.take(self.times, k, axis=0), ops.take(self.steps, k, axis=0)
        return ops.cast(t, dtype), ops.cast(dt, dtype)


def runge_kutta_step(field, t, z, dt, tableau):
    """Returns the state after one explicit Runge-Kutta step (Hairer et al., eq. II.1.8).

    Only `+` and `*` touch the state, so tensors of any backend and NumPy arrays are served alike.

    Args:
        field: Callable `field(t, z)` that returns the derivative, in the state's shape and dtype.
        t: Scalar, the time at the start of the step.
        z: The state, of any shape.
        dt: Scalar, the signed length of the step.
        tableau: `tfnode.tableaus.ButcherTableau` of the method.
    """
    return z + dt * weighted_sum(tableau.b, runge_kutta_stages(field, t, z, dt, tableau))


def runge_kutta_stages(field, t, z, dt, tableau, first=None):
    """Returns the list of the stages `k_i` of a step; see `runge_kutta_step`.

    Args:
        first: Optional first stage, where it is known already.
    """
    stages = [] if first is None else [first]
    for row, c in list(zip(tableau.a, tableau.c))[len(stages) :]:
        z_stage = z + dt * weighted_sum(row, stages) if any(row) else z
        stages.append(field(t + c * dt, z_stage))
    return stages


def weighted_sum(weights, stages):
    """Returns `sum_i weights_i stages_i`; a weight of 0 costs nothing."""
    terms = [k if w == 1 else w * k for w, k in zip(weights, stages) if w != 0]
    return sum(terms[1:], start=terms[0])


def solve(field, z0, grid, tableau):
    """Returns the state at `t1`, by a loop that autodiff can follow.

    Args:
        field: Callable `field(t, z)`.
        z0: Tensor, the state at `t0`, of any shape.
        grid: `TimeGrid`.
        tableau: `tfnode.tableaus.ButcherTableau`.
    """

    def body(k, z):
        t, dt = grid.step(k, z.dtype)
        return k + 1, runge_kutta_step(field, t, z, dt, tableau)

    _, z1 = ops.while_loop(
        lambda k, z: k < grid.num_steps,
        body,
        (ops.zeros((), "int32"), z0),
        maximum_iterations=grid.max_num_steps,
    )
    return z1


def solve_unrolled(field, z0, grid, tableau):
    """Like `solve` on a grid of NumPy numbers, with every step written into the graph."""
    z = z0
    for k in range(grid.num_steps):
        t, dt = grid.step(k, z.dtype)
        z = runge_kutta_step(field, t, z, dt, tableau)
    return z


def trajectory(field, z0, grid, t1, tableau):
    """Returns the times `[N + 1]` and the states `[N + 1, ...]` on a grid, eagerly."""
    times, states = [], [z0]
    for k in range(int(grid.num_steps)):
        t, dt = grid.step(k, z0.dtype)
        times.append(float(t))
        states.append(runge_kutta_step(field, t, states[-1], dt, tableau))
    return ops.convert_to_tensor([*times, t1], dtype=z0.dtype), ops.stack(states)


def solve_with_discrete_adjoint(field, z0, weights, constants, grid, tableau):
    """Like `solve`, with the exact gradient of the discrete solution at the memory of one step.

    The forward loop keeps only the states `z_k`. The backward loop walks the steps in reverse,
    computes each again from its `z_k` and pulls the adjoint `dL/dz_(k+1)` back through it:
    reverse-mode differentiation with a checkpoint at every step, so the gradient is that of
    backpropagation through the solver, not the continuous adjoint of Chen et al. (2018).

    Args:
        field: Callable `field([*weights, *constants], t, z)`, a pure function of its arguments.
        z0: TensorFlow tensor, the state at `t0`, of any shape.
        weights: List of TensorFlow tensors or variables that the field is differentiated by.
        constants: List of further ones that it is not differentiated by.
        grid: `TimeGrid`.
        tableau: `tfnode.tableaus.ButcherTableau`.
    """
    import tensorflow as tf

    # Tensors: a custom gradient would take a variable that is read inside for its own.
    weights, constants = [[tf.convert_to_tensor(v) for v in vs] for vs in (weights, constants)]

    def step(weights, k, z):
        t, dt = grid.step(k, z.dtype)
        values = [*weights, *constants]
        return runge_kutta_step(lambda t, z: field(values, t, z), t, z, dt, tableau)

    def loop(condition, body, loop_vars):
        # One iteration at a time: with more, recomputation runs ahead and its memory piles up.
        return tf.while_loop(
            condition,
            body,
            loop_vars,
            maximum_iterations=grid.max_num_steps,
            parallel_iterations=1,
        )

    @tf.custom_gradient
    def solution(z0, *weights):
        def forward(k, z, states):
            return k + 1, step(weights, k, z), states.write(k, z)

        states = tf.TensorArray(z0.dtype, grid.max_num_steps, element_shape=z0.shape)
        _, z1, states = loop(lambda k, *_: k < grid.num_steps, forward, (0, z0, states))

        def gradient(upstream):
            pull_back = _pull_back_of(step, weights)

            def backward(k, adjoint, sums):
                adjoint, *terms = pull_back(k, states.read(k), adjoint)
                return k - 1, adjoint, [a + b for a, b in zip(sums, terms)]

            sums = [tf.zeros_like(w) for w in weights]
            loop_vars = (grid.num_steps - 1, upstream, sums)
            _, adjoint, sums = loop(lambda k, *_: k >= 0, backward, loop_vars)
            return adjoint, *sums

        return z1, gradient

    return solution(z0, *weights)


def _pull_back_of(step, weights):
    """Returns the function that pulls an adjoint back through a step.

    In a graph TensorFlow's optimizer must not write it into the loop's body. Where a sum of three
    terms and more meets 200 MB of other tensors, the optimizer lets it run in a temporary variable.
    In the body of a loop that variable is made once more after the last iteration and never
    removed, and the next batch fails: "AlreadyExistsError ... tmp_var". (TF 2.21, on a CPU; the
    summed gradients of midpoint and RK4.) A function that is not inlined has no such iteration.
    """
    import tensorflow as tf

    def pull_back(k, z, adjoint):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch((z, weights))
            z_next = step(weights, k, z)
        zero = tf.UnconnectedGradients.ZERO
        return tape.gradient(z_next, (z, *weights), adjoint, unconnected_gradients=zero)

    if tf.executing_eagerly():
        return pull_back
    return tf.function(pull_back, autograph=False, experimental_attributes={"_noinline": True})
