"""Solver configurations: frozen, hashable, serializable values that say how to integrate.

A configuration holds no state and computes nothing; `tfnode.ODEBlock` acts on it.
"""

from tfnode.solvers.checks import (
    MAX_NUM_STEPS,
    check_num_steps,
    check_step_size,
    check_tolerance,
)
from tfnode.solvers.embedded_pairs import (
    AdaptiveSolver,
    BogackiShampine32,
    DormandPrince,
    Fehlberg21,
)
from tfnode.solvers.fixed_step import RK4, RK38, Euler, FixedStepSolver, Heun, Midpoint, RungeKutta
from tfnode.solvers.registry import Solver, SolverLike, check_solver, deserialize, get, serialize

__all__ = [
    "MAX_NUM_STEPS",
    "RK4",
    "RK38",
    "AdaptiveSolver",
    "BogackiShampine32",
    "DormandPrince",
    "Euler",
    "Fehlberg21",
    "FixedStepSolver",
    "Heun",
    "Midpoint",
    "RungeKutta",
    "Solver",
    "SolverLike",
    "check_num_steps",
    "check_solver",
    "check_step_size",
    "check_tolerance",
    "deserialize",
    "get",
    "serialize",
]
