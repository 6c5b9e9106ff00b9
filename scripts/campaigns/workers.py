"""A process that answers, that may die or hang, and that ends with its owner."""

import multiprocessing
import multiprocessing.connection
from collections.abc import Callable
from typing import Any, Self

# Not forked: TensorFlow's threads would be missing there.
_CONTEXT = multiprocessing.get_context("spawn")


class Died(Exception):
    """A process ended before it answered."""


class Worker:
    """A process that runs a function, which is given a connection to this one.

    Args:
        function: Function of a module, `function(connection, *arguments)`.
        *arguments: Plain values.
    """

    def __init__(self, function: Callable[..., None], *arguments: Any):
        self._ours, theirs = _CONTEXT.Pipe()
        self._process = _CONTEXT.Process(target=function, args=(theirs, *arguments), daemon=True)
        self._process.start()
        theirs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def send(self, value: Any) -> None:
        self._ours.send(value)

    def answer(self, seconds: float) -> Any:
        """Returns the next value that the process sends.

        Raises:
            Died: If it ended before.
            TimeoutError: If it takes longer.
        """
        if not self._ours.poll(seconds):
            raise TimeoutError(f"A process must answer within {seconds} seconds.")
        try:
            return self._ours.recv()
        except (EOFError, ConnectionResetError) as error:
            self._process.join()
            raise Died(f"A process ended with the exit code {self._process.exitcode}.") from error

    def kill(self) -> None:
        """Ends the process by SIGKILL, wherever it is."""
        self._process.kill()
        self._process.join()
        self._ours.close()


def answering(
    connection: multiprocessing.connection.Connection, function: Callable[[Any], Any]
) -> None:
    """Answers each value with what a function makes of it, until the owner is gone."""
    connection.send("ready")
    while True:
        try:
            value = connection.recv()
        except EOFError:
            return
        connection.send(function(value))
