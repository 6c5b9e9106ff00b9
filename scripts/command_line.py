"""What the commands share: their parsers, kinds of arguments, and how they end.

A command imports what takes seconds, TensorFlow and all that needs it, in `main`, when its
arguments are known to be good: misuse is answered at once, and Ctrl-C at any time.
"""

import argparse
import json
import math
import pathlib
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn


class Stop(Exception):
    """What ends a command, in a line for the person who has typed it."""


def run(main: Callable[[Sequence[str]], int]) -> NoReturn:
    """Runs a command, and ends the process with its exit status."""
    try:
        status = main(sys.argv[1:])
    except Stop as stop:
        print(stop, file=sys.stderr)
        status = 1
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        status = 130
    # What is left to do is short, and a second Ctrl-C would show where it is.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(status)


def parser(description: str) -> argparse.ArgumentParser:
    """Returns a parser that shows a module's docstring as it stands."""
    return argparse.ArgumentParser(
        description=description,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


# === Kinds of arguments ===
def positive(text: str) -> int:
    """An integer from 1 up, as the type of an argument."""
    return _integer(text, "a positive integer", lambda value: value >= 1)


def natural(text: str) -> int:
    """An integer from 0 up."""
    return _integer(text, "an integer of at least 0", lambda value: value >= 0)


def port(text: str) -> int:
    """The number of a port."""
    return _integer(text, "a port from 1 to 65535", lambda value: 1 <= value <= 65535)


def _integer(text: str, rule: str, is_valid: Callable[[int], bool]) -> int:
    if not (text.isascii() and text.removeprefix("-").isdecimal() and is_valid(int(text))):
        raise argparse.ArgumentTypeError(f"must be {rule}. Received: {text}")
    return int(text)


def minutes(text: str) -> float:
    """A positive, finite number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a positive number. Received: {text}")
    return value


def file(text: str) -> pathlib.Path:
    """A file that is there."""
    path = pathlib.Path(text)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"must be a file that is there. Received: {text!r}")
    return path


def directory(text: str) -> pathlib.Path:
    """A directory that is there."""
    path = pathlib.Path(text)
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"must be a directory that is there. Received: {text!r}")
    return path


def add_dtype(parser: argparse.ArgumentParser) -> None:
    """Adds the option of the dtype policy that a model is trained in."""
    parser.add_argument(
        "--dtype",
        choices=("float32", "mixed_bfloat16"),
        help="of the training; mixed_bfloat16 for images on a processor with AMX, else float32",
    )


def check_writable(parser: argparse.ArgumentParser, **places: pathlib.Path) -> None:
    """Refuses options that name directories which cannot be written to.

    The last of the checks, as it imports the package.
    """
    from tfnode import files

    for name, place in places.items():
        try:
            files.check_writable(place, f"--{name}")
        except ValueError as error:
            parser.error(str(error))


# === What a command reads and says ===
def read_json(path: pathlib.Path) -> dict[str, Any]:
    """Reads the dictionary of a JSON file.

    Raises:
        Stop: If it holds anything else, for example because it was cut short.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise _not_whole(path, str(error)) from error
    if not isinstance(value, dict):
        raise _not_whole(path, f"a {type(value).__name__}")
    return value


def _not_whole(path: pathlib.Path, found: str) -> Stop:
    return Stop(
        "A file of results must be whole, and hold a dictionary in JSON. Received: "
        f"{str(path)!r} ({found}). Remove it, and make it again."
    )


def call(script: str, arguments: Sequence[str]) -> str:
    """Returns the call of a command as it is typed in the checkout, for what the command writes."""
    return shlex.join(["python", f"scripts/{script}.py", *arguments])
