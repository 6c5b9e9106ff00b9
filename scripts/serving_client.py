"""Sends test samples to TensorFlow Serving; prints accuracy, throughput and latencies.

    python scripts/serving_client.py mnist_rk4_8_steps
    python scripts/serving_client.py mnist_rk4_8_steps --grpc --label canary --threads 4
    python scripts/serving_client.py mnist_all_solvers --solver rk4_8_steps

The served model's name begins with that of a model of the zoo, which tells the test set; another
one is named by --dataset. Of a model that has a signature for each solver --solver chooses one, by
another word for --signature. gRPC needs the package `tensorflow-serving-api` (extra `serving`).
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence

if not __package__:  # run by its path: the checkout, in the place of scripts/
    sys.path[0] = str(pathlib.Path(__file__).parents[1])

from scripts import command_line
from scripts.models import NAMES


def main(arguments: Sequence[str]) -> int:
    args = parse(arguments)
    import numpy as np

    import tfnode
    from scripts.serving import measuring
    from scripts.serving.transports import GrpcClient, RestClient, ServingError, Target

    kind, port = (GrpcClient, args.grpc_port) if args.grpc else (RestClient, args.rest_port)
    try:
        target = Target(
            args.model, args.host, port, args.label, args.version, args.signature, args.timeout
        )
        x, y = tfnode.datasets.load(args.dataset, "test", as_numpy=True)
        requests = args.requests or -(-len(x) // args.batch_size)
        hits, samples, seconds, latencies = measuring.measure(
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


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = command_line.parser(__doc__)
    parser.add_argument("model", help="the name in models.config, such as mnist_rk4_8_steps")
    parser.add_argument("--dataset", help="of tfnode.datasets; that of the zoo's model")
    parser.add_argument("--grpc", action="store_true", help="in place of REST")
    parser.add_argument("--host", default="localhost")
    parser.add_argument("--rest-port", type=command_line.port, default=8501)
    parser.add_argument("--grpc-port", type=command_line.port, default=8500)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--label", help="stable or canary")
    which.add_argument("--version", type=command_line.positive, help="default: the latest version")
    parser.add_argument(
        "--signature",
        "--solver",
        default="serving_default",
        help="of a model with several, such as rk4_8_steps",
    )
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
    import tfnode

    known = tfnode.datasets.list_datasets()
    args.dataset = args.dataset or dataset_of(args.model)
    if args.dataset is None:
        parser.error(
            f"a served model's name must begin with one of {list(NAMES)}. "
            f"Received: {args.model!r}. Name a --dataset for another."
        )
    if args.dataset not in known:
        parser.error(f"--dataset must be one of {known}. Received: {args.dataset!r}")
    return args


def dataset_of(served: str) -> str | None:
    """The data set of the zoo's model that a served model's name begins with, or None."""
    import zoo

    for name in NAMES:
        if served == name or served.startswith(f"{name}_"):
            return zoo.get_recipe(name).dataset
    return None


if __name__ == "__main__":
    command_line.run(main)
