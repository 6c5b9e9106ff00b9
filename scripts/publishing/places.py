"""Where in the checkout lies what is published of a weight."""

import pathlib

from scripts.command_line import Stop
from tfnode import files

ROOT = pathlib.Path(__file__).parents[2]
CARDS = ROOT / "docs" / "zoo"
GOLDEN = ROOT / "tests" / "golden"
# What the runs of the trainings gave.
RESULTS = ROOT / "docs" / "results" / "zoo"
# Accuracies on whole test sets, where a verdict is on a part of it.
WHOLE_TEST_SETS = ROOT / "docs" / "results" / "whole_test_sets.json"
# Our runs at the paper's scale, over the seeds.
TABLE1 = ROOT / "docs" / "results" / "table1" / "table1.json"
# What the package has of them.
PACKAGED_TABLE1 = ROOT / "zoo" / "table1.csv"
# How long the exported models take to answer.
ANSWER_TIMES = ROOT / "docs" / "results" / "benchmark_zoo.json"
# What runs gave that may be published.
RUNS = ROOT / "docs" / "results" / "runs"


def check_writable(*places: pathlib.Path) -> None:
    """Raises, before the work, if what it shall publish could not be written.

    Args:
        *places: Paths of directories, and of files, which are those with a suffix.

    Raises:
        Stop: If a place cannot be written to.
    """
    for place in places:
        try:
            check = files.check_file if place.suffix else files.check_writable
            check(place, "place")
        except ValueError as error:
            raise Stop(str(error)) from error
