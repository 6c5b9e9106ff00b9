"""The pages of the tutorials: scripts that are run as notebooks, with what they print and draw."""

import pathlib
import tempfile

import jupytext
import nbclient
import nbformat
from nbconvert import MarkdownExporter
from nbconvert.preprocessors import CoalesceStreamsPreprocessor

from scripts.paper import experiments
from tfnode import files, versions

# Each takes less than two minutes on two cores.
SECONDS = 600


def write(source: pathlib.Path) -> pathlib.Path:
    """Runs a tutorial, and writes its page and its pictures beside it; returns the page.

    Raises:
        nbclient.exceptions.CellExecutionError: If a cell fails.
    """
    name = source.stem
    notebook = jupytext.read(source)
    with tempfile.TemporaryDirectory() as directory:
        nbclient.NotebookClient(
            notebook,
            timeout=SECONDS,
            resources={"metadata": {"path": directory}},
            # Figures that were made without pyplot are drawn, too.
            extra_arguments=["--matplotlib=inline"],
        ).execute()
    keep_what_was_printed(notebook)
    pictures = source.with_name(f"{name}_files")
    resources = {"unique_key": name, "output_files_dir": pictures.name}
    text, resources = MarkdownExporter().from_notebook_node(notebook, resources)
    for old in pictures.glob("*.png"):
        old.unlink()
    for picture, content in resources["outputs"].items():
        with files.beside(source.parent / picture) as written:
            written.write_bytes(content)
    path = source.with_suffix(".md")
    made_with = versions.in_words(experiments.versions())
    files.write_text(
        path,
        f"{text.replace('![png]', '![What the code above draws]').strip()}\n\n"
        f"---\n\n*This page is [`{source.name}`]({source.name}), run with {made_with}.*\n",
    )
    return path


def keep_what_was_printed(notebook: nbformat.NotebookNode) -> None:
    """Drops what went to stderr, where TensorFlow greets every process."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    # Which had torn what was printed beside it.
    CoalesceStreamsPreprocessor().preprocess(notebook, {})
