"""How the models of the zoo are measured before they are published."""

from typing import Any

import keras

import tfnode
from scripts.paper import data
from zoo import verification

# How large models are measured, so that a few cores need minutes for it, not hours.
EXTENTS = {
    "concentric_spheres_900d": {"rk4_steps": 128, "test_samples": None},
    "mnist": {"rk4_steps": 8, "test_samples": 1000},
    "cifar10": {"rk4_steps": 8, "test_samples": 1000},
    "cifar10_conv": {"rk4_steps": 32, "test_samples": None},
}


def extent(model: str) -> dict[str, Any]:
    """Returns the `rk4_steps` and `test_samples` that a model of the zoo is measured with."""
    return EXTENTS.get(model, {"rk4_steps": 256, "test_samples": None})


def judge(
    model: keras.Model,
    dataset: str,
    rk4_steps: int,
    samples: int | None,
    split: str = "test",
    verbose: int | str = "auto",
) -> tfnode.validity.ValidityReport:
    """Returns the verdict of `zoo.verification` on the data that runs read.

    Args:
        model: Model of the zoo, trained.
        dataset: A name for `tfnode.datasets.load`.
        rk4_steps: The least steps of the fine RK4.
        samples: How many of the first samples of the split; all if None.
        split: `"test"`, or another one to choose by.
        verbose: As of `tfnode.validity.check`.
    """
    x, y = data.load(dataset, split)
    return verification.judge(model, (x[:samples], y[:samples]), rk4_steps, verbose)
