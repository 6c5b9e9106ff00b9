"""What an answer of pretrained weights costs, in words: evaluations, operations, milliseconds."""

import math
import statistics
from typing import Any

import keras

import tfnode
import zoo
from scripts import command_line
from scripts.publishing import places
from scripts.publishing.wording import rounded, two_digits
from zoo import manifest


def in_words(entry: manifest.WeightsEntry) -> str:
    """What one sample costs, and how long it takes where that was measured."""
    block = zoo.get_model(entry.model, solver=entry.solver).get_layer("ode_block")
    flops = flops_of(block.field, block.output.shape)
    if isinstance(entry.solver, tfnode.solvers.AdaptiveSolver):
        operations = f"An evaluation of the field takes {rounded(flops)} operations a sample."
    else:
        operations = (
            f"{block.nfe} evaluations of the field, each of {rounded(flops)} floating-point "
            f"operations a sample: {rounded(block.nfe * flops)} in all."
        )
    return f"{operations} {milliseconds(entry.name)}".strip()


def flops_of(field: keras.Layer, state: tuple) -> int:
    """The floating-point operations of the products of a field, for one sample.

    Args:
        field: Layer whose convolutions keep the size of the state.
        state: Shape of a batch of states.
    """
    places = math.prod(state[1:-1])
    kernels = [weight for weight in field.trainable_weights if len(weight.shape) > 1]
    return 2 * places * sum(math.prod(kernel.shape) for kernel in kernels)


def milliseconds(name: str) -> str:
    """How long the exported model takes to answer, by `scripts/benchmark.py --cases zoo`.

    Args:
        name: That of the weights. What was not measured is not said.
    """
    if not places.ANSWER_TIMES.exists():
        return ""
    found = command_line.read_json(places.ANSWER_TIMES)
    measured = [r for r in found["results"] if r["contestant"] == name and "error" not in r]
    if not measured:
        return ""
    one, many = (_median_ms(measured, field) for field in ("p50_seconds", "batch_p50_seconds"))
    machine = found["machine"]
    return (
        f"The exported model answers one sample in {one} ms and {measured[0]['batch']} at once in "
        f"{many} ms, in the median, on {machine['cores']} cores of {machine['processor']} "
        f"(`{found['command']}`)."
    )


def _median_ms(measured: list[dict[str, Any]], field: str) -> str:
    return two_digits(1e3 * statistics.median(result[field] for result in measured))
