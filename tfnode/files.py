"""Files and directories that are complete or not there."""

import contextlib
import json
import os
import pathlib
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def beside(target: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a path to write a file or a directory to, which then takes the place of the target.

    If the block raises, the target stays as it was, and no directory is left behind.

    Examples:

    >>> target = pathlib.Path(tempfile.mkdtemp()) / "new" / "answer.txt"
    >>> with beside(target) as path:
    ...     _ = path.write_text("42")
    ...     print(target.parent.exists())
    False
    >>> target.read_text()
    '42'
    """
    # Not in the system's place for temporary files: a rename does not cross file systems.
    existing = next(folder for folder in target.parents if folder.exists())
    with tempfile.TemporaryDirectory(dir=existing, prefix=".writing-") as folder:
        written = pathlib.Path(folder) / target.name
        yield written
        _sync(written)
        target.parent.mkdir(parents=True, exist_ok=True)
        written.replace(target)


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a text file, which is complete or not there."""
    with beside(path) as written:
        written.write_text(text)


def write_json(path: pathlib.Path, value: object, indent: int | None = None) -> None:
    """Writes plain values as a JSON file, which is complete or not there.

    Raises:
        ValueError: If a number is not finite.
    """
    write_text(path, json.dumps(value, allow_nan=False, indent=indent) + "\n")


def _sync(written: pathlib.Path) -> None:
    # Else a crash of the machine could keep the new name and lose the content.
    for path in [written, *written.rglob("*")]:
        if path.is_file():
            with path.open("rb+") as file:
                os.fsync(file.fileno())
