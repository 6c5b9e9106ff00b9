"""Judges whether a trained model is an ODE, or has grown together with its solver.

    tfnode check model.keras --data test.npz
    tfnode check energy_landscape_euler_adapted_v1
    tfnode check hf://user/repository --data mnist:test[:1000]

The exit status is 0 for an ODE, 1 for a model that is none, and 2 where there is no verdict.
"""

import argparse
import json
import pathlib
from typing import Any

from zoo.commands import answers, command_line, subjects

_HOLDS = "the report, which `tfnode.validity.ValidityReport.from_json` reads"
_FIGURES = (".png", ".svg", ".pdf")


def add(commands: Any) -> None:
    """Adds the command to those of a parser."""
    parser = answers.add(commands, "check", __doc__ or "", answer, _HOLDS)
    subjects.add_arguments(parser)
    parser.add_argument(
        "--threshold",
        type=command_line.difference,
        default=0.02,
        help="the largest gap of an ODE, as a fraction; 0.02 if left out",
    )
    parser.add_argument(
        "--figure",
        type=pathlib.Path,
        metavar="FILE",
        help=f"where to draw accuracy over steps; it ends in {', '.join(_FIGURES)}",
    )
    parser.add_argument(
        "--html", type=pathlib.Path, metavar="FILE", help="where to write the report as a page"
    )
    parser.add_argument(
        "--class-names",
        nargs="+",
        metavar="NAME",
        help="for the page, from class 0 up; pretrained weights know theirs",
    )


def answer(args: argparse.Namespace) -> answers.Answer:
    """Judges a model; the answer is its report."""
    if args.figure is not None and args.figure.suffix not in _FIGURES:
        args.parser.error(f"--figure must end in one of {_FIGURES}. Received: {str(args.figure)!r}")
    if args.class_names is not None and args.html is None:
        args.parser.error(
            f"--class-names is for --html. Received: {args.class_names} without it. Name the page, "
            "or leave them out."
        )
    subjects.check_arguments(args, needs_data=True)
    wanted = {"figure": args.figure, "html": args.html}
    paths = {name: path for name, path in wanted.items() if path is not None}
    if len({path.resolve() for path in paths.values()}) < len(paths):
        args.parser.error(
            f"--figure and --html must be two files. Received: {str(args.html)!r} for both. Name "
            "another one."
        )
    command_line.check_files(args.parser, **paths)
    from tfnode import files, parts, validity
    from tfnode.export import cards

    if paths:
        parts.require("A figure or a page", "matplotlib")
    subject = subjects.load(args)
    if args.class_names is not None:
        subjects.check_names(args.class_names, subject.model)
    report = validity.check(
        subject.model, subject.data, args.threshold, reference_steps=subject.reference_steps
    )
    if args.figure is not None:
        with files.beside(args.figure) as written:
            report.plot(subject.name).savefig(written)
    if args.html is not None:
        names = args.class_names or subject.class_names
        report.to_html(args.html, names, title=f"Is {subject.name} an ODE?")
    text = cards.describe(subject.name, report)
    return answers.Answer(0 if report.is_ode else 1, json.loads(report.to_json()), text)
