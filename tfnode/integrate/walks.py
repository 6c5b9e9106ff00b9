"""From a state along a grid: to its end, to the times asked for, or with every state on the way."""

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from tfnode.integrate.grids import Grid
from tfnode.integrate.loops import scan
from tfnode.integrate.runge_kutta import runge_kutta_step, time_of
from tfnode.tableaus import ButcherTableau

tree = keras.tree


def solve(
    field: Callable,
    z0: Any,
    grid: Grid,
    tableaus: tuple[ButcherTableau, ...],
    method: Any = None,
    weights: Any = (),
    constants: Any = (),
    gradient: str | None = None,
) -> Any:
    """Returns the states at the times of the grid, with a first axis of times.

    Args:
        field: Callable `field(weights, constants, t, z)`; under the discrete adjoint a pure
            function of its arguments.
        z0: The state at the start: a tensor or a nested structure of tensors.
        grid: `Grid`.
        tableaus: The methods that a step may take.
        method: int32 scalar tensor, the index of the one that it takes; None if there is one only.
        weights: Nested structure of tensors that the discrete adjoint differentiates by.
        constants: Nested structure of further tensors, without gradient.
        gradient: `"discrete_adjoint"`, `"backprop"`, or None where no gradient is asked for; see
            `tfnode.integrate.loops.scan`.
    """
    given = weights, (constants, [] if method is None else [method])

    def step(carry: list, row: list, weights: list, constants: list) -> list:
        t, dt = row
        z = tree.pack_sequence_as(z0, carry)
        weights = tree.pack_sequence_as(given[0], weights)
        constants, chosen = tree.pack_sequence_as(given[1], constants)
        derivative = lambda t, z: field(weights, constants, time_of(t, z), z)
        with_tableau = lambda tableau: runge_kutta_step(derivative, t, z, dt, tableau)
        if not chosen:
            return tree.flatten(with_tableau(tableaus[0]))
        branches = [functools.partial(with_tableau, tableau) for tableau in tableaus]
        return tree.flatten(ops.switch(chosen[0], branches))

    num_times = grid.stops.shape[0]
    carry, states = scan(
        step,
        tree.flatten(z0),
        [grid.starts, grid.steps],
        tree.flatten(given[0]),
        tree.flatten(given[1]),
        grid.num_steps,
        gradient,
        keep=num_times > 1,
        rows_have_gradient=grid.has_gradient,
    )
    if num_times == 1:
        return tree.map_structure(lambda z: z[None], tree.pack_sequence_as(z0, carry))
    states = tree.pack_sequence_as(z0, states)
    return tree.map_structure(lambda z0, z: _at_stops(grid.stops, z0, z), z0, states)


def _at_stops(stops: Any, z0: Any, states: Any) -> Any:
    """The states after so many steps, of the start and the states after each step."""
    index = ops.maximum(stops - 1, 0)
    shape = (*stops.shape, *(1 for _ in states.shape[len(stops.shape) :]))
    shape = tuple(-1 if size is None else size for size in shape)
    if len(stops.shape) == 1:
        picked = ops.take(states, index, axis=0)
    else:
        picked = ops.take_along_axis(states, ops.reshape(index, shape), axis=0)
    return ops.where(ops.reshape(ops.equal(stops, 0), shape), z0[None], picked)


def solve_unrolled(field: Callable, z0: Any, grid: Grid, tableau: ButcherTableau) -> list:
    """As `solve` on a grid of NumPy arrays, with every step written into the graph.

    Args:
        field: Callable `field(t, z)`.
        z0: The state at the start.
        grid: `Grid` of NumPy arrays.
        tableau: `tfnode.tableaus.ButcherTableau`.

    Returns:
        List of the states before, between and after the steps.
    """
    states = [z0]
    for t, dt in zip(grid.starts[: grid.num_steps], grid.steps[: grid.num_steps]):
        states.append(
            runge_kutta_step(lambda t, z: field(time_of(t, z), z), t, states[-1], dt, tableau)
        )
    return states


def trajectory(field: Callable, z0: Any, grid: Grid, t1: Any, tableau: ButcherTableau) -> tuple:
    """Returns the times `(N + 1,)` and the states `(N + 1, ...)` on a grid, eagerly."""
    num_steps = int(grid.num_steps)
    starts, steps = (ops.convert_to_numpy(a)[:num_steps] for a in (grid.starts, grid.steps))
    states = solve_unrolled(field, z0, Grid(starts, steps, num_steps, None), tableau)
    times = np.append(starts, np.asarray(t1, starts.dtype))
    return times, tree.map_structure(lambda *z: ops.stack(z), *states)
