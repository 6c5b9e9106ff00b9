"""The verdict on a model from a file, as a page."""

import pathlib
from collections.abc import Sequence

import tfnode
from scripts import command_line
from tfnode import files
from zoo import archives
from zoo.commands import subjects


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
    page = out / f"{model.stem}.html"
    plain = page.with_suffix(".json")
    try:
        for path in (page, plain):
            files.check_file(path, "out")
        samples = subjects.samples(data)
        loaded = archives.load(model.read_bytes(), str(model))
        if class_names is not None:
            subjects.check_names(class_names, loaded)
        judged = tfnode.validity.check(loaded, samples)
        judged.to_html(page, class_names)
    except ValueError as error:
        raise command_line.Stop(str(error)) from error
    files.write_text(plain, judged.to_json() + "\n")
    verdict = "an ODE" if judged.is_ode else "not an ODE"
    print(f"{model.stem}: {verdict} (gap {judged.gap:.3g}, threshold {judged.threshold})")
    print(f"Written: {page}")
