"""Thousands of iterations of `fit` with `StepAdaption`: memory, traces and open files stay."""

import contextlib
import ctypes
import gc
import itertools
import os
import pathlib
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any

import keras
import numpy as np

import tfnode
from scripts.campaigns.running import Try
from scripts.campaigns.workers import Worker

# The iterations of a case, and the slope that counts as flat, in MB for each thousand.
EVERY = 1000
MOST = 1.0
# What XLA, allocators and caches take once is not counted, nor is a slope of fewer cases.
WARM_UP, LEAST = 1, 3
_SECONDS = 120


@contextlib.contextmanager
def campaign(directory: pathlib.Path) -> Iterator[Try]:
    """Yields what waits for the next thousand iterations and judges those before."""
    seen: list[dict[str, float]] = []
    with Worker(train, EVERY) as worker:

        def try_one(rng: np.random.Generator) -> int:
            seen.append(worker.answer(_SECONDS))
            judge(seen)
            return 1

        yield try_one


def judge(seen: list[dict[str, float]]) -> None:
    """Raises unless what was seen every thousand iterations stays, after the first of them."""
    steady = seen[WARM_UP:]
    for name in ("traces", "files"):
        assert len({now[name] for now in steady}) <= 1, f"{name} change: {seen}"
    if len(steady) >= LEAST:
        iterations, memory = ([now[name] for now in steady] for name in ("iteration", "memory"))
        slope = 1000 * np.polyfit(iterations, memory, 1)[0]
        assert slope < MOST, f"memory grows by {slope:.2f} MB in 1000 iterations: {memory}"


class Field(keras.layers.Layer):
    """A field that counts its traces."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = keras.layers.Dense(2, "tanh")
        self.traces = 0

    def call(self, z: object) -> object:
        self.traces += 1
        return self.dense(z)


class Watch(keras.callbacks.Callback):
    """Sends what the process holds, every so many iterations."""

    def __init__(self, connection: Connection, every: int, field: Field):
        super().__init__()
        self._connection, self._every, self._field = connection, every, field
        self._iterations = itertools.count(1)

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        iteration = next(self._iterations)
        if iteration % self._every == 0:
            files = len(os.listdir("/proc/self/fd"))
            now = {"iteration": iteration, "memory": resident(), "traces": self._field.traces}
            self._connection.send({**now, "files": files})


def train(connection: Connection, every: int, **options: Any) -> None:
    """Trains for ever, and tells what the process holds; a process of its own runs this.

    Args:
        connection: Is sent what the process holds.
        every: Integer, the iterations between.
        **options: Of `model.compile`.
    """
    keras.utils.set_random_seed(0)
    field, inputs = Field(), keras.Input((2,))
    block = tfnode.ODEBlock(field, tfnode.solvers.Euler(1 / 4))
    model = keras.Model(inputs, keras.layers.Dense(2)(block(inputs)))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    # So slow that thousands of iterations are all alike.
    model.compile(keras.optimizers.SGD(1e-4), loss, metrics=["accuracy"], **options)
    x = np.random.default_rng(0).normal(size=(512, 2)).astype("float32")
    y = (x[:, 0] * x[:, 1] > 0).astype("int32")
    callbacks = [tfnode.StepAdaption((x, y), every=10), Watch(connection, every, field)]
    model.fit(x, y, batch_size=32, epochs=10**9, verbose=0, callbacks=callbacks)


def resident() -> float:
    """The memory of this process in MB, without what the allocator only keeps for later."""
    gc.collect()
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
    pages = int(pathlib.Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
