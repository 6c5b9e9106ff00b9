"""Batches without end, from what a user passes to `fit`."""

import numpy as np


def endless_batches(data, batch_size):
    """Yields `(inputs, labels)` batches for ever; arrays are shuffled anew in every round."""
    if isinstance(data, tuple) and len(data) == 2:
        data = _ArrayBatches(*data, batch_size)
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

    def __init__(self, x, y, batch_size):
        self._x, self._y, self._batch_size = np.asarray(x), np.asarray(y), batch_size
        self._rng = np.random.default_rng(0)
        if len(self._x) != len(self._y):
            raise ValueError(
                "Inputs and labels must have the same length. "
                f"Received: len(x)={len(self._x)}, len(y)={len(self._y)}. Pass `(x, y)` with a "
                "label for every input."
            )

    def __iter__(self):
        order = self._rng.permutation(len(self._x))
        # Full batches only, so that accuracies compare, unless there is no full one.
        end = len(order) - len(order) % self._batch_size or len(order)
        for start in range(0, end, self._batch_size):
            rows = order[start : start + self._batch_size]
            yield self._x[rows], self._y[rows]
