"""The signature of a SavedModel: what it takes and gives, under names that TensorFlow keeps."""

import itertools
import keyword
import re
from collections.abc import Sequence

import keras
import numpy as np

from tfnode.models import with_solver
from tfnode.solvers import Solver
from tfnode.typing import Nested

tree = keras.tree


def served_names(names: Sequence[str], prefix: str) -> list[str]:
    """Returns the names that inputs or outputs have in a signature.

    TensorFlow renames or refuses what is no parameter of a Python function, so that one rule is
    applied before: a name has letters, digits and underscores of ASCII, begins with a letter and is
    no word of Python's. Other characters become underscores, a prefix makes the rest of it true,
    and a number is added where two names would be one. A name that fits stays as it is.

    Examples:

    >>> served_names(["state", "größe", "a-b", "a_b", "class", "1st"], "input")
    ['state', 'gr__e', 'a_b_2', 'a_b', 'input_class', 'input_1st']

    Args:
        names: Sequence of strings.
        prefix: String, such as `"input"`.
    """
    fitting = [_fitting(name, prefix) for name in names]
    served: dict[int, str] = {}
    # Names that fit choose first. To TensorFlow's graphs `x` and `X` are one.
    taken: set[str] = set()
    for i in sorted(range(len(names)), key=lambda i: names[i] != fitting[i]):
        numbered = (f"{fitting[i]}_{number}" for number in itertools.count(2))
        free = (n for n in itertools.chain([fitting[i]], numbered) if n.lower() not in taken)
        served[i] = next(free)
        taken.add(served[i].lower())
    return [served[i] for i in range(len(names))]


def _fitting(name: str, prefix: str) -> str:
    plain = re.sub(r"[^A-Za-z0-9_]", "_", name)
    # A loaded signature is called with keywords, beside the `self` of TensorFlow's own.
    fits = re.match("[A-Za-z]", plain) and not keyword.iskeyword(plain) and plain != "self"
    return plain if fits else f"{prefix}_{plain}"


def served_model(model: keras.Model, solver: Solver) -> keras.Model:
    """Returns a functional model under a solver, which shares the weights of any model.

    A subclassed model takes inputs of the shapes that it was called with first.

    Raises:
        ValueError: If it was not called, or does not run on symbolic inputs.
    """
    under = with_solver(model, solver)
    if getattr(under, "inputs", None):
        return under
    shapes = (model.get_build_config() or {}).get("input_shape")
    received = f"Received: model={model.name!r} of type {type(model).__name__}"
    if shapes is None:
        raise ValueError(
            "A served model must have been called, by which Keras learns the shapes of its inputs. "
            f"{received}, without such shapes. Train it first, or call it once. If it was called, "
            "compute with `keras.ops` in its `call`, so that it runs on symbolic inputs."
        )
    try:
        inputs = _symbolic(shapes, model.input_dtype)
        outputs = under(inputs)
    except Exception as error:
        raise ValueError(
            "A served model is a graph: a subclassed model must run on symbolic inputs. "
            f"{received}, with inputs of the shapes {shapes}, fails with {error!r}. Compute with "
            "`keras.ops` in its `call`, or build it by the functional API."
        ) from error
    if not isinstance(outputs, dict):
        outputs = dict(zip(_names(outputs, "output"), tree.flatten(outputs)))
    return keras.Model(inputs, outputs, name=model.name)


def _symbolic(shapes: Nested, dtype: str) -> Nested:
    """Inputs of some shapes, for any number of rows."""
    inputs = tree.map_shape_structure(lambda shape: keras.KerasTensor(shape, dtype), shapes)
    named = [
        # Keras has no names with slashes.
        keras.Input(tensor.shape[1:], dtype=dtype, name=name.replace("/", "_"))
        for name, tensor in zip(_names(inputs, "input"), tree.flatten(inputs))
    ]
    return tree.pack_sequence_as(inputs, named)


def _names(structure: Nested, prefix: str) -> list[str]:
    """What leads to each part of a structure: keys of dictionaries, or its position."""
    paths = [path or (0,) for path, _ in tree.flatten_with_path(structure)]
    keyed = [path if isinstance(path[0], str) else (prefix, *path) for path in paths]
    return ["_".join(map(str, path)) for path in keyed]


# === Of functional models ===
def inputs_of(model: keras.Model) -> dict[str, keras.KerasTensor]:
    """The symbolic inputs of a model by their names in a signature."""
    tensors = tree.flatten(model.inputs)
    return dict(zip(served_names([t.name for t in tensors], "input"), tensors))


def outputs_of(model: keras.Model) -> dict[str, str]:
    """What the outputs of a model are called in Keras, by their names in a signature.

    Those of a dictionary are called by its keys, others by their layers, and if one layer gives
    several of them `output_0`, `output_1` and so on.
    """
    names = list(model.output_names)
    if isinstance(model.output, dict) or len(set(names)) < len(names):
        names = _names(model.output, "output")
    return dict(zip(served_names(names, "output"), names))


def input_specs(model: keras.Model) -> dict[str, keras.InputSpec]:
    """What a signature takes, by names: any number of rows, in single precision."""
    return {
        name: keras.InputSpec(
            shape=(None, *tensor.shape[1:]),
            dtype="float32" if "float" in tensor.dtype else tensor.dtype,
            name=name,
        )
        for name, tensor in inputs_of(model).items()
    }


def named_inputs(model: keras.Model, x: Nested) -> dict[str, np.ndarray]:
    """The inputs of a model as a dictionary from their names in a signature to NumPy arrays."""
    if isinstance(x, dict) and not isinstance(model.input, dict):
        # Keras takes them by the names of the inputs, too.
        x = [x[tensor.name] for tensor in model.inputs]
    return {
        # NumPy has no text of any length but as objects.
        name: np.asarray(array).astype("O" if spec.dtype == "string" else spec.dtype)
        for (name, spec), array in zip(input_specs(model).items(), tree.flatten(x))
    }
