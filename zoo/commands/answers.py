"""What a command answers, and how it is added to others."""

import argparse
from collections.abc import Callable
from typing import Any, NamedTuple

from zoo.commands import command_line


class Answer(NamedTuple):
    """What a command has found.

    Args:
        status: Integer, the exit status: 0 for yes, 1 for no.
        value: Plain values, for JSON.
        text: String, the same for people.
    """

    status: int
    value: Any
    text: str


def add(
    commands: Any,
    name: str,
    docstring: str,
    answer: Callable[[argparse.Namespace], Answer],
    holds: str,
) -> argparse.ArgumentParser:
    """Adds a command to those of a parser.

    Args:
        commands: What `add_subparsers` returned.
        name: String, the name of the command.
        docstring: String, its help.
        answer: Function of the parsed arguments, which hold the parser as `parser`.
        holds: String, what the value of its answer is, for its help.
    """
    short = docstring.partition("\n")[0].rstrip(".")
    parser = commands.add_parser(
        name, help=short[0].lower() + short[1:], description=docstring, **command_line.STYLE
    )
    parser.add_argument("--json", action="store_true", help=f"print JSON: {holds}")
    parser.set_defaults(answer=answer, parser=parser)
    return parser
