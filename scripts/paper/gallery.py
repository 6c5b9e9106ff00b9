"""The figures of the paper as files, each with a note of what it was drawn from, and their page."""

import argparse
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from scripts import command_line
from scripts.paper import figures, origins, runner, table1
from scripts.paper.figures_by_number import FIGURES
from scripts.paper.pictures import write_png
from scripts.paper.runs import Result, Run
from scripts.paper.selection import usable
from tfnode import files, tables


def draw(
    number: int, panels: Mapping[str, Sequence[Run]], args: argparse.Namespace, command: str
) -> None:
    """Draws a figure from the runs that are finished, and notes beside it what they are.

    It is left out, by name, without the runs that it needs.
    """
    found = {title: runner.read_results(runs, args.runs) for title, runs in panels.items()}
    results = {title: usable(of_panel) for title, of_panel in found.items()}
    need = FIGURES[number].need
    if panels and not need.is_met(results):
        print(f"Figure {number} needs {need.words} below {args.runs} and is left out.")
        return
    figure = FIGURES[number].draw(results)
    write_png(figure, args.out / f"figure{number:02d}.png")
    with files.beside(args.out / f"figure{number:02d}.pdf") as written:
        figure.savefig(written)
    note = note_of(number, panels, found, args.quick, command)
    files.write_json(args.out / f"figure{number:02d}.json", note)
    print(f"Written: {args.out / f'figure{number:02d}.png'}")


def note_of(
    number: int,
    panels: Mapping[str, Sequence[Run]],
    found: Mapping[str, Sequence[Result]],
    quick: bool,
    command: str,
) -> dict[str, Any]:
    """What a figure was drawn from: of the runs of its panels those that are finished."""
    results = {title: usable(of_panel) for title, of_panel in found.items()}
    failed = {title: len(found[title]) - len(results[title]) for title in panels}
    every = [run for of_panel in panels.values() for run in of_panel]
    note = {
        "command": command,
        "caption": FIGURES[number].caption,
        "setting": "quick" if quick else "paper",
        "iterations": sorted({run.iterations for run in every}),
        "runs": len(every),
        "finished": sum(map(len, results.values())),
        "failed": [f"{title} ({n} of {len(panels[title])})" for title, n in failed.items() if n],
        "not_run": [title for title, of_panel in found.items() if not of_panel],
        "in_part": [
            f"{title} ({len(found[title])} of {len(of_panel)} runs)"
            for title, of_panel in panels.items()
            if 0 < len(found[title]) < len(of_panel)
        ],
        "origins": origins.in_words([r for of_panel in results.values() for r in of_panel]),
    }
    if FIGURES[number].draw is figures.solver_dependence:  # it draws means, without those seeds
        note["left_out"] = table1.lines_of_left_out(results)
    return note


def write_page(out: pathlib.Path) -> None:
    """Writes the gallery of all the figures that lie below a directory."""
    parts = ["# The figures", "Each with the command that drew it, from finished runs or new ones."]
    for note_path in sorted(out.glob("figure*.json")):
        note = command_line.read_json(note_path)
        name = note_path.stem
        parts += [
            f"## Figure {_number(note_path)}",
            f"![{note['caption']}]({name}.png)",
            f"{note['caption']} {_provenance(note)}",
            f"`{note['command']}`",
            *_left_out(note),
        ]
    drawn = set(map(_number, out.glob("figure*.json")))
    if missing := [str(number) for number in FIGURES if number not in drawn]:
        parts.append(f"Not drawn yet, as none of their runs is there: {', '.join(missing)}.")
    files.write_text(out / "README.md", "\n\n".join(parts) + "\n")


def _number(note_path: pathlib.Path) -> int:
    return int(note_path.stem.removeprefix("figure"))


def _left_out(note: dict[str, Any]) -> list[str]:
    """What the figure would show with the seeds that it leaves out, beside what it shows."""
    if not note.get("left_out"):
        return []
    return [
        "Where seeds are left out, the accuracies at the step of the training and under the fine "
        "RK4, with them and without, as means and standard deviations:",
        tables.markdown(table1.LEFT_OUT_HEADER, note["left_out"]),
    ]


def _provenance(note: dict[str, Any]) -> str:
    if not note["runs"]:
        return ""
    iterations = " and ".join(map(str, note["iterations"]))
    # A note of an older release names neither failed runs nor panels of which some are missing.
    lists = {
        "Failed": note.get("failed"),
        "In part": note.get("in_part"),
        "Not run": note["not_run"],
    }
    left_out = "".join(f" {name}: {', '.join(of)}." for name, of in lists.items() if of)
    return (
        f"*Drawn from {note['finished']} of {note['runs']} runs in the {note['setting']} setting, "
        f"{iterations} iterations. {note['origins']}{left_out}*"
    )
