"""Classes A and B of DETEST: Hull, Enright, Fellen, Sedgwick, SIAM J. Numer. Anal. 9 (1972).

Each problem is `dy/dt = field(t, y)` on [0, 20] with states in the last axis, written with
`+ - * /` and the functions of the module `xp`, so that SciPy and `keras.ops` take it alike.
"""

import dataclasses
from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class DetestProblem:
    """A problem by its components.

    Args:
        name: String.
        components: Callable `components(xp, t, y)`, from a tuple of components to a tuple of
            their derivatives.
        start: Tuple of floats, the state at 0.
    """

    name: str
    components: Callable
    start: tuple
    t1: float = 20.0

    def field(self, xp, direction=1):
        """`field(t, y)` for arrays of `xp`; -1 mirrors the problem in time, onto [-20, 0].

        A time is a scalar, or of shape `(..., 1)` beside a state of shape `(..., components)`.
        """

        def field(t, y):
            columns = tuple(y[..., i] for i in range(len(self.start)))
            t = t if xp.ndim(t) == 0 else t[..., 0]
            return direction * xp.stack(self.components(xp, direction * t, columns), axis=-1)

        return field


def _b4(xp, t, y):
    r = xp.sqrt(y[0] * y[0] + y[1] * y[1])
    return -y[1] - y[0] * y[2] / r, y[0] - y[1] * y[2] / r, y[0] / r


def _single(derivative):
    return lambda xp, t, y: (derivative(xp, t, y[0]),)


A = (
    DetestProblem("A1", _single(lambda xp, t, y: -y), (1.0,)),
    DetestProblem("A2", _single(lambda xp, t, y: -y * y * y / 2), (1.0,)),
    DetestProblem("A3", _single(lambda xp, t, y: y * xp.cos(t)), (1.0,)),
    DetestProblem("A4", _single(lambda xp, t, y: y / 4 * (1 - y / 20)), (1.0,)),
    DetestProblem("A5", _single(lambda xp, t, y: (y - t) / (y + t)), (4.0,)),
)
B = (
    DetestProblem(
        "B1",
        lambda xp, t, y: (2 * (y[0] - y[0] * y[1]), -(y[1] - y[0] * y[1])),
        (1.0, 3.0),
    ),
    DetestProblem(
        "B2",
        lambda xp, t, y: (-y[0] + y[1], y[0] - 2 * y[1] + y[2], y[1] - y[2]),
        (2.0, 0.0, 1.0),
    ),
    DetestProblem("B3", lambda xp, t, y: (-y[0], y[0] - y[1] * y[1], y[1] * y[1]), (1.0, 0.0, 0.0)),
    DetestProblem("B4", _b4, (3.0, 0.0, 0.0)),
    DetestProblem(
        "B5",
        lambda xp, t, y: (y[1] * y[2], -y[0] * y[2], -0.51 * y[0] * y[1]),
        (0.0, 1.0, 1.0),
    ),
)
