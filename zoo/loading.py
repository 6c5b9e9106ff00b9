"""Loads a weight file into a model of the zoo, after a look at what the file holds."""

import math
import os
import pathlib
import tempfile
import warnings

import h5py
import keras
import numpy as np

from tfnode import files
from tfnode.typing import PathLike, Shape

SUFFIX = ".weights.h5"

# What a file holds of a block beside weights: the name of its method, and what a rule remembers.
_NO_WEIGHTS = ("method", "adaption_memory")

# Of the groups in a file, and of everything in it: many times what a model of the zoo needs.
_MOST_DEPTH = 16
_MOST_ITEMS = 1000


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
    load_content(model, _content(model, path), str(path))


def load_content(model: keras.Model, content: bytes, source: str) -> None:
    """Loads what a weight file holds, which is looked at and loaded as the same bytes.

    Args:
        model: Model of the zoo.
        content: Bytes of the file.
        source: String, what errors call it.

    Raises:
        ValueError: As for `load`.
    """
    with files.temporary_in(pathlib.Path(tempfile.gettempdir())) as folder:
        # Nobody else can exchange it between the look and the loading.
        path = folder / f"model{SUFFIX}"
        path.write_bytes(content)
        _check_shapes(model, source, _shapes(model, path, source))
        try:
            with warnings.catch_warnings():
                # About what Keras then raises an error for.
                warnings.simplefilter("ignore", UserWarning)
                model.load_weights(path)
        except (KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(
                f"A weight file must fit the model {model.name!r} and its solver. Received: "
                f"weights={source!r}. Build the model that it was saved from. Keras says: {error}"
            ) from error
    if not all(np.isfinite(keras.ops.convert_to_numpy(w)).all() for w in model.weights):
        raise ValueError(
            "Weights must be finite numbers. "
            f"Received: weights={source!r}, which holds others. Use the file of a training that "
            "did not diverge."
        )


def _content(model: keras.Model, path: pathlib.Path) -> bytes:
    """What a file holds, if it may be a weight file of the model."""
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
    limit = _most_bytes(model)
    with path.open("rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise ValueError(
            f"A weight file of {model.name!r} has at most {limit} bytes, with an optimizer too. "
            f"Received: weights={str(path)!r}, which is larger. It belongs to another "
            "architecture: build the model that it was saved from."
        )
    return content


def _most_bytes(model: keras.Model) -> int:
    """Far more than a weight file of a model has, in double precision and with an optimizer."""
    return 64 * sum(math.prod(weight.shape) for weight in model.weights) + 2**24


def _shapes(model: keras.Model, path: pathlib.Path, source: str) -> list[Shape]:
    """The shapes of the layers' weights in a file, without the solver's, which are scalars."""
    try:
        with h5py.File(path, "r") as file:
            found = weights_below(file["layers"], _most_bytes(model))
    except (AttributeError, KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
        content = path.read_bytes()
        raise ValueError(
            "Weights are read from a whole HDF5 file, and from nothing else: no pickle is ever "
            f"opened. Received: weights={source!r}, {len(content)} bytes that start "
            f"with {content[:8]!r}. Save them with `model.save_weights`, or copy the file again. "
            f"HDF5 says: {error}"
        ) from error
    return sorted(
        shape for name, shape in found.items() if shape and name.split("/")[-1] not in _NO_WEIGHTS
    )


def weights_below(
    group: h5py.Group, most_bytes: int, most_items: int = _MOST_ITEMS
) -> dict[str, Shape]:
    """The shapes of all data below a group, by name, within limits that no weight file reaches.

    Raises:
        ValueError: If a limit is exceeded, or if something leads out of the file, which Keras
            would follow.
    """
    found: dict[str, Shape] = {}
    groups, items = [("", group)], 0
    while groups:
        place, group = groups.pop()
        items += len(group)
        if items > most_items or place.count("/") > _MOST_DEPTH:
            raise ValueError(f"{place!r} is beyond the depth and the number of weights")
        for name in group:
            inside = f"{place}/{name}"
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise ValueError(f"{inside!r} is a link, which a weight file never has")
            item = group[name]
            if not isinstance(item, h5py.Dataset):
                groups.append((inside, item))
                continue
            if item.external or item.is_virtual:
                raise ValueError(f"{inside!r} has its data in another file")
            most_bytes -= item.nbytes
            if most_bytes < 0:
                raise ValueError(f"{inside!r} is beyond the size of weights")
            found[inside] = item.shape
    return found


def _check_shapes(model: keras.Model, source: str, found: list[Shape]) -> None:
    expected = sorted(tuple(weight.shape) for weight in model.trainable_weights)
    if found != expected:
        raise ValueError(
            f"A weight file of {model.name!r} must hold weights of the shapes {expected}. "
            f"Received: weights={source!r} with the shapes {found}. It belongs to another "
            "architecture: build the model that it was saved from."
        )
