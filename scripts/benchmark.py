"""Times tfnode against torchdiffeq, diffrax and its own floors, on the paper's architectures.

    python scripts/benchmark.py --quick
    python scripts/benchmark.py --cases energy checks --rounds 5 --out docs/results/benchmark.json

Every measurement has a process of its own. The contestants of a comparison take turns, so that a
slow minute of the machine hits them all: a ratio is the median over the rounds of the ratios
within one. The small models get one core and one thread, MNIST gets all cores. tfnode is that of
the checkout; a peer that is not installed is named and left out.
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence

if not __package__:  # run by its path: the checkout, in the place of scripts/
    sys.path[0] = str(pathlib.Path(__file__).parents[1])

from scripts import command_line
from scripts.benchmarks.cases import CASES
from scripts.benchmarks.peers import PEERS


def main(arguments: Sequence[str]) -> int:
    args = parse(arguments)
    from scripts.benchmarks import processes, provenance, tables
    from tfnode import files

    report = provenance.description(command_line.call("benchmark", arguments))
    report["results"] = []
    groups = [group for case in args.cases for group in CASES[case](args)]
    groups = [[job for job in g if job.contestant not in args.without] for g in groups]
    for result in processes.run_all(groups, args.rounds, args.timeout, args.before):
        report["results"].append(result)
        report["targets"] = tables.targets(report["results"])
        files.write_json(args.out, report)
    page = tables.page(report)
    files.write_text(page_beside(args.out), page)
    print(page)
    errors = [result["error"] for result in report["results"] if "error" in result]
    return int(any(not error.startswith("not installed") for error in errors))


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = command_line.parser(__doc__)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--rounds", type=command_line.positive, default=3)
    parser.add_argument(
        "--before", type=checkout, metavar="CHECKOUT", help="of an earlier commit, to compare"
    )
    parser.add_argument("--without", nargs="+", choices=PEERS, default=[])
    parser.add_argument(
        "--steps", type=command_line.positive, default=1000, help="small models, at K = 64"
    )
    parser.add_argument("--mnist-steps", type=command_line.positive, default=3)
    parser.add_argument(
        "--iterations", type=command_line.positive, default=5000, help="of the case checks"
    )
    parser.add_argument(
        "--requests", type=command_line.positive, default=300, help="of the cases latency and zoo"
    )
    parser.add_argument(
        "--timeout", type=command_line.positive, default=1800, help="seconds for one measurement"
    )
    parser.add_argument("--out", type=pathlib.Path, default="docs/results/benchmark.json")
    parser.add_argument("--quick", action="store_true", help="tiny numbers, to see it run")
    args = parser.parse_args(arguments)
    if args.out.suffix != ".json":
        parser.error(f"--out must end in .json. Received: {args.out}. A page lies beside it.")
    for path in (args.out, page_beside(args.out)):
        command_line.check_files(parser, out=path)
    if args.quick:
        args.rounds, args.steps, args.mnist_steps, args.iterations = 1, 5, 1, 300
        args.requests = 5
    return args


def page_beside(out: pathlib.Path) -> pathlib.Path:
    """Where the page of the results lies."""
    return out.with_suffix(".md")


def checkout(text: str) -> str:
    """The directory of another checkout, as the type of an argument."""
    if not (command_line.directory(text) / "tfnode").is_dir():
        raise argparse.ArgumentTypeError(f"must hold the package tfnode. Received: {text!r}")
    return text


if __name__ == "__main__":
    command_line.run(main)
