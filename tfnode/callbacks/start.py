"""Where step adaption starts: Hairer's step of a block, for the states that reach it."""

import math

from keras import ops

from tfnode.adaption import initial_step_size
from tfnode.models import Reached


def initial_step_sizes(reached: Reached) -> list[float]:
    """Returns Hairer's step size for every call of a block, by two evaluations each."""
    block = reached.block
    return [
        initial_step_size(
            block.vector_field.numpy(conditions, block.variable_dtype),
            block.t0,
            ops.convert_to_numpy(state),
            block.solver.order,
            block.length,
            direction=math.copysign(1.0, block.t1 - block.t0),
        )
        for state, conditions in reached.inputs
    ]
