"""Neural ODEs in Keras that are proper ODEs."""

from tfnode import datasets, export, solvers, tableaus, validity
from tfnode.augment import Augment
from tfnode.blocks import ODEBlock
from tfnode.callbacks import StepAdaption, ToleranceAdaption
from tfnode.models import with_solver

__version__ = "0.1.0"

__all__ = [
    "Augment",
    "ODEBlock",
    "StepAdaption",
    "ToleranceAdaption",
    "datasets",
    "export",
    "solvers",
    "tableaus",
    "validity",
    "with_solver",
]
