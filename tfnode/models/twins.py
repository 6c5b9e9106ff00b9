"""A model under solvers of its own, compiled, to measure with."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras

from tfnode import solvers
from tfnode.layers import ODEBlock
from tfnode.models.scope import Reached, calls_of, solver_scope


class Twin:
    """A function of a model's outputs, with other solvers in its blocks; the model is untouched.

    The step sizes and tolerances are weights of the twin, so that assigning them does not trace it
    again.

    Args:
        model: Keras model.
        reached: List of `Reached`, the blocks that it calls.
        each: The solvers, one for each block. Later ones may not have finer steps than a loop of
            these takes.
        function: Callable `function(outputs, *arguments)`.
        jit_compile: Boolean, whether TensorFlow compiles it by XLA.
        save_at: Optional sequence of floats, other times for the blocks that have some.
    """

    def __init__(
        self,
        model: keras.Model,
        reached: Sequence[Reached],
        each: Sequence[solvers.Solver],
        function: Callable = lambda outputs: outputs,
        jit_compile: bool = False,
        save_at: Sequence[float] | None = None,
    ) -> None:
        originals = [found.block for found in reached]
        self._reached = reached
        self.blocks = [
            block.with_solver(solver, None if block.save_at is None else save_at)
            for block, solver in zip(originals, each)
        ]

        def measure(x: Any, *arguments: Any) -> Any:
            with solver_scope(originals, self.blocks):
                return function(model(x, training=False), *arguments)

        own = [v for block in self.blocks for v in block.non_trainable_variables]
        self._measure = _compiled(measure, [*model.variables, *own], own, jit_compile)

    def __call__(self, x: Any, *arguments: Any) -> Any:
        """`function` of the outputs for a batch of inputs."""
        return self._measure(x, *arguments)

    def assign(self, each: Sequence[solvers.Solver]) -> None:
        """Takes the step sizes or tolerances of solvers of the same methods."""
        for block, solver in zip(self.blocks, each):
            block.solver = solver

    @property
    def nfe(self) -> int:
        """Integer, the evaluations of one forward pass; with adaptive steps of the latest one."""
        return sum(calls * block.nfe for calls, block in self._calls())

    @property
    def num_steps(self) -> int:
        """Integer, the fixed steps of one forward pass."""
        return sum(calls * block.num_steps for calls, block in self._calls())

    def _calls(self) -> Iterator[tuple[int, ODEBlock]]:
        return zip(calls_of(self._reached, self.blocks), self.blocks)


def _compiled(function: Callable, variables: list, changing: list, jit_compile: bool) -> Callable:
    """The function as one graph on TensorFlow and JAX, and without gradients on torch.

    Args:
        function: Callable.
        variables: List of the Keras variables that it reads.
        changing: List of those that it writes, such as the statistics of adaptive steps.
        jit_compile: Boolean, whether TensorFlow compiles it by XLA.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        # Traces are counted by code: without `partial`, the first ones of many models would look
        # like needless ones of one, and be warned of.
        function = functools.partial(function)
        return tf.function(function, jit_compile=jit_compile, reduce_retracing=True)
    if keras.backend.backend() == "torch":
        import torch

        return torch.no_grad()(function)
    import jax

    variables = list({id(v): v for v in variables}.values())

    @jax.jit
    def stateless(values: list, *arguments: Any) -> tuple:
        with keras.StatelessScope(list(zip(variables, values))) as scope:
            result = function(*arguments)
        return result, [scope.get_current_value(v) for v in changing]

    def call(*arguments: Any) -> Any:
        result, values = stateless([v.value for v in variables], *arguments)
        for variable, value in zip(changing, values):
            variable.assign(value)
        return result

    return call
