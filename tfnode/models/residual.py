"""The residual layers of a model, found in its graph or named, and the ODEs between them.

A residual layer maps a state to one of the same shape, `x -> x + f_k(x)`. Where n of them follow
each other, the states are those of Euler's method with step 1 for

    dz/dt = f(t, z) on [0, n], with f(k, z) = f_k(z),

and between two layers the weights of `f` are interpolated (Sander et al., 2022; Queiruga et al.,
2020). So the model is one with an `ODEBlock`, which has every solver and step.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import keras
from keras import ops

from tfnode import arguments, solvers
from tfnode.layers import ODEBlock


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
        pieces: Tuple of the Keras layers that a batch goes through: the blocks of the stages, and
            what lies before, between and behind them.
        model: Keras model of the pieces. Its outputs are those of the model that it was made of.
    """

    stages: tuple[Stage, ...]
    pieces: tuple[keras.Layer, ...]
    model: keras.Model

    def inputs_of_stages(self, x: Any) -> Iterator[Any]:
        """Yields the states that a batch of inputs enters each stage with."""
        blocks = {id(stage.block) for stage in self.stages}
        for piece in self.pieces:
            if id(piece) in blocks:
                yield x
            x = piece(x, training=False)


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
    graph = _Graph.of(model)
    paths = graph.residual_paths() if states is None else [graph.named(states)]
    found = [stage for path in paths for stage in _stages(graph, path)]
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
    inputs = keras.tree.map_structure(
        lambda t: keras.Input(batch_shape=t.shape, dtype=t.dtype, name=t.name), graph.inputs
    )
    pieces: list[keras.Layer] = []
    here = graph.inputs
    for stage, tensors in zip(stages, found):
        pieces += [*_between(model, here, tensors[0]), stage.block]
        here = tensors[-1]
    pieces += _between(model, here, graph.outputs)
    outputs = inputs
    for piece in pieces:
        outputs = piece(outputs)
    return ResidualModel(stages, tuple(pieces), keras.Model(inputs, outputs, name=model.name))


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


def _between(model: keras.Model, start: Any, end: Any) -> list[keras.Layer]:
    """What lies between the tensors, if anything does."""
    if start is end:
        return []
    try:
        return [keras.Model(start, end)]
    except ValueError as error:
        raise arguments.refused(
            "Nothing but the states of the residual layers may lead from one part of a model to "
            "the next",
            "model",
            model,
            "Are there paths around them, or several inputs behind them? Name the states of those "
            "layers alone that all else passes.",
        ) from error


# === Where the layers are ===
@dataclasses.dataclass(frozen=True)
class _Call:
    """One call of a layer or an operation in a graph."""

    operation: Any
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]


class _Graph:
    """The calls of a functional model, in their order, on tensors of their own.

    Args:
        inputs: The symbolic inputs, in the structure of the model's.
        outputs: The symbolic outputs likewise.
        calls: List of `_Call`s.
    """

    def __init__(self, inputs: Any, outputs: Any, calls: list[_Call]) -> None:
        self.inputs, self.outputs, self._calls = inputs, outputs, calls
        self._source = {id(t): call for call in calls for t in call.outputs}
        self._users: dict[int, list[_Call]] = {}
        for call in calls:
            for tensor in call.inputs:
                self._users.setdefault(id(tensor), []).append(call)
        self._positions = {id(t): i for i, call in enumerate(calls) for t in call.outputs}

    @classmethod
    def of(cls, model: keras.Model) -> "_Graph":
        """The graph of a model, with the models that it calls opened."""
        if not getattr(arguments.model(model), "inputs", None):
            raise arguments.refused(
                "Residual layers are looked for in a graph",
                "model",
                model,
                "Build a functional model: `keras.Model(inputs, model(inputs))` does if it calls "
                "layers alone, and functional models.",
            )
        # Clones of their own: one of the model would be compiled as it is.
        flat = keras.Model(_single(model.inputs), _single(model.outputs))
        while any(map(_is_graph, flat.operations)):
            flat = _traced(flat, lambda op, *args, **kwargs: _opened(op)(*args, **kwargs))
        calls: list[_Call] = []

        def note(operation: Any, *args: Any, **kwargs: Any) -> Any:
            outputs = operation(*args, **kwargs)
            calls.append(_Call(operation, _tensors((args, kwargs)), _tensors(outputs)))
            return outputs

        traced = _traced(flat, note)
        return cls(_single(traced.inputs), _single(traced.outputs), calls)

    def position(self, tensor: Any) -> int:
        """How many calls come before a tensor is made; inputs come first."""
        return self._positions.get(id(tensor), -1)

    def name(self, tensor: Any) -> str:
        """The layer that makes a tensor, or the input that it is."""
        call = self._source.get(id(tensor))
        return str(tensor.name if call is None else call.operation.name)

    def named(self, names: Sequence[str]) -> list[Any]:
        """The outputs of layers; all of those of one that is called again and again."""
        given = {tensor.name: [tensor] for tensor in keras.tree.flatten(self.inputs)}
        for call in self._calls:
            given.setdefault(call.operation.name, []).extend(call.outputs[:1])
        missing = [name for name in names if name not in given]
        if missing:
            advice = f"It has {', '.join(list(given)[:20])}, and so on."
            rule = "`states` must be names of layers of the model, or of its inputs"
            raise arguments.refused(rule, "states", missing, advice)
        return sorted((t for name in names for t in given[name]), key=self.position)

    def residual_paths(self) -> Iterator[list[Any]]:
        """Yields the states on every way that residual layers make without a break."""
        starts = {}
        for call in self._calls:
            start = self._shortcut(call)
            if start is not None:
                starts[id(start)] = start, call.outputs[0]
        inner = set()
        for key in starts:
            if key in inner:
                continue
            path, is_activated = [starts[key][0]], False
            while id(path[-1]) in starts:
                added = starts[id(path[-1])][1]
                inner.add(id(path[-1]))
                # The next layer starts from the sum, or from what is made of it.
                after = [added, *self._activations(added)]
                following = [t for t in after if id(t) in starts]
                if following:
                    is_activated = following[0] is not added
                path.append(following[0] if following else after[-1 if is_activated else 0])
            yield path

    def _shortcut(self, call: _Call) -> Any:
        """The tensor that a call adds a branch to which starts from it; None if it does not."""
        if type(call.operation).__name__ != "Add" or len(call.inputs) != 2:
            return None
        for start, branch in (call.inputs, call.inputs[::-1]):
            is_same = start.shape == branch.shape == call.outputs[0].shape
            if is_same and start is not branch and self._starts_from(branch, start):
                return start
        return None

    def _starts_from(self, tensor: Any, start: Any) -> bool:
        """Whether a tensor is made of another one and nothing else."""
        waiting, seen = [tensor], set()
        while waiting:
            here = waiting.pop()
            if here is start or id(here) in seen:
                continue
            seen.add(id(here))
            if id(here) not in self._source:
                return False
            waiting += self._source[id(here)].inputs
        return True

    def _activations(self, tensor: Any) -> list[Any]:
        """What activations make of a tensor, if nothing else takes it."""
        users = self._users.get(id(tensor), [])
        kinds = keras.layers.Activation, keras.layers.ReLU
        if len(users) != 1 or not isinstance(users[0].operation, kinds):
            return []
        return list(users[0].outputs)


def _traced(model: keras.Model, call: Any) -> keras.Model:
    """The model on inputs of its own, of the same layers, each called by a function."""
    return keras.models.clone_model(model, clone_function=lambda op: op, call_function=call)


def _is_graph(operation: Any) -> bool:
    return isinstance(operation, keras.Model) and bool(getattr(operation, "inputs", None))


def _opened(operation: Any) -> Any:
    """What calls the layers of a model one by one."""
    return operation.call if _is_graph(operation) else operation


def _single(tensors: list) -> Any:
    return tensors[0] if len(tensors) == 1 else tensors


def _tensors(values: Any) -> tuple[Any, ...]:
    return tuple(v for v in keras.tree.flatten(values) if isinstance(v, keras.KerasTensor))


# === From layers to ODEs ===
def _stages(graph: _Graph, path: list[Any]) -> Iterable[list[Any]]:
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


def _stage(graph: _Graph, tensors: list[Any]) -> Stage:
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
        trainable = self._values([layer.trainable_variables for layer in self.layers], shares)
        others = self._values([layer.non_trainable_variables for layer in self.layers], shares)
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
