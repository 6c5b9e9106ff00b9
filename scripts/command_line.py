"""What the commands' parsers of arguments share."""

import argparse


def parser(description):
    """Returns a parser that shows a module's docstring as it stands."""
    return argparse.ArgumentParser(
        description=description,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def positive(text):
    """An integer from 1 up, as the type of an argument."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be a positive integer. Received: {text}")
    return value
