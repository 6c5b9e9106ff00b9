"""The adaptive solvers on DETEST, classes A to E: as right as SciPy's, and at no more cost."""

import contextlib
import functools
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import scipy.integrate
import tensorflow as tf

import tfnode
from scripts.campaigns import detest
from scripts.campaigns.detest import DetestProblem
from scripts.campaigns.running import Try

# Ours, SciPy's, and the logarithms of the tolerances that are tried.
PAIRS = (
    (tfnode.solvers.DormandPrince(max_num_steps=10_000, per_sample=True), "RK45", (-8, -3)),
    (tfnode.solvers.BogackiShampine32(max_num_steps=10_000), "RK23", (-5, -2)),
)
# Times SciPy's error, or the tolerance where that is more; and times its evaluations, and more.
MOST_ERROR = 10.0
MOST_EVALUATIONS, MORE_EVALUATIONS = 1.3, 20


@contextlib.contextmanager
def campaign(directory: pathlib.Path) -> Iterator[Try]:
    def try_one(rng: np.random.Generator) -> int:
        solver, method, exponents = PAIRS[rng.integers(len(PAIRS))]
        problem = detest.ALL[rng.integers(len(detest.ALL))]
        agrees(problem, solver, method, 10.0 ** rng.uniform(*exponents))
        return 1

    yield try_one


def agrees(problem: DetestProblem, solver: Any, method: str, tolerance: float) -> None:
    """Raises unless the error is that of a solution at the tolerance, at the usual cost."""
    found, evaluations = _solve(problem, solver)(tolerance)
    theirs = scipys(problem, method, tolerance)
    exact = scipys(problem, "DOP853", 1e-13)
    scale = 1 + np.abs(exact.y[:, -1])
    ours, usual = (np.abs(y - exact.y[:, -1]) / scale for y in (found, theirs.y[:, -1]))
    told = f"{problem.name} by {type(solver).__name__} at {tolerance:.2g}"
    assert ours.max() <= MOST_ERROR * max(tolerance, usual.max()), f"{told}: error {ours.max()}"
    most = MOST_EVALUATIONS * theirs.nfev + MORE_EVALUATIONS
    assert evaluations <= most, f"{told}: {evaluations} evaluations for {theirs.nfev}"


@functools.lru_cache(maxsize=64)
def scipys(problem: DetestProblem, method: str, tolerance: float) -> Any:
    """SciPy's solution."""
    span = (0.0, problem.t1)
    options = {"method": method, "rtol": tolerance, "atol": tolerance}
    return scipy.integrate.solve_ivp(problem.field(np), span, problem.start, **options)


class _Field(keras.layers.Layer):
    def __init__(self, problem: DetestProblem):
        super().__init__(dtype="float64")
        self.field = problem.field(keras.ops)

    def call(self, t: Any, z: Any) -> Any:
        return self.field(t, z)


@functools.cache
def _solve(problem: DetestProblem, solver: Any) -> Callable[[float], tuple[np.ndarray, int]]:
    """The solution at the end and the evaluations, for a tolerance: one trace for all."""
    block = tfnode.ODEBlock(
        _Field(problem), solver, t1=problem.t1, time_dependent=True, dtype="float64"
    )
    z0 = tf.constant([problem.start], tf.float64)
    block.build(z0.shape)
    call = tf.function(block)

    def solve(tolerance: float) -> tuple[np.ndarray, int]:
        block.rtol = block.atol = tolerance
        return call(z0)[0].numpy(), block.nfe

    return solve
