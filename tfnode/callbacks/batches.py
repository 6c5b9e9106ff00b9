"""Batches without end, from what a user passes to `fit`."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from tfnode.callbacks.processes import of_first
from tfnode.typing import Data


class CheckBatches:
    """The batches that checks draw from, in turn, and how many were drawn.

    Args:
        data: Batches or arrays, as for `StepAdaption`.
        batch_size: Integer, the samples of a batch of arrays.
    """

    def __init__(self, data: Data, batch_size: int) -> None:
        self._data = data
        self._batch_size = batch_size
        self._stream: Iterator[tuple] | None = None
        self._peeked: tuple | None = None
        self.used = 0

    def copy(self) -> "CheckBatches":
        """Batches of the same data, from where these stand."""
        new = CheckBatches(self._data, self._batch_size)
        new.used = self.used
        return new

    def draw(self) -> tuple:
        """The next batch; those that were drawn before are passed over."""
        batch, self._peeked = self.peek(), None
        self.used += 1
        return batch

    def peek(self) -> tuple:
        """The batch that is drawn next. A shuffled dataset has another order for every iterator.

        Where several processes train one model, it is that of the first in all of them.
        """
        if self._peeked is None:
            try:
                if self._stream is None:
                    self._stream = endless_batches(self._data, self._batch_size)
                    for _ in range(self.used):
                        next(self._stream)
                self._peeked = of_first(next(self._stream))
            except Exception:
                # Offered once more, the same data is refused once more.
                self._stream = None
                raise
        return self._peeked


def endless_batches(data: Data, batch_size: int) -> Iterator[tuple]:
    """Yields `(inputs, labels)` batches for ever; arrays are shuffled anew in every round."""
    if isinstance(data, tuple) and len(data) == 2:
        x, y = data
        data = _ArrayBatches(x, y, batch_size)
    while True:
        empty = True
        for batch in data:
            empty = False
            if not isinstance(batch, (tuple, list)) or len(batch) < 2:
                raise ValueError(
                    "Step adaption measures accuracies and needs batches `(inputs, labels)`. "
                    f"Received: data with a batch of type {type(batch).__name__}. Pass the "
                    "dataset that the model is trained on."
                )
            yield batch[0], batch[1]
        if empty:
            raise ValueError(
                "Step adaption needs at least one batch of data. "
                f"Received: data={data!r}, which is empty. Is it a generator that was used up, "
                "or smaller than one batch with drop_remainder=True?"
            )


class _ArrayBatches:
    """Batches of two arrays in a new, seeded order for every round."""

    def __init__(self, x: Any, y: Any, batch_size: int) -> None:
        self._x, self._y, self._batch_size = np.asarray(x), np.asarray(y), batch_size
        self._rng = np.random.default_rng(0)
        if len(self._x) != len(self._y):
            raise ValueError(
                "Inputs and labels must have the same length. "
                f"Received: len(x)={len(self._x)}, len(y)={len(self._y)}. Pass `(x, y)` with a "
                "label for every input."
            )

    def __iter__(self) -> Iterator[tuple]:
        order = self._rng.permutation(len(self._x))
        # Full batches only, so that accuracies compare, unless there is no full one.
        end = len(order) - len(order) % self._batch_size or len(order)
        for start in range(0, end, self._batch_size):
            rows = order[start : start + self._batch_size]
            yield self._x[rows], self._y[rows]
