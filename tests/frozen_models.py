"""Frozen linear models, on which every decision of an adapting callback is known by hand.

The field is `rate * z`, the state 1, and class 1 is predicted where the solution exceeds `level`.
The learning rate is 0, so what a check sees depends on the solver alone.
"""

import math

import keras
import numpy as np
import tensorflow as tf

import tfnode

X = np.ones((8, 1), "float32")
ZEROS, ONES = np.zeros(8, "int64"), np.ones(8, "int64")


@keras.saving.register_keras_serializable("tfnode_tests")
class Linear(keras.layers.Layer):
    """The field `rate * z`, which notes each of its calls in training: these are traces."""

    def __init__(self, rate, **kwargs):
        super().__init__(**kwargs)
        self.rate = rate
        self.traces = 0

    def call(self, z, training=None):
        self.traces += bool(training)
        return self.rate * z

    def get_config(self):
        return {**super().get_config(), "rate": self.rate}


def frozen(rate=-0.5, level=0.0, t1=(1.0,), solver="euler", save_at=None, **options):
    """A frozen model with a block for each `t1`, which predicts class 1 above `level`.

    Where a block saves at times, the state at the last of them goes on.
    """
    z = inputs = keras.Input((1,))
    for i, end in enumerate(t1):
        z = tfnode.ODEBlock(Linear(rate), solver, t1=end, save_at=save_at, name=f"ode_{i}")(z)
        if save_at is not None:
            z = keras.layers.Flatten()(keras.layers.Cropping1D((len(save_at) - 1, 0))(z))
    logits = keras.layers.Dense(2, name="logits")
    model = keras.Model(inputs, logits(z))
    logits.set_weights([np.array([[-1.0, 1.0]]), np.array([level, -level])])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    # As an object: a metric that is made while TensorFlow traces has it trace once more.
    accuracy = keras.metrics.SparseCategoricalAccuracy("accuracy")
    # XLA compiles for longer than all else takes.
    options = {"metrics": [accuracy], "jit_compile": False, **options}
    model.compile(keras.optimizers.SGD(0.0), loss, **options)
    return model


def fit(model, callback, y=ONES, iterations=4, epochs=1, more=()):
    """Trains for `epochs` epochs of `iterations` iterations, each on the whole of `X`."""
    batches = tf.data.Dataset.from_tensors((X, y)).repeat(iterations)
    callbacks = [callback, *more]
    return model.fit(batches, epochs=epochs, verbose=0, shuffle=False, callbacks=callbacks)


def by_hand(model, callback, iterations):
    """A training loop of one's own, without a loss to train by, and so without a graph of it."""
    callbacks = keras.callbacks.CallbackList([callback], model=model)
    callbacks.on_train_begin()
    callbacks.on_epoch_begin(0)
    for batch in range(iterations):
        callbacks.on_train_batch_begin(batch)
        variables = model.trainable_variables
        model.optimizer.apply([np.zeros(v.shape, "float32") for v in variables], variables)
        callbacks.on_train_batch_end(batch, {})
    callbacks.on_epoch_end(0)
    callbacks.on_train_end()


def rounded(step_size):
    """What the weight's single precision makes of a step size."""
    return float(np.float32(step_size))


def num_steps(step_size, length=1.0):
    # A step size is single precision, so that 1/10 is not quite 1/10.
    return math.ceil(length / step_size - 1e-4)


def columns(callback, *names):
    return [tuple(record[name] for name in names) for record in callback.history]


class Notes(keras.callbacks.Callback):
    """Notes the logs of every batch."""

    def __init__(self):
        super().__init__()
        self.logs = []

    def on_train_batch_end(self, batch, logs=None):
        self.logs.append(dict(logs))
