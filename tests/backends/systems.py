"""Initial value problems as fields of the package, and SciPy's tight solution of them."""

import dataclasses
from collections.abc import Callable

import numpy as np
import scipy.integrate
from keras import ops


@dataclasses.dataclass(frozen=True)
class System:
    """The problem `dz/dt = field(t, z)` from `z0` on.

    Args:
        field: Callable of tensors `(batch_size, 2)`.
        numpy_field: The same for an array `(2,)`.
        z0: Array `(batch_size, 2)`.
        end: Float, the last time.
    """

    field: Callable
    numpy_field: Callable
    z0: np.ndarray
    end: float

    def times(self, number: int = 30) -> np.ndarray:
        """Uneven times from 0 to the end."""
        gaps = np.random.RandomState(0).uniform(0.05, 1, size=number - 1)
        return self.end * np.concatenate([[0], np.cumsum(gaps) / gaps.sum()])

    def solution(self, times, z0: np.ndarray | None = None) -> np.ndarray:
        """SciPy's solution `(num_times, batch_size, 2)`."""
        z0 = self.z0 if z0 is None else z0
        return np.stack([precise(self.numpy_field, z, times) for z in z0], axis=1)


def precise(field: Callable, z0: np.ndarray, times) -> np.ndarray:
    """SciPy's solution of one sample, `(num_times, ...)`."""
    found = scipy.integrate.solve_ivp(
        field, (times[0], times[-1]), z0, "DOP853", times, rtol=1e-12, atol=1e-13
    )
    assert found.success
    return found.y.T


def _pair(z):
    return z[..., 0], z[..., 1]


def _lotka_volterra(t, z):
    prey, predators = _pair(z)
    return ops.stack([prey * (1.5 - predators), predators * (prey - 3.0)], axis=-1)


def _spiral(t, z):
    x, y = _pair(z**3)
    return ops.stack([-0.1 * x + 2 * y, -2 * x - 0.1 * y], axis=-1)


# The series of the sine: Keras's own rounds to single precision on JAX.
def _pendulum(t, z):
    angle, speed = _pair(z)
    sine = angle * (1 - angle**2 / 6 * (1 - angle**2 / 20 * (1 - angle**2 / 42)))
    return ops.stack([speed, -0.3 * speed - 4 * sine], axis=-1)


SYSTEMS = {
    "lotka_volterra": System(
        _lotka_volterra,
        lambda t, z: np.array([z[0] * (1.5 - z[1]), z[1] * (z[0] - 3.0)]),
        np.array([[2.0, 1.0], [4.0, 2.0]]),
        4.0,
    ),
    "spiral": System(
        _spiral,
        lambda t, z: np.array([-0.1 * z[0] ** 3 + 2 * z[1] ** 3, -2 * z[0] ** 3 - 0.1 * z[1] ** 3]),
        np.array([[2.0, 0.0], [-1.0, 1.0]]),
        3.0,
    ),
    "pendulum": System(
        _pendulum,
        lambda t, z: np.array(
            [
                z[1],
                -0.3 * z[1]
                - 4 * z[0] * (1 - z[0] ** 2 / 6 * (1 - z[0] ** 2 / 20 * (1 - z[0] ** 2 / 42))),
            ]
        ),
        np.array([[1.0, 0.0], [0.2, -1.5]]),
        5.0,
    ),
}
