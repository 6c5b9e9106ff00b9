"""Processes that write into one place at once: exports of a model, and a result file."""

import contextlib
import itertools
import json
import os
import pathlib
import re
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection

import keras
import numpy as np
import tensorflow as tf

import tfnode
from scripts.campaigns.running import Try
from scripts.campaigns.workers import Worker, answering
from tfnode import files
from tfnode.export.repositories import CARD, MODELS_CONFIG

WRITERS = 3
RESULT = "result.json"
_NUMBERS = list(range(10_000))
_SECONDS = 120


@contextlib.contextmanager
def campaign(directory: pathlib.Path) -> Iterator[Try]:
    numbers = itertools.count()
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(Worker(write_for_ever)) for _ in range(WRITERS)]
        for worker in workers:
            worker.answer(_SECONDS)

        def try_one(rng: np.random.Generator) -> int:
            base = directory / f"base_{next(numbers)}"
            base.mkdir()
            for worker in workers:
                worker.send((str(base), float(rng.uniform(0, 1))))
            judge(base, [_answer(worker, base) for worker in workers])
            return 1

        yield try_one


def _answer(worker: Worker, base: pathlib.Path) -> dict:
    """The answer of a worker, and whether the result file was whole meanwhile."""
    ends, is_whole = time.monotonic() + _SECONDS, True
    while time.monotonic() < ends:
        if (base / RESULT).exists():
            is_whole &= _is_whole((base / RESULT).read_text(encoding="utf-8"))
        with contextlib.suppress(TimeoutError):
            return {**worker.answer(0.01), "is_whole": is_whole}
    raise TimeoutError(f"A writer must end within {_SECONDS} seconds.")


def _is_whole(text: str) -> bool:
    try:
        return json.loads(text)["numbers"] == _NUMBERS
    except (KeyError, ValueError):
        return False


def judge(base: pathlib.Path, answers: list[dict]) -> None:
    """Raises unless each version is one complete model, or an error says why it is not there."""
    for answer in answers:
        assert answer["is_whole"], f"{RESULT} was not whole at some moment"
        assert "Received: " in answer.get("error", "Received: "), answer["error"]
    told = [path for answer in answers for path in answer.get("paths", ())]
    there = [str(path.parent) for path in base.glob("*/*/saved_model.pb")]
    assert sorted(told) == sorted(there), f"told of {told}, and there are {there}"
    x, expected = np.ones((2, 2), "float32"), None
    for path in map(pathlib.Path, there):
        assert (path / CARD).is_file(), f"no card in {path}"
        serve = tf.saved_model.load(path).signatures["serving_default"]
        found = serve(state=tf.constant(x))["logits"].numpy()
        expected = found if expected is None else expected
        np.testing.assert_array_equal(found, expected)
    config = (base / MODELS_CONFIG).read_text(encoding="utf-8")
    # A model is listed under each of its names.
    canaries = {int(version) for version in re.findall(r'key: "canary" value: (\d+)', config)}
    assert canaries == {max(int(pathlib.Path(path).name) for path in there)}, config
    left = [path.name for path in base.iterdir() if path.name.startswith(".writing-")]
    assert not left, f"left behind: {left}"


# === A writer ===
def write_for_ever(connection: Connection) -> None:
    """Exports a model, and writes a result, wherever it is told; a process of its own runs this."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((2,), name="state")
    z = tfnode.ODEBlock(keras.layers.Dense(2, "tanh"), tfnode.solvers.Euler(1 / 4))(inputs)
    model = keras.Model(inputs, keras.layers.Dense(2)(z))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x = np.random.default_rng(0).normal(size=(64, 2)).astype("float32")
    data = x, (x[:, 0] > 0).astype("int32")

    def write(task: tuple[str, float]) -> dict:
        base, seconds = pathlib.Path(task[0]), task[1]
        time.sleep(seconds)
        for _ in range(20):
            files.write_json(base / RESULT, {"process": os.getpid(), "numbers": _NUMBERS})
        options = {"reference_steps": 8, "verbose": 0}
        solvers = [tfnode.solvers.Euler(1 / 4)]
        try:
            paths = tfnode.export.export_saved_models(model, base, solvers, data, **options)
        except Exception as error:
            return {"error": f"{type(error).__name__}: {error}"}
        return {"paths": [str(path) for path in paths]}

    answering(connection, write)
