"""Several processes that train one model: the first one says what all of them check.

JAX computes one thing in all its processes, whose variables hold the same values. What differs is
what each of them reads: a dataset may be shuffled in another order, or be another part of one.
"""

from typing import Any

import keras
import numpy as np
from keras import ops


def is_first() -> bool:
    """Whether this process prints and writes for all: the first one, or the only one."""
    if keras.backend.backend() != "jax":
        return True
    import jax

    return jax.process_index() == 0


def of_first(batch: Any) -> Any:
    """The batch of the first process, in all of them: as it is where there is but one.

    Args:
        batch: Nested structure of arrays, the same structure in every process.
    """
    if keras.backend.backend() != "jax":
        return batch
    import jax
    from jax.experimental import multihost_utils

    if jax.process_count() == 1:
        return batch
    tell = multihost_utils.broadcast_one_to_all

    def of_all(array: Any) -> np.ndarray | None:
        if array is None:
            return None
        array = ops.convert_to_numpy(array)
        # Batches of one process may have fewer rows than those of another.
        array = np.resize(array, (int(tell(len(array))), *array.shape[1:]))
        return np.asarray(tell(array))

    leaves = [of_all(array) for array in keras.tree.flatten(batch)]
    return keras.tree.pack_sequence_as(batch, leaves)
