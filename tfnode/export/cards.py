"""The validity card of an export: what was measured of a model, before it is served."""

import dataclasses
import json

from tfnode import solvers, tables, versions

# Accuracies are quotients: a gap at the threshold is not above it by rounding.
_ROUNDING = 1e-9


@dataclasses.dataclass(frozen=True)
class Configuration:
    """A model under one solver.

    Args:
        slug: String, the name of the configuration.
        solver: A solver of `tfnode.solvers`.
        model: Keras model with this solver.
        accuracy: Float, on the data of the verdict.
        is_valid: Boolean, whether the model is an ODE, and its accuracy under this solver within
            the threshold of that under the solver of its training.
    """

    slug: str
    solver: object
    model: object
    accuracy: float
    is_valid: bool


def configurations(models, report, rows):
    """Returns the `Configuration`s of a model.

    Args:
        models: Dictionary from slugs to pairs of a solver and the model with it.
        report: `tfnode.validity.ValidityReport` of the trained model.
        rows: List of `tfnode.validity.SweepRow`, one for each solver.
    """
    trained = report.rows[0].accuracy
    return [
        Configuration(
            slug,
            solver,
            model,
            row.accuracy,
            report.is_ode and abs(row.accuracy - trained) <= report.threshold + _ROUNDING,
        )
        for (slug, (solver, model)), row in zip(models.items(), rows)
    ]


def card(model, report, served, data_name):
    """Returns the validity card of a SavedModel as a JSON string.

    Args:
        model: The trained Keras model.
        report: Its `tfnode.validity.ValidityReport`.
        served: List of the `Configuration`s in the SavedModel.
        data_name: String or None, what the data is called.
    """
    verdict = json.loads(report.to_json())
    rows = verdict.pop("rows")
    content = {
        "model": model.name,
        "is_valid": all(configuration.is_valid for configuration in served),
        "solvers": {c.slug: solvers.serialize(c.solver) for c in served},
        "verdict": verdict,
        "accuracies": {
            "trained": report.rows[0].accuracy,
            "reference": report.rows[-1].accuracy,
            **{c.slug: c.accuracy for c in served},
        },
        "sweep": rows,
        "data": {"name": data_name, "num_samples": report.num_samples},
        "versions": versions.of("tfnode", "keras", "tensorflow", "numpy"),
    }
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def require_valid(model, report, configurations):
    """Prints the report and raises if one of the configurations is not valid.

    Raises:
        ValueError: If the model is bound to its solver, or a configuration loses its accuracy.
    """
    invalid = [c for c in configurations if not c.is_valid]
    if not invalid:
        return
    print(describe(model, report))
    if not report.is_ode:
        raise ValueError(
            "With require_valid=True a model must be an ODE: its accuracy must not depend on the "
            f"solver. Received: model={model.name!r} with a gap of {report.gap:.4f}, above the "
            f"threshold of {report.threshold}. Train it with a smaller step or a method of higher "
            "order, or pass require_valid=False: it then is no `stable` version."
        )
    raise ValueError(
        "With require_valid=True every configuration must keep the accuracy of the training's, "
        f"{report.rows[0].accuracy:.4f}. Received: "
        f"{', '.join(f'{c.slug} with {c.accuracy:.4f}' for c in invalid)}. Choose smaller steps or "
        "tolerances."
    )


def describe(model, report):
    """Returns a report as a table of text; a star marks the rows that count for the verdict."""
    verdict = "is an ODE" if report.is_ode else "is bound to its solver"
    header = ("", "solver", "step/tolerance", "accuracy", "gap", "error")
    cells = [
        (
            "*" if row.is_better else "",
            row.solver,
            f"{row.step_size if row.tolerance is None else row.tolerance:.6g}",
            f"{row.accuracy:.4f}",
            f"{row.gap:.4f}",
            f"{row.error:.2e}",
        )
        for row in report.rows
    ]
    return (
        f"{model.name} {verdict}: gap {report.gap:.4f}, threshold {report.threshold}, "
        f"{report.num_samples} samples\n{tables.aligned(header, cells, right=range(2, 6))}"
    )
