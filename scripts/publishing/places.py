"""Where in the checkout lies what is published of a weight."""

import pathlib

ROOT = pathlib.Path(__file__).parents[2]
CARDS = ROOT / "docs" / "zoo"
GOLDEN = ROOT / "tests" / "golden"
# What the runs of the trainings gave.
RESULTS = ROOT / "docs" / "results" / "zoo"
