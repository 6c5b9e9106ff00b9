"""Loads a weight file into a model of the zoo, after a look at what the file holds."""

import os
import pathlib
import warnings
from typing import Any

import h5py
import keras
import numpy as np

from tfnode.typing import PathLike, Shape

SUFFIX = ".weights.h5"

# What a file holds of a block beside weights: the name of its method, and what a rule remembers.
_NO_WEIGHTS = ("method", "adaption_memory")


def is_path(weights: PathLike) -> bool:
    """Whether this is the path of a file rather than a name."""
    return isinstance(weights, os.PathLike) or str(weights).endswith(SUFFIX)


def load(model: keras.Model, path: PathLike) -> None:
    """Loads a `.weights.h5` file of the model's own architecture.

    Args:
        model: Model of the zoo.
        path: Path of the file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is not a complete weight file, is of another architecture or was
            saved with another kind of solver, or if a weight is not finite.
    """
    path = pathlib.Path(path)
    _check_shapes(model, path, _shapes(path))
    try:
        with warnings.catch_warnings():
            # About what Keras then raises an error for.
            warnings.simplefilter("ignore", UserWarning)
            model.load_weights(path)
    except (KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"A weight file must fit the model {model.name!r} and its solver. Received: "
            f"weights={str(path)!r}. Build the model that it was saved from. Keras says: {error}"
        ) from error
    if not all(np.isfinite(keras.ops.convert_to_numpy(w)).all() for w in model.weights):
        raise ValueError(
            "Weights must be finite numbers. "
            f"Received: weights={str(path)!r}, which holds others. Use the file of a training "
            "that did not diverge."
        )


def _shapes(path: pathlib.Path) -> list[Shape]:
    """The shapes of the layers' weights in a file, without the solver's, which are scalars."""
    if not path.name.endswith(SUFFIX) or path.is_dir():
        raise ValueError(
            "Weights are loaded from a file whose name ends in `.weights.h5`. "
            f"Received: weights={str(path)!r}. Save them with `model.save_weights`."
        )
    if not path.exists():
        raise FileNotFoundError(
            "The weight file must exist. "
            f"Received: weights={str(path)!r}. Is the path right, and relative to "
            f"{os.getcwd()!r}? `zoo.list_models(pretrained=True)` lists the weights by name."
        )
    shapes: list[Shape] = []

    def note(path: str, item: Any) -> None:
        is_weight = isinstance(item, h5py.Dataset) and path.split("/")[-1] not in _NO_WEIGHTS
        if is_weight and item.shape:
            shapes.append(item.shape)

    try:
        with h5py.File(path, "r") as file:
            file["layers"].visititems(note)
    except (AttributeError, KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
        with path.open("rb") as file:
            start = file.read(8)
        raise ValueError(
            "Weights are read from a whole HDF5 file, and from nothing else: no pickle is ever "
            f"opened. Received: weights={str(path)!r}, {path.stat().st_size} bytes that start "
            f"with {start!r}. Save them with `model.save_weights`, or copy the file again. "
            f"HDF5 says: {error}"
        ) from error
    return sorted(shapes)


def _check_shapes(model: keras.Model, path: pathlib.Path, found: list[Shape]) -> None:
    expected = sorted(tuple(weight.shape) for weight in model.trainable_weights)
    if found != expected:
        raise ValueError(
            f"A weight file of {model.name!r} must hold weights of the shapes {expected}. "
            f"Received: weights={str(path)!r} with the shapes {found}. It belongs to another "
            "architecture: build the model that it was saved from."
        )
