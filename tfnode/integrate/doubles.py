"""What Keras rounds to single precision on JAX or torch, so that a double stays one.

`ops.ceil`, `ops.maximum` and `ops.minimum` do; a number beyond 3e38 would become infinite.
"""

from typing import Any

import numpy as np
from keras import ops


def ceil(x: Any) -> Any:
    """The int32 above a tensor or a NumPy array."""
    below = cast(x, "int32")
    return below + cast(cast(below, x.dtype) < x, "int32")


def larger(a: Any, b: Any) -> Any:
    """The larger one; `b` if that is not a number."""
    return ops.where(a > b, a, b)


def smaller(a: Any, b: Any) -> Any:
    """The smaller one; `b` if that is not a number."""
    return ops.where(a < b, a, b)


def cast(x: Any, dtype: str) -> Any:
    """A tensor or a NumPy array in another dtype."""
    return x.astype(dtype) if isinstance(x, (np.ndarray, np.generic)) else ops.cast(x, dtype)
