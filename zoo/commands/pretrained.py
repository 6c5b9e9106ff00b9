"""Lists, fetches and verifies the pretrained models of the zoo.

    tfnode zoo list "cifar*" --pretrained
    tfnode zoo fetch mnist_rk4_damped_tuned_v1
    tfnode zoo verify --quick

`tfnode zoo COMMAND --help` says more.
"""

import argparse
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from zoo.commands import answers, command_line

if TYPE_CHECKING:
    from zoo import WeightsEntry

_LIST = """Lists the models of the zoo, or its pretrained weights with what was measured on each.

    tfnode zoo list
    tfnode zoo list "cifar*" --pretrained --json
"""
_FETCH = """Fetches pretrained weights, compares their SHA-256, and says where the files lie.

    tfnode zoo fetch
    tfnode zoo fetch mnist_rk4_damped_tuned_v1

Weights that the package brings are found in it. TFNODE_ZOO_URL is the address of others,
TFNODE_HOME the directory that they are kept in, and TFNODE_OFFLINE=1 forbids the network.
"""
_VERIFY = """Measures pretrained weights again, and compares with what the manifest says of them.

    tfnode zoo verify --quick
    tfnode zoo verify mnist_rk4_damped_tuned_v1

The exit status is 1 if a number differs. Without names all weights are measured, in about 13
minutes on two cores, and with --quick only those of the synthetic data sets.
"""
# What the JSON of each holds.
_LISTED = "a list of names, or with --pretrained of an object for each of the weights"
_FETCHED = "an object from the names of the weights to the paths of their files"
_VERIFIED = "a list of an object for each quantity: weights, quantity, expected, found, agree"
_NAMES = "pretrained weights, or a model of the zoo for its default ones; all without a name"
_HEADER = ("weights", "quantity", "expected", "found", "")


def add(commands: Any) -> None:
    """Adds the commands to those of a parser."""
    short = "list, fetch and verify the pretrained models"
    zoo = commands.add_parser("zoo", help=short, description=__doc__, **command_line.STYLE)
    own = zoo.add_subparsers(required=True, metavar="COMMAND")
    listed = answers.add(own, "list", _LIST, list_models, _LISTED)
    listed.add_argument("pattern", nargs="?", help="that names must match, such as 'cifar*'")
    listed.add_argument("--pretrained", action="store_true", help="weights in place of models")
    add_names(answers.add(own, "fetch", _FETCH, fetch, _FETCHED))
    add_verified(answers.add(own, "verify", _VERIFY, verify, _VERIFIED))


def add_names(parser: argparse.ArgumentParser) -> None:
    """Adds the names of published weights."""
    parser.add_argument("names", nargs="*", metavar="NAME", type=published, help=_NAMES)


def add_verified(parser: argparse.ArgumentParser) -> None:
    """Adds what `verify` takes."""
    add_names(parser)
    parser.add_argument("--quick", action="store_true", help="the synthetic data sets only")


def published(name: str) -> str:
    """Returns the name of weights, or of a model's default ones, as the type of an argument."""
    from zoo import manifest

    try:
        return manifest.read().get(name).name
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def list_models(args: argparse.Namespace) -> answers.Answer:
    """Lists the zoo; the answer is names, or records of pretrained weights."""
    import zoo

    if args.pretrained:
        table = zoo.list_models(args.pattern, pretrained=True)
        return answers.Answer(0, table.records, str(table))
    names = zoo.list_models(args.pattern)
    return answers.Answer(0, names, "\n".join(names) or "There are no such models.")


def fetch(args: argparse.Namespace) -> answers.Answer:
    """Finds weight files; the answer is where they lie."""
    from zoo import weights

    paths = {}
    for entry in _entries(args.names):
        weights.find(entry.file, entry.sha256, entry.bytes)
        paths[entry.name] = str(weights.place_of(entry.file))
    return answers.Answer(0, paths, "\n".join(paths.values()))


def verify(args: argparse.Namespace) -> answers.Answer:
    """Measures weights again; the answer is a row for each quantity."""
    if args.quick and args.names:
        rule = "--quick chooses the weights itself"
        args.parser.error(f"{rule}. Received: {args.names}. Leave one out.")
    from tfnode import tables
    from zoo import facts, verification

    chosen = _entries(args.names)
    if args.quick:
        chosen = [e for e in chosen if facts.of(e.model).task != "image-classification"]
    rows = [row for entry in chosen for row in verification.compare(entry)]
    if not rows:
        return answers.Answer(0, [], "There are no weights to verify.")
    keys = ("weights", "quantity", "expected", "found", "agree")
    value = [dict(zip(keys, (*row[:2], *map(str, row[2:4]), row[4]))) for row in rows]
    text = tables.aligned(_HEADER, [[*row[:-1], "" if row[-1] else "differs"] for row in rows])
    return answers.Answer(0 if all(row[-1] for row in rows) else 1, value, text)


def _entries(names: Iterable[str]) -> "list[WeightsEntry]":
    """The entries of some weights, or of all."""
    from zoo import manifest

    known = manifest.read().weights
    return [known[name] for name in names or known]
