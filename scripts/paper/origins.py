"""Where finished runs come from, in words, for the pages that are made of them."""

import collections
from collections.abc import Sequence

from scripts import machine
from scripts.paper.runs import Result


def in_words(results: Sequence[Result]) -> str:
    """Returns a sentence: how many runs are of which commit, processor, backend and dtype."""
    counted = collections.Counter(map(_origin, results))
    parts = [f"{count} {origin}" for origin, count in counted.most_common()]
    return f"Runs: {'; '.join(parts)}."


def _origin(result: Result) -> str:
    versions = result["versions"]
    if "commit" not in result:
        return f"of an older commit, which they do not name, on {versions['machine']}"
    dtype = result["run"].get("dtype", "float32")
    return (
        f"of commit {machine.short_commit(result['commit'])} on {result['device']} by "
        f"{result['backend']} {versions[result['backend']]} in {dtype}"
    )
