"""Runs campaigns of random cases; prints what was tried, what held and what broke.

    python scripts/campaign.py --minutes 10
    python scripts/campaign.py random_methods weight_files --minutes 1 --seed 7

Each campaign has its share of the minutes. The cases of a seed are the same every time, however
many of them the time allows; only the moments of kills and of concurrent writes are the machine's.
Everything is written to a temporary directory. The exit status is 1 if anything broke.
Needs the extra `test`.
"""

import argparse
import importlib
import os
import pathlib
import sys
from collections.abc import Sequence

if not __package__:  # run by its path: the checkout, in the place of scripts/
    sys.path[0] = str(pathlib.Path(__file__).parents[1])

from scripts import command_line

# Each is the module of its name.
CAMPAIGNS = (
    *("random_methods", "accuracy", "weight_files", "kills", "writers", "servers", "long_fit"),
)


def main(arguments: Sequence[str]) -> int:
    args = parse(arguments)
    # Its messages would run through the table, here and in the processes of campaigns.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from rich.progress import Progress

    from scripts.campaigns import running
    from tfnode.tables import aligned

    tallies = {}
    with Progress() as progress:
        for name in args.names:
            task = progress.add_task(name, total=1.0)
            tallies[name] = running.run(
                importlib.import_module(f"scripts.campaigns.{name}").campaign,
                args.seed,
                60 * args.minutes / len(args.names),
                report=lambda finished, task=task: progress.update(task, completed=finished),
            )
    for name, tally in tallies.items():
        for broken in tally.broken:
            print(f"{name}, {broken}\n")
    rows = [(name, t.tried, t.held, len(t.broken)) for name, t in tallies.items()]
    print(aligned(("campaign", "tried", "held", "broken"), rows, right=[1, 2, 3]))
    return int(any(tally.broken for tally in tallies.values()))


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = command_line.parser(__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(CAMPAIGNS)}; all if left out"
    )
    parser.add_argument("--minutes", type=command_line.minutes, default=10, help="of all together")
    parser.add_argument("--seed", type=command_line.natural, default=0)
    args = parser.parse_args(arguments)
    for name in args.names:
        if name not in CAMPAIGNS:
            parser.error(f"a campaign must be one of {list(CAMPAIGNS)}. Received: {name!r}.")
    # Each once, in the order of the table.
    args.names = [name for name in CAMPAIGNS if name in args.names or not args.names]
    return args


if __name__ == "__main__":
    command_line.run(main)
