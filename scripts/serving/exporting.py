"""The zoo's models as SavedModels, each with the solver of its training and with a finer one."""

import pathlib

import tfnode
import zoo
from scripts.publishing import measuring
from zoo import loading, verification


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
        samples: How many of the first test samples to judge it on. If this and the next are None,
            the report that pretrained weights were published with is taken.
        reference_steps: The least steps of the fine RK4.
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
    asks_for_more = samples != extent["test_samples"] or reference_steps is not None
    is_published = weights is not None and not loading.is_path(weights)
    report = zoo.get_report(name, weights) if is_published and not asks_for_more else None
    return tfnode.export.export_saved_models(
        model,
        out / name,
        verification.served_solvers(block),
        tfnode.datasets.load(dataset, split, as_numpy=True),
        data_name=f"{dataset}, {split}",
        require_valid=require_valid,
        reference_steps=reference_steps or extent["rk4_steps"],
        repository=out,
        report=report,
    )
