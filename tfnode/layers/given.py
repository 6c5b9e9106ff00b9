"""What a call of a block gives its field, the same at every evaluation: conditions and masks."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras import ops

from tfnode.keras_internals import mask_of, set_mask

tree = keras.tree


@dataclasses.dataclass(frozen=True)
class Given:
    """What a field is given beside the time and the state.

    Args:
        conditions: Nested structure of tensors, or None.
        masks: Tuple of the Keras masks of the tensors of the state and of the conditions, flat, in
            this order; None for those without.
    """

    conditions: Any = None
    masks: tuple = ()

    @classmethod
    def of_call(cls, state: Any, conditions: Any) -> "Given":
        """What a call gives: Keras attaches the masks to its tensors."""
        return cls(conditions, tuple(map(mask_of, _tensors(state, conditions))))

    @property
    def operands(self) -> list:
        """The tensors that have a gradient."""
        return [tensor for tensor in self._flat() if _has_gradient(tensor)]

    @property
    def constants(self) -> list:
        """The other tensors."""
        return [tensor for tensor in self._flat() if not _has_gradient(tensor)]

    def replaced(self, operands: list, constants: list) -> "Given":
        """The same with other operands and constants."""
        with_gradient, others = iter(operands), iter(constants)
        return self.mapped(lambda old: next(with_gradient if _has_gradient(old) else others))

    def mapped(self, function: Callable) -> "Given":
        """The same with the function of every tensor."""
        conditions = self.conditions
        if conditions is not None:
            # In the order of `operands` and `constants`, which a map need not have.
            flat = [function(tensor) for tensor in tree.flatten(conditions)]
            conditions = tree.pack_sequence_as(conditions, flat)
        return Given(conditions, tuple(m if m is None else function(m) for m in self.masks))

    @contextlib.contextmanager
    def masking(self, state: Any) -> Iterator[None]:
        """While it is open, a state and the conditions have their masks, which no operation keeps.

        A layer takes masks off what it is called with, or leaves them there, so that they are put
        back as they were.
        """
        masks = self.masks if any(mask is not None for mask in self.masks) else ()
        masked = list(zip(_tensors(state, self.conditions), masks))
        before = [mask_of(tensor) for tensor, _ in masked]
        for tensor, mask in masked:
            set_mask(tensor, mask)
        try:
            yield
        finally:
            for (tensor, _), mask in zip(masked, before):
                set_mask(tensor, mask)

    def _flat(self) -> list:
        conditions = [] if self.conditions is None else tree.flatten(self.conditions)
        return [*conditions, *(mask for mask in self.masks if mask is not None)]


def at_times(mask: Any, every: Any) -> Any:
    """The mask of a state, `(batch_size, ...)`, at times: `(batch_size, num_times, ...)`.

    Args:
        mask: Tensor of Booleans. It is the same at all times, which stand between a sample and
            what its mask is of.
        every: Tensor of Booleans, all true, of shape `(batch_size or 1, num_times)`.
    """
    for _ in mask.shape[1:]:
        every = ops.expand_dims(every, -1)
    return ops.logical_and(ops.expand_dims(mask, 1), every)


def _tensors(state: Any, conditions: Any) -> list:
    return tree.flatten(state) + ([] if conditions is None else tree.flatten(conditions))


def _has_gradient(tensor: Any) -> bool:
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    return dtype != "bool" and not keras.backend.is_int_dtype(dtype)
