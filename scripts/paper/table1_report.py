"""Table 1 as a page, with the figures of the trainings behind it."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from scripts.models import NAMES
from scripts.paper import figures, origins, table1
from scripts.paper.runs import Result
from scripts.paper.selection import usable
from tfnode import files, tables


def report(results: Mapping[str, Sequence[Result]], out: pathlib.Path, command: str) -> None:
    """Writes table and figures below `out`, and prints the table and where the figures are.

    Args:
        results: The finished runs of each model.
        out: A directory.
        command: What the page says that made it.
    """
    rows = [table1.row(model, of_model) for model, of_model in results.items()]
    header, cells = table1.HEADER, table1.lines(rows)
    printed = [
        tables.markdown(header, cells),
        tables.markdown(table1.GRID_HEADER, table1.grid_lines(rows)),
    ]
    of_all = [result for of_model in results.values() for result in of_model]
    provenance = {"command": command, "runs": origins.in_words(of_all)}
    pictures = draw(results, out)
    files.write_text(out / "table1.md", document(printed, provenance, pictures, rows))
    files.write_text(out / "table1.csv", table1.comma_separated(header, cells))
    files.write_json(out / "table1.json", {**provenance, "rows": rows})
    print("", *printed, *failures(rows), "", sep="\n\n")
    for path in (out / "table1.md", *pictures):
        print(f"Written: {path}")


def draw(results: Mapping[str, Sequence[Result]], out: pathlib.Path) -> list[pathlib.Path]:
    """Draws the paper's figures 5 and 6 for each row; returns the paths."""
    paths = []
    for model, runs in results.items():
        adapted = [r for r in usable(runs) if r["run"]["num_steps"] is None and r["test_curve"]]
        if not adapted:
            continue
        drawn = {
            f"figure5_{model}.png": figures.adaption({NAMES[model]: adapted}),
            f"figure6_{model}.png": figures.behaviour(adapted),
        }
        for name, figure in drawn.items():
            with files.beside(out / name) as written:
                figure.savefig(written, dpi=120)
            paths.append(out / name)
    return paths


def document(
    printed: Sequence[str],
    provenance: dict[str, Any],
    pictures: Sequence[pathlib.Path],
    rows: Sequence[dict[str, Any]],
) -> str:
    """Returns the results as a Markdown page; `printed` are the table and that of the grid."""
    parts = [
        "# Table 1, the paper's and ours",
        f"Made by `{provenance['command']}`. {provenance['runs']}",
        printed[0],
        "Accuracies are means and standard deviations over the seeds, on the test set. *Under "
        "RK4* evaluates the same trained models under RK4 with 256 steps, for images with 64, or "
        "16 in the quick setting. *Grid NFE*: the numbers of Euler steps below and above the "
        "critical one, above which the accuracies under the training solver and its reference "
        "differ by at most 10 points; the accuracy beside it is the highest of the valid numbers "
        "of steps, as in the paper. *Trained seeds*: those within 10 points of the best. All three "
        "are chosen by the validation set, or for images by a part of the training set, where the "
        "runs have looked at it, and else by the test set.",
        "## The grid",
        printed[1],
        *failures(rows),
        *(f"![{path.stem}]({path.name})" for path in pictures),
    ]
    return "\n\n".join(parts) + "\n"


def failures(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Returns a line for each run that failed; such runs are in no mean."""
    return [f"Failed and left out: {run}" for row in rows for run in row["failed"]]
