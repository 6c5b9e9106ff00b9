"""The model and the data that a command is asked about."""

import argparse
import dataclasses
import pathlib
import zipfile
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from zoo.commands import command_line

if TYPE_CHECKING:
    import keras
    import numpy as np

    from zoo import WeightsEntry

_ARCHIVE = ".keras"
_ARRAYS = ".npz"
HUB = "hf://"


@dataclasses.dataclass(frozen=True)
class Subject:
    """A model, and what it is judged on.

    Args:
        name: String, what was asked for: the name of the weights, or the file.
        model: Keras model.
        data: Arrays `(x, y)`, or None.
        data_name: String, what the data is called, or None.
        class_names: Strings, the names of the classes of pretrained weights; else None.
        reference_steps: Integer, the least steps of the fine RK4.
        published: `WeightsEntry` of pretrained weights, if nothing else is asked than what their
            report says; else None.
    """

    name: str
    model: "keras.Model"
    data: Any
    data_name: str | None
    class_names: Sequence[str] | None
    reference_steps: int
    published: "WeightsEntry | None"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that name a model and its data."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="a .keras file; pretrained weights, or a model of the zoo for its default ones; or "
        "hf://user/repository",
    )
    parser.add_argument(
        "--data",
        help="an .npz file with the arrays x and y, or the name of a data set, with a split as in "
        "mnist:test[:1000] if it is not the test set; pretrained weights know theirs",
    )
    parser.add_argument(
        "--reference-steps",
        type=command_line.several,
        metavar="N",
        help="the least of RK4 in the place of the exact flow; 256, or as the weights were judged",
    )


def check_arguments(args: argparse.Namespace, needs_data: bool) -> None:
    """Refuses, before anything is imported, files that are not there, and a model without data."""
    for name, value, suffix in (("MODEL", args.model, _ARCHIVE), ("--data", args.data, _ARRAYS)):
        if value is not None and value.endswith(suffix) and not pathlib.Path(value).is_file():
            args.parser.error(
                f"{name} must be a file that is there. Received: {value!r}. Look for it, or for a "
                "typing error."
            )
    has_data = args.data is not None or _is_pretrained(args.model)
    if args.reference_steps is not None and not has_data:
        args.parser.error(
            "--reference-steps is for a verdict, which needs data. Received: "
            f"{args.reference_steps} without --data. Pass a file of arrays or the name of a data "
            "set, or leave it out."
        )
    if needs_data and not has_data:
        args.parser.error(
            "--data is required with a model that is not pretrained. Received: "
            f"MODEL={args.model!r} alone. Pass a file of arrays or the name of a data set."
        )


def load(args: argparse.Namespace) -> Subject:
    """Returns the subject that checked arguments name.

    Raises:
        ValueError, OSError, ImportError: If the model or the data cannot be had.
    """
    import zoo
    from zoo import archives

    given = None if args.data is None else samples(args.data)
    if not _is_pretrained(args.model):
        if args.model.endswith(_ARCHIVE):
            model = archives.load(pathlib.Path(args.model).read_bytes(), args.model)
        else:
            model = zoo.get_model(args.model)
        steps = args.reference_steps or 256
        return Subject(args.model, model, given, args.data, None, steps, None)
    entry = zoo.get_weights(args.model)
    is_as_published = args.data is None and args.reference_steps is None
    data_name = args.data or f"{entry.dataset}:{entry.split}"
    return Subject(
        name=entry.name,
        model=zoo.get_model(entry.model, weights=entry.name),
        data=samples(data_name) if given is None else given,
        data_name=data_name,
        class_names=entry.classes,
        reference_steps=args.reference_steps or entry.rk4_steps,
        published=entry if is_as_published else None,
    )


def check_names(class_names: Sequence[str], model: "keras.Model") -> None:
    """Refuses names that are not as many as the classes of a model with one output.

    Raises:
        ValueError: If they are more or fewer.
    """
    shape = model.output_shape
    if not isinstance(shape, tuple):
        return
    # A single logit tells two classes apart, and so does an output without an axis of classes.
    count = max(2, shape[-1] or 1)
    if len(class_names) != count:
        raise ValueError(
            f"--class-names must name each of the {count} classes of the model, from class 0 up. "
            f"Received: class_names={list(class_names)}. Leave it out for their numbers."
        )


def _is_pretrained(model: str) -> bool:
    return not model.endswith(_ARCHIVE) and not model.startswith(HUB)


def samples(name: str) -> "tuple[np.ndarray, np.ndarray]":
    """The inputs and labels of an .npz file, or of a split of a data set, of its test set if none.

    Raises:
        ValueError: If the file does not hold them, or there is no such data set.
    """
    import tfnode

    if name.endswith(_ARRAYS):
        return _arrays(name)
    dataset, _, split = name.partition(":")
    return tfnode.datasets.load(dataset, split or "test", as_numpy=True)


def _arrays(name: str) -> "tuple[np.ndarray, np.ndarray]":
    import numpy as np

    try:
        with np.load(name, allow_pickle=False) as arrays:
            return arrays["x"], arrays["y"]
    except (AttributeError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(
            "Data must be an .npz file with the arrays `x` and `y`, of numbers alone. Received: "
            f"{name!r} ({error}). Write it with `numpy.savez(path, x=x, y=y)`."
        ) from error
