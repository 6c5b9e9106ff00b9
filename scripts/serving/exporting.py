"""The zoo's models as SavedModels, each with the solver of its training and with a finer one."""

import pathlib

import tfnode
import zoo
from scripts.paper.runs import Solver
from scripts.publishing import measuring
from tfnode import adaption


def export(
    name: str,
    out: pathlib.Path,
    weights: str | None,
    samples: int | None,
    reference_steps: int | None,
    require_valid: bool,
) -> list[pathlib.Path]:
    """Exports a model of the zoo; returns the paths of its versions.

    Args:
        name: That of the model.
        out: The directory that servers get to see.
        weights: As for `zoo.get_model`.
        samples: How many of the first test samples to judge it on; as in the manifest if None.
        reference_steps: The least steps of the fine RK4, likewise.
        require_valid: Whether a model must be an ODE.

    Raises:
        ValueError: If it must be and is not.
        OSError: If the weights cannot be had.
    """
    model = zoo.get_model(name, weights=weights)
    block = model.get_layer("ode_block")
    dataset, extent = zoo.get_recipe(name).dataset, measuring.extent(name)
    samples = samples or extent["test_samples"]
    split = "test" if samples is None else f"test[:{samples}]"
    return tfnode.export.export_saved_models(
        model,
        out / name,
        [block.solver, finer(block)],
        tfnode.datasets.load(dataset, split, as_numpy=True),
        data_name=f"{dataset}, {split}",
        require_valid=require_valid,
        reference_steps=reference_steps or extent["rk4_steps"],
        repository=out,
    )


def finer(block: tfnode.ODEBlock) -> Solver:
    """The solver that step or tolerance adaption compares that of a block with."""
    if isinstance(block.solver, tfnode.solvers.AdaptiveSolver):
        return adaption.tighter_solver(block.solver)
    return adaption.reference_solver(block.solver, block.length)
