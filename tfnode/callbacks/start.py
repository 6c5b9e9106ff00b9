"""Where step adaption starts: Hairer's step of a block, for the states that reach it."""

import math

import numpy as np

from tfnode.adaption import initial_step_size
from tfnode.layers import ODEBlock
from tfnode.models import Reached


def initial_step_sizes(reached: Reached) -> list[float]:
    """Returns Hairer's step size for every call of a block, by two evaluations each.

    A state of zeros, as the first one of a recurrent cell is, has no scale, and the rule takes the
    smallest step there: such calls count only if there are no others.
    """
    block, direction = reached.block, math.copysign(1.0, reached.block.t1 - reached.block.t0)
    step_sizes: list[float] = []
    at_zero: list[float] = []
    for state, conditions in reached.inputs:
        field, z0 = block.vector_field.numpy(state, conditions, block.variable_dtype)
        order = block.solver.order
        step_size = initial_step_size(field, block.t0, z0, order, block.length, direction)
        if math.isnan(step_size):
            raise _not_finite(block, z0)
        (step_sizes if z0.any() else at_zero).append(step_size)
    return step_sizes or at_zero


def _not_finite(block: ODEBlock, z0: np.ndarray) -> ValueError:
    if np.isfinite(z0).all():
        found, advice = "whose field is not finite at states that are", "in the weights"
    else:
        found, advice = "which is reached by states that are not finite", "in the data and weights"
    return ValueError(
        "The step size to start with comes from states and from a field that are finite. "
        f"Received: block {block.name!r}, {found}. Look for NaN {advice}, and for numbers that "
        "are too large."
    )
