"""Random explicit Runge-Kutta methods against closed forms and against steps that are written out.

What holds for any tableau, interval and field: a linear field multiplies the state by the method's
stability function, and the discrete adjoint is the gradient of the steps.
"""

import contextlib
import dataclasses
import math
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import hypothesis
import keras
import numpy as np
import tensorflow as tf
from hypothesis import strategies as st

import tfnode
from scripts.campaigns import methods
from scripts.campaigns.running import Try
from tfnode.tableaus import ButcherTableau

# The examples of one try, and how far two ways to compute the same may lie apart.
EXAMPLES = 10
TOLERANCE = 1e-11


@contextlib.contextmanager
def campaign(directory: pathlib.Path) -> Iterator[Try]:
    def try_one(rng: np.random.Generator) -> int:
        return hold(agree, cases(), int(rng.integers(2**32)), EXAMPLES)

    yield try_one


def hold(
    check: Callable[[Any], None], strategy: st.SearchStrategy, seed: int, examples: int
) -> int:
    """Checks examples of a strategy, the same for a seed; returns how many."""
    # An example that fails is not made smaller, as that may take minutes.
    settings = hypothesis.settings(
        database=None,
        deadline=None,
        max_examples=examples,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    tried = []

    def count(case: Any) -> None:
        tried.append(case)
        check(case)

    hypothesis.seed(seed)(settings(hypothesis.given(case=strategy)(count)))()
    return len(tried)


@dataclasses.dataclass(frozen=True)
class Case:
    """A method on an interval, for a field of some rate and weights.

    Args:
        tableau: `ButcherTableau`.
        t0: Float.
        length: Float, negative backwards in time.
        steps: Float, the length over the step size, which need not be whole.
        rate: Float, of the linear field.
        seed: Integer, of the weights of the network.
    """

    tableau: ButcherTableau
    t0: float
    length: float
    steps: float
    rate: float
    seed: int

    def block(self, field: keras.Layer, **options: Any) -> tfnode.ODEBlock:
        solver = tfnode.solvers.RungeKutta(abs(self.length) / self.steps, self.tableau)
        interval = {"t0": self.t0, "t1": self.t0 + self.length}
        return tfnode.ODEBlock(field, solver, **interval, dtype="float64", **options)


def cases() -> st.SearchStrategy[Case]:
    signs = st.sampled_from([-1, 1])
    return st.builds(
        Case,
        tableau=methods.tableaus(),
        t0=st.floats(-100, 100),
        length=st.builds(lambda sign, length: sign * length, signs, st.floats(0.1, 2)),
        steps=st.one_of(st.integers(1, 5).map(float), st.floats(1, 5)),
        rate=st.floats(-2, 2),
        seed=st.integers(0, 2**16),
    )


# === What holds ===
def agree(case: Case) -> None:
    """Raises if a method does not do what is known of it."""
    agrees_with_its_stability_function(case)
    has_the_gradient_of_its_steps(case)


def agrees_with_its_stability_function(case: Case) -> None:
    block = case.block(Growth(case.rate))
    found = keras.ops.convert_to_numpy(block(np.ones((1, 1))))[0, 0]
    length = abs(block.t1 - block.t0)
    step = float(keras.ops.convert_to_numpy(block.step_size))
    whole = block.num_steps - 1
    steps = [step] * whole + [length - whole * step]
    sign = math.copysign(1.0, case.length)
    factors = [_stability(case.tableau, sign * dt * case.rate) for dt in steps]
    expected = math.prod(factor for factor, _ in factors)
    # Large coefficients cancel.
    size = math.prod(max(1.0, size) for _, size in factors)
    assert abs(found - expected) <= TOLERANCE * size, (found, expected)


def _stability(tableau: ButcherTableau, x: float) -> tuple[float, float]:
    """The stability function at a number, and the size of what is added up."""
    stages: list[float] = []
    for row in tableau.a:
        stages.append(1 + x * math.fsum(a * k for a, k in zip(row, stages)))
    parts = [x * b * k for b, k in zip(tableau.b, stages)]
    return 1 + math.fsum(parts), 1 + math.fsum(map(abs, [*parts, *stages]))


class Growth(keras.layers.Layer):
    """The linear field `rate * z`."""

    def __init__(self, rate: float):
        super().__init__(dtype="float64")
        self.rate = rate

    def call(self, z: Any) -> Any:
        return self.rate * z


class Network(keras.layers.Layer):
    """A field of time with two weights."""

    def __init__(self, seed: int):
        super().__init__(dtype="float64")
        rng = np.random.default_rng(seed)
        self.kernels = []
        for shape in ((3, 4), (4, 2)):
            kernel = self.add_weight(shape=shape)
            kernel.assign(rng.normal(size=shape) / 2)
            self.kernels.append(kernel)

    def call(self, t: Any, z: Any) -> Any:
        phase = keras.ops.sin(t) * keras.ops.ones_like(z[:, :1])
        hidden = keras.ops.concatenate([z, phase], axis=-1) @ self.kernels[0]
        return keras.ops.tanh(hidden) @ self.kernels[1]


def has_the_gradient_of_its_steps(case: Case) -> None:
    field = Network(case.seed)
    z0 = tf.constant(np.random.default_rng(case.seed).normal(size=(2, 2)))
    ours = _gradients(case.block(field, time_dependent=True), z0)
    written_out = {"gradient": "backprop", "unroll": True}
    theirs = _gradients(case.block(field, time_dependent=True, **written_out), z0)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=TOLERANCE * max(1, np.abs(b).max()))


def _gradients(block: tfnode.ODEBlock, z0: Any) -> list:
    """A block's answer, and the gradients of a scalar of it by state and weights."""
    with tf.GradientTape() as tape:
        tape.watch(z0)
        z1 = block(z0, training=True)
        total = tf.reduce_sum(tf.sin(z1))
    by = [z0, *(weight.value for weight in block.trainable_weights)]
    return [z1, *tape.gradient(total, by)]
