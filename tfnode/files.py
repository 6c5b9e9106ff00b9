"""Files and directories that are complete or not there."""

import contextlib
import datetime
import json
import os
import pathlib
import shutil
import socket
import tempfile
from collections.abc import Iterator

import filelock

# How long one waits for a lock: what is done under one takes seconds.
LOCK_SECONDS = 300

_WRITING = ".writing-"


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
    with tempfile.TemporaryDirectory(dir=existing, prefix=_WRITING) as folder:
        written = pathlib.Path(folder) / target.name
        yield written
        _sync(written)
        target.parent.mkdir(parents=True, exist_ok=True)
        written.replace(target)


@contextlib.contextmanager
def locked(path: pathlib.Path) -> Iterator[None]:
    """Holds a lock file, alone among all processes and threads.

    The system releases it when its owner dies. The file stays: removing it could let two in.

    Raises:
        TimeoutError: If another holds it for longer than `LOCK_SECONDS`.
    """
    owner = path.with_name(f"{path.name}.owner")
    lock = filelock.FileLock(path, timeout=LOCK_SECONDS)
    try:
        lock.acquire()
    except filelock.Timeout as error:
        held_by = "another process"
        # It may go at this moment.
        with contextlib.suppress(OSError):
            held_by = owner.read_text(encoding="utf-8")
        raise TimeoutError(
            "One process at a time may write here. "
            f"Received: the lock {str(path)!r}, held by {held_by}. Wait for its end, or end it."
        ) from error
    try:
        now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        write_text(owner, f"process {os.getpid()} on {socket.gethostname()} since {now}")
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()


def remove_abandoned(folder: pathlib.Path) -> None:
    """Removes what killed processes left of `beside` in a directory.

    For those who hold a lock that all who write to the directory hold.
    """
    for path in folder.glob(f"{_WRITING}*"):
        shutil.rmtree(path)


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
