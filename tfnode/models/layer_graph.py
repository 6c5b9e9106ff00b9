"""The layers of a model as a graph, in which residual layers are found or named."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import keras

from tfnode import arguments


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of a layer or an operation in a graph."""

    operation: Any
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]


class LayerGraph:
    """The calls of a functional model, in their order, on tensors of their own.

    Args:
        inputs: The symbolic inputs, in the structure of the model's.
        outputs: The symbolic outputs likewise.
        calls: List of `Call`s.
    """

    def __init__(self, inputs: Any, outputs: Any, calls: list[Call]) -> None:
        self.inputs, self.outputs, self._calls = inputs, outputs, calls
        self._source = {id(t): call for call in calls for t in call.outputs}
        self._users: dict[int, list[Call]] = {}
        for call in calls:
            for tensor in call.inputs:
                self._users.setdefault(id(tensor), []).append(call)
        self._positions = {id(t): i for i, call in enumerate(calls) for t in call.outputs}

    @classmethod
    def of(cls, model: keras.Model) -> "LayerGraph":
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
        calls: list[Call] = []

        def note(operation: Any, *args: Any, **kwargs: Any) -> Any:
            outputs = operation(*args, **kwargs)
            calls.append(Call(operation, _tensors((args, kwargs)), _tensors(outputs)))
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

    def _shortcut(self, call: Call) -> Any:
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
