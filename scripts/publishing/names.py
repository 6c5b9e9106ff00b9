"""The names of published weights, as arguments of a command."""

import argparse

from scripts import command_line


def parser(description: str) -> argparse.ArgumentParser:
    """Returns a parser that takes the names of published weights."""
    options = command_line.parser(description)
    options.add_argument(
        "names", nargs="*", metavar="name", type=published, help="weights; all without one"
    )
    return options


def published(name: str) -> str:
    """Returns the name of a weight of the manifest, as the type of an argument."""
    from zoo import manifest

    names = list(manifest.read().weights)
    if name not in names:
        raise argparse.ArgumentTypeError(f"must be one of the weights {names}. Received: {name!r}")
    return name
