"""The discrete adjoint is the gradient of the steps, for any method, field and grid.

The expectation is autodiff through steps that are written out here, on a grid of its own.
"""

import types

import numpy as np
import pytest
from autodiff import compiled, eager, grad, tensors
from keras import ops

from scripts.campaigns import methods
from tfnode.integrate import walks
from tfnode.integrate.grids import fixed_grid

pytestmark = pytest.mark.usefixtures("double")

# Of the largest entry of a gradient.
TOLERANCE = 1e-12
MAX_NUM_STEPS = 8

# Fields of weights `w`, `v`, conditions `c`, time and state. Keras's own tanh and sine round to
# single precision on JAX.
FIELDS = [
    lambda w, v, c, t, z: ops.sigmoid(z @ w + v) - c,
    lambda w, v, c, t, z: t * v - ops.sigmoid(z * c) + ops.sigmoid(z @ w),
    lambda w, v, c, t, z: ops.exp(-t * t) * (z @ w) + c * v,
]


def random_tableau(rng, stages):
    """A consistent explicit method: some of its coefficients are 0, and rows sum to its times."""
    rows = [rng.normal(size=i) * (rng.random(i) < 0.8) for i in range(stages)]
    return methods.consistent(rows, rng.normal(size=stages))


class Coefficient:
    """A coefficient that a graph is given: nobody knows yet whether it is 0 or 1."""

    def __init__(self, value):
        self._value = value

    def __mul__(self, other):
        return self._value * other


class Problem:
    """A field on a grid of some shape, whose numbers are random.

    The operands are the state, two weights, conditions, the first time, the others, and the step
    size; of the last there is no gradient here.

    Args:
        index: Integer, which problem.
    """

    def __init__(self, index):
        rng = np.random.default_rng(index)
        self.field = FIELDS[index % len(FIELDS)]
        self.batch, self.dims = (int(n) for n in rng.integers(1, 4, size=2))
        self.counts = [int(n) for n in rng.integers(1, 4, size=1 + index % 2)]
        self.sign = float(rng.choice([-1, 1]))

    def operands(self, rng):
        h = rng.uniform(0.1, 0.4)
        # Each stretch ends with a shorter step.
        lengths = h * (np.array(self.counts) - rng.uniform(0.1, 0.9, size=len(self.counts)))
        t0 = rng.normal()
        arrays = [
            rng.normal(size=(self.batch, self.dims)),
            rng.normal(size=(self.dims, self.dims)) / 2,
            rng.normal(size=self.dims),
            rng.normal(size=(self.batch, self.dims)),
            np.array(t0),
            t0 + self.sign * np.cumsum(lengths),
        ]
        return tensors(arrays), tensors([h])[0]

    def loss(self, operands, h, tableau):
        z0, w, v, c, t0, times = operands
        states = walks.solve(
            lambda weights, constants, t, z: self.field(*weights, t, z),
            z0,
            fixed_grid(t0, times, h, MAX_NUM_STEPS),
            (tableau,),
            weights=[w, v, c],
            gradient="discrete_adjoint",
        )
        return sum(_score(i, states[i]) for i in range(len(self.counts)))

    def written_out(self, operands, h, tableau):
        z, w, v, c, start, times = operands
        loss = 0.0
        for i, num_steps in enumerate(self.counts):
            for k in range(num_steps):
                t = start + self.sign * k * h
                dt = times[i] - t if k == num_steps - 1 else self.sign * h
                z = _step(lambda t, z: self.field(w, v, c, t, z), t, z, dt, tableau)
            start = times[i]
            loss = loss + _score(i, z)
        return loss


def _score(i, z):
    return ops.sum((i + 1) * z * z * z + z)


def _step(field, t, z, dt, tableau):
    ks = []
    for row, c in zip(tableau.a, tableau.c):
        moves = [a * k for a, k in zip(row, ks)]
        ks.append(field(t + c * dt, z + dt * sum(moves) if moves else z))
    return z + dt * sum(b * k for b, k in zip(tableau.b, ks))


def assert_same(found, expected):
    for a, b in zip(found, expected, strict=True):
        a, b = ops.convert_to_numpy(a), ops.convert_to_numpy(b)
        assert a.shape == b.shape
        assert b.any()
        np.testing.assert_allclose(a, b, rtol=0, atol=TOLERANCE * max(1, np.abs(b).max()))


# 6 x 34 random methods; each graph is made once, and given the coefficients.
@pytest.mark.parametrize("stages", range(1, 7))
def test_gradients_of_random_methods_in_a_graph(stages):
    problem, rng = Problem(stages), np.random.default_rng(stages)

    def gradients(function):
        def of(operands, h, a, b, c):
            wrap = lambda values: [Coefficient(values[i]) for i in range(len(values))]
            tableau = types.SimpleNamespace(a=[wrap(row) for row in a], b=wrap(b), c=wrap(c))
            return grad(lambda operands: function(operands, h, tableau))(operands)

        return compiled(of)

    found, expected = gradients(problem.loss), gradients(problem.written_out)
    for _ in range(34):
        tableau = random_tableau(rng, stages)
        coefficients = [tensors(tableau.a), *tensors([tableau.b, tableau.c])]
        operands = problem.operands(rng)
        assert_same(found(*operands, *coefficients), expected(*operands, *coefficients))


@pytest.mark.parametrize("stages", [1, 3, 6])
def test_gradients_of_random_methods_eagerly(stages):
    problem, rng = Problem(10 + stages), np.random.default_rng(10 + stages)
    tableau, (operands, h) = random_tableau(rng, stages), problem.operands(rng)
    found = eager(grad(lambda operands: problem.loss(operands, h, tableau)))
    expected = eager(grad(lambda operands: problem.written_out(operands, h, tableau)))
    assert_same(found(operands), expected(operands))
