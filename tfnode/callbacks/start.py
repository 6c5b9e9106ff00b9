"""Where step adaption starts: Hairer's step of a block, for the states that reach it."""

import math

from tfnode.adaption import initial_step_size
from tfnode.models import Reached


def initial_step_sizes(reached: Reached) -> list[float]:
    """Returns Hairer's step size for every call of a block, by two evaluations each."""
    block, direction = reached.block, math.copysign(1.0, reached.block.t1 - reached.block.t0)
    step_sizes = []
    for state, conditions in reached.inputs:
        field, z0 = block.vector_field.numpy(state, conditions, block.variable_dtype)
        order = block.solver.order
        step_sizes.append(initial_step_size(field, block.t0, z0, order, block.length, direction))
    return step_sizes
