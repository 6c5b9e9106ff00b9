"""What step adaption measures of a model, without touching it: outputs and Hairer's step."""

import functools
import math

import keras
import numpy as np
from keras import ops

from tfnode import adaption
from tfnode.models import ode_blocks, replace_blocks


class _Twin:
    """A model that shares every weight of another, with solvers of its own, to measure with."""

    def __init__(self, model, choose_solver):
        """`choose_solver(block)` gives the twin's solver for a block of the model."""
        self.model = replace_blocks(model, lambda block: block.with_solver(choose_solver(block)))
        self._blocks = ode_blocks(self.model)

        def measure(x, y):
            outputs = self.model(x, training=False)
            probabilities = class_probabilities(outputs, gives_logits(model))
            return accuracy(y, outputs, decision_threshold(model)), probabilities

        self._measure = compiled(measure, model.jit_compile)

    def measure(self, x, y):
        """Returns the accuracy, a float, and the class probabilities, a NumPy array."""
        accuracy, probabilities = self._measure(x, y)
        return float(accuracy), ops.convert_to_numpy(probabilities)


class StepTwin(_Twin):
    """A twin with fixed steps.

    Args:
        model: Keras model.
        finest_step_size: Float, the smallest step size of the model to come.
        choose_solver: Callable that gives the twin's solver for a solver and the length of the
            interval.
    """

    def __init__(self, model, finest_step_size, choose_solver):
        self._choose = choose_solver
        self._originals = ode_blocks(model)
        super().__init__(model, lambda block: self._solver(block, finest_step_size))

    def assign(self, step_size):
        """Takes the solver for a training step size; returns the evaluations of one pass."""
        for block, original in zip(self._blocks, self._originals):
            block.step_size = self._solver(original, step_size).step_size
        return sum(block.nfe for block in self._blocks)

    def _solver(self, block, step_size):
        return self._choose(block.solver.with_step_size(step_size), block.length)


class ToleranceTwin(_Twin):
    """A twin with adaptive solvers.

    Args:
        model: Keras model.
        choose_solver: Callable that gives the twin's solver for a solver.
    """

    def __init__(self, model, choose_solver):
        super().__init__(model, lambda block: choose_solver(block.solver))

    def assign(self, tolerance):
        """Takes a tolerance, as both `rtol` and `atol`."""
        for block in self._blocks:
            block.rtol = block.atol = tolerance

    @property
    def evaluations(self):
        """Integer, the evaluations of the latest measurement."""
        return sum(block.statistics.evaluations for block in self._blocks)


def accuracy(y, outputs, threshold):
    """The fraction of rows whose class is right.

    Args:
        y: Labels: classes, one-hot rows, or 0/1 for a single output.
        outputs: Tensor of shape `(batch_size, ..., classes)`, logits or probabilities.
        threshold: Float, above which a single output means class 1.
    """
    if outputs.shape[-1] == 1:
        predicted = ops.cast(outputs > threshold, "int32")
        labels = ops.reshape(ops.cast(y, "int32"), ops.shape(predicted))
    else:
        predicted = ops.argmax(outputs, axis=-1)
        one_hot = len(y.shape) == len(outputs.shape) and y.shape[-1] == outputs.shape[-1]
        labels = ops.argmax(y, axis=-1) if one_hot else ops.reshape(y, ops.shape(predicted))
    return ops.mean(ops.cast(ops.equal(predicted, ops.cast(labels, predicted.dtype)), "float32"))


def class_probabilities(outputs, from_logits):
    """The probabilities of the classes, of which a single output gives two.

    Args:
        outputs: Tensor of shape `(batch_size, ..., classes)`.
        from_logits: Boolean, whether the outputs are logits or probabilities already.
    """
    if outputs.shape[-1] == 1:
        p = ops.sigmoid(outputs) if from_logits else outputs
        return ops.concatenate([1 - p, p], axis=-1)
    return ops.softmax(outputs) if from_logits else outputs


def total_variation(p, q):
    """The mean total variation distance of two arrays of class probabilities, in [0, 1]."""
    return float(np.abs(p.astype("float64") - q).sum(axis=-1).mean() / 2)


def decision_threshold(model):
    """The decision threshold of a single output: 0 for logits, 1/2 for probabilities."""
    return 0.0 if gives_logits(model) else 0.5


def gives_logits(model):
    """Whether the outputs are logits; the loss tells, which `compile` may be given in a list."""
    return any(getattr(loss, "from_logits", False) for loss in keras.tree.flatten(model.loss))


def compiled(function, jit_compile):
    """The function as one graph on TensorFlow, and without gradients on torch."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        # Traces are counted by code: without `partial`, the first ones of many models would look
        # like needless ones of one, and be warned of.
        function = functools.partial(function)
        return tf.function(function, jit_compile=jit_compile, reduce_retracing=True)
    if keras.backend.backend() == "torch":
        import torch

        return torch.no_grad()(function)
    return function


class _InitialStep(keras.layers.Layer):
    """Stands in for an `ODEBlock` in one eager call and notes Hairer's step for its input."""

    def __init__(self, block):
        super().__init__(name=block.name, dtype=block.dtype_policy, autocast=False)
        self.block = block
        self.step_size = None

    def call(self, inputs):
        block = self.block
        self.step_size = adaption.initial_step_size(
            block.vector_field.numpy(block.variable_dtype),
            block.t0,
            ops.convert_to_numpy(inputs),
            block.solver.order,
            block.length,
            direction=math.copysign(1.0, block.t1 - block.t0),
        )
        return block(inputs)

    def compute_output_spec(self, inputs):
        return self.block.compute_output_spec(inputs)


def initial_step_sizes(model, x):
    """Returns Hairer's step size of each block of a model, for a batch of inputs."""
    probes = []

    def probe(block):
        probes.append(_InitialStep(block))
        return probes[-1]

    replace_blocks(model, probe)(x, training=False)
    return [probe.step_size for probe in probes]
