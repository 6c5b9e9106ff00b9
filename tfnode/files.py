"""Files and directories that are complete or not there, whoever else writes beside them."""

import contextlib
import datetime
import errno
import json
import os
import pathlib
import shutil
import socket
import tempfile
from collections.abc import Iterator

import filelock

# How long one waits for a lock: what is done under most takes seconds.
LOCK_SECONDS = 300

# What is being written lies in directories of this name, each with the lock of its writer.
_PREFIX = ".writing-"
_LOCK = ".lock"


@contextlib.contextmanager
def beside(target: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a path to write a file or a directory to, which then takes the place of the target.

    If the block raises, the target stays as it was, and no directory is left behind. What a killed
    process has left, the next that writes at the same place removes. A symbolic link at the
    target is replaced, not followed.

    Examples:

    >>> target = pathlib.Path(tempfile.mkdtemp()) / "new" / "answer.txt"
    >>> with beside(target) as path:
    ...     _ = path.write_text("42", encoding="utf-8")
    ...     print(target.parent.exists())
    False
    >>> target.read_text(encoding="utf-8")
    '42'
    """
    # Not in the system's place for temporary files: a rename does not cross file systems.
    with temporary_in(_nearest(target.parent)) as folder:
        written = folder / target.name
        yield written
        _sync(written)
        target.parent.mkdir(parents=True, exist_ok=True)
        written.replace(target)


@contextlib.contextmanager
def temporary_in(place: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a private directory in another, which is removed at the end.

    If the process is killed before, the next that asks for one there removes it.
    """
    sweep(place)
    folder = pathlib.Path(tempfile.mkdtemp(dir=place, prefix=".new-"))
    try:
        with filelock.FileLock(folder / _LOCK):
            # Only now, as whoever sweeps takes one without an owner for what was left.
            folder = folder.rename(place / folder.name.replace(".new-", _PREFIX))
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove(folder: pathlib.Path) -> None:
    """Removes a directory, if it is there, which others see as a whole or not at all."""
    if folder.exists():
        with temporary_in(folder.parent) as place:
            folder.rename(place / folder.name)


@contextlib.contextmanager
def locked(path: pathlib.Path, seconds: float | None = None) -> Iterator[None]:
    """Holds a lock file, alone among all processes and threads.

    The system releases it when its owner dies. The file stays: removing it could let two in.

    Args:
        path: Path of the lock file.
        seconds: Float, how long to wait for it; `LOCK_SECONDS` if left out.

    Raises:
        TimeoutError: If another holds it for longer.
    """
    owner = path.with_name(f"{path.name}.owner")
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(path, timeout=LOCK_SECONDS if seconds is None else seconds)
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


def check_writable(path: str | os.PathLike[str], name: str) -> None:
    """Raises, before the work, if its results could not be written to a directory.

    Examples:

    >>> check_writable("results", "out")
    >>> check_writable(__file__, "out")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    ValueError: `out` must be a directory that can be written to, or that can be made. Received: ...

    Args:
        path: Path of the directory, which need not exist, and is not made.
        name: String, what the caller calls it.

    Raises:
        ValueError: If nothing can be written there.
    """
    rule = f"`{name}` must be a directory that can be written to, or that can be made"
    path = pathlib.Path(path)
    with _refusing(rule, name, path), _trial(path):
        pass


def check_file(path: str | os.PathLike[str], name: str) -> None:
    """Raises, before the work, if its result could not be written to a file.

    Examples:

    >>> check_file("results/report.html", "html")
    >>> check_file(os.curdir, "html")
    Traceback (most recent call last):
        ...
    ValueError: `html` must be a file that can be written, or that can be made. Received:
    html='.' (Is a directory). Choose another one, or correct its permissions.

    Args:
        path: Path of the file, which need not exist, and is not made.
        name: String, what the caller calls it.

    Raises:
        ValueError: If it cannot be written, or if something that is no file has its name.
    """
    rule = f"`{name}` must be a file that can be written, or that can be made"
    path = pathlib.Path(path)
    with _refusing(rule, name, path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        # What is written takes the place of what is there: of a device, for ever.
        if path.exists() and not path.is_file():
            raise ValueError("Not a regular file")
        with _trial(path.parent) as folder:
            (folder / path.name).write_bytes(b"")


@contextlib.contextmanager
def _refusing(rule: str, name: str, path: pathlib.Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{rule}. Received: {name}={str(path)!r} "
            f"({getattr(error, 'strerror', None) or error}). Choose another one, or correct its "
            "permissions."
        ) from error


@contextlib.contextmanager
def _trial(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a directory like one that may be missing, in its place, and removes it at the end."""
    # Permissions do not tell of file systems that are read only, nor of long names.
    place = _nearest(path)
    with temporary_in(place) as folder:
        made = folder / "trial" / path.relative_to(place)
        made.mkdir(parents=True)
        yield made


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a text file, which is complete or not there, in UTF-8."""
    with beside(path) as written:
        written.write_text(text, encoding="utf-8")


def write_json(path: pathlib.Path, value: object, indent: int | None = None) -> None:
    """Writes plain values as a JSON file, which is complete or not there.

    Raises:
        ValueError: If a number is not finite.
    """
    write_text(path, as_json(value, indent))


def as_json(value: object, indent: int | None = None) -> str:
    """Plain values as the text of a JSON file.

    Raises:
        ValueError: If a number is not finite.
    """
    return json.dumps(value, allow_nan=False, indent=indent) + "\n"


def note(path: pathlib.Path, text: str) -> None:
    """Writes a few words that change often and may be lost, but never through a symbolic link."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0)
    with open(path, "w", encoding="utf-8", opener=lambda p, _: os.open(p, flags, 0o666)) as file:
        file.write(text)


def _nearest(folder: pathlib.Path) -> pathlib.Path:
    """The folder, or the first above it that is there."""
    return next(path for path in (folder, *folder.parents) if os.path.lexists(path))


def sweep(place: pathlib.Path) -> None:
    """Removes what killed writers have left in a place: directories whose locks nobody holds."""
    with contextlib.suppress(OSError), os.scandir(place) as entries:
        for entry in entries:
            if entry.name.startswith(_PREFIX) and entry.is_dir(follow_symlinks=False):
                # One that is alive, or another user's, stays.
                lock = filelock.FileLock(os.path.join(entry.path, _LOCK), timeout=0)
                with contextlib.suppress(OSError), lock:
                    shutil.rmtree(entry.path)


def _sync(written: pathlib.Path) -> None:
    # Else a crash of the machine could keep the new name and lose the content.
    for path in [written, *written.rglob("*")]:
        if path.is_file():
            with path.open("rb+") as file:
                os.fsync(file.fileno())
