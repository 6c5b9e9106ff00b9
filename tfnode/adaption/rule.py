"""The one face of all rules of adaption."""

import dataclasses
from collections.abc import Sequence
from typing import Generic, Literal, Protocol, runtime_checkable

from tfnode.adaption.measurement import Measurement, SolverT


@dataclasses.dataclass(frozen=True)
class Decision(Generic[SolverT]):
    """What a rule decides at a check.

    Args:
        solver: The solver to train with from now on.
        memory: Tuple of plain numbers, what the rule wants to be given at the next check.
        action: `"shrink"` (a smaller step or tolerance), `"grow"` (a larger one), `"keep"` (the
            solver as it was) or `"climb"` (another method).
    """

    solver: SolverT
    memory: tuple[float, ...]
    action: Literal["shrink", "grow", "keep", "climb"]


@runtime_checkable
class Rule(Protocol[SolverT]):
    """When to change the solver of a training, and how.

    A rule is a value: it holds its constants and nothing that changes. Solver, memory and a
    measurement go in; solver, memory and an action come out, the same for the same input. A class
    with these methods is a rule; it need not inherit from this one.

    A value that is not a number is never a reason to grow.

    Examples:

    A rule that halves the step whenever a prediction in a hundred may change, three times at most:

    >>> @dataclasses.dataclass(frozen=True)
    ... class Halving:
    ...     floor: float = 1 / 500
    ...     cap: float = 1.0
    ...
    ...     def first_memory(self):
    ...         return (0,)
    ...
    ...     def within(self, low, high):
    ...         return dataclasses.replace(self, floor=low, cap=high)
    ...
    ...     def start(self, solver):
    ...         return solver.with_step_size(min(max(solver.step_size, self.floor), self.cap))
    ...
    ...     def methods(self, solver):
    ...         return (type(solver),)
    ...
    ...     def reference(self, solver, length):
    ...         return tfnode.adaption.reference_solver(solver, length)
    ...
    ...     def decide(self, solver, memory, measurement):
    ...         (halvings,) = memory
    ...         half = solver.step_size / 2
    ...         if measurement.change <= 0.01 or halvings >= 3 or half < self.floor:
    ...             return tfnode.adaption.Decision(solver, (halvings,), "keep")
    ...         finer = solver.with_step_size(half)
    ...         return tfnode.adaption.Decision(finer, (halvings + 1,), "shrink")
    >>> rule = Halving()
    >>> isinstance(rule, Rule)
    True
    >>> solver = tfnode.solvers.RK4(1 / 4)
    >>> measurement = Measurement(0.9, 0.8, change=0.1, measure=None)
    >>> rule.decide(solver, rule.first_memory(), measurement)
    Decision(solver=RK4(step_size=0.125), memory=(1,), action='shrink')
    """

    def first_memory(self) -> tuple[float, ...]:
        """Returns what the rule remembers before the first check.

        Returns:
            Flat tuple of at most 7 plain numbers, so that a weight of the model can hold it. It
            is as long at every check.
        """

    def within(self, low: float, high: float) -> "Rule[SolverT]":
        """Returns the same rule with another floor and cap of what it adapts.

        Args:
            low: Float, the smallest step size or tolerance.
            high: Float, the largest one.
        """

    def start(self, solver: SolverT) -> SolverT:
        """Returns a solver to start from: the given one, brought into what the rule allows."""

    def methods(self, solver: SolverT) -> tuple[type[SolverT], ...]:
        """Returns the classes of the solvers that may come to train, starting from this one.

        Args:
            solver: The solver that training starts from.

        Returns:
            Tuple of classes, that of `solver` first.
        """

    def reference(self, solver: SolverT, length: float) -> SolverT:
        """Returns the better solver that a check compares `solver` with.

        Args:
            solver: The training solver.
            length: Float, the length of the interval.
        """

    def decide(
        self, solver: SolverT, memory: Sequence[float], measurement: Measurement[SolverT]
    ) -> Decision[SolverT]:
        """Returns what to train with after a check.

        Args:
            solver: The training solver.
            memory: What the last decision said, or `first_memory()`. A weight gives it back as a
                sequence of floats, which must make no difference.
            measurement: `Measurement` of this check.

        Returns:
            `Decision`.
        """
