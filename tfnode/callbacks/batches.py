"""Batches without end, from what a user passes to `fit`."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from tfnode import batches
from tfnode.callbacks.processes import of_first
from tfnode.typing import Data

# As many as are kept of what can be read once only.
_MOST_KEPT = 100


def rereadable(data: Data) -> Data:
    """Data that can be read from its beginning again and again, as checks and reports read it."""
    return _Kept(data) if isinstance(data, Iterator) else data


class _Kept:
    """The first batches of an iterator, such as a generator, kept as they are first read."""

    def __init__(self, stream: Iterator) -> None:
        self._rest = itertools.islice(stream, _MOST_KEPT)
        self._batches: list[Any] = []

    def __iter__(self) -> Iterator[Any]:
        for place in itertools.count():
            if place == len(self._batches):
                self._batches.extend(itertools.islice(self._rest, 1))
            if place == len(self._batches):
                return
            yield self._batches[place]


class CheckBatches:
    """The batches that checks draw from, in turn, and how many were drawn.

    Args:
        data: Batches or arrays, as for `StepAdaption`.
        batch_size: Integer, the samples of a batch of arrays.
    """

    def __init__(self, data: Data, batch_size: int) -> None:
        self._data = data
        self._batch_size = batch_size
        self._stream: Iterator[batches.Batch] | None = None
        self._peeked: batches.Batch | None = None
        self.used = 0

    def copy(self) -> "CheckBatches":
        """Batches of the same data, from where these stand."""
        new = CheckBatches(self._data, self._batch_size)
        new.used = self.used
        return new

    def draw(self) -> batches.Batch:
        """The next batch; those that were drawn before are passed over."""
        batch, self._peeked = self.peek(), None
        self.used += 1
        return batch

    def peek(self) -> batches.Batch:
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


def endless_batches(data: Data, batch_size: int) -> Iterator[batches.Batch]:
    """Yields `(inputs, labels, weights)` batches for ever, all of the size of the first.

    Arrays are shuffled anew in every round. Batches of a dataset that are smaller, as its last one
    may be, are joined: no check rests on a few samples.
    """
    if isinstance(data, tuple):
        arrays = batches.arrays(data)
        if not len(arrays[1]):
            raise batches.empty(data)
        yield from _shuffled(arrays, batch_size)
    rest: list[batches.Batch] = []
    size = 0
    while True:
        is_empty = True
        for batch in batches.batches(data):
            is_empty, size = False, size or len(batch[1])
            if len(batch[1]) == size and not rest:
                yield batch
                continue
            rest = [batches.joined([*rest, batch])]
            while len(rest[0][1]) >= size:
                yield batches.rows(rest[0], slice(size))
                rest = [batches.rows(rest[0], slice(size, None))]
            rest = rest if len(rest[0][1]) else []
        if is_empty:
            raise batches.empty(data)


def _shuffled(arrays: batches.Batch, batch_size: int) -> Iterator[batches.Batch]:
    """Batches of arrays in a new, seeded order for every round."""
    rng = np.random.default_rng(0)
    while True:
        order = rng.permutation(len(arrays[1]))
        # Full batches only, so that accuracies compare, unless there is no full one.
        end = len(order) - len(order) % batch_size or len(order)
        for start in range(0, end, batch_size):
            yield batches.rows(arrays, order[start : start + batch_size])
