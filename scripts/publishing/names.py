"""The names of published weights, as arguments of a script."""

import argparse

from scripts import command_line
from zoo.commands import pretrained


def parser(description: str) -> argparse.ArgumentParser:
    """Returns a parser that takes the names of published weights."""
    options = command_line.parser(description)
    pretrained.add_names(options)
    return options
