"""The paper's rule as its text has it."""

import dataclasses
from collections.abc import Sequence

from tfnode.adaption import Decision, Measurement, StepRule
from tfnode.solvers import FixedStepSolver


@dataclasses.dataclass(frozen=True)
class WithoutLookAhead(StepRule):
    """Algorithm 1 of the paper to the letter: a longer step is taken without a trial."""

    def decide(
        self,
        solver: FixedStepSolver,
        memory: Sequence[float],
        measurement: Measurement[FixedStepSolver],
    ) -> Decision[FixedStepSolver]:
        proposed = self.propose(
            solver.step_size, measurement.accuracy, measurement.reference_accuracy
        )
        if proposed == solver.step_size:
            return Decision(solver, (), "keep")
        action = "shrink" if proposed < solver.step_size else "grow"
        return Decision(solver.with_step_size(proposed), (), action)
