"""SavedModels on disk: complete or not there, and never in the place of another."""

import pathlib
import tempfile


def check_export_dir(export_dir):
    if export_dir.exists() and any(export_dir.iterdir()):
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
