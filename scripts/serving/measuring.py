"""How well and how fast a server answers."""

import concurrent.futures
import contextlib
import itertools
import threading
import time
from collections.abc import Callable

import numpy as np

from scripts.serving.transports import OUTPUT, GrpcClient, RestClient, ServingError


def measure(
    make_client: Callable[[], RestClient | GrpcClient],
    x: np.ndarray,
    y: np.ndarray,
    batch_size: int,
    requests: int,
    threads: int,
) -> tuple[int, int, float, np.ndarray]:
    """Sends batches of samples, in turn; returns hits, samples, seconds and latencies.

    Args:
        make_client: Makes a client; each thread gets its own.
        x: The samples.
        y: Their classes.
        batch_size: The samples of a request.
        requests: How many to send.
        threads: The requests at a time.
    """
    local, clients = threading.local(), contextlib.ExitStack()
    # Every class is in a test set, and one output gives two.
    classes = max(2, int(y.max()) + 1)
    starts = itertools.islice(itertools.cycle(range(0, len(x), batch_size)), requests)

    def ask(start: int) -> tuple[int, int, float]:
        if not hasattr(local, "client"):
            local.client = clients.enter_context(contextlib.closing(make_client()))
        rows = slice(start, start + batch_size)
        began = time.perf_counter()
        probabilities = local.client.probabilities(x[rows])
        latency = time.perf_counter() - began
        if probabilities.shape[1] != classes:
            raise ServingError(
                f"An answer must have the {classes} classes of the test set. Received: "
                f"{OUTPUT!r} of {probabilities.shape[1]}. Name the model's own --dataset."
            )
        hits = int((probabilities.argmax(axis=-1) == y[rows]).sum())
        return hits, len(y[rows]), latency

    began = time.perf_counter()
    with clients, concurrent.futures.ThreadPoolExecutor(threads) as executor:
        futures = [executor.submit(ask, start) for start in starts]
        try:
            hits, samples, latencies = zip(*(future.result() for future in futures))
        except ServingError:
            executor.shutdown(cancel_futures=True)
            raise
    return sum(hits), sum(samples), time.perf_counter() - began, np.array(latencies)
