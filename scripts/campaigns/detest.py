"""The problems of DETEST: Hull, Enright, Fellen, Sedgwick, SIAM J. Numer. Anal. 9 (1972).

Single equations, small systems, moderate systems, orbits, and equations of higher order.

Each problem is `dy/dt = field(t, y)` on [0, 20] with states in the last axis, written with
`+ - * /` and the functions of the module `xp`, so that SciPy and `keras.ops` take it alike.
"""

import dataclasses
import itertools
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


# === Single equations, and small systems ===
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


# === Moderate systems ===
def _chain(rates):
    """A radioactive chain, in which a component decays into the next, and the last stays."""

    def components(xp, t, y):
        flows = [rate * part for rate, part in zip(rates, y)]
        inner = [before - now for before, now in itertools.pairwise(flows)]
        return -flows[0], *inner, flows[-1]

    return components


def _diffusion(xp, t, y):
    inner = [left - 2 * now + right for left, now, right in zip(y, y[1:], y[2:])]
    return -2 * y[0] + y[1], *inner, y[-2] - 2 * y[-1]


# The sun with the inner planets, and the five outer ones, in years and astronomical units.
_GRAVITY, _SUN = 2.95912208286, 1.00000597682
_MASSES = (
    *(0.000954786104043, 0.000285583733151, 0.0000437273164546),
    *(0.0000517759138449, 0.00000277777777778),
)
_PLACES = (
    *(3.42947415189, 3.35386959711, 1.35494901715),
    *(6.64145542550, 5.97156957878, 2.18231499728),
    *(11.2630437207, 14.6952576794, 6.27960525067),
    *(-30.1552268759, 1.65699966404, 1.43785752721),
    *(-21.1238353380, 28.4465098142, 15.3882659679),
)
_SPEEDS = (
    *(-0.557160570446, 0.505696783289, 0.230578543901),
    *(-0.415570776342, 0.365682722812, 0.169143213293),
    *(-0.325325669158, 0.189706021964, 0.0877265322780),
    *(-0.0240476254170, -0.287659532608, -0.117219543175),
    *(-0.176860753121, -0.216393453025, -0.0148647893090),
)


def _planets(xp, t, y):
    places = [y[3 * i : 3 * i + 3] for i in range(5)]
    pulls = [_inverse_cube(xp, place) for place in places]
    accelerations = []
    for j, place in enumerate(places):
        others = [k for k in range(5) if k != j]
        apart = [tuple(a - b for a, b in zip(places[k], place)) for k in others]
        near = [_inverse_cube(xp, between) for between in apart]
        for axis in range(3):
            total = -(_SUN + _MASSES[j]) * place[axis] * pulls[j]
            for k, between, inverse in zip(others, apart, near):
                move = between[axis] * inverse - places[k][axis] * pulls[k]
                total = total + _MASSES[k] * move
            accelerations.append(_GRAVITY * total)
    return *y[15:], *accelerations


def _inverse_cube(xp, place):
    square = sum(part * part for part in place)
    return 1 / (square * xp.sqrt(square))


C = (
    DetestProblem("C1", _chain([1] * 9), (1.0, *[0.0] * 9)),
    DetestProblem("C2", _chain(range(1, 10)), (1.0, *[0.0] * 9)),
    DetestProblem("C3", _diffusion, (1.0, *[0.0] * 9)),
    DetestProblem("C4", _diffusion, (1.0, *[0.0] * 50)),
    DetestProblem("C5", _planets, (*_PLACES, *_SPEEDS)),
)


# === Orbits of two bodies, ever more eccentric ===
def _orbit(xp, t, y):
    inverse = _inverse_cube(xp, y[:2])
    return y[2], y[3], -y[0] * inverse, -y[1] * inverse


def _orbit_start(eccentricity):
    speed = ((1 + eccentricity) / (1 - eccentricity)) ** 0.5
    return 1 - eccentricity, 0.0, 0.0, speed


D = tuple(
    DetestProblem(f"D{i}", _orbit, _orbit_start(eccentricity))
    for i, eccentricity in enumerate((0.1, 0.3, 0.5, 0.7, 0.9), start=1)
)


# === Equations of higher order ===
def _second_order(acceleration):
    return lambda xp, t, y: (y[1], acceleration(xp, t, *y))


E = (
    DetestProblem(
        "E1",
        _second_order(lambda xp, t, y, v: -(v / (t + 1) + (1 - 0.25 / (t + 1) / (t + 1)) * y)),
        (0.6713967071418030, 0.09540051444747446),
    ),
    DetestProblem("E2", _second_order(lambda xp, t, y, v: (1 - y * y) * v - y), (2.0, 0.0)),
    DetestProblem(
        "E3",
        _second_order(lambda xp, t, y, v: y * y * y / 6 - y + 2 * xp.sin(2.78535 * t)),
        (0.0, 0.0),
    ),
    DetestProblem("E4", _second_order(lambda xp, t, y, v: 0.032 - 0.4 * v * v), (30.0, 0.0)),
    DetestProblem(
        "E5",
        _second_order(lambda xp, t, y, v: xp.sqrt(1 + v * v) / (25 - t)),
        (0.0, 0.0),
    ),
)
ALL = (*A, *B, *C, *D, *E)
