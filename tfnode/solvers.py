"""Solver configurations: frozen, hashable, serializable values that say how to integrate.

A configuration holds no state and computes nothing; `tfnode.ODEBlock` acts on it.
"""

import dataclasses
import math
from typing import ClassVar

from tfnode import tableaus
from tfnode.tableaus import ButcherTableau


@dataclasses.dataclass(frozen=True)
class FixedStepSolver:
    """Base of the explicit Runge-Kutta methods with one step size for the whole interval.

    Args:
        step_size: Float, positive and finite, in units of time. Its sign does not depend on the
            direction of integration.

    Raises:
        ValueError: If `step_size` is not positive and finite.
    """

    step_size: float = 1 / 32
    tableau: ClassVar[ButcherTableau]

    def __post_init__(self):
        object.__setattr__(self, "step_size", check_step_size(self.step_size))

    @property
    def order(self):
        """Integer, the order of convergence."""
        return self.tableau.order

    def with_step_size(self, step_size):
        """The same method with another step size."""
        return dataclasses.replace(self, step_size=step_size)

    def get_config(self):
        """Dictionary of plain values from which `from_config` makes an equal solver."""
        return {"step_size": self.step_size}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


@dataclasses.dataclass(frozen=True)
class Euler(FixedStepSolver):
    """Euler's method: order 1, one stage (Hairer et al., *Solving ODEs I*, eq. II.1.2).

    Examples:

    >>> Euler(step_size=1 / 8)
    Euler(step_size=0.125)
    """

    tableau: ClassVar[ButcherTableau] = tableaus.EULER


@dataclasses.dataclass(frozen=True)
class Midpoint(FixedStepSolver):
    """The explicit midpoint method: order 2, two stages (Hairer et al., eq. II.1.4)."""

    tableau: ClassVar[ButcherTableau] = tableaus.MIDPOINT


@dataclasses.dataclass(frozen=True)
class Heun(FixedStepSolver):
    """Heun's method, the explicit trapezoidal rule: order 2, two stages."""

    tableau: ClassVar[ButcherTableau] = tableaus.HEUN


@dataclasses.dataclass(frozen=True)
class RK4(FixedStepSolver):
    """The classical Runge-Kutta method: order 4, four stages (Hairer et al., table II.1.2)."""

    tableau: ClassVar[ButcherTableau] = tableaus.RK4


@dataclasses.dataclass(frozen=True)
class RK38(FixedStepSolver):
    """The 3/8 rule: order 4, four stages. This is what torchdiffeq calls `"rk4"`."""

    tableau: ClassVar[ButcherTableau] = tableaus.RK38


@dataclasses.dataclass(frozen=True)
class RungeKutta(FixedStepSolver):
    """Any explicit Runge-Kutta method with a fixed step size, given by its tableau.

    Examples:

    >>> solver = RungeKutta(tableau=tableaus.BOGACKI_SHAMPINE32, step_size=1 / 4)
    >>> solver.order
    3

    Args:
        step_size: Float, positive and finite.
        tableau: `ButcherTableau` of the method.

    Raises:
        ValueError: If `step_size` is not positive and finite, or `tableau` is no
            `ButcherTableau`.
    """

    tableau: ButcherTableau = None

    def __post_init__(self):
        super().__post_init__()
        if not isinstance(self.tableau, ButcherTableau):
            raise ValueError(
                "`tableau` must be a `tfnode.tableaus.ButcherTableau`. "
                f"Received: tableau={self.tableau!r}. Build one from its coefficients, or use a "
                "named solver such as `tfnode.solvers.RK4`."
            )

    def get_config(self):
        return {**super().get_config(), "tableau": self.tableau.get_config()}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "tableau": ButcherTableau(**config["tableau"])})


_SOLVERS = {cls.__name__: cls for cls in (Euler, Midpoint, Heun, RK4, RK38, RungeKutta)}
_NAMES = {name.lower(): cls for name, cls in _SOLVERS.items() if cls is not RungeKutta}


def get(identifier, step_size=None):
    """Returns the solver that an identifier stands for.

    Examples:

    >>> get("midpoint", step_size=1 / 16)
    Midpoint(step_size=0.0625)

    Args:
        identifier: A solver, its name (`"euler"`, `"midpoint"`, `"heun"`, `"rk4"`, `"rk38"`), or
            the dictionary that `serialize` made.
        step_size: Optional float that replaces the solver's own step size.

    Returns:
        A solver.

    Raises:
        ValueError: If the identifier stands for no solver.
    """
    if isinstance(identifier, str) and identifier.lower() in _NAMES:
        solver = _NAMES[identifier.lower()]()
    elif isinstance(identifier, dict):
        solver = deserialize(identifier)
    elif isinstance(identifier, FixedStepSolver):
        solver = identifier
    else:
        raise ValueError(
            f"A solver is one of the names {sorted(_NAMES)}, a solver such as "
            "`tfnode.solvers.Euler(step_size=1/8)`, or its serialized dictionary. "
            f"Received: solver={identifier!r}. Pick one of these."
        )
    return solver if step_size is None else solver.with_step_size(step_size)


def serialize(solver):
    """Returns the solver as a JSON-compatible dictionary of `class_name` and `config`."""
    return {"class_name": type(solver).__name__, "config": solver.get_config()}


def deserialize(config):
    """Returns the solver that `serialize` was given.

    Raises:
        ValueError: If `config` names no known solver.
    """
    class_name = config.get("class_name")
    if class_name not in _SOLVERS or "config" not in config:
        raise ValueError(
            f"A serialized solver names one of the classes {sorted(_SOLVERS)} and has a config. "
            f"Received: class_name={class_name!r}, keys={sorted(config)}. Make the dictionary "
            "with `tfnode.solvers.serialize(solver)`."
        )
    return _SOLVERS[class_name].from_config(config["config"])


def check_step_size(step_size):
    """Returns `step_size` as a float, or raises if it is not positive and finite."""
    try:
        value = math.nan if isinstance(step_size, (str, bool)) else float(step_size)
    except (TypeError, ValueError, OverflowError):
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise ValueError(
            "A step size must be a positive, finite number. "
            f"Received: step_size={step_size!r}. For backward integration keep it positive and "
            "choose t1 < t0."
        )
    return value
