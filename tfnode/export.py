"""SavedModels on disk: complete or not there, and never in the place of another."""

import pathlib
import tempfile

import keras


def check_export_dir(export_dir):
    """Raises before a training whose models could not be exported when it ends."""
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "A SavedModel is TensorFlow's and needs its backend. "
            f"Received: export_dir={str(export_dir)!r} with KERAS_BACKEND="
            f"{keras.backend.backend()!r}. Save weights instead, with `model.save_weights`."
        )
    if export_dir.is_file() or (export_dir.exists() and any(export_dir.iterdir())):
        raise ValueError(
            "`export_dir` must not exist yet or be empty, so that no model is overwritten. "
            f"Received: export_dir={str(export_dir)!r}. Choose another directory."
        )


def export_saved_model(model, path):
    """Writes a SavedModel beside its place and renames it when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as beside:
        model.export(pathlib.Path(beside) / path.name, verbose=False)
        (pathlib.Path(beside) / path.name).replace(path)
