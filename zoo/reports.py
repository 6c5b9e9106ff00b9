"""The verdicts on the pretrained weights, which were reached once."""

import pathlib

from tfnode import files
from tfnode.validity import ValidityReport
from zoo.manifest import WeightsEntry

DIRECTORY = pathlib.Path(__file__).parent / "reports"


def read(entry: WeightsEntry) -> ValidityReport:
    """Returns the report of weights.

    Raises:
        FileNotFoundError: If they have none.
    """
    path = _path(entry)
    if not path.exists():
        raise FileNotFoundError(
            f"Pretrained weights are published with a report. Received: weights={entry.name!r}, "
            f"and no file {str(path)!r}. Judge the model by `tfnode.validity.check`."
        )
    return ValidityReport.from_json(path.read_text(encoding="utf-8"))


def write(entry: WeightsEntry, report: ValidityReport) -> pathlib.Path:
    """Writes the report of weights, and returns the path of its file."""
    path = _path(entry)
    files.write_text(path, report.to_json() + "\n")
    return path


def _path(entry: WeightsEntry) -> pathlib.Path:
    return DIRECTORY / f"{entry.name}.json"
