"""The options that the reproducing commands share."""

import argparse
import pathlib
from collections.abc import Sequence

from scripts import command_line
from scripts.paper import engines


def parser(description: str, out: str) -> argparse.ArgumentParser:
    """Returns a parser with the options that the commands share; `out` is the default of one."""
    options = command_line.parser(description)
    setting = options.add_mutually_exclusive_group(required=True)
    setting.add_argument("--quick", action="store_true", help="minutes: few iterations and seeds")
    setting.add_argument("--paper", action="store_true", help="hours: the paper's setting")
    options.add_argument("--seeds", type=command_line.positive, help="seeds of each run; 2 or 5")
    options.add_argument(
        "--iterations", type=command_line.positive, help="in place of the setting's"
    )
    options.add_argument(
        "--finished", action="store_true", help="train nothing: report on the finished runs"
    )
    command_line.add_dtype(options)
    engines.add_options(options)
    for name, default, what in (
        ("runs", "results/runs", "the finished runs"),
        ("checkpoints", "results/checkpoints", "checkpoints of those under way"),
        ("out", out, "tables and figures"),
    ):
        options.add_argument(
            f"--{name}", type=pathlib.Path, default=default, help=f"directory of {what}"
        )
    return options


def parse(options: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
    """Parses arguments, and refuses what could not be done with them."""
    args = options.parse_args(arguments)
    engines.check_options(options, args)
    places = {"out": args.out}
    if not args.finished:
        places |= {"runs": args.runs, "checkpoints": args.checkpoints}
    elif not args.runs.is_dir():
        options.error(
            "--finished reports on the finished runs below --runs, a directory that is there. "
            f"Received: --runs {args.runs}. Name another, or leave --finished out to train."
        )
    command_line.check_writable(options, **places)
    return args
