"""What the manifest says of a weight, measured, and compared with what it says."""

from collections.abc import Iterator
from typing import Any

import keras

import tfnode
from tfnode import adaption
from tfnode.solvers import Solver
from tfnode.typing import Data
from zoo import registry
from zoo.manifest import WeightsEntry

# Of the fractions: two of a thousand samples, which another processor may round to another class.
TOLERANCE = 0.002


def compare(entry: WeightsEntry) -> Iterator[tuple[str, str, Any, Any, bool]]:
    """Yields a row for each quantity: name, quantity, expected, found, and whether they agree."""
    model = registry.get_model(entry.model, weights=entry.name)
    data = tfnode.datasets.load(entry.dataset, entry.split, as_numpy=True)
    found = measure(model, judge(model, data, entry.rk4_steps), entry.test_samples)
    accuracy = found["accuracy"]
    exact: dict[str, tuple[Any, Any]] = {
        "parameters": (entry.parameters, found["parameters"]),
        "rk4_steps": (entry.rk4_steps, found["rk4_steps"]),
        "solver": (entry.solver, tfnode.solvers.deserialize(found["solver"])),
        "is_ode": (entry.is_ode, found["is_ode"]),
    }
    fractions = {
        **{name: (entry.accuracy[name], accuracy[name]) for name in accuracy},
        "gap": (entry.gap, found["gap"]),
    }
    for quantity, (expected, value) in exact.items():
        yield entry.name, quantity, expected, value, expected == value
    for quantity, (expected, value) in fractions.items():
        agree = abs(expected - value) < TOLERANCE + 1e-9
        yield entry.name, quantity, f"{expected:.4f}", f"{value:.4f}", agree


def measure(
    model: keras.Model, report: tfnode.validity.ValidityReport, test_samples: int | None
) -> dict[str, Any]:
    """Returns what a manifest says of a trained model, as plain values of its keys.

    Args:
        model: Model of the zoo, trained.
        report: What `judge` says of it.
        test_samples: How many of the first samples of the test set it was judged on; all if None.
    """
    trained, fine = report.rows[0], report.rows[-1]
    return {
        "parameters": sum(weight.numpy().size for weight in model.trainable_weights),
        "solver": tfnode.solvers.serialize(model.get_layer("ode_block").solver),
        "accuracy": {"train_solver": trained.accuracy, "rk4_fine": fine.accuracy},
        "rk4_steps": fine.num_steps,
        "test_samples": test_samples,
        "is_ode": report.is_ode,
        "gap": report.gap,
    }


def judge(
    model: keras.Model, data: Data, rk4_steps: int, verbose: int | str = "auto"
) -> tfnode.validity.ValidityReport:
    """Returns the verdict on a trained model, with those solvers that it is served with, too.

    Args:
        model: Model of the zoo, trained.
        data: As of `tfnode.validity.check`.
        rk4_steps: The least steps of the fine RK4.
        verbose: As of `tfnode.validity.check`.
    """
    served = served_solvers(model.get_layer("ode_block"))
    return tfnode.validity.check(
        model, data, reference_steps=rk4_steps, solvers=served, verbose=verbose
    )


def served_solvers(block: tfnode.ODEBlock) -> list[Solver]:
    """The solver of the training, and that which adaption compares it with."""
    if isinstance(block.solver, tfnode.solvers.AdaptiveSolver):
        return [block.solver, adaption.tighter_solver(block.solver)]
    return [block.solver, adaption.reference_solver(block.solver, block.length)]
