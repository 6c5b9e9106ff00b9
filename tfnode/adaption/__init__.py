"""The decisions of the adapting callbacks, without a backend: numbers in, numbers out.

All rules have one face, `Rule`: a solver, what the rule remembers and a `Measurement` go in; a
`Decision` comes out. `tfnode.callbacks` measures, asks here, and acts.

`StepRule` is algorithm 1 of Ott, Katiyar, Hennig, Tiemann, "When are Neural ODE Solutions Proper
ODEs?" (2020), with the look-ahead and the floor of the authors' later code; `ToleranceRule` is of
that code alone. `DampedRule` is ours, and does not oscillate.
"""

from tfnode.adaption.damped_rule import DampedMemory, DampedRule
from tfnode.adaption.measurement import Measurement
from tfnode.adaption.registry import get
from tfnode.adaption.rule import Decision, Rule
from tfnode.adaption.start import initial_step_size, reference_solver, tighter_solver
from tfnode.adaption.step_rule import StepRule
from tfnode.adaption.tolerance_rule import ToleranceRule

__all__ = [
    "DampedMemory",
    "DampedRule",
    "Decision",
    "Measurement",
    "Rule",
    "StepRule",
    "ToleranceRule",
    "get",
    "initial_step_size",
    "reference_solver",
    "tighter_solver",
]
