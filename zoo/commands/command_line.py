"""What commands share, those of the checkout too: parsers, kinds of arguments, and how they end.

A command imports what takes seconds, TensorFlow and all that needs it, in `main`, when its
arguments are known to be good: misuse is answered at once, and Ctrl-C at any time.
"""

import argparse
import math
import pathlib
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from zoo.commands import greetings

# Of every parser: a docstring as it stands, and no option that is cut short.
STYLE: dict[str, Any] = {
    "allow_abbrev": False,
    "formatter_class": argparse.RawDescriptionHelpFormatter,
}


class Stop(Exception):
    """What ends a command, in a line for the person who has typed it.

    Args:
        text: String, the line.
        status: Integer, the exit status.
    """

    def __init__(self, text: str, status: int = 1) -> None:
        super().__init__(text)
        self.status = status


def run(main: Callable[[Sequence[str]], int]) -> NoReturn:
    """Runs a command, and ends the process with its exit status."""
    greetings.leave_out()
    try:
        status = main(sys.argv[1:])
    except Stop as stop:
        print(stop, file=sys.stderr)
        status = stop.status
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        status = 130
    # What is left to do is short, and a second Ctrl-C would show where it is.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(status)


def parser(description: str | None) -> argparse.ArgumentParser:
    """Returns a parser that shows a module's docstring as it stands."""
    return argparse.ArgumentParser(description=description, **STYLE)


# === Kinds of arguments ===
def positive(text: str) -> int:
    """An integer from 1 up, as the type of an argument."""
    return _integer(text, "a positive integer", lambda value: value >= 1)


def natural(text: str) -> int:
    """An integer from 0 up."""
    return _integer(text, "an integer of at least 0", lambda value: value >= 0)


def several(text: str) -> int:
    """An integer from 2 up."""
    return _integer(text, "an integer of at least 2", lambda value: value >= 2)


def port(text: str) -> int:
    """The number of a port."""
    return _integer(text, "a port from 1 to 65535", lambda value: 1 <= value <= 65535)


def _integer(text: str, rule: str, is_valid: Callable[[int], bool]) -> int:
    if not (text.isascii() and text.removeprefix("-").isdecimal() and is_valid(int(text))):
        raise argparse.ArgumentTypeError(f"must be {rule}. Received: {text}")
    return int(text)


def minutes(text: str) -> float:
    """A positive, finite number."""
    return _number(text, "a positive number", lambda value: 0 < value < math.inf)


def difference(text: str) -> float:
    """A finite number from 0 up."""
    return _number(text, "a number of at least 0", lambda value: 0 <= value < math.inf)


def _number(text: str, rule: str, is_valid: Callable[[float], bool]) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not is_valid(value):
        raise argparse.ArgumentTypeError(f"must be {rule}. Received: {text}")
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


def check_writable(parser: argparse.ArgumentParser, **places: pathlib.Path) -> None:
    """Refuses options that name directories which cannot be written to.

    The last of the checks, as it imports the package.
    """
    from tfnode import files

    _check(parser, files.check_writable, places)


def check_files(parser: argparse.ArgumentParser, **paths: pathlib.Path) -> None:
    """Refuses options that name files which cannot be written; the last check, too."""
    from tfnode import files

    _check(parser, files.check_file, paths)


def _check(
    parser: argparse.ArgumentParser,
    check: Callable[[pathlib.Path, str], None],
    paths: Mapping[str, pathlib.Path],
) -> None:
    for name, path in paths.items():
        try:
            check(path, f"--{name}")
        except ValueError as error:
            parser.error(str(error))
