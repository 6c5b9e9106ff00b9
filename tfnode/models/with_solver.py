"""`with_solver`: a model that runs another one under another solver."""

from collections.abc import Sequence
from typing import Any

import keras

from tfnode import arguments, solvers
from tfnode.keras_internals import serialized
from tfnode.layers import ODEBlock
from tfnode.models.scope import held_blocks, solver_scope, some_blocks

tree = keras.tree


@keras.saving.register_keras_serializable("tfnode")
class UnderSolver(keras.Model):
    """Runs a model with other solvers in its blocks, and shares its weights.

    Args:
        model: Keras model.
        solver: The solver for every block, or a list of one for each block.
        **kwargs: Arguments of `keras.Model`.
    """

    def __init__(
        self,
        model: keras.Model,
        solver: solvers.SolverLike | Sequence[solvers.SolverLike],
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"name": model.name, "dtype": model.dtype_policy, **kwargs})
        # The model casts its inputs by itself, or its first block keeps their full precision.
        self.autocast = False
        self.model = model
        self.replaced_blocks = held_blocks(model)
        each = solver if isinstance(solver, (list, tuple)) else [solver] * len(self.replaced_blocks)
        self.blocks = [b.with_solver(s) for b, s in zip(self.replaced_blocks, each, strict=True)]
        self.built = model.built

    def build(self, input_shape: Any) -> None:
        if not self.model.built:
            # By a symbolic call: a subclassed model has layers that its `build` does not know.
            self.model(tree.map_shape_structure(keras.KerasTensor, input_shape))
        for block in self.blocks:
            block.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        with solver_scope(self.replaced_blocks, self.blocks):
            return self.model(inputs, training=training)

    def compute_output_spec(self, inputs: Any, training: bool | None = None) -> Any:
        # A `call` of a user's own need not take `training`, and shapes do not depend on it.
        return self.model.compute_output_spec(inputs)

    def get_config(self) -> dict:
        return {
            "name": self.name,
            "model": serialized(self.model),
            "solver": [solvers.serialize(block.solver) for block in self.blocks],
        }

    @classmethod
    def from_config(cls, config: dict, custom_objects: Any = None) -> "UnderSolver":
        model = keras.saving.deserialize_keras_object(config["model"], custom_objects)
        return cls(**{**config, "model": model})


def with_solver(
    model: keras.Model | ODEBlock, solver: solvers.SolverLike
) -> keras.Model | ODEBlock:
    """Returns a new model with another solver in every block, sharing every weight with `model`.

    `model` is untouched, and so is its step size: the new model has step sizes of its own. It is
    not compiled. Blocks are found wherever they sit: in nested and subclassed models, in layers of
    your own, in `TimeDistributed`, in cells of recurrent layers.

    Examples:

    >>> field = keras.Sequential([keras.layers.Dense(8, "tanh"), keras.layers.Dense(2)])
    >>> model = keras.Sequential([keras.Input((2,)), ODEBlock(field, tfnode.solvers.Euler(1 / 4))])
    >>> fine = with_solver(model, tfnode.solvers.RK4(1 / 32))
    >>> fine.trainable_weights[0] is model.trainable_weights[0]
    True

    Args:
        model: Any Keras model with at least one `ODEBlock`, or an `ODEBlock`.
        solver: A solver of `tfnode.solvers`, its name, or its serialized dictionary.

    Returns:
        A new Keras model: a functional one if `model` has symbolic inputs, with the same names of
        inputs and outputs; an `ODEBlock` if one was given.

    Raises:
        ValueError: If the model is none, or has no `ODEBlock`, or if there is no such solver.
    """
    solver = solvers.get(solver)
    arguments.model(model)
    if isinstance(model, ODEBlock):
        return model.with_solver(solver)
    some_blocks(model)
    if not getattr(model, "inputs", None):
        return UnderSolver(model, solver)
    if isinstance(model, keras.Sequential):
        inputs, names = model.inputs[0], [model.layers[-1].name]
    else:
        inputs, names = model.input, model.output_names
    inputs = tree.map_structure(
        lambda t: keras.Input(batch_shape=t.shape, dtype=t.dtype, name=t.name), inputs
    )
    # Keras has one name for one operation, and an input or an output may be called as the model.
    name = model.name
    while name in {*names, *(tensor.name for tensor in tree.flatten(inputs))}:
        name += "_under_solver"
    under = UnderSolver(model, solver, name=name)
    return keras.Model(inputs, _named(under(inputs), names), name=model.name)


def _named(outputs: Any, names: Sequence[str]) -> Any:
    """The outputs under the names that losses and metrics are given by."""
    if len(set(names)) < len(names):
        return outputs
    named = [
        keras.layers.Identity(name=name, dtype=output.dtype)(output)
        for name, output in zip(names, tree.flatten(outputs))
    ]
    return tree.pack_sequence_as(outputs, named)
