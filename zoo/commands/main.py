"""Neural ODEs that are proper ODEs: judges, exports and finds trained models.

    tfnode check model.keras --data test.npz
    tfnode export energy_landscape served/energy_landscape
    tfnode zoo list --pretrained

`tfnode COMMAND --help` says more. With --json a command prints its answer as JSON, and nothing else
to the standard output. The exit status is 0 for yes, 1 for no, and 2 where there is no answer.
"""

import argparse
import contextlib
import importlib.metadata
import json
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

from zoo.commands import check, command_line, export, pretrained, table1


def main() -> NoReturn:
    """The entry point."""
    command_line.run(answer)


def parser() -> argparse.ArgumentParser:
    """Returns the parser of all commands."""
    parser = command_line.parser(__doc__)
    version = importlib.metadata.version("tfnode")
    parser.add_argument("--version", action="version", version=f"tfnode {version}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (check, export, pretrained, table1):
        command.add(commands)
    return parser


def answer(arguments: Sequence[str]) -> int:
    """Answers a command line; returns the exit status."""
    args = parser().parse_args(arguments)
    try:
        # What the work itself prints, such as progress, is no part of the answer.
        with contextlib.redirect_stdout(sys.stderr):
            found = args.answer(args)
    except (ArithmeticError, ImportError, OSError, ValueError) as error:
        # Those of this package say the rule, what came, and what to do next.
        raise command_line.Stop(str(error), status=2) from error
    except Exception:
        # Python would end with 1, which is a no.
        traceback.print_exc()
        return 2
    try:
        print(json.dumps(found.value, indent=1) if args.json else found.text, flush=True)
    except BrokenPipeError:
        # The reader has read enough, as `head` does; what is left leads nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    return found.status
