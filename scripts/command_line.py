"""What the scripts share: what every command does, and what they need in a checkout."""

import argparse
import json
import pathlib
import shlex
from collections.abc import Sequence
from typing import Any

from zoo.commands.command_line import (
    Stop,
    check_files,
    check_writable,
    directory,
    file,
    minutes,
    natural,
    parser,
    port,
    positive,
    run,
)

__all__ = [
    "Stop",
    "add_dtype",
    "call",
    "check_files",
    "check_writable",
    "directory",
    "file",
    "minutes",
    "natural",
    "parser",
    "port",
    "positive",
    "read_json",
    "run",
]


def add_dtype(parser: argparse.ArgumentParser) -> None:
    """Adds the option of the dtype policy that a model is trained in."""
    parser.add_argument(
        "--dtype",
        choices=("float32", "mixed_bfloat16"),
        help="of the training; mixed_bfloat16 for images on a processor with AMX, else float32",
    )


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
