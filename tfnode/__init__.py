"""Neural ODEs in Keras that are proper ODEs."""

from tfnode import datasets, solvers, tableaus, validity
from tfnode.blocks import Augment, ODEBlock
from tfnode.callbacks import StepAdaption, ToleranceAdaption
from tfnode.models import with_solver

__version__ = "0.1.0"

__all__ = [
    "Augment",
    "ODEBlock",
    "StepAdaption",
    "ToleranceAdaption",
    "datasets",
    "solvers",
    "tableaus",
    "validity",
    "with_solver",
]
