"""Whether what a model answers is a time series: at each time what follows from its state then."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from tfnode import arguments
from tfnode.layers import ODEBlock
from tfnode.layers.stand_ins import Reordered, stand_ins
from tfnode.models import Reached
from tfnode.models.judge import relative_distance
from tfnode.models.outputs import judged_output, with_mask
from tfnode.validity.evaluation import Subject
from tfnode.validity.schedules import Schedule

# How far two computations of the same states may be apart, over their spread.
_SAME = 1e-3


def block_with_times(model: keras.Layer, reached: Sequence[Reached]) -> ODEBlock:
    """A block that a model calls and that says at which times it answers.

    Raises:
        ValueError: If there is none, or several with different times.
    """
    blocks = [found.block for found in reached if found.block.save_at is not None]
    if len({(block.t0, block.save_at) for block in blocks}) != 1:
        raise arguments.refused(
            "A model of a time series must have an `ODEBlock` with `save_at`, or several of the "
            f"same times; it has {len(blocks)}",
            "model",
            model,
            "Build it with `tfnode.ODEBlock(..., save_at=times)`, or pass its field with a solver.",
        )
    return blocks[0]


def check_answers(subject: Subject, schedule: Schedule) -> None:
    """Raises if the first answers do not fit the schedule, or are not each of its own time.

    Layers behind the block may put its times together, or go through them in their order. What they
    answer depends on the other times that they are asked at, whatever the field is. So they are
    given parts of its states, backwards: what is taken of all times, such as a largest value or a
    mean, is another one in one of the parts at least.
    """
    num_times = len(block_with_times(subject.model, subject.reached).save_at or ())
    if any(found.has_times for found in subject.reached):
        raise ValueError(
            "A model of a time series must leave the times to its block, so that it can be asked "
            f"at others. Received: model={subject.model.name!r}, which calls the block with times "
            "of its own. Build the block with `save_at`, and call it without."
        )
    outputs, mask = _first_outputs(subject, None)
    schedule.check(subject.samples.first_labels, outputs, num_times)
    if mask is not None:
        raise ValueError(
            "A time series is compared at all its times. Received: a model whose outputs have a "
            "mask. Pass the samples of each length by themselves, without it."
        )
    for places in _parts(num_times):
        _check_part(subject, outputs, places)


def _parts(num_times: int) -> list[list[int]]:
    """Parts of the places of some times that have all of them, backwards; 0 is the input."""
    half = num_times // 2
    if not half:
        return [[1, 0]]
    return [[*range(half, 0, -1)], [*range(num_times, half, -1)]]


def _check_part(subject: Subject, outputs: np.ndarray, places: list[int]) -> None:
    """Raises if some of the states alone have other answers than among all of them."""
    try:
        others, _ = _first_outputs(subject, places)
    except Exception as error:
        # Whatever a layer raises that cannot have another number of times.
        raise _together(subject, f"an error: {error}") from error
    if others.shape[:2] != (len(outputs), len(places)):
        raise _together(subject, f"outputs of the shape {others.shape}")
    kept = [i for i, place in enumerate(places) if place]
    before = outputs[:, [places[i] - 1 for i in kept]]
    unit = joined(np.concatenate([outputs, others], axis=1))
    change = relative_distance(joined(others[:, kept]), joined(before), unit)
    # One that is not finite shows nothing.
    if max(_SAME, 10 * subject.rounding) < change < math.inf:
        raise _together(subject, f"outputs that change by {change:.2g} of their spread")


def _first_outputs(
    subject: Subject, places: list[int] | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """The outputs for the first batch and their mask, with the states at other places if given."""

    def resolve(block: ODEBlock, *_: Any) -> Any:
        if places is None or block.save_at is None:
            return block
        return Reordered(block, places)

    with stand_ins(resolve):
        outputs = subject.model(subject.samples.first_inputs, training=False)
    return judged_output(*with_mask(outputs))


def _together(subject: Subject, answer: str) -> ValueError:
    return ValueError(
        "A model of a time series must answer at each time from the state at that time alone. "
        f"Received: model={subject.model.name!r}, which gave {answer} where only some of the "
        "states of its block were there, backwards. Judge the part of it that ends with the "
        "block, or with layers that treat every time alike."
    )


def joined(states: np.ndarray) -> np.ndarray:
    """The states of all samples at all times, `(num_samples * num_times, ...)`."""
    return states.reshape(-1, *states.shape[2:])
