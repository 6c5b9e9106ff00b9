"""The decisions of the adapting callbacks, without a backend: numbers in, numbers out.

`StepRule` and `ToleranceRule` are those of Ott, Katiyar, Hennig, Tiemann, "When are Neural ODE
Solutions Proper ODEs?", with the constants of the authors' experiments. `DampedRule` is ours, and
does not oscillate. `tfnode.callbacks` measures, asks here, and acts.
"""

from tfnode.adaption.damped_rule import DampedRule, DampedState, next_state
from tfnode.adaption.start import initial_step_size, reference_solver, tighter_solver
from tfnode.adaption.step_rule import StepRule, next_step
from tfnode.adaption.tolerance_rule import ToleranceRule, next_tolerance

__all__ = [
    "DampedRule",
    "DampedState",
    "StepRule",
    "ToleranceRule",
    "initial_step_size",
    "next_state",
    "next_step",
    "next_tolerance",
    "reference_solver",
    "tighter_solver",
]
