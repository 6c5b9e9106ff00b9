"""Runs a campaign for some time, and counts what was tried, what held and what broke."""

import contextlib
import dataclasses
import pathlib
import tempfile
import time
from collections.abc import Callable

import numpy as np

# Tries something random, returns the number of cases, and raises if one does not hold.
Try = Callable[[np.random.Generator], int]

# Opens a campaign with an empty directory of its own.
Campaign = Callable[[pathlib.Path], contextlib.AbstractContextManager[Try]]


@dataclasses.dataclass
class Tally:
    """What has come of a campaign.

    Args:
        held: Integer, the cases that held.
        broken: List of what the others said.
    """

    held: int = 0
    broken: list[str] = dataclasses.field(default_factory=list)

    @property
    def tried(self) -> int:
        return self.held + len(self.broken)


def run(
    campaign: Campaign,
    seed: int,
    seconds: float,
    tries: int | None = None,
    report: Callable[[float], object] = lambda finished: None,
) -> Tally:
    """Runs a campaign until its time is up; what is under way then is ended.

    The tries of a seed are the same in every run, however many there are.

    Args:
        campaign: `Campaign`.
        seed: Integer.
        seconds: Float.
        tries: Integer, an end that may come before; or None.
        report: Is told the finished fraction.
    """
    tally, number = Tally(), 0
    with tempfile.TemporaryDirectory() as directory, campaign(pathlib.Path(directory)) as try_one:
        began = time.monotonic()
        while number != tries and time.monotonic() - began < seconds:
            try:
                tally.held += try_one(np.random.default_rng([seed, number]))
            except Exception as error:
                tally.broken.append(f"try {number}: {_told(error)}")
            number += 1
            report(min(1.0, (time.monotonic() - began) / seconds))
    return tally


def _told(error: Exception) -> str:
    """An error with its notes, in which hypothesis says what it found."""
    return "\n".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())])
