"""Table 1 as a page, with the figures of the trainings behind it."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from scripts.models import NAMES
from scripts.paper import figures, origins, table1
from scripts.paper.pictures import write_png
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


def draw(results: Mapping[str, Sequence[Result]], out: pathlib.Path) -> dict[pathlib.Path, str]:
    """Draws the paper's figures 5 and 6 for each row; returns their captions by their paths."""
    pictures = {}
    for model, runs in results.items():
        adapted = [r for r in usable(runs) if r["run"]["num_steps"] is None and r["test_curve"]]
        if not adapted:
            continue
        name, count = NAMES[model], len(adapted)
        seeds = "one seed" if count == 1 else f"{count} seeds"
        drawn = {
            f"figure5_{model}.png": (f"{name}, {seeds}", figures.adaption({name: adapted})),
            f"figure6_{model}.png": (
                f"{name}, seed {adapted[0]['run']['seed']}, and under better solvers",
                figures.behaviour(adapted[0]),
            ),
        }
        for file, (caption, figure) in drawn.items():
            write_png(figure, out / file, dpi=120)
            pictures[out / file] = f"Step adaption on {caption}"
    return pictures


def document(
    printed: Sequence[str],
    provenance: dict[str, Any],
    pictures: Mapping[pathlib.Path, str],
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
        "differ by at most 10 points in the mean over the seeds; the accuracy beside it is the "
        "highest of the valid numbers of steps, and not that of the critical one, where the paper "
        "reports the highest of all runs that were ODE-like. *Near the best*: the seeds within 10 "
        "points of the best of their setting, of the grid and of the adaption; the paper leaves "
        "out seeds that did not train successfully, and names no criterion. All three are chosen "
        "by the validation set, or for images by a part of the training set, where the runs have "
        "looked at it, and else by the test set; so is the gap to the reference of the grid.",
        "## The grid",
        printed[1],
        *failures(rows),
        *_training(pictures),
    ]
    return "\n\n".join(parts) + "\n"


def _training(pictures: Mapping[pathlib.Path, str]) -> list[str]:
    """The part of the page on how the steps were adapted; nothing where none were."""
    if not pictures:
        return []
    return [
        "## The trainings with step adaption",
        "Test accuracy and number of steps, both at the times at which the accuracy was measured; "
        "the rule may change the step between them. Dotted: chance.",
        *(f"![{caption}]({path.name})\n\n{caption}." for path, caption in pictures.items()),
    ]


def failures(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Returns a line for each run that failed; such runs are in no mean."""
    return [f"Failed and left out: {run}" for row in rows for run in row["failed"]]
