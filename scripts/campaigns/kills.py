"""A training that is killed at random moments and taken up again: the same bits in the end."""

import contextlib
import itertools
import pathlib
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection

import keras
import numpy as np
import tensorflow as tf

import tfnode
from scripts.campaigns.running import Try
from scripts.campaigns.workers import Worker
from scripts.paper import checkpoints, experiments
from tfnode import files

ITERATIONS, BATCH_SIZE, BETWEEN = 120, 16, 10
MOST_KILLS = 3
_SECONDS = 120


@contextlib.contextmanager
def campaign(directory: pathlib.Path) -> Iterator[Try]:
    with Worker(train, directory / "straight") as worker:
        worker.answer(_SECONDS)
        began = time.monotonic()
        worker.answer(_SECONDS)
        seconds = time.monotonic() - began
    expected = result(directory / "straight").read_bytes()
    numbers = itertools.count()

    def try_one(rng: np.random.Generator) -> int:
        folder = directory / f"killed_{next(numbers)}"
        moments = rng.uniform(0, seconds, size=rng.integers(1, MOST_KILLS + 1))
        for moment in moments:
            with Worker(train, folder) as worker:
                worker.answer(_SECONDS)
                time.sleep(moment)
        with Worker(train, folder) as worker:
            worker.answer(_SECONDS)
            worker.answer(_SECONDS)
        told = f"killed after {moments.round(2).tolist()} seconds"
        assert result(folder).read_bytes() == expected, f"{told} it ended otherwise"
        return 1

    yield try_one


def result(folder: pathlib.Path) -> pathlib.Path:
    """Where a training leaves its weights and what its adaption did."""
    return folder / "result.json"


def train(connection: Connection, folder: pathlib.Path) -> None:
    """Trains from the last checkpoint on, if there is one; tells when it begins and when it ends.

    A process of its own runs this.
    """
    keras.utils.set_random_seed(0)
    origin = {"run": {"iterations": ITERATIONS}, **experiments.provenance()}
    found = checkpoints.load(folder / "checkpoints", origin)
    model, states, _ = found or (_model(), {}, origin)
    x, y = _data()
    adaption = tfnode.StepAdaption((x, y), every=7, policy="damped", batch_size=64)
    if states:
        adaption.set_state(states["adaption"])
    checkpoint = checkpoints.Checkpoint(folder / "checkpoints", origin, {"adaption": adaption})
    save = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: (
            checkpoint.save() if int(model.optimizer.iterations) % BETWEEN == 0 else None
        )
    )
    done = int(model.optimizer.iterations)
    batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH_SIZE).repeat()
    batches = batches.skip(done).take(ITERATIONS - done)
    connection.send("begun")
    if done < ITERATIONS:
        callbacks = [adaption, checkpoint, save]
        model.fit(batches, shuffle=False, verbose=0, callbacks=callbacks)
    weights = [keras.ops.convert_to_numpy(weight).tobytes().hex() for weight in model.weights]
    files.write_json(result(folder), {"weights": weights, "history": adaption.history})
    connection.send("ended")


def _data() -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(0).normal(size=(1024, 2)).astype("float32")
    return x, (x[:, 0] * x[:, 1] > 0).astype("int32")


def _model() -> keras.Model:
    inputs = keras.Input((2,))
    field = keras.Sequential([keras.layers.Dense(8, "tanh"), keras.layers.Dense(2)])
    z = tfnode.ODEBlock(field, tfnode.solvers.Euler(1 / 4))(inputs)
    model = keras.Model(inputs, keras.layers.Dense(2)(z))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    # XLA would take longer than the training.
    model.compile(keras.optimizers.Adam(0.05), loss, jit_compile=False)
    return model
