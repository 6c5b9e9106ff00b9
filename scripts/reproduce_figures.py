"""Reproduces the figures of "When are Neural ODE Solutions Proper ODEs?", by number.

    python scripts/reproduce_figures.py --quick 1 2 3
    python scripts/reproduce_figures.py --paper 3 7 8 9 --runs docs/results/runs

Without numbers it draws all of them, 1 to 22. Every training is one JSON file below --runs, which
`reproduce_table1.py` shares, and is never run again: interrupt at will, and go on with the same
command. Figures are written below --out as PNG and PDF, with a page that says what each shows.
"""

import argparse
import json
import shlex
import sys

import reproducing
import runner
from paper_figures import FIGURES

from tfnode import files


def main(arguments):
    args = parse(arguments)
    runs = {number: FIGURES[number].runs(args) for number in args.figures}
    distinct = dict.fromkeys(r for panels in runs.values() for of in panels.values() for r in of)
    stopped = reproducing.train_all(list(distinct), args)
    if stopped:
        return stopped
    command = shlex.join(["python", "scripts/reproduce_figures.py", *arguments])
    for number, panels in runs.items():
        draw(number, panels, args, command)
    write_page(args.out)
    return 0


def draw(number, panels, args, command):
    """Draws a figure from the runs that are finished, and notes beside it what they are."""
    results = {title: finished(runs, args) for title, runs in panels.items()}
    every = [run for of_panel in panels.values() for run in of_panel]
    note = {
        "command": command,
        "caption": FIGURES[number].caption,
        "setting": "quick" if args.quick else "paper",
        "iterations": sorted({run.iterations for run in every}),
        "runs": len(every),
        "finished": sum(map(len, results.values())),
    }
    if panels and not note["finished"]:
        print(f"Figure {number} has no finished run below {args.runs} and is left out.")
        return
    figure = FIGURES[number].draw(results)
    for ending in ("png", "pdf"):
        with files.beside(args.out / f"figure{number:02d}.{ending}") as written:
            figure.savefig(written)
    files.write_json(args.out / f"figure{number:02d}.json", note)
    print(f"Written: {args.out / f'figure{number:02d}.png'}")


def finished(runs, args):
    """The results of the finished runs, those left out that failed."""
    return [result for result in runner.read_results(runs, args.runs) if "error" not in result]


def write_page(out):
    """Writes the gallery of all the figures that lie below a directory."""
    parts = ["# The figures", "Each with the command that drew it, from finished runs or new ones."]
    for note_path in sorted(out.glob("figure*.json")):
        note = json.loads(note_path.read_text())
        name = note_path.stem
        parts += [
            f"## Figure {int(name.removeprefix('figure'))}",
            f"![{note['caption']}]({name}.png)",
            f"{note['caption']} {_provenance(note)}",
            f"`{note['command']}`",
        ]
    files.write_text(out / "README.md", "\n\n".join(parts) + "\n")


def _provenance(note):
    if not note["runs"]:
        return ""
    iterations = " and ".join(map(str, note["iterations"]))
    return (
        f"*Drawn from {note['finished']} of {note['runs']} runs in the {note['setting']} setting, "
        f"{iterations} iterations.*"
    )


def parse(arguments):
    parser = reproducing.parser(__doc__, out="results/figures")
    parser.add_argument("figures", nargs="*", type=figure_number, help="1 to 22; all if left out")
    args = parser.parse_args(arguments)
    args.figures = args.figures or list(FIGURES)
    return args


def figure_number(text):
    if text not in map(str, FIGURES):
        raise argparse.ArgumentTypeError(f"must be a number from 1 to 22. Received: {text}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
