"""Embedded Runge-Kutta pairs, which choose their steps by an error estimate."""

import dataclasses
from typing import Any, ClassVar, Self

from tfnode import arguments, tableaus
from tfnode.solvers.checks import MAX_NUM_STEPS, check_config, check_tolerance
from tfnode.tableaus import ButcherTableau


@dataclasses.dataclass(frozen=True)
class AdaptiveSolver:
    """Base of the embedded Runge-Kutta pairs, which choose their steps by an error estimate.

    A step is accepted if the root mean square of its estimated error, each component divided by
    `atol + rtol * max(|z|, |z_new|)`, is at most one (Hairer et al., *Solving ODEs I*, eqs.
    II.4.10 and II.4.11).

    Args:
        rtol: Float, the relative tolerance, positive and finite.
        atol: Float, the absolute tolerance, positive and finite.
        max_num_steps: Integer up to `MAX_NUM_STEPS`, the most steps, accepted and rejected, of one
            integration. An integration that needs more is an error.
        per_sample: Boolean. If true, every sample of a batch has its own steps and its own error
            control, so that its answer does not depend on the rest of the batch. If false, the
            whole batch shares its steps.
        per_sample_failure: `"raise"`: one sample that cannot be integrated is an error for its
            batch. With `per_sample=True` also `"nan"`: its answer is NaN, and the others get
            theirs. That is how exported models do where every sample has its own steps.

    Raises:
        ValueError: If a tolerance is not positive and finite, if `max_num_steps` is not an integer
            from 1 to `MAX_NUM_STEPS`, or if `per_sample_failure` is not one of its values.
    """

    rtol: float = 1e-5
    atol: float = 1e-5
    max_num_steps: int = 1000
    per_sample: bool = False
    per_sample_failure: str = "raise"
    tableau: ClassVar[ButcherTableau]

    def __post_init__(self) -> None:
        for name in ("rtol", "atol"):
            object.__setattr__(self, name, check_tolerance(getattr(self, name), name))
        budget = arguments.count(
            "max_num_steps", self.max_num_steps, 1, MAX_NUM_STEPS, advice="The default is 1000."
        )
        object.__setattr__(self, "max_num_steps", budget)
        object.__setattr__(self, "per_sample", arguments.flag("per_sample", self.per_sample))
        arguments.choice(
            "per_sample_failure",
            self.per_sample_failure,
            ("raise", "nan") if self.per_sample else ("raise",),
            advice="Samples fail alone where they have steps of their own, by per_sample=True.",
        )

    @property
    def isolates_failures(self) -> bool:
        """Whether a sample that cannot be integrated leaves the others their answers."""
        return self.per_sample_failure == "nan"

    @property
    def order(self) -> int:
        """The order of convergence of the solution that is propagated."""
        return self.tableau.order

    def with_tolerance(self, tolerance: float) -> Self:
        """The same solver with `rtol` and `atol` both at `tolerance`."""
        return dataclasses.replace(self, rtol=tolerance, atol=tolerance)

    def scaled(self, factor: float) -> Self:
        """The same solver with both tolerances multiplied by `factor`."""
        factor = arguments.number("factor", factor, 0, advice="Below 1 it makes them tighter.")
        return dataclasses.replace(self, rtol=factor * self.rtol, atol=factor * self.atol)

    def get_config(self) -> dict[str, Any]:
        """The plain values from which `from_config` makes an equal solver."""
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Returns the solver that a configuration was taken from."""
        return cls(**check_config(cls, config))


@dataclasses.dataclass(frozen=True)
class Fehlberg21(AdaptiveSolver):
    """Fehlberg's pair 2(1): order 2, three stages.

    The last stage belongs to the solution of order 1, so it is not reused.
    """

    tableau: ClassVar[ButcherTableau] = tableaus.FEHLBERG21


@dataclasses.dataclass(frozen=True)
class BogackiShampine32(AdaptiveSolver):
    """Bogacki and Shampine's pair 3(2): order 3, four stages, the last one reused."""

    tableau: ClassVar[ButcherTableau] = tableaus.BOGACKI_SHAMPINE32


@dataclasses.dataclass(frozen=True)
class DormandPrince(AdaptiveSolver):
    """Dormand and Prince's pair 5(4): order 5, seven stages, the last one reused.

    With `per_sample=True` our own loop integrates. It takes the steps of SciPy's RK45, and is the
    one to take, on every backend.

    With `per_sample=False` this is TensorFlow Probability's solver, which needs TensorFlow. Take it
    for the continuous adjoint (`gradient="adjoint"`), or to compare with it. On DETEST, classes A
    and B, it evaluates the field 2.3 to 2.4 times as often as RK45 in double precision, where its
    coefficients are rounded to single and every accepted step is taken once more, and 1.3 (at a
    tolerance of 1e-4) to 1.9 times (at 1e-3) in single precision, as it estimates errors
    differently and is handed half the tolerances to be as accurate. It squares derivatives: in
    single precision an integration in which they exceed 1.8e17, with time in units of the
    interval, or at the start the state does, is an error. Eager calls may overlap in time, the runs
    of one graph must not.

    Examples:

    >>> DormandPrince(rtol=1e-3, atol=1e-6).scaled(0.1).rtol
    0.0001
    """

    tableau: ClassVar[ButcherTableau] = tableaus.DORMAND_PRINCE54
