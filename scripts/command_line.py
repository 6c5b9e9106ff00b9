"""What the commands' parsers of arguments share."""

import argparse
import shlex
from collections.abc import Sequence


def parser(description: str) -> argparse.ArgumentParser:
    """Returns a parser that shows a module's docstring as it stands."""
    return argparse.ArgumentParser(
        description=description,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def positive(text: str) -> int:
    """An integer from 1 up, as the type of an argument."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be a positive integer. Received: {text}")
    return value


def add_dtype(parser: argparse.ArgumentParser) -> None:
    """Adds the option of the dtype policy that a model is trained in."""
    parser.add_argument(
        "--dtype",
        choices=("float32", "mixed_bfloat16"),
        help="of the training; mixed_bfloat16 for images on a processor with AMX, else float32",
    )


def call(script: str, arguments: Sequence[str]) -> str:
    """Returns the call of a command as it is typed in the checkout, for what the command writes."""
    return shlex.join(["python", f"scripts/{script}.py", *arguments])
