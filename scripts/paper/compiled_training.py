"""Training on JAX with the data on the device and many iterations in one compiled call."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from scripts.paper import data
from scripts.paper.data import Batches


def train(
    model: keras.Model,
    batches: Batches,
    iterations: int,
    callbacks: Sequence[keras.callbacks.Callback],
    at_once: int,
) -> None:
    """Trains a compiled model as one epoch of `fit` does, with the callbacks that `fit` would call.

    Keras's own loop takes Python, and a copy of a batch, for every iteration; this one takes them
    for many. Between two calls the state is in the model's variables, where callbacks read and
    assign it.

    Args:
        model: Compiled functional model, whose loss is minimized with what its layers add.
        batches: The batches of the whole training.
        iterations: Integer, the optimizer's steps at the end; the model may have some already.
        callbacks: Keras callbacks.
        at_once: Integer, the iterations of a call.
    """
    optimizer = model.optimizer
    call = Compiled(model, batches)
    first = int(optimizer.iterations)
    every = keras.callbacks.CallbackList(
        list(callbacks), add_history=False, model=model, epochs=1, steps=iterations - first
    )
    every.on_train_begin()
    every.on_epoch_begin(0)
    logs, total = {}, 0.0
    for start in range(first, iterations, at_once):
        end = min(start + at_once, iterations)
        every.on_train_batch_begin(start - first)
        total += float(call(start, end).sum())
        logs = {"loss": total / (end - first)}
        every.on_train_batch_end(end - first - 1, logs)
    optimizer.finalize_variable_values(model.trainable_variables)
    every.on_epoch_end(0, logs)
    every.on_train_end(logs)


def seconds(model: keras.Model, batches: Batches, iterations: int) -> list[float]:
    """Returns how long an iteration takes in each of a few calls, which train the model."""
    call, found = Compiled(model, batches), []
    call(0, iterations)
    for _ in range(3):
        start = time.perf_counter()
        call(0, iterations)
        found.append((time.perf_counter() - start) / iterations)
    return found


class Compiled:
    """Iterations in one call, which begins and ends with the state in the model's variables.

    Args:
        model: Compiled functional model.
        batches: The batches, whose data is then on the device.
    """

    def __init__(self, model: keras.Model, batches: Batches):
        import jax.numpy as jnp

        optimizer = model.optimizer
        if not optimizer.built:
            optimizer.build(model.trainable_variables)
        self._groups = (
            model.trainable_variables,
            model.non_trainable_variables,
            optimizer.variables,
        )
        self._batches = batches
        self._x, self._y = jnp.asarray(batches.x), jnp.asarray(batches.y)
        self._function = _function(model)

    def __call__(self, start: int, end: int) -> np.ndarray:
        """Trains on the batches from `start` to before `end`; returns their losses."""
        every = [self._batches.rows, *[self._batches.moves] * self._batches.augments]
        taken = [np.stack([of(i) for i in range(start, end)]).astype("int32") for of in every]
        state = [[variable.value for variable in group] for group in self._groups]
        state, losses = self._function(state, self._x, self._y, taken)
        for group, values in zip(self._groups, state):
            for variable, value in zip(group, values):
                variable.assign(value)
        return np.asarray(losses, "float64")


def _function(model: keras.Model) -> Callable:
    """A function from a state, the data and what batches take of it to a state and losses."""
    import jax
    import jax.numpy as jnp
    from jax import lax

    def loss_of(trainable: list, others: list, x: Any, y: Any) -> tuple:
        outputs, others, added = model.stateless_call(
            trainable, others, x, training=True, return_losses=True
        )
        return sum(added, start=model.loss(y, outputs)), others

    gradient = jax.value_and_grad(loss_of, has_aux=True)

    @jax.jit
    def call(state: Sequence[list], x: Any, y: Any, taken: list) -> tuple:
        def step(state: tuple, taken: list) -> tuple:
            (trainable, others, own), (rows, *moves) = state, taken
            inputs = data.moved(x[rows], *moves, jnp) if moves else x[rows]
            (loss, others), gradients = gradient(trainable, others, inputs, y[rows])
            trainable, own = model.optimizer.stateless_apply(own, gradients, trainable)
            return (trainable, others, own), loss

        return lax.scan(step, tuple(state), taken)

    return call
