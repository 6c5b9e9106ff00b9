"""Models as a whole: their blocks, wherever they sit, and the same model under other solvers."""

from tfnode.models.digest import digest
from tfnode.models.scope import (
    Reached,
    calls_of,
    held_blocks,
    looked_at,
    reached_blocks,
    solver_scope,
    some_blocks,
)
from tfnode.models.twins import Twin
from tfnode.models.with_solver import with_solver

__all__ = [
    "Reached",
    "Twin",
    "calls_of",
    "digest",
    "held_blocks",
    "looked_at",
    "reached_blocks",
    "solver_scope",
    "some_blocks",
    "with_solver",
]
