"""The residual layers of a model, found in its graph or named, and the ODEs between them.

A residual layer maps a state to one of the same shape, `x -> x + f_k(x)`. Where n of them follow
each other, the states are those of Euler's method with step 1 for

    dz/dt = f(t, z) on [0, n], with f(k, z) = f_k(z),

and between two layers the weights of `f` are interpolated (Sander et al., 2022; Queiruga et al.,
2020). So the model is one with an `ODEBlock`, which has every solver and step.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import keras
from keras import ops

from tfnode import arguments, solvers
from tfnode.layers import ODEBlock
from tfnode.models.layer_graph import LayerGraph


@dataclasses.dataclass(frozen=True)
class Stage:
    """Residual layers of one form that follow each other.

    Args:
        names: Tuple of strings, the layers whose outputs are the states, from the first layer's
            input on.
        layers: Tuple of Keras models that share the weights of the model, from a state to the next.
        block: `ODEBlock`, the ODE between them, under Euler's method with step 1.
    """

    names: tuple[str, ...]
    layers: tuple[keras.Model, ...]
    block: ODEBlock


@dataclasses.dataclass(frozen=True)
class ResidualModel:
    """A model with the ODEs between its layers in their places; it shares every weight.

    Args:
        stages: Tuple of `Stage`s.
        model: Keras model with the blocks of the stages, and what lies before, between and behind
            them. Its outputs are those of the model that it was made of.
        entry: Keras model, from the same inputs to a list of the states that enter the stages.
    """

    stages: tuple[Stage, ...]
    model: keras.Model
    entry: keras.Model


def residual_model(model: keras.Model, states: Sequence[str] | None = None) -> ResidualModel:
    """Returns a model with the ODEs between its residual layers in their places.

    Args:
        model: Functional or `Sequential` Keras model, built; models inside it are opened.
        states: Names of the layers whose outputs are the states, the input of the first residual
            layer among them; None to look for sums of a tensor with a branch that starts from it.

    Raises:
        ValueError: If there are no two residual layers of one form that follow each other, or if
            something but their states leads around them.
    """
    check_names(states)
    graph = LayerGraph.of(model)
    paths = graph.residual_paths() if states is None else [graph.named(states)]
    found = [stage for path in paths for stage in _stages(path)]
    if not found:
        raise arguments.refused(
            "A model must have at least two residual layers of one form that follow each other",
            "model",
            model,
            "Name the layers whose outputs are the states between them: "
            "`states=['stem', 'block_1', 'block_2']`.",
        )
    found.sort(key=lambda stage: graph.position(stage[0]))
    stages = tuple(_stage(graph, tensors) for tensors in found)
    # In the form that the model takes, which may be a dictionary of one tensor.
    taken = graph.inputs if isinstance(model, keras.Sequential) else model.input
    inputs = keras.tree.map_structure(
        lambda t: keras.Input(batch_shape=t.shape, dtype=t.dtype, name=t.name), taken
    )
    state = keras.tree.pack_sequence_as(graph.inputs, keras.tree.flatten(inputs))
    here, entering = graph.inputs, []
    for stage, tensors in zip(stages, found):
        state = _through(model, here, tensors[0], state)
        entering.append(state)
        state, here = stage.block(state), tensors[-1]
    outputs = _through(model, here, graph.outputs, state)
    return ResidualModel(
        stages, keras.Model(inputs, outputs, name=model.name), keras.Model(inputs, entering)
    )


def check_names(states: Any) -> None:
    """Raises if these are neither names of layers nor None."""
    if states is None:
        return
    advice = "Pass the names of layers, or None to look for them."
    names = arguments.items("states", states, "names", advice=advice)
    if not names:
        raise arguments.refused("`states` must have names of layers", "states", states, advice)
    for i, name in enumerate(names):
        arguments.text(f"states[{i}]", name, advice=advice)


def _through(model: keras.Model, start: Any, end: Any, given: Any) -> Any:
    """What a tensor becomes of what is given in the place of another that lies before it."""
    if start is end:
        return given
    try:
        between = keras.Model(start, end)
    except ValueError as error:
        raise arguments.refused(
            "Nothing but the states of the residual layers may lead from one part of a model to "
            "the next",
            "model",
            model,
            "Are there paths around them, or several inputs behind them? Name the states of those "
            "layers alone that all else passes.",
        ) from error
    return between(given)


def _stages(path: list[Any]) -> Iterable[list[Any]]:
    """The parts of a path between whose states lie layers of one form, two at least."""
    parts, before = [path[:1]], None
    for start, end in itertools.pairwise(path):
        form = _form(start, end)
        if form is None or form != before:
            parts.append([start])
        if form is not None:
            parts[-1].append(end)
        before = form
    return [part for part in parts if len(part) > 2]


def _form(start: Any, end: Any) -> Any:
    """What layers must have in common to be interpolated; None for what is no residual layer."""
    if start.shape != end.shape:
        return None
    try:
        layer = keras.Model(start, end)
    except ValueError:
        return None
    kinds = [type(operation).__name__ for operation in layer.operations]
    return kinds, [(v.shape, v.dtype) for v in layer.weights]


def _stage(graph: LayerGraph, tensors: list[Any]) -> Stage:
    layers = tuple(keras.Model(*pair) for pair in itertools.pairwise(tensors))
    block = ODEBlock(
        _BetweenLayers(layers),
        solvers.Euler(1.0),
        t1=float(len(layers)),
        time_dependent=True,
        name=f"between_layers_{graph.position(tensors[0]) + 1}",
    )
    return Stage(tuple(map(graph.name, tensors)), layers, block)


class _BetweenLayers(keras.Layer):
    """The field whose Euler steps residual layers are: at time k the layer k, its state taken off.

    Between two times the weights are interpolated, and behind the last layer's they stay.

    Args:
        layers: Sequence of Keras models of one form.
    """

    def __init__(self, layers: Sequence[keras.Model], **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        self.layers = list(layers)

    def call(self, t: Any, z: Any) -> Any:
        first, count = self.layers[0], len(self.layers)
        place = ops.minimum(ops.cast(t, "float32"), count - 1)
        shares = ops.relu(1 - ops.abs(place - ops.arange(count, dtype="float32")))
        # All of them in one order: any of the layers may be frozen.
        values = self._values([layer.variables for layer in self.layers], shares)
        value_of = dict(zip(map(id, first.variables), values))
        trainable, others = (
            [value_of[id(variable)] for variable in variables]
            for variables in (first.trainable_variables, first.non_trainable_variables)
        )
        outputs, _ = first.stateless_call(trainable, others, z, training=False)
        return ops.cast(outputs, z.dtype) - z

    def compute_output_spec(self, t: Any, z: Any) -> keras.KerasTensor:
        return keras.KerasTensor(z.shape, dtype=z.dtype)

    def _values(self, variables: list[list], shares: Any) -> list[Any]:
        """The weights of the layers in these shares; those that are no real numbers stay."""
        return [
            ops.tensordot(ops.cast(shares, each[0].dtype), ops.stack([v.value for v in each]), 1)
            if "float" in each[0].dtype
            else each[0].value
            for each in zip(*variables)
        ]
