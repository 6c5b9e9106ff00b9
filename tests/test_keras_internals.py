"""What is private in Keras: used in one room, and still what it was when it was chosen."""

import ast
import functools
import pathlib

import keras
import numpy as np
import pytest
from keras import layers, ops

from tfnode import keras_internals

ROOT = pathlib.Path(__file__).parents[1]


def files(*packages):
    found = [path for package in packages for path in sorted((ROOT / package).rglob("*.py"))]
    return pytest.mark.parametrize(
        "path",
        [path for path in found if path.name != "keras_internals.py"],
        ids=lambda path: str(path.relative_to(ROOT)),
    )


@functools.cache
def private_names_of_keras():
    """The names with one leading underscore of what is derived from, called or read here."""
    model = keras.Sequential([keras.Input((1,)), layers.Dense(1)])
    model.compile()
    objects = [
        *(model, keras.Model(model.inputs, model.outputs), model.layers[0], model.weights[0]),
        *(model.optimizer, keras.callbacks.Callback(), keras.StatelessScope()),
    ]
    return {name for o in objects for name in dir(o) if name[0] == "_" and not name.endswith("__")}


def touched(source):
    """The names that are read, set or called by a dot, and those of methods."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            yield node.attr
        if isinstance(node, ast.ClassDef):
            yield from (n.name for n in node.body if isinstance(n, ast.FunctionDef))


@files("tfnode", "zoo", "scripts")
def test_no_other_file_imports_what_is_private_in_keras(path):
    assert "keras.src" not in path.read_text()


# The scripts have classes of their own, whose names may be Keras's by chance; `test_rooms.py` has
# them use no private names at all.
@files("tfnode", "zoo")
def test_no_other_file_uses_or_overrides_what_is_private_in_keras(path):
    assert not private_names_of_keras() & set(touched(path.read_text()))


def test_the_scanner_sees_use_and_overriding():
    source = "class A(B):\n    def _flatten_layers(self):\n        return x._losses"
    found = private_names_of_keras() & set(touched(source))
    assert found == {"_flatten_layers", "_losses"}


def test_variables_are_read_as_they_are_without_autocast():
    """Keras has no public way, and would cast them even with `autocast=False`."""
    found = {}

    class Reader(layers.Layer):
        def __init__(self):
            super().__init__(autocast=False, dtype="mixed_float16")
            self.number = self.add_weight(
                shape=(), initializer=keras.initializers.Constant(1 / 500)
            )

        def call(self, x):
            found["cast"] = self.number + 0
            with keras_internals.no_autocast():
                found["kept"] = self.number + 0
            return x

    Reader()(np.ones(1, "float32"))
    dtypes = {name: keras.backend.standardize_dtype(v.dtype) for name, v in found.items()}
    assert dtypes == {"cast": "float16", "kept": "float32"}
    assert ops.convert_to_numpy(found["kept"]) == np.float32(1 / 500)


def test_a_stateless_scope_is_seen():
    assert keras_internals.in_stateless_scope() is False
    with keras.StatelessScope():
        assert keras_internals.in_stateless_scope() is True
    assert keras_internals.in_stateless_scope() is False


def test_layers_are_found_wherever_they_sit():
    class Holder(layers.Layer):
        def __init__(self, inner, **kwargs):
            super().__init__(**kwargs)
            self.inner = {"one": [inner]}

    nested = keras.Sequential([layers.Dense(1, name="deep")], name="nested")
    cell = layers.RNN(layers.SimpleRNNCell(2, name="cell"), name="rnn")
    model = keras.Sequential([Holder(nested, name="holder"), cell], name="model")
    names = [layer.name for layer in keras_internals.sublayers(model)]
    assert names[0] == "model"
    assert {"holder", "nested", "deep", "rnn", "cell"} <= set(names)
    # The public list names those on top.
    assert [layer.name for layer in model.layers] == ["holder", "rnn"]


def test_the_mask_of_an_output_is_read():
    x = np.array([[1, 0]])
    masked = layers.Embedding(2, 3, mask_zero=True)(x)
    assert ops.convert_to_numpy(keras_internals.mask_of(masked)).tolist() == [[True, False]]
    assert keras_internals.mask_of(layers.Embedding(2, 3)(x)) is None


def test_attributes_are_those_that_were_set():
    layer = layers.Layer()
    layer.inner, layer.number = layers.Dense(1), 2
    found = keras_internals.attributes(layer)
    assert found["inner"] is layer.inner
    assert found["number"] == 2
