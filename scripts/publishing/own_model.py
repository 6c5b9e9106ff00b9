"""The verdict on a model from a file, as a page."""

import pathlib
import zipfile
from collections.abc import Sequence

import keras
import numpy as np

import tfnode
from scripts import command_line
from tfnode import files


def report(
    model: pathlib.Path, data: str, out: pathlib.Path, class_names: Sequence[str] | None
) -> None:
    """Judges a model, and writes its report as a page and as JSON below a directory.

    Args:
        model: Path of a .keras file.
        data: String, the path of an .npz file or the name of a data set.
        out: Path of the directory.
        class_names: List of strings, or None.

    Raises:
        command_line.Stop: If the model or the data cannot be read, or not be judged.
    """
    samples = read(data)
    try:
        judged = tfnode.validity.check(load(model), samples)
        page = out / f"{model.stem}.html"
        judged.to_html(page, class_names)
    except ValueError as error:
        raise command_line.Stop(str(error)) from error
    files.write_text(page.with_suffix(".json"), judged.to_json() + "\n")
    verdict = "an ODE" if judged.is_ode else "not an ODE"
    print(f"{model.stem}: {verdict} (gap {judged.gap:.3g}, threshold {judged.threshold})")
    print(f"Written: {page}")


def load(path: pathlib.Path) -> keras.Model:
    """The model of a .keras file."""
    try:
        return keras.saving.load_model(path)
    except (OSError, TypeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise command_line.Stop(
            "A model must be one that Keras can load, with layers of Keras and tfnode alone. "
            f"Received: {str(path)!r} ({reason}). With layers of your own, load it in Python, and "
            "call `tfnode.validity.check(model, data).to_html(path)`."
        ) from error


def read(data: str) -> tuple[np.ndarray, np.ndarray]:
    """The inputs and labels of a file, or of the test split of a data set."""
    path = pathlib.Path(data)
    if path.suffix != ".npz":
        return tfnode.datasets.load(data, "test", as_numpy=True)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return arrays["x"], arrays["y"]
    except (EOFError, KeyError, OSError, ValueError, zipfile.BadZipFile) as error:
        raise command_line.Stop(
            "The data must be an .npz file with the arrays `x` and `y`, of numbers alone. "
            f"Received: {data!r} ({error}). Write it with `numpy.savez(path, x=x, y=y)`."
        ) from error
