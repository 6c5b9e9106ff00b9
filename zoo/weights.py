"""Weight files by name and hash: inside the package, in the cache, or fetched into it.

A file is handed out only after its SHA-256 has been compared with the manifest's. Nothing else of
this project is imported here, so that a process that only fetches stays light.

| environment | |
|---|---|
| `TFNODE_ZOO_URL` | the address below which weight files lie, `https://`, `http://` or `file://` |
| `TFNODE_HOME` | the directory of the cache, in place of the system's |
| `TFNODE_OFFLINE` | `1` forbids the network |
"""

import hashlib
import http.client
import os
import pathlib
import queue
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any, TypeVar

import filelock
import pooch

T = TypeVar("T")

SHIPPED = pathlib.Path(__file__).parent / "pretrained"
# How long a server may be silent, and how long a file may take.
SILENT_SECONDS = 10
TOTAL_SECONDS = 60
RETRIES = 2
# Longer than one process needs for all its attempts.
LOCK_SECONDS = 300


def find(file: str, sha256: str, size: int) -> pathlib.Path:
    """Returns the path of a weight file, which is fetched if necessary.

    The package is searched first, then the cache, and only then the network. Processes that need
    a file at the same time fetch it once. A download has a temporary name until its hash has been
    checked.

    Args:
        file: String, the file's name.
        sha256: String, its hash as 64 hexadecimal digits.
        size: Integer, its length in bytes; no more is ever read.

    Returns:
        `pathlib.Path`.

    Raises:
        ValueError: If the file does not have this hash, or the address is not valid.
        OSError: If the file is not available: no address is known, the network is forbidden, or
            the server or the cache fails.
    """
    shipped = SHIPPED / file
    if shipped.is_file():
        _check_shipped(shipped, sha256, size)
        return shipped
    target = cache() / file
    if not _is_cached(target, sha256, size):
        _fetch(_address(target, sha256, size), target, sha256, size)
    return target


def cache() -> pathlib.Path:
    """Returns the directory of fetched files: `TFNODE_HOME`, or the system's place for caches."""
    home = os.environ.get("TFNODE_HOME")
    return pathlib.Path(home).expanduser() if home else pooch.os_cache("tfnode")


def _check_shipped(path: pathlib.Path, sha256: str, size: int) -> None:
    if _hash(path) != sha256:
        raise ValueError(
            "A weight file of the package must have the hash of the manifest. "
            + _received("none, it ships with the package", path, sha256, size, _found(path))
            + " It was not opened. Install the package again."
        )


def _is_cached(target: pathlib.Path, sha256: str, size: int) -> bool:
    try:
        return _hash(target) == sha256
    except OSError as error:
        raise OSError(
            "The cache of weight files must be readable. "
            + _received("none, the cache is first", target, sha256, size, f"nothing ({error})")
            + " Correct its permissions, or set TFNODE_HOME to another directory."
        ) from error


def _address(target: pathlib.Path, sha256: str, size: int) -> str:
    """The address of a file, after a check that it may be requested."""
    base = os.environ.get("TFNODE_ZOO_URL", "")
    address = f"{base.rstrip('/')}/{target.name}" if base else None
    received = _received(address, target, sha256, size, _found(target))
    if address is None:
        raise FileNotFoundError(
            "A weight file that neither ships with the package nor lies in the cache needs an "
            f"address. {received} Set TFNODE_ZOO_URL to the address of the directory that holds "
            "it, or put the file at the target."
        )
    if not base.startswith(("https://", "http://", "file://")):
        raise ValueError(
            f"TFNODE_ZOO_URL must start with https://, http:// or file://. {received} Correct it."
        )
    is_offline = os.environ.get("TFNODE_OFFLINE", "0") not in ("", "0")
    if is_offline and not base.startswith("file://"):
        raise FileNotFoundError(
            f"TFNODE_OFFLINE forbids the network, and the file is not in the cache. {received} "
            "Unset TFNODE_OFFLINE, or put the file at the target."
        )
    return address


def _fetch(address: str, target: pathlib.Path, sha256: str, size: int) -> None:
    download = _Download(sha256, size)
    source = pooch.create(
        path=target.parent,
        base_url=address.removesuffix(target.name),
        registry={target.name: f"sha256:{sha256}"},
        retry_if_failed=RETRIES,
    )
    try:
        with lock(target):
            # Another process may have fetched it meanwhile; a bad file is removed in any case.
            if _hash(target) != sha256:
                target.unlink(missing_ok=True)
                source.fetch(target.name, downloader=download)
    except (OSError, ValueError) as error:
        kind = OSError if download.found is None else ValueError
        raise kind(
            "A weight file must arrive whole and with the hash of the manifest. "
            + _received(address, target, sha256, size, download.found or f"nothing ({error})")
            + " Nothing was kept. Check TFNODE_ZOO_URL and the connection, or put a good file at "
            "the target; TFNODE_HOME moves the cache."
        ) from error


def lock(target: pathlib.Path) -> filelock.BaseFileLock:
    """Returns a lock between processes, which the system releases when its owner dies."""
    locks = target.parent / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    return filelock.FileLock(locks / f"{target.name}.lock", timeout=LOCK_SECONDS)


class _Download:
    """Downloads one file for `pooch`, within limits of size and time; records a wrong file."""

    def __init__(self, sha256: str, size: int) -> None:
        self._sha256, self._size = sha256, size
        self.found: str | None = None

    def __call__(self, url: str, output_file: str, _: Any) -> None:
        self.found = None
        try:
            data = _within(TOTAL_SECONDS, _read, url, self._size + 1)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code < 500:
                # The file is not there: no later attempt would do better.
                raise
            # After a ValueError pooch tries again.
            raise ValueError(str(error)) from error
        except (OSError, http.client.HTTPException) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from error
        found = hashlib.sha256(data).hexdigest()
        if found != self._sha256:
            self.found = f"sha256={found}, {len(data)} bytes"
            raise ValueError(self.found)
        path = pathlib.Path(output_file)
        path.write_bytes(data)
        # The temporary file is private, but users may share a cache.
        path.chmod(0o644)


def _read(url: str, size: int) -> bytes:
    with urllib.request.urlopen(url, timeout=SILENT_SECONDS) as response:
        return response.read(size)


def _within(seconds: float, function: Callable[..., T], *arguments: Any) -> T:
    """Returns what a function returns, or raises a `TimeoutError`.

    A server that sends a byte now and then is never silent, so the time of a whole call is limited
    from outside. The thread of a call that has been given up holds no file.
    """
    outcome: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def run() -> None:
        try:
            outcome.put((function(*arguments), None))
        except BaseException as error:
            outcome.put((None, error))

    threading.Thread(target=run, daemon=True).start()
    try:
        result, error = outcome.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"not complete after {seconds} s") from None
    if error is not None:
        raise error
    return result


def _hash(path: pathlib.Path) -> str | None:
    """The SHA-256 of a file as hexadecimal digits; None if there is no file."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _found(path: pathlib.Path) -> str:
    return f"sha256={_hash(path)}, {path.stat().st_size} bytes" if path.is_file() else "nothing"


def _received(address: str | None, target: pathlib.Path, sha256: str, size: int, found: str) -> str:
    return (
        f"Received: address={address!r}, target={str(target)!r}, expected sha256={sha256}, "
        f"{size} bytes, found {found}."
    )
