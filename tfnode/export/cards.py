"""The validity card of an export: what was measured on a model before it is served."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence

import keras

from tfnode import solvers, tables, versions
from tfnode.export.names import interval_of, solver_name
from tfnode.export.signatures import inputs_of, outputs_of
from tfnode.validity import CheckRow, SeriesReport, SweepRow, ValidityReport

# Accuracies are quotients: a gap at the threshold must not exceed it by rounding.
_ROUNDING = 1e-9


@dataclasses.dataclass(frozen=True)
class Configuration:
    """A model under one solver.

    Args:
        slug: String, the slug of the configuration.
        solver: A solver of `tfnode.solvers`.
        model: Keras model with this solver.
        accuracy: Float, on the data of the verdict; None without one.
        is_valid: Boolean, whether the model is an ODE, and its accuracy under this solver within
            the threshold of that under the solver of its training. False without a verdict.
    """

    slug: str
    solver: solvers.Solver
    model: keras.Model
    accuracy: float | None = None
    is_valid: bool = False

    @property
    def name(self) -> str:
        """The name of the configuration, for people."""
        return solver_name(self.solver, interval_of(self.model))


def default(served: Sequence[Configuration]) -> Configuration:
    """Returns what answers a request that chooses no solver: the first that is valid, if one is."""
    return next((c for c in served if c.is_valid), served[0])


def by_signature(served: Sequence[Configuration]) -> dict[str, Configuration]:
    """Returns the configurations by their signatures, in a SavedModel that has one for each.

    A configuration is found by its name and by its slug.
    """
    return {
        "serving_default": default(served),
        **{c.name: c for c in served},
        **{c.slug: c for c in served},
    }


def configurations(
    models: Mapping[str, tuple[solvers.Solver, keras.Model]],
    report: ValidityReport,
    rows: Sequence[tuple[SweepRow, SweepRow]],
) -> list[Configuration]:
    """Returns the `Configuration`s of a model.

    Args:
        models: Dictionary from slugs to pairs of a solver and the model with it.
        report: `tfnode.validity.ValidityReport` of the trained model.
        rows: List of pairs of `tfnode.validity.SweepRow`s, one for each solver: its own, and that
            of the training on the same data.
    """
    gaps = [abs(_accuracy(row) - _accuracy(training)) for row, training in rows]
    return [
        Configuration(
            slug,
            solver,
            model,
            _accuracy(row),
            report.is_ode and gap <= report.threshold + _ROUNDING,
        )
        for (slug, (solver, model)), (row, _), gap in zip(models.items(), rows, gaps)
    ]


def _accuracy(row: SweepRow) -> float:
    # Only classifiers are exported, and these have one.
    assert row.accuracy is not None
    return row.accuracy


def card(
    model: keras.Model,
    report: ValidityReport | None,
    served: Sequence[Configuration],
    data_name: str | None,
) -> str:
    """Returns the validity card of a SavedModel as a JSON string.

    Args:
        model: The trained Keras model.
        report: Its `tfnode.validity.ValidityReport`, or None if it was not judged.
        served: List of the `Configuration`s in the SavedModel.
        data_name: String or None, what the data is called.
    """
    verdict = None if report is None else json.loads(report.to_json())
    accuracies = {} if report is None else _accuracies(report, served)
    content = {
        "model": model.name,
        "inputs": {name: tensor.name for name, tensor in inputs_of(served[0].model).items()},
        "outputs": outputs_of(served[0].model),
        "is_valid": all(configuration.is_valid for configuration in served),
        "solvers": {c.slug: solvers.serialize(c.solver) for c in served},
        "names": {c.slug: c.name for c in served},
        "default": default(served).slug,
        "sweep": [] if verdict is None else verdict.pop("rows"),
        "verdict": verdict,
        "accuracies": accuracies,
        "data": {"name": data_name, "num_samples": 0 if report is None else report.num_samples},
        "versions": versions.of("tfnode", "keras", "tensorflow", "numpy"),
    }
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def _accuracies(report: ValidityReport, served: Sequence[Configuration]) -> dict[str, float | None]:
    return {
        "trained": report.rows[0].accuracy,
        "reference": report.rows[-1].accuracy,
        **{c.slug: c.accuracy for c in served},
    }


def require_ode(model: keras.Model, report: ValidityReport) -> None:
    """Prints the report and raises if the model is bound to its solver.

    Raises:
        ValueError: If it is.
    """
    if report.is_ode:
        return
    print(describe(model.name, report))
    raise ValueError(
        "With require_valid=True a model must be an ODE: its accuracy must not depend on the "
        f"solver. Received: model={model.name!r} with a gap of {report.gap:.4f}, above the "
        f"threshold of {report.threshold}. Train it with a smaller step or a method of higher "
        "order, or pass require_valid=False, which exports it without the label `stable`."
    )


def require_accurate(
    model: keras.Model, report: ValidityReport, configurations: Sequence[Configuration]
) -> None:
    """Prints the report and raises if a configuration of an ODE loses accuracy.

    Raises:
        ValueError: If one does.
    """
    invalid = [c for c in configurations if not c.is_valid]
    if not invalid:
        return
    print(describe(model.name, report))
    raise ValueError(
        "With require_valid=True every configuration must keep the accuracy of the training, "
        f"{report.rows[0].accuracy:.4f}. Received: "
        f"{', '.join(f'{c.slug} with {c.accuracy:.4f}' for c in invalid)}. Choose smaller steps or "
        "tolerances."
    )


_COLUMNS: dict[str, Callable[[CheckRow], str]] = {
    "": lambda row: "*" if row.is_better else "",
    "solver": lambda row: row.solver,
    "step/tolerance": lambda row: (
        f"{row.step_size if row.tolerance is None else row.tolerance:.6g}"
    ),
    "accuracy": lambda row: "" if row.accuracy is None else f"{row.accuracy:.4f}",
    "gap": lambda row: f"{row.gap:.4f}",
    "error": lambda row: "" if row.error is None else f"{row.error:.2e}",
}
# What the columns hold that their names do not say.
_LEGEND = {
    "": "* counts for the verdict: no less exact than the solver of the training, in the first row",
    "step/tolerance": "step/tolerance: the step size, or the tolerance of an adaptive solver",
    "gap": "gap: {gap}, from the first row",
    "error": "error: the distance of the outputs, over their spread, from those in the last row",
}
_GAPS = {
    "accuracy": "the difference in accuracy, as a fraction",
    "outputs": "the distance of the outputs, over their spread",
}


def describe(name: str, report: ValidityReport) -> str:
    """Returns a report as text: the verdict, a table, and what its columns hold.

    Args:
        name: String, what the model is called.
        report: Its `tfnode.validity.ValidityReport`.
    """
    verdict = "is an ODE" if report.is_ode else "is bound to its solver"
    columns = {key: [cell(row) for row in report.rows] for key, cell in _COLUMNS.items()}
    # In regression there is no accuracy, and no error where the finest RK4 was not tried.
    columns = {key: cells for key, cells in columns.items() if any(cells)}
    table = tables.aligned(list(columns), list(zip(*columns.values())), range(2, len(columns)))
    gap = _GAPS.get(report.measure, f"the difference in {report.measure}")
    legend = [line.format(gap=gap) for key, line in _LEGEND.items() if key in columns]
    title = (
        f"{name} {verdict}: gap {report.gap:.4f}, threshold {report.threshold}, "
        f"{report.num_samples} samples"
    )
    return "\n".join([title, table, "", *legend, *_of_series(report.series)])


def _of_series(report: SeriesReport | None) -> list[str]:
    if report is None:
        return []
    verdict = "a flow" if report.is_flow else "bound to the times of its training"
    kink = ", with a kink at the distance of the training" if report.has_kink else ""
    return [
        f"as a time series: {verdict}; at nearer times its error rises by {report.rise:.4f} of the "
        f"spread of the states, threshold {report.threshold}{kink}"
    ]
