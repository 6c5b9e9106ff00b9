"""Weight files by name and hash: inside the package, in the cache, or fetched into it.

A file is handed out only after its SHA-256 has been compared with the manifest's, and as the bytes
that were hashed: what becomes of the file afterwards does not matter. Nothing else of this project
is imported here, so that a process that only fetches stays light.

| environment | |
|---|---|
| `TFNODE_ZOO_URL` | the address below which weight files lie, `https://`, `http://` or `file://` |
| `TFNODE_HOME` | the directory of the cache, in place of the system's |
| `TFNODE_OFFLINE` | `1` forbids the network |

An address may hold a user and a password, `https://user:password@host/zoo`, which no error shows.
"""

import base64
import contextlib
import hashlib
import http.client
import os
import pathlib
import re
import socket
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any, Self

import filelock
import pooch

SHIPPED = pathlib.Path(__file__).parent / "pretrained"
# How long a server may be silent, and how long a file may take.
SILENT_SECONDS = 10
TOTAL_SECONDS = 60
RETRIES = 2
# Longer than one process needs for all its attempts.
LOCK_SECONDS = 300


class _OtherFile(ValueError):
    """Something has arrived, and is not the file."""


def find(file: str, sha256: str, size: int) -> bytes:
    """Returns the content of a weight file, which is fetched if necessary.

    The package is searched first, then the cache, and only then the network. Processes that need
    a file at the same time fetch it once. A download has a temporary name until it is complete.

    Args:
        file: String, the file's name.
        sha256: String, its hash as 64 hexadecimal digits.
        size: Integer, its length in bytes; no more is ever read.

    Returns:
        Bytes with this hash.

    Raises:
        ValueError: If the file does not have this hash, or the name or the address is not valid.
        OSError: If the file is not available: no address is known, the network is forbidden, or
            the server or the cache fails.
    """
    if not re.fullmatch(r"[\w-][\w.-]*", file, re.ASCII):
        raise ValueError(
            "A weight file is named without its directory, by letters, digits, dots, hyphens and "
            f"underscores. Received: file={file!r}. Correct the manifest."
        )
    shipped = SHIPPED / file
    content = _content(shipped, size)
    if content is not None:
        _check_shipped(content, shipped, sha256, size)
        return content
    target = cache() / file
    content = _cached(target, sha256, size)
    if content is not None and _hash(content) == sha256:
        return content
    return _fetch(_address(target, content, sha256, size), target, sha256, size)


def place_of(file: str) -> pathlib.Path:
    """Returns where a weight file that was found lies: in the package, or in the cache."""
    shipped = SHIPPED / file
    return shipped if shipped.is_file() else cache() / file


def cache() -> pathlib.Path:
    """Returns the directory of fetched files: `TFNODE_HOME`, or the system's place for caches."""
    home = os.environ.get("TFNODE_HOME")
    return pathlib.Path(home).expanduser() if home else pooch.os_cache("tfnode")


def is_offline() -> bool:
    """Whether `TFNODE_OFFLINE` forbids the network."""
    return os.environ.get("TFNODE_OFFLINE", "0") not in ("", "0")


def _check_shipped(content: bytes, path: pathlib.Path, sha256: str, size: int) -> None:
    if _hash(content) != sha256:
        raise ValueError(
            "A weight file of the package must have the hash of the manifest. "
            + _received("none, it ships with the package", path, sha256, size, _in_words(content))
            + " It was not opened. Install the package again."
        )


def _cached(target: pathlib.Path, sha256: str, size: int) -> bytes | None:
    try:
        return _content(target, size)
    except OSError as error:
        raise OSError(
            "The cache of weight files must be readable. "
            + _received("none, the cache is first", target, sha256, size, f"nothing ({error})")
            + " Correct its permissions, or set TFNODE_HOME to another directory."
        ) from error


# === Addresses ===
def _address(target: pathlib.Path, content: bytes | None, sha256: str, size: int) -> str:
    """The address of a file, after a check that it may be requested."""
    base = os.environ.get("TFNODE_ZOO_URL", "")
    address = f"{base.rstrip('/')}/{target.name}" if base else None
    received = _received(_shown(address), target, sha256, size, _in_words(content))
    if address is None:
        raise FileNotFoundError(
            "A weight file that neither ships with the package nor lies in the cache needs an "
            f"address. {received} Set TFNODE_ZOO_URL to the address of the directory that holds "
            "it, or put the file at the target."
        )
    if not _is_valid(base):
        raise ValueError(
            "TFNODE_ZOO_URL must start with https://, http:// or file://, with a host that has a "
            f"name and, if it needs one, a number for its port. {received} Correct it."
        )
    if is_offline() and not base.startswith("file://"):
        raise FileNotFoundError(
            f"TFNODE_OFFLINE forbids the network, and the file is not in the cache. {received} "
            "Unset TFNODE_OFFLINE, or put the file at the target."
        )
    return address


def _is_valid(base: str) -> bool:
    if base.startswith("file://"):
        return True
    try:
        parts = urllib.parse.urlsplit(base)
        # To ask for the port is to read it.
        return base.startswith(("https://", "http://")) and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _shown(address: str | None) -> str | None:
    """An address as it may be printed: without a user, a password, a query and a fragment."""
    if address is None or address.startswith("file://"):
        return address
    _, scheme, rest = re.split("^([a-z]+://|)", address, maxsplit=1)
    place, *query = re.split("[?#]", rest, maxsplit=1)
    # Either that is no query, but the rest of a password, or it is one that has such a sign.
    if "@" in "".join(query):
        return f"{scheme}..."
    return f"{scheme}{place.rpartition('@')[2]}"


def _request(address: str) -> urllib.request.Request:
    """What `urllib` is asked: it takes a user and a password in a header only."""
    if address.startswith("file://"):
        # A path may hold what would end the path of an address; what is quoted stays as it is.
        path = urllib.parse.quote(address.removeprefix("file://"), safe="/%:@")
        return urllib.request.Request(f"file://{path}")
    scheme, netloc, *rest = urllib.parse.urlsplit(address)
    user, _, host = netloc.rpartition("@")
    request = urllib.request.Request(urllib.parse.urlunsplit((scheme, host, *rest)))
    if user:
        token = base64.b64encode(urllib.parse.unquote(user).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {token}")
    return request


# === Fetching ===
def _fetch(address: str, target: pathlib.Path, sha256: str, size: int) -> bytes:
    try:
        with lock(target):
            # Another process may have fetched it meanwhile; a bad file is removed in any case.
            content = _content(target, size)
            if content is None or _hash(content) != sha256:
                target.unlink(missing_ok=True)
                content = _download(address, sha256, size)
                _keep(target, content)
            return content
    except (OSError, ValueError) as error:
        is_other = isinstance(error, _OtherFile)
        found = str(error) if is_other else f"nothing ({error})"
        raise (ValueError if is_other else OSError)(
            "A weight file must arrive whole and with the hash of the manifest. "
            + _received(_shown(address), target, sha256, size, found)
            + " Nothing was kept. Check TFNODE_ZOO_URL and the connection, or put a good file at "
            "the target; TFNODE_HOME moves the cache."
        ) from error


def lock(target: pathlib.Path) -> filelock.BaseFileLock:
    """Returns a lock between processes, which the system releases when its owner dies."""
    locks = target.parent / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    return filelock.FileLock(locks / f"{target.name}.lock", timeout=LOCK_SECONDS)


def _keep(target: pathlib.Path, content: bytes) -> None:
    """Writes a file of the cache, which is complete or not there, by the owner of its lock."""
    part = target.with_name(f"{target.name}.part")
    # Left by a process that was killed; or a link, which is never written through.
    part.unlink(missing_ok=True)
    try:
        with part.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _download(address: str, sha256: str, size: int) -> bytes:
    """The file, after as many attempts as may help."""
    failure: Exception
    for attempt in range(RETRIES + 1):
        time.sleep(attempt)
        try:
            content = _read(address, size)
            if _hash(content) == sha256:
                return content
            failure = _OtherFile(_in_words(content))
        except urllib.error.HTTPError as error:
            error.close()
            if error.code < 500:
                # The file is not there: no later attempt would do better.
                raise
            failure = error
        except OSError as error:
            failure = error
        except http.client.HTTPException as error:
            failure = OSError(f"{type(error).__name__}: {error}")
    raise failure


def _read(address: str, size: int) -> bytes:
    """At most one byte more than the file should have."""
    with _Watch(TOTAL_SECONDS) as watch:
        opener = urllib.request.build_opener(_WatchedHandler(watch))
        try:
            with opener.open(_request(address), timeout=SILENT_SECONDS) as response:
                return response.read(size + 1)
        finally:
            if watch.is_over:
                raise TimeoutError(f"not complete after {TOTAL_SECONDS} s") from None


class _Watch:
    """Shuts connections when their time is over, by a thread that ends with the block.

    A server that sends a byte now and then is never silent, so the time of a whole download is
    limited from outside.
    """

    def __init__(self, seconds: float) -> None:
        self._timer = threading.Timer(seconds, self._shut)
        self._sockets: list[socket.socket] = []
        self.is_over = False

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._timer.cancel()
        self._timer.join()

    def add(self, connected: socket.socket) -> None:
        self._sockets.append(connected)
        if self.is_over:
            self._shut()

    def _shut(self) -> None:
        self.is_over = True
        for connected in self._sockets:
            with contextlib.suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)


class _WatchedHandler(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
    """Opens connections that a `_Watch` knows."""

    def __init__(self, watch: _Watch) -> None:
        super().__init__()
        self._watch = watch

    def http_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(self._watched(http.client.HTTPConnection), req)

    def https_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(self._watched(http.client.HTTPSConnection), req)

    def _watched(self, connection: type[http.client.HTTPConnection]) -> Any:
        watch = self._watch

        class Watched(connection):  # type: ignore[valid-type, misc]
            def connect(self) -> None:
                super().connect()
                watch.add(self.sock)

        return Watched


# === Contents ===
def _content(path: pathlib.Path, size: int) -> bytes | None:
    """At most one byte more than a file should have; None if there is no file."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return file.read(size + 1)


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _in_words(content: bytes | None) -> str:
    return "nothing" if content is None else f"sha256={_hash(content)}, {len(content)} bytes"


def _received(address: str | None, target: pathlib.Path, sha256: str, size: int, found: str) -> str:
    return (
        f"Received: address={address!r}, target={str(target)!r}, expected sha256={sha256}, "
        f"{size} bytes, found {found}."
    )
