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


@dataclasses.dataclass(frozen=True)
class AdaptiveSolver:
    """Base of the embedded Runge-Kutta pairs, which choose their steps by an error estimate.

    A step is accepted if the root mean square of its estimated error, each component divided by
    `atol + rtol * max(|z|, |z_new|)`, is at most one (Hairer et al., *Solving ODEs I*, eqs.
    II.4.10 and II.4.11).

    Args:
        rtol: Float, the relative tolerance, positive and finite.
        atol: Float, the absolute tolerance, positive and finite.
        max_num_steps: Integer, the most steps, accepted and rejected, of one integration. An
            integration that needs more is an error.
        per_sample: Boolean. If true, every sample of a batch has its own steps and its own error
            control, so that its answer does not depend on its batch mates. If false, the batch
            shares its steps.

    Raises:
        ValueError: If a tolerance is not positive and finite, or `max_num_steps` is no positive
            integer.
    """

    rtol: float = 1e-5
    atol: float = 1e-5
    max_num_steps: int = 1000
    per_sample: bool = False
    tableau: ClassVar[ButcherTableau]

    def __post_init__(self):
        for name in ("rtol", "atol"):
            object.__setattr__(self, name, check_tolerance(name, getattr(self, name)))
        if not isinstance(self.max_num_steps, int) or self.max_num_steps < 1:
            raise ValueError(
                "`max_num_steps` must be a positive integer. "
                f"Received: max_num_steps={self.max_num_steps!r}. The default is 1000."
            )

    @property
    def order(self):
        """Integer, the order of convergence of the solution that is propagated."""
        return self.tableau.order

    def with_tolerance(self, tolerance):
        """The same solver with `rtol` and `atol` both at `tolerance`."""
        return dataclasses.replace(self, rtol=tolerance, atol=tolerance)

    def scaled(self, factor):
        """The same solver with both tolerances multiplied by `factor`."""
        return dataclasses.replace(self, rtol=factor * self.rtol, atol=factor * self.atol)

    def get_config(self):
        """Dictionary of plain values from which `from_config` makes an equal solver."""
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config):
        return cls(**config)


@dataclasses.dataclass(frozen=True)
class Fehlberg21(AdaptiveSolver):
    """Fehlberg's pair 2(1): order 2, three stages.

    The last stage is that of the solution with order 1, so it is not reused.
    """

    tableau: ClassVar[ButcherTableau] = tableaus.FEHLBERG21


@dataclasses.dataclass(frozen=True)
class BogackiShampine32(AdaptiveSolver):
    """The pair 3(2) of Bogacki and Shampine: order 3, four stages, the last one reused."""

    tableau: ClassVar[ButcherTableau] = tableaus.BOGACKI_SHAMPINE32


@dataclasses.dataclass(frozen=True)
class DormandPrince(AdaptiveSolver):
    """The pair 5(4) of Dormand and Prince: order 5, seven stages, the last one reused.

    With `per_sample=False` this is TensorFlow Probability's solver, and needs TensorFlow.

    Examples:

    >>> DormandPrince(rtol=1e-3, atol=1e-6).scaled(0.1).rtol
    0.0001
    """

    tableau: ClassVar[ButcherTableau] = tableaus.DORMAND_PRINCE54


_FIXED_STEP = (Euler, Midpoint, Heun, RK4, RK38, RungeKutta)
_ADAPTIVE = (Fehlberg21, BogackiShampine32, DormandPrince)
_SOLVERS = {cls.__name__: cls for cls in (*_FIXED_STEP, *_ADAPTIVE)}
_NAMES = {name.lower(): cls for name, cls in _SOLVERS.items() if cls is not RungeKutta}


def get(identifier, step_size=None):
    """Returns the solver that an identifier stands for.

    Examples:

    >>> get("midpoint", step_size=1 / 16)
    Midpoint(step_size=0.0625)

    Args:
        identifier: A solver, its name (`"euler"`, `"midpoint"`, `"heun"`, `"rk4"`, `"rk38"`,
            `"fehlberg21"`, `"bogackishampine32"`, `"dormandprince"`), or the dictionary that
            `serialize` made.
        step_size: Optional float that replaces the step size of a fixed-step solver.

    Returns:
        A solver.

    Raises:
        ValueError: If the identifier stands for no solver, or for an adaptive one that is given a
            step size.
    """
    if isinstance(identifier, str) and identifier.lower() in _NAMES:
        solver = _NAMES[identifier.lower()]()
    elif isinstance(identifier, dict):
        solver = deserialize(identifier)
    elif isinstance(identifier, (FixedStepSolver, AdaptiveSolver)):
        solver = identifier
    else:
        raise ValueError(
            f"A solver is one of the names {sorted(_NAMES)}, a solver such as "
            "`tfnode.solvers.Euler(step_size=1/8)`, or its serialized dictionary. "
            f"Received: solver={identifier!r}. Pick one of these."
        )
    if step_size is None:
        return solver
    if isinstance(solver, AdaptiveSolver):
        raise ValueError(
            "An adaptive solver chooses its own steps. "
            f"Received: step_size={step_size!r} for {solver}. Set its tolerances instead, for "
            "example `tfnode.solvers.DormandPrince(rtol=1e-5, atol=1e-5)`."
        )
    return solver.with_step_size(step_size)


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
    value = _positive(step_size)
    if value is None:
        raise ValueError(
            "A step size must be a positive, finite number. "
            f"Received: step_size={step_size!r}. For backward integration keep it positive and "
            "choose t1 < t0."
        )
    return value


def check_tolerance(name, tolerance):
    """Returns `tolerance` as a float, or raises if it is not positive and finite."""
    value = _positive(tolerance)
    if value is None:
        raise ValueError(
            "A tolerance must be a positive, finite number. "
            f"Received: {name}={tolerance!r}. A usual value is 1e-5."
        )
    return value


def _positive(number):
    """The number as a float, or None if it is none, not positive or not finite."""
    try:
        value = math.nan if isinstance(number, (str, bool)) else float(number)
    except (TypeError, ValueError, OverflowError):
        return None
    return value if math.isfinite(value) and value > 0 else None
