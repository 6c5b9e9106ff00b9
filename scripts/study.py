"""Answers what the critical step depends on, and what lowers it: one page for each study.

    python scripts/study.py inputs --quick
    python scripts/study.py --paper --runs docs/results/runs --out docs/results/studies
    python scripts/study.py regularization_mnist --paper

`inputs` multiplies the inputs, `integration_time` moves the end of the integration, and
`regularization` trains with penalties and random end times that make a field cheap to solve.
`regularization_mnist` does so on images, which takes far longer. Without a name it answers all but
the last. Trainings are kept below --runs as those of `reproduce_table1.py`.
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence

if not __package__:  # run by its path: the checkout, in the place of scripts/
    sys.path[0] = str(pathlib.Path(__file__).parents[1])

from scripts import command_line
from scripts.paper import options

WITHOUT_IMAGES = ("inputs", "integration_time", "regularization")
NAMES = (*WITHOUT_IMAGES, "regularization_mnist")


def main(arguments: Sequence[str]) -> int:
    parser = options.parser(__doc__, out="results/studies")
    parser.add_argument("studies", nargs="*", type=study, help="all without images if left out")
    args = options.parse(parser, arguments)
    from scripts.paper import reproducing, runner, studies

    planned = {
        name: studies.runs(studies.STUDIES[name], args) for name in args.studies or WITHOUT_IMAGES
    }
    every = [run for settings in planned.values() for of_setting in settings for run in of_setting]
    stopped = reproducing.train_all(list(dict.fromkeys(every)), args)
    if stopped:
        return stopped
    found = {
        name: [runner.read_results(of_setting, args.runs) for of_setting in settings]
        for name, settings in planned.items()
    }
    counts = {name: list(map(len, settings)) for name, settings in planned.items()}
    studies.report(found, counts, args.out, command_line.call("study", arguments))
    return 0


def study(text: str) -> str:
    """The name of a study, as the type of an argument."""
    if text not in NAMES:
        raise argparse.ArgumentTypeError(f"must be one of {list(NAMES)}. Received: {text!r}")
    return text


if __name__ == "__main__":
    command_line.run(main)
