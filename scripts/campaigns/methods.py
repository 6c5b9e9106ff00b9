"""Random explicit Runge-Kutta methods."""

import math
from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st

from tfnode.tableaus import ButcherTableau


def consistent(rows: Sequence[Sequence[float]], b: Sequence[float]) -> ButcherTableau:
    """The explicit method of these coefficients, its weights moved until their sum is 1."""
    missing = (1 - math.fsum(b)) / len(b)
    return ButcherTableau(
        "random",
        a=tuple(tuple(map(float, row)) for row in rows),
        b=tuple(float(weight + missing) for weight in b),
        c=tuple(float(np.sum(row)) for row in rows),
        order=1,
    )


@st.composite
def tableaus(draw: st.DrawFn) -> ButcherTableau:
    """Methods of one to six stages."""
    numbers = st.floats(-1.5, 1.5).map(lambda x: round(x, 3))
    stages = draw(st.integers(1, 6))
    rows = [draw(st.lists(numbers, min_size=i, max_size=i)) for i in range(stages)]
    return consistent(rows, draw(st.lists(numbers, min_size=stages, max_size=stages)))
