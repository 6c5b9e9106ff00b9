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
    if "commit" not in result:
        return f"of an older commit, which they do not name, on {result['versions']['machine']}"
    dtype = result["run"].get("dtype", "float32")
    if dtype == "float32" and "NVIDIA" in result["device"]:
        dtype += ", with products in TF32 while they train"  # what JAX does unless told not to
    return f"of {place(result)} in {dtype}{before(result)}"


def before(result: Result) -> str:
    """Where a training was begun that went on elsewhere, in words; empty of any other."""
    parts = [f", begun by {place(part)}" for part in result.get("earlier", ())]
    return "".join(parts)


def place(part: Result) -> str:
    """Where a training, or a part of it, ran."""
    backend = part["backend"]
    return (
        f"commit {machine.short_commit(part['commit'])} on {part['device']} by {backend} "
        f"{part['versions'][backend]}"
    )
