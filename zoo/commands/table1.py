"""Shows the paper's Table 1, and ours, as far as its runs go.

    tfnode table1
    tfnode table1 --json

The numbers of steps and the evaluations are those of a forward pass under Euler's method: below and
above the critical step of a grid, and of step adaption as a mean over the iterations. The
accuracies of the grid are those of the valid step that classifies best. *Under RK4* the same models
are evaluated with a fine step. *Near the best* are the seeds within 10 points of the best. Whoever
has a checkout trains the table again by
`python scripts/reproduce_table1.py`.
"""

import argparse
import csv
import pathlib
from typing import Any

from zoo.commands import answers

# A copy of docs/results/table1/table1.csv.
PATH = pathlib.Path(__file__).parents[1] / "table1.csv"
_HOLDS = "a list of an object for each line, whose values are texts as in the table"
# Of the grid and of the adaption, whose columns have the same names.
_GROUPS = {"grid": slice(2, 5), "adaption": slice(5, 9)}


def add(commands: Any) -> None:
    """Adds the command to those of a parser."""
    answers.add(commands, "table1", __doc__ or "", table, _HOLDS)


def table(args: argparse.Namespace) -> answers.Answer:
    """The table; the answer is a record for each line, of texts as the table has them."""
    from tfnode import tables

    header, *rows = csv.reader(PATH.read_text(encoding="utf-8").splitlines())
    names = [name.removeprefix("Grid ").removeprefix("Adaption ") for name in header]
    records = [
        {
            "dataset": row[0],
            "whose": row[1],
            **{group: dict(zip(names[at], row[at])) for group, at in _GROUPS.items()},
        }
        for row in rows
    ]
    right = range(2, len(header))
    return answers.Answer(0, records, tables.aligned(header, rows, right))
