"""One step of an explicit Runge-Kutta method, for every tableau and every state.

A state is a tensor or a nested structure of tensors, of any backend or of NumPy: only `+` and `*`
touch it. A time and a step are a scalar, or a vector with one number for each sample.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from tfnode.tableaus import ButcherTableau

tree = keras.tree


def runge_kutta_step(field: Callable, t: Any, z: Any, dt: Any, tableau: ButcherTableau) -> Any:
    """Returns the state after one explicit Runge-Kutta step (Hairer et al., eq. II.1.8).

    Args:
        field: Callable `field(t, z)` that returns the derivative, in the state's structure, shapes
            and dtypes.
        t: The time at the start of the step.
        z: The state.
        dt: The signed length of the step.
        tableau: `tfnode.tableaus.ButcherTableau` of the method.
    """
    return moved(z, dt, tableau.b, runge_kutta_stages(field, t, z, dt, tableau))


def runge_kutta_stages(
    field: Callable, t: Any, z: Any, dt: Any, tableau: ButcherTableau, first: Any = None
) -> list:
    """Returns the list of the stages `k_i` of a step; see `runge_kutta_step`.

    Args:
        first: Optional first stage, where it is known already.
    """
    stages = [] if first is None else [first]
    for row, c in list(zip(tableau.a, tableau.c))[len(stages) :]:
        z_stage = moved(z, dt, row, stages) if any(row) else z
        stages.append(field(t + c * dt, z_stage))
    return stages


def moved(z: Any, dt: Any, weights: Sequence[float], stages: list) -> Any:
    """Returns `z + dt sum_i weights_i stages_i`; a weight of 0 costs nothing."""
    return tree.map_structure(
        lambda z, *ks: z + spread(dt, z) * weighted_sum(weights, ks), z, *stages
    )


def weighted_sum(weights: Sequence[float], stages: Sequence) -> Any:
    """Returns `sum_i weights_i stages_i`; a weight of 0 costs nothing."""
    terms = [_term(i, w, k) for i, (w, k) in enumerate(zip(weights, stages)) if w != 0]
    return sum(terms[1:], start=terms[0])


def _term(i: int, weight: float, stage: Any) -> Any:
    if weight == 1:
        return stage
    # TensorFlow's optimizer adds the terms of a graph in the order of their names. Of the numbers
    # that it counts operations with, "mul_10" comes before "mul_9", and the sum would be rounded
    # differently for every operation that is added or left out somewhere before.
    with keras.name_scope(f"stage_{i:02d}"):
        return weight * stage


def spread(v: Any, z: Any) -> Any:
    """A number for the batch, or one for each sample, in the dtype and a shape that multiply z."""
    if not hasattr(v, "dtype") or not hasattr(z, "dtype"):
        return v
    if v.dtype != z.dtype:
        v = ops.cast(v, z.dtype)
    return ops.reshape(v, (-1, *(1 for _ in z.shape[1:]))) if len(v.shape) else v


def time_of(t: Any, z: Any) -> Any:
    """The time as a field is given it: a scalar, or one for each sample, `(batch_size, 1, ...)`."""
    return spread(t, tree.flatten(z)[0])
