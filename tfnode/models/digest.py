"""What tells one trained model from another."""

import hashlib

import keras
import numpy as np
from keras import ops

from tfnode.models.scope import held_blocks


def digest(model: keras.Layer) -> str:
    """Returns the SHA-256 of a model's weights and of its solvers, as 64 hexadecimal digits.

    What blocks count and what a rule remembers are not part of it.

    Args:
        model: Keras model, or an `ODEBlock`.
    """
    blocks = held_blocks(model)
    own: set[int] = set().union(*(_ids(block) - _ids(block.field) for block in blocks))
    found = hashlib.sha256(repr([block.solver for block in blocks]).encode())
    for variable in model.weights:
        if id(variable) not in own:
            value = np.ascontiguousarray(ops.convert_to_numpy(variable.value))
            found.update(f"{value.dtype} {value.shape}".encode() + value.tobytes())
    return found.hexdigest()


def _ids(layer: keras.Layer) -> set[int]:
    return {id(variable) for variable in layer.variables}
