"""Sends test samples to TensorFlow Serving; prints accuracy, throughput and latencies.

    python scripts/serving_client.py mnist_rk4_h0p125
    python scripts/serving_client.py mnist_rk4_h0p125 --grpc --label canary --threads 4

The served model's name begins with that of a model of the zoo, which tells the test set; another
one is named by --dataset. gRPC needs the package `tensorflow-serving-api` (extra `serving`).
"""

import concurrent.futures
import contextlib
import itertools
import sys
import threading
import time

import command_line
import numpy as np
from serving_transports import OUTPUT, GrpcClient, RestClient, ServingError, Target

import tfnode
import zoo


def measure(make_client, x, y, batch_size, requests, threads):
    """Sends batches of samples, in turn; returns hits, samples, seconds and latencies.

    Args:
        make_client: Function that makes a client; each thread gets its own.
        x: NumPy array, the samples.
        y: NumPy array, their classes.
        batch_size: Integer, the samples of a request.
        requests: Integer.
        threads: Integer, the requests at a time.
    """
    local, clients = threading.local(), contextlib.ExitStack()
    starts = itertools.islice(itertools.cycle(range(0, len(x), batch_size)), requests)

    def ask(start):
        if not hasattr(local, "client"):
            local.client = clients.enter_context(contextlib.closing(make_client()))
        rows = slice(start, start + batch_size)
        began = time.perf_counter()
        probabilities = local.client.probabilities(x[rows])
        latency = time.perf_counter() - began
        if probabilities.ndim != 2 or len(probabilities) != len(y[rows]):
            raise ServingError(
                f"An answer must have {len(y[rows])} rows of {OUTPUT!r}. "
                f"Received: shape {probabilities.shape}"
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


def main(arguments):
    args = parse(arguments)
    kind, port = (GrpcClient, args.grpc_port) if args.grpc else (RestClient, args.rest_port)
    target = Target(
        args.model, args.host, port, args.label, args.version, args.signature, args.timeout
    )
    try:
        x, y = tfnode.datasets.load(args.dataset, "test", as_numpy=True)
        requests = args.requests or -(-len(x) // args.batch_size)
        hits, samples, seconds, latencies = measure(
            lambda: kind(target), x, y, args.batch_size, requests, args.threads
        )
    except (ServingError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    p50, p90, p99 = np.quantile(latencies, (0.5, 0.9, 0.99)) * 1000
    print(f"{args.model}: {requests} requests, {args.threads} at a time")
    print(f"accuracy    {100 * hits / samples:.2f} % of {samples} samples")
    print(f"throughput  {samples / seconds:.0f} samples/s, {requests / seconds:.1f} requests/s")
    print(f"latency     p50 {p50:.2f} ms, p90 {p90:.2f} ms, p99 {p99:.2f} ms")
    return 0


def parse(arguments):
    parser = command_line.parser(__doc__)
    parser.add_argument("model", help="the name in models.config, such as mnist_rk4_h0p125")
    parser.add_argument("--dataset", help="of tfnode.datasets; that of the zoo's model")
    parser.add_argument("--grpc", action="store_true", help="in place of REST")
    parser.add_argument("--host", default="localhost")
    parser.add_argument("--rest-port", type=command_line.positive, default=8501)
    parser.add_argument("--grpc-port", type=command_line.positive, default=8500)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--label", help="stable or canary")
    which.add_argument("--version", type=command_line.positive, help="default: the latest version")
    parser.add_argument("--signature", default="serving_default")
    parser.add_argument(
        "--batch-size", type=command_line.positive, default=32, help="samples of a request"
    )
    parser.add_argument("--requests", type=command_line.positive, help="default: the test set once")
    parser.add_argument(
        "--threads", type=command_line.positive, default=1, help="requests at a time"
    )
    parser.add_argument(
        "--timeout", type=command_line.positive, default=30, help="seconds of a request"
    )
    args = parser.parse_args(arguments)
    args.dataset = args.dataset or dataset_of(args.model)
    if args.dataset is None:
        parser.error(
            f"a served model's name must begin with one of {zoo.list_models()}. "
            f"Received: {args.model!r}. Name a --dataset for another."
        )
    return args


def dataset_of(served):
    """The data set of the zoo's model that a served model's name begins with, or None."""
    for name in zoo.list_models():
        if served == name or served.startswith(f"{name}_"):
            return zoo.get_recipe(name).dataset
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
