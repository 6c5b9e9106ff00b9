"""A server that misbehaves against the serving client: one clear line, or the right answer."""

import contextlib
import json
import pathlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np

from scripts.campaigns.running import Try
from scripts.serving import measuring
from scripts.serving.transports import OUTPUT, RestClient, ServingError, Target

ROWS, CLASSES = 3, 2
# What a request may take, and what the client may at most, as its timeout is one of a read.
TIMEOUT, SECONDS = 1, 5


@contextlib.contextmanager
def campaign(directory: pathlib.Path) -> Iterator[Try]:
    with Server() as server:

        def try_one(rng: np.random.Generator) -> int:
            answer = ANSWERS[rng.integers(len(ANSWERS))]
            server.answer = lambda connection: answer(connection, rng)
            wrong = fault(server.port, answer.__name__)
            assert wrong is None, wrong
            return 1

        yield try_one


def fault(port: int, told: str) -> str | None:
    """What is wrong with how the client takes an answer, which is named.

    Nothing is, if it gives the right answer, or says soon and in a line what is wrong.
    """
    target = Target("small", "localhost", port, None, None, "serving_default", TIMEOUT)
    x, y = np.zeros((ROWS, 2), "float32"), np.zeros(ROWS, int)
    began = time.monotonic()
    try:
        hits, samples, *_ = measuring.measure(lambda: RestClient(target), x, y, ROWS, 1, 1)
    except ServingError as error:
        text = str(error)
        is_clear = "Received: " in text and len(text.splitlines()) == 1 and len(text) < 1000
        wrong = None if is_clear else f"no line that says what was received: {text}"
    else:
        is_right = told in RIGHT and (hits, samples) == (ROWS, ROWS)
        wrong = None if is_right else "taken for an answer"
    if time.monotonic() - began >= SECONDS:
        wrong = f"it took {time.monotonic() - began:.0f} seconds"
    return wrong and f"{told}: {wrong}"


class Server:
    """Lets a function answer each connection, byte by byte."""

    def __init__(self) -> None:
        self.answer: Callable[[socket.socket], None] = lambda connection: None
        self._listening = socket.create_server(("localhost", 0))
        self.port = self._listening.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> "Server":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # Wakes the thread, which waits for a connection.
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            # The client may be gone.
            with connection, contextlib.suppress(OSError):
                connection.settimeout(TIMEOUT)
                _read_request(connection)
                self.answer(connection)


def _read_request(connection: socket.socket) -> None:
    """Reads a request to its end: a connection that is closed before would be reset."""
    head, _, body = connection.recv(65536).partition(b"\r\n\r\n")
    lengths = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")]
    missing = int(lengths[0].split(b":")[1]) - len(body) if lengths else 0
    while missing > 0:
        missing -= len(connection.recv(65536))


# === Answers ===
def _good() -> list:
    return [{OUTPUT: [0.75, 0.25]} for _ in range(ROWS)]


def _http(body: bytes, status: str = "200 OK", length: int | None = None) -> bytes:
    length = len(body) if length is None else length
    return f"HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n".encode() + body


def _send(connection: socket.socket, value: object) -> None:
    connection.sendall(_http(json.dumps(value).encode()))


def as_it_should_be(connection: socket.socket, rng: np.random.Generator) -> None:
    _send(connection, {"predictions": _good()})


def nothing_at_all(connection: socket.socket, rng: np.random.Generator) -> None:
    """The connection is closed."""


def silence(connection: socket.socket, rng: np.random.Generator) -> None:
    time.sleep(TIMEOUT + 0.2)


def noise(connection: socket.socket, rng: np.random.Generator) -> None:
    connection.sendall(rng.bytes(int(rng.integers(1, 5000))))


def noise_as_a_body(connection: socket.socket, rng: np.random.Generator) -> None:
    connection.sendall(_http(rng.bytes(int(rng.integers(0, 5000)))))


def another_status(connection: socket.socket, rng: np.random.Generator) -> None:
    status = rng.choice(["204 No Content", "301 Moved", "404 Not Found", "500 Oops", "999 ?"])
    text = rng.choice(["", "no", '{"error": "bad"}', "line\n" * 20, "x" * 10_000])
    connection.sendall(_http(text.encode(), status))


def a_cut_answer(connection: socket.socket, rng: np.random.Generator) -> None:
    answer = _http(json.dumps({"predictions": _good()}).encode())
    connection.sendall(answer[: rng.integers(len(answer))])


def a_cut_text(connection: socket.socket, rng: np.random.Generator) -> None:
    text = json.dumps({"predictions": _good()}).encode()
    connection.sendall(_http(text[: rng.integers(len(text))]))


def a_wrong_length(connection: socket.socket, rng: np.random.Generator) -> None:
    text = json.dumps({"predictions": _good()}).encode()
    connection.sendall(_http(text, length=int(rng.choice([0, 5, len(text) + 7, 10**12]))))


def another_number(connection: socket.socket, rng: np.random.Generator) -> None:
    rows = _good()
    bad = rng.integers(8)
    numbers = [np.nan, np.inf, -np.inf, 1.5, -0.5, 1e300, "0.5", None]
    rows[rng.integers(ROWS)][OUTPUT][rng.integers(CLASSES)] = numbers[bad]
    _send(connection, {"predictions": rows})


def another_width(connection: socket.socket, rng: np.random.Generator) -> None:
    rows = _good()
    rows[rng.integers(ROWS)][OUTPUT] = [0.5] * int(rng.choice([0, 1, 3, 1000]))
    _send(connection, {"predictions": rows})


def another_count_of_rows(connection: socket.socket, rng: np.random.Generator) -> None:
    _send(connection, {"predictions": (_good() * 2)[: rng.choice([0, 1, 2, 4, 6])]})


def another_structure(connection: socket.socket, rng: np.random.Generator) -> None:
    values = (
        *(None, [], {}, "predictions", 1, True, [1, 2], {"outputs": _good()}, _good()),
        *({"predictions": value} for value in (None, 1, "text", {}, {"a": 1}, [None] * ROWS)),
        *({"predictions": [{OUTPUT: v}] * ROWS} for v in (None, 1, "text", {}, [[0.5, 0.5]])),
    )
    _send(connection, values[rng.integers(len(values))])


def deep_nesting(connection: socket.socket, rng: np.random.Generator) -> None:
    depth = int(rng.choice([100, 1000, 100_000]))
    connection.sendall(_http(b"[" * depth + b"]" * depth))


RIGHT = (as_it_should_be.__name__,)
ANSWERS = (
    *(as_it_should_be, nothing_at_all, silence, noise, noise_as_a_body, another_status),
    *(a_cut_answer, a_cut_text, a_wrong_length, another_number, another_width),
    *(another_count_of_rows, another_structure, deep_nesting),
)
