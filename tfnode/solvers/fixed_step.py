"""Explicit Runge-Kutta methods with one step size for the whole interval."""

import dataclasses
from typing import Any, ClassVar, Self

from tfnode import arguments, tableaus
from tfnode.solvers.checks import check_config, check_step_size
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

    def __post_init__(self) -> None:
        object.__setattr__(self, "step_size", check_step_size(self.step_size))

    @property
    def order(self) -> int:
        """The order of convergence."""
        return self.tableau.order

    def with_step_size(self, step_size: float) -> Self:
        """The same method with another step size."""
        return dataclasses.replace(self, step_size=step_size)

    def get_config(self) -> dict[str, Any]:
        """The plain values from which `from_config` makes an equal solver."""
        return {"step_size": self.step_size}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Returns the solver that a configuration was taken from."""
        return cls(**check_config(cls, config))


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
        ValueError: If `step_size` is not positive and finite, or `tableau` is not a
            `ButcherTableau`.
    """

    # A field where the base has a class variable. It follows a default, so None stands for none.
    tableau: ButcherTableau = None  # type: ignore[assignment, misc]

    def __post_init__(self) -> None:
        super().__post_init__()
        arguments.instance(
            "tableau",
            self.tableau,
            ButcherTableau,
            "a `tfnode.tableaus.ButcherTableau`",
            advice="Build one from its coefficients, or use a named solver such as "
            "`tfnode.solvers.RK4`.",
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "tableau": self.tableau.get_config()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        tableau = check_config(cls, config).get("tableau")
        return cls(**{**config, "tableau": ButcherTableau(**check_config(ButcherTableau, tableau))})
