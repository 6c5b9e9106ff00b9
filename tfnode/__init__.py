"""Neural ODEs in Keras that are proper ODEs."""

from tfnode import adaption, datasets, export, solvers, tableaus, validity
from tfnode.callbacks import StepAdaption, ToleranceAdaption
from tfnode.initial_values import odeint
from tfnode.layers import Augment, ODEBlock, Regularization
from tfnode.models import with_solver

__version__ = "0.1.0"

__all__ = [
    "Augment",
    "ODEBlock",
    "Regularization",
    "StepAdaption",
    "ToleranceAdaption",
    "adaption",
    "datasets",
    "export",
    "odeint",
    "solvers",
    "tableaus",
    "validity",
    "with_solver",
]
