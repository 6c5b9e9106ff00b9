"""A model under other solvers is a scope, and what a model calls is seen by one.

While a scope is open, every `ODEBlock` that is called, wherever it sits, is replaced by the one
that the scope has for it: in subclassed models, in layers of a user's own, in `TimeDistributed`, in
cells of recurrent layers. Nothing is cloned, and the model is not touched.
"""

import collections
import contextlib
import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from tfnode import arguments
from tfnode.keras_internals import mask_of, masked, sublayers
from tfnode.layers import ODEBlock
from tfnode.layers.stand_ins import enclosing_block, stand_ins


@dataclasses.dataclass(frozen=True)
class Reached:
    """A block that a model calls.

    Args:
        block: `ODEBlock`.
        inputs: Tuple of the pairs of state and conditions that one forward pass calls it with.
        direct: Integer, how many of these calls come from no other block's field.
        nested: Tuple of pairs: the position of another block among those reached, and how often
            an evaluation of its field calls this one.
        has_times: Boolean, whether a call has times of its own, which another call may have not.
    """

    block: ODEBlock
    inputs: tuple[tuple[Any, Any], ...]
    direct: int
    nested: tuple[tuple[int, int], ...] = ()
    has_times: bool = False

    @property
    def way(self) -> float:
        """Float, the length of what is integrated, at most."""
        block = self.block
        return block.length if self.has_times else abs(_times_of(block)[-1] - block.t0)

    @property
    def longest_step(self) -> float:
        """Float, the longest step that is taken: the longest way between two of the times.

        Of calls with times of their own it is not known, and is the longest that the block allows.
        """
        times = (self.block.t0, *_times_of(self.block))
        ways = [abs(end - start) for start, end in itertools.pairwise(times)]
        return abs(times[-1] - times[0]) if self.has_times else max(ways)

    @property
    def calls(self) -> int:
        """Integer, how often the forward pass that looked for it called it.

        `keras.layers.RNN` calls its cell once more than there are times, unless it is unrolled, to
        see the shape of the result. A graph of TensorFlow leaves that call out.
        """
        return len(self.inputs)


def _times_of(block: ODEBlock) -> tuple[float, ...]:
    return block.save_at or (block.t1,)


def calls_of(reached: Sequence[Reached], blocks: Sequence[ODEBlock]) -> list[int]:
    """How often one forward pass calls each block now, with `blocks` in their places.

    A block in the field of another one is called as often as that evaluates its field, which
    changes with its step.
    """
    calls: list[int] = []
    for found in reached:
        nested = sum(number * calls[i] * blocks[i].nfe for i, number in found.nested)
        calls.append(found.direct + nested)
    return calls


@contextlib.contextmanager
def solver_scope(blocks: Sequence[ODEBlock], others: Sequence[ODEBlock]) -> Iterator[None]:
    """While it is open, `others[i]` runs where `blocks[i]` is called.

    Raises:
        ValueError: When a block is called for which there is no other; at the end, if a block was
            not called: a function that was traced before keeps the solver that it had.
    """
    by_id = {id(block): other for block, other in zip(blocks, others)}
    called = set()

    def resolve(block: ODEBlock, state: Any, conditions: Any, times: Any) -> ODEBlock:
        if id(block) not in by_id:
            raise ValueError(
                "A model under another solver may only call blocks that it called when they were "
                f"looked for. Received: a call of block {block.name!r}, which is none of "
                f"{[b.name for b in blocks]}. Make the block an attribute of the layer that calls "
                "it, and call it in every forward pass."
            )
        called.add(id(block))
        return by_id[id(block)]

    with stand_ins(resolve):
        yield
    missed = [block.name for block in blocks if id(block) not in called]
    if missed:
        raise ValueError(
            "A model under another solver must call every block, or it would answer with a solver "
            f"that nobody asked for. Received: no call of {missed} among the blocks "
            f"{[block.name for block in blocks]}. Call them in every forward pass, and not in a "
            "`tf.function` or `jax.jit` of your own, which keeps what it was traced with."
        )


def reached_blocks(model: keras.Model | ODEBlock, x: Any) -> list[Reached]:
    """Runs a model once, eagerly, and returns the blocks that it calls, in their order.

    Args:
        model: Keras model, or an `ODEBlock`.
        x: A batch of its inputs.

    Raises:
        ValueError: If it has none, does not call all that it holds, or calls one for longer than
            its interval.
    """
    return looked_at(model, x)[0]


def looked_at(model: keras.Model | ODEBlock, x: Any) -> tuple[list[Reached], Any]:
    """As `reached_blocks`, with the outputs for the batch beside the blocks."""
    seen: dict[int, list[tuple]] = {}

    def note(block: ODEBlock, state: Any, conditions: Any, times: Any) -> ODEBlock:
        if not _asks_for_shapes(state):
            given = (keras.tree.map_structure(_kept, tensors) for tensors in (state, conditions))
            call = block, times, *given, enclosing_block()
            seen.setdefault(id(block), []).append(call)
        return block

    with stand_ins(note), _eager():
        outputs = model(x, training=False)
    # A block that is called need not be held, but one of them there must be.
    missed = [b for b in (held_blocks(model) if seen else some_blocks(model)) if id(b) not in seen]
    if missed:
        raise ValueError(
            "The model must call every `ODEBlock` that it holds, so that what is measured of it is "
            f"the whole. Received: model={model.name!r} of type "
            f"{type(model).__name__}, which calls {[c[0][0].name for c in seen.values()]} and does "
            f"not call {[block.name for block in missed]}. Call them in every forward "
            "pass, or leave them out of the model."
        )
    for block, times, *_ in itertools.chain.from_iterable(seen.values()):
        # Not while it is called: Keras would wrap the error.
        _check_times(block, times)
    return _with_positions(list(seen.values())), outputs


def _kept(tensor: Any) -> Any:
    """A tensor with the mask that it has now: a block takes it off what it gives its field."""
    mask = None if tensor is None else mask_of(tensor)
    return tensor if mask is None else masked(ops.copy(tensor), mask)


def _check_times(block: ODEBlock, times: Any) -> None:
    """Raises if a call is longer than the interval of a block, by which all is measured."""
    if times is None:
        return
    try:
        times = ops.convert_to_numpy(times).ravel()
    except (NotImplementedError, TypeError):
        # In a graph of a user's own, which a scope refuses.
        return
    end = float(times[np.abs(times - block.t0).argmax()])
    rounding = 4 * np.finfo(block.time_dtype).eps * max(abs(block.t0), abs(block.t1))
    if abs(end - block.t0) > block.length + rounding:
        raise ValueError(
            "A model is measured with steps, and counts of them, that go by the interval of each "
            "block, so no call of a block may be longer. "
            f"Received: a call of {block.name!r} on [{block.t0}, {block.t1}] up to {end:.6g}. "
            f"Build the block with t1={end:.6g}, or the longest time of all data: calls of it "
            "may be shorter."
        )


def _with_positions(seen: list[list[tuple]]) -> list[Reached]:
    """What was noted of each block, with the enclosing blocks by their positions."""
    positions = {id(calls[0][0]): i for i, calls in enumerate(seen)}
    reached: list[Reached] = []
    for calls in seen:
        outer = collections.Counter(positions[id(b)] for *_, b in calls if b is not None)
        # An enclosing block was called before, so it is among those found.
        evaluations = {i: reached[i].calls * reached[i].block.nfe for i in outer}
        reached.append(
            Reached(
                block=calls[0][0],
                inputs=tuple((state, conditions) for _, _, state, conditions, _ in calls),
                direct=len(calls) - outer.total(),
                nested=tuple((i, number // evaluations[i]) for i, number in outer.items()),
                has_times=any(times is not None for _, times, *_ in calls),
            )
        )
    return reached


def _eager() -> contextlib.AbstractContextManager:
    """In which JAX's loops run turn by turn, so that every call of a block is one."""
    if keras.backend.backend() != "jax":
        return contextlib.nullcontext()
    import jax

    return jax.disable_jit()


def _asks_for_shapes(state: Any) -> bool:
    """Whether JAX traces a call, which it does in an eager pass for the shapes of loops alone."""
    if keras.backend.backend() != "jax":
        return False
    from jax.interpreters.partial_eval import DynamicJaxprTracer

    return isinstance(keras.tree.flatten(state)[0], DynamicJaxprTracer)


def held_blocks(model: keras.Layer) -> list[ODEBlock]:
    """Returns the blocks that a model tracks, wherever they sit, in order."""
    layers = list(sublayers(arguments.model(model)))
    replaced = {id(b) for layer in layers for b in getattr(layer, "replaced_blocks", ())}
    return [b for b in layers if isinstance(b, ODEBlock) and id(b) not in replaced]


def some_blocks(model: keras.Layer) -> list[ODEBlock]:
    """As `held_blocks`, of a model that has one at least.

    Raises:
        ValueError: If it has none.
    """
    blocks = held_blocks(model)
    if not blocks:
        raise ValueError(
            "The model must have an `ODEBlock`, whose solver can be exchanged. "
            f"Received: model={model.name!r} of type {type(model).__name__}, without any block. "
            "Build it with `tfnode.ODEBlock`; a model of residual layers is judged by "
            "`tfnode.validity.check_resnet`."
        )
    return blocks
