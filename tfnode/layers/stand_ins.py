"""Which block runs when a block is called: itself, unless a scope says otherwise.

`tfnode.models` opens such scopes; blocks ask for them, wherever they sit.
"""

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator
from typing import Any

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
