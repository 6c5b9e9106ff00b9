"""Which block runs when a block is called: itself, unless a scope says otherwise.

`tfnode.models` opens such scopes; blocks ask for them, wherever they sit.
"""

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras import ops

# A function from a block, its state, its conditions and the times of the call, None for those of
# the block, to the block that runs in its place.
Resolve = Callable[[Any, Any, Any, Any], Any]

_SCOPES: contextvars.ContextVar[tuple[Resolve, ...]] = contextvars.ContextVar(
    "tfnode_scopes", default=()
)

_INTEGRATED: contextvars.ContextVar[Any] = contextvars.ContextVar("tfnode_block", default=None)


@contextlib.contextmanager
def stand_ins(resolve: Resolve) -> Iterator[None]:
    """While it is open, `resolve(block, state, conditions, times)` gives the block that runs.

    Scopes nest: the innermost is asked first, and the next one about its answer.
    """
    token = _SCOPES.set((*_SCOPES.get(), resolve))
    try:
        yield
    finally:
        _SCOPES.reset(token)


def in_open_scopes(function: Callable) -> Callable:
    """The function in the scopes that are open now: a backward pass calls it when they are shut."""
    scopes = _SCOPES.get()

    @functools.wraps(function)
    def inside(*args: Any) -> Any:
        token = _SCOPES.set(scopes)
        try:
            return function(*args)
        finally:
            _SCOPES.reset(token)

    return inside


def stand_in_for(block: Any, state: Any, conditions: Any, times: Any) -> Any:
    """The block that runs when `block` is called with a state, conditions and times."""
    for resolve in reversed(_SCOPES.get()):
        block = resolve(block, state, conditions, times)
    return block


class Reordered:
    """A stand-in for a block, which has some of its states, in another order.

    Args:
        block: `ODEBlock` with `save_at`, which integrates.
        places: List of integers: 0 for the input, 1 for the state at the first time, and so on.
    """

    def __init__(self, block: Any, places: list[int]) -> None:
        self._block, self._places = block, places
        self.regularization, self._t0, self._t1 = block.regularization, block.t0, block.t1

    def _times(self, *times_of_call: Any) -> Any:
        return self._block._times(*times_of_call)

    def _integrate(self, z0: Any, *arguments: Any) -> Any:
        states = self._block._integrate(z0, *arguments)

        def chosen(start: Any, states: Any) -> Any:
            start = ops.cast(ops.expand_dims(start, 0), states.dtype)
            return ops.take(ops.concatenate([start, states]), self._places, axis=0)

        return keras.tree.map_structure(chosen, z0, states)


@contextlib.contextmanager
def integrating(block: Any) -> Iterator[None]:
    """While it is open, calls of blocks come from the field of this one."""
    token = _INTEGRATED.set(block)
    try:
        yield
    finally:
        _INTEGRATED.reset(token)


def enclosing_block() -> Any:
    """The block whose field is being evaluated, or None."""
    return _INTEGRATED.get()
