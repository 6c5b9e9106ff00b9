"""Butcher tableaus: the coefficients of explicit Runge-Kutta methods as frozen, self-checking data.

A method with `s` stages advances `dz/dt = f(t, z)` by one step `h` as

    k_i = f(t + c_i h, z + h * sum_{j<i} a_ij k_j),      z_new = z + h * sum_i b_i k_i

(Hairer, Norsett, Wanner, *Solving Ordinary Differential Equations I*, 2nd ed., eq. II.1.8).
A typo in a coefficient fails here, at import, not in somebody's training run.
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from tfnode import arguments

_TOLERANCE = 1e-13

# Up to here every order condition is checked.
_MAX_CHECKED_ORDER = 5

_ADVICE = "Write `a` as ((), (a10,), (a20, a21), ...), and `b`, `c` and `b_error` as (x0, x1, ...)."

# A rooted tree is the tuple of its subtrees, so that a single node is ().
_Tree = tuple

# name -> one of the methods below, whose names mean them alone
KNOWN: "dict[str, ButcherTableau]" = {}


@dataclasses.dataclass(frozen=True)
class ButcherTableau:
    """The coefficients of one explicit Runge-Kutta method.

    The order is checked by the conditions of all rooted trees of up to five nodes (Hairer et al.,
    theorem II.2.13). Of a higher order, whose trees are many, the first five and the quadrature
    conditions `sum_i b_i c_i^(q-1) = 1/q` are checked, and the rest is taken on trust.

    Examples:

    >>> ralston = ButcherTableau(
    ...     "ralston", a=((), (2 / 3,)), b=(1 / 4, 3 / 4), c=(0, 2 / 3), order=2
    ... )
    >>> ralston.num_stages
    2

    Args:
        name: String, the method's name.
        a: Tuple of `s` tuples; row `i` holds the `i` coefficients of the earlier stages.
        b: Tuple of `s` floats, the weights of the stages.
        c: Tuple of `s` floats, the times of the stages as fractions of the step.
        order: Integer, the order of convergence of the solution.
        b_error: Optional tuple of `s` floats: `b` minus the weights of the embedded method, so
            that `h * sum_i b_error_i k_i` estimates the error of the step.

    Raises:
        ValueError: If the rows of `a` do not sum to `c`, if a condition of an order up to `order`
            is broken, if `b_error` does not sum to zero or estimates nothing, if the lengths do
            not fit, if the name is not a string, or that of a known method with other
            coefficients, or if the order is not a positive integer.
    """

    name: str
    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    c: tuple[float, ...]
    order: int
    b_error: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        arguments.text("name", self.name, advice="Files and exported models are told apart by it.")
        arguments.count("order", self.order, advice="State the order of convergence.")
        rows = enumerate(arguments.items("a", self.a, "rows", advice=_ADVICE))
        object.__setattr__(self, "a", tuple(_coefficients(f"a[{i}]", row) for i, row in rows))
        for field in ("b", "c") if self.b_error is None else ("b", "c", "b_error"):
            object.__setattr__(self, field, _coefficients(field, getattr(self, field)))
        self._check_shapes()
        self._check_conditions()
        if KNOWN.get(self.name, self) != self:
            raise arguments.refused(
                "The name of a known method means that method alone",
                "name",
                self.name,
                "Choose another name for other coefficients.",
            )

    @property
    def num_stages(self) -> int:
        """The number of evaluations of the vector field in one step."""
        return len(self.b)

    def get_config(self) -> dict[str, Any]:
        """The tableau as plain lists and numbers; `ButcherTableau(**config)` gives it back."""
        return {
            "name": self.name,
            "a": [list(row) for row in self.a],
            "b": list(self.b),
            "c": list(self.c),
            "order": self.order,
            "b_error": None if self.b_error is None else list(self.b_error),
        }

    def _check_shapes(self) -> None:
        stages = len(self.b)
        rows = [len(row) for row in self.a]
        error_stages = stages if self.b_error is None else len(self.b_error)
        if rows != list(range(stages)) or len(self.c) != stages or error_stages != stages:
            raise ValueError(
                "An explicit tableau with s stages has s weights `b`, s times `c`, s `b_error` "
                "(or None), and a row `a[i]` of i coefficients for each stage i. "
                f"Received: name={self.name!r}, row lengths of a={rows}, len(b)={stages}, "
                f"len(c)={len(self.c)}, b_error={self.b_error}. {_ADVICE}"
            )

    def _check_conditions(self) -> None:
        def check(rule: str, residual: float) -> None:
            if not abs(residual) < _TOLERANCE:
                raise ValueError(
                    f"A tableau must satisfy {rule}. Received: name={self.name!r}, which misses "
                    f"it by {residual:.3g}. Check the coefficients for a typo."
                )

        for i, (row, time) in enumerate(zip(self.a, self.c)):
            check(f"sum(a[{i}]) = c[{i}]", math.fsum(row) - time)
        a, b, c = np.zeros((len(self.b),) * 2), np.array(self.b), np.array(self.c)
        for i, row in enumerate(self.a):
            a[i, :i] = row
        trees: set[_Tree] = {()}
        for q in range(1, min(self.order, _MAX_CHECKED_ORDER) + 1):
            for tree in sorted(trees):
                phi, density = _weight(tree, a), _density(tree)
                rule = f"the condition of order {q} for the rooted tree {tree}"
                check(f"sum(b * phi) = 1/{density}, {rule}", math.fsum(b * phi) - 1 / density)
            trees = {grown for tree in trees for grown in _grown(tree)}
        for q in range(_MAX_CHECKED_ORDER + 1, self.order + 1):
            check(f"sum(b * c**{q - 1}) = 1/{q} (order {q})", math.fsum(b * c ** (q - 1)) - 1 / q)
        if self.b_error is not None:
            check("sum(b_error) = 0", math.fsum(self.b_error))
            if not any(self.b_error):
                raise ValueError(
                    "`b_error` must estimate an error, or every step would be accepted. "
                    f"Received: name={self.name!r}, b_error={self.b_error}. Pass `b` minus the "
                    "weights of the embedded method, or None if there is none."
                )


def _coefficients(name: str, values: Any) -> tuple[float, ...]:
    """One row of a tableau, as floats."""
    values = arguments.items(name, values, "numbers", advice=_ADVICE)
    return tuple(arguments.number(f"{name}[{i}]", v, advice=_ADVICE) for i, v in enumerate(values))


def _grown(tree: _Tree) -> Iterator[_Tree]:
    """The rooted trees with one node more."""
    yield tuple(sorted((*tree, ())))
    for i, subtree in enumerate(tree):
        for grown in _grown(subtree):
            yield tuple(sorted((*tree[:i], grown, *tree[i + 1 :])))


def _weight(tree: _Tree, a: np.ndarray) -> np.ndarray:
    """The elementary weights of a tree, stage by stage (Hairer et al., definition II.2.9)."""
    return math.prod((a @ _weight(subtree, a) for subtree in tree), start=np.ones(len(a)))


def _density(tree: _Tree) -> int:
    return _size(tree) * math.prod(map(_density, tree))


def _size(tree: _Tree) -> int:
    return 1 + sum(map(_size, tree))


# Euler (1768). Hairer et al., eq. II.1.2.
EULER = ButcherTableau("euler", a=((),), b=(1,), c=(0,), order=1)

# Runge (1895). Hairer et al., eq. II.1.4.
MIDPOINT = ButcherTableau("midpoint", a=((), (1 / 2,)), b=(0, 1), c=(0, 1 / 2), order=2)

# Heun's method of order 2, the explicit trapezoidal rule. Hairer et al., table II.1.1.
HEUN = ButcherTableau("heun", a=((), (1,)), b=(1 / 2, 1 / 2), c=(0, 1), order=2)

# "The" Runge-Kutta method, Kutta (1901). Hairer et al., table II.1.2, left.
RK4 = ButcherTableau(
    "rk4",
    a=((), (1 / 2,), (0, 1 / 2), (0, 0, 1)),
    b=(1 / 6, 1 / 3, 1 / 3, 1 / 6),
    c=(0, 1 / 2, 1 / 2, 1),
    order=4,
)

# The 3/8 rule, Kutta (1901). Hairer et al., table II.1.2, right.
RK38 = ButcherTableau(
    "rk38",
    a=((), (1 / 3,), (-1 / 3, 1), (1, -1, 1)),
    b=(1 / 8, 3 / 8, 3 / 8, 1 / 8),
    c=(0, 1 / 3, 2 / 3, 1),
    order=4,
)

# Fehlberg 2(1), Fehlberg (1969), NASA TR R-315, table XIII.
FEHLBERG21 = ButcherTableau(
    "fehlberg21",
    a=((), (1 / 2,), (1 / 256, 255 / 256)),
    b=(1 / 512, 255 / 256, 1 / 512),
    c=(0, 1 / 2, 1),
    order=2,
    b_error=(-1 / 512, 0, 1 / 512),
)

# Bogacki-Shampine 3(2), Appl. Math. Lett. 2 (1989) 321-325.
BOGACKI_SHAMPINE32 = ButcherTableau(
    "bogacki_shampine32",
    a=((), (1 / 2,), (0, 3 / 4), (2 / 9, 1 / 3, 4 / 9)),
    b=(2 / 9, 1 / 3, 4 / 9, 0),
    c=(0, 1 / 2, 3 / 4, 1),
    order=3,
    b_error=(2 / 9 - 7 / 24, 1 / 3 - 1 / 4, 4 / 9 - 1 / 3, -1 / 8),
)

# Dormand-Prince 5(4), J. Comput. Appl. Math. 6 (1980) 19-26. Hairer et al., table II.5.2.
DORMAND_PRINCE54 = ButcherTableau(
    "dormand_prince54",
    a=(
        (),
        (1 / 5,),
        (3 / 40, 9 / 40),
        (44 / 45, -56 / 15, 32 / 9),
        (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
        (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
        (35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
    ),
    b=(35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84, 0),
    c=(0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1, 1),
    order=5,
    b_error=(
        35 / 384 - 5179 / 57600,
        0,
        500 / 1113 - 7571 / 16695,
        125 / 192 - 393 / 640,
        -2187 / 6784 + 92097 / 339200,
        11 / 84 - 187 / 2100,
        -1 / 40,
    ),
)

KNOWN.update(
    {
        tableau.name: tableau
        for tableau in (
            *(EULER, MIDPOINT, HEUN, RK4, RK38),
            *(FEHLBERG21, BOGACKI_SHAMPINE32, DORMAND_PRINCE54),
        )
    }
)
