"""Exports a trained model for TensorFlow Serving: a SavedModel for each solver configuration.

    tfnode export energy_landscape served/energy_landscape
    tfnode export model.keras served/mine --data test.npz --solver rk4:1/8 --solver rk4:1/16

Without data, and in regression, there is no verdict, and no version is labelled stable; pretrained
weights bring both.
"""

import argparse
import fractions
import pathlib
from typing import TYPE_CHECKING, Any

from zoo.commands import answers, command_line, subjects

if TYPE_CHECKING:
    import keras

    from tfnode.solvers import Solver

_HOLDS = "a list of the paths that were written, models.config last"


def add(commands: Any) -> None:
    """Adds the command to those of a parser."""
    parser = answers.add(commands, "export", __doc__ or "", answer, _HOLDS)
    subjects.add_arguments(parser)
    parser.add_argument("out", type=pathlib.Path, metavar="OUT", help="the directory to write to")
    parser.add_argument(
        "--solver",
        dest="solvers",
        action="append",
        type=solver,
        metavar="NAME[:STEP]",
        help="such as rk4:1/8; may be given again; that of the training if left out",
    )
    parser.add_argument(
        "--require-valid", action="store_true", help="refuse a model that is no ODE"
    )
    parser.add_argument(
        "--as-signatures",
        action="store_true",
        help="write one SavedModel, of which a request chooses the solver",
    )
    parser.add_argument(
        "--version", type=command_line.positive, metavar="N", help="in place of the next free one"
    )


def solver(text: str) -> tuple[str, float | None]:
    """A name and a step size, as the type of an argument."""
    name, separator, step = text.partition(":")
    try:
        return name, float(fractions.Fraction(step)) if separator else None
    except (ValueError, ArithmeticError) as error:
        rule = "must be a name, or a name and a step such as rk4:1/8"
        raise argparse.ArgumentTypeError(f"{rule}. Received: {text}") from error


def answer(args: argparse.Namespace) -> answers.Answer:
    """Exports a model; the answer is where its versions lie."""
    subjects.check_arguments(args, needs_data=False)
    command_line.check_writable(args.parser, out=args.out)
    import tfnode
    from zoo import reports

    subject = subjects.load(args)
    entry = subject.published
    paths = tfnode.export.export_saved_models(
        subject.model,
        args.out,
        _solvers(subject.model, args.solvers),
        subject.data,
        data_name=subject.data_name,
        require_valid=args.require_valid,
        reference_steps=subject.reference_steps,
        as_signatures=args.as_signatures,
        version=args.version,
        report=None if entry is None else reports.read(entry),
    )
    written = [str(path) for path in (*paths, args.out / "models.config")]
    return answers.Answer(0, written, "\n".join(f"Written: {path}" for path in written))


def _solvers(model: "keras.Model", given: list[tuple[str, float | None]] | None) -> "list[Solver]":
    import tfnode
    from tfnode.models import some_blocks

    if given is not None:
        return [tfnode.solvers.get(name, step) for name, step in given]
    found = list(dict.fromkeys(block.solver for block in some_blocks(model)))
    if len(found) != 1:
        raise ValueError(
            "A model is exported under the solver of its training if all its blocks have the same. "
            f"Received: {model.name!r} with {found}. Name one by --solver."
        )
    return found
