"""The report of a verdict: one row a solver, and what follows from them."""

import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Self

from tfnode.typing import PathLike
from tfnode.validity.details import Details
from tfnode.validity.results import Result
from tfnode.validity.series_report import SeriesReport
from tfnode.validity.sweeps import SweepRow

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Of the fields that `to_json` writes: 1 has no details, nor its own number; 2 has no series.
VERSION = 3


@dataclasses.dataclass(frozen=True, repr=False)
class CheckRow(SweepRow):
    """A `SweepRow`, and what it says about the model.

    Args:
        gap: Float, the difference from the training solver in accuracy, in the metric, or in the
            outputs, as `check` explains.
        changed: Float, the fraction of the samples whose class changes; None in regression.
        error: Float, the relative distance of the outputs from those of the finest RK4; None where
            that was not tried.
        is_better: Boolean, whether the solver's error is equal to the training solver's or
            smaller, so that the row counts for the verdict.
    """

    gap: float
    changed: float | None
    error: float | None
    is_better: bool


@dataclasses.dataclass(frozen=True, repr=False)
class ValidityReport(Result):
    """What `check` found.

    Args:
        is_ode: Boolean, the verdict: whether `gap` is at most `threshold`.
        gap: Float, the largest gap of the better rows.
        threshold: Float.
        measure: String, what the gap is a difference of: `"accuracy"`, `"outputs"`, or the name
            of the metric.
        task: `"classification"` or `"regression"`.
        num_samples: Integer.
        changed: Float, the largest fraction of samples whose class changes in a better row; None
            in regression. It bounds the accuracy gap, and shows what gains and losses hide.
        class_gaps: Dictionary from the classes in the data to the largest gap of their accuracy
            in a better row; None in regression.
        loss_gap: Float, the largest difference of the loss in a better row; None without a loss.
        reference_error: Float, the relative distance of the outputs under the finest RK4 from those
            at twice its step: how well the flow itself is known. Where it is not far below the
            training row's `error`, the verdict is doubtful. None where these were not tried.
        rows: Tuple of `CheckRow`s: the training solver first, then the sweep and further solvers,
            and RK4 at two fine steps, the finer one last.
        digest: String, the `tfnode.models.digest` of the model that was judged; empty in reports
            of the first versions.
        version: Integer, of the fields of a report; 1 for those that end here.
        details: `Details`, which answers change, which nearly do, the order of convergence, and the
            versions that it was made with; None in reports of version 1.
        series: `SeriesReport`, the verdict of `check_series` on a model of a time series; None of
            any other.
    """

    is_ode: bool
    gap: float
    threshold: float
    measure: str
    task: str
    num_samples: int
    changed: float | None
    class_gaps: dict[int, float] | None
    loss_gap: float | None
    reference_error: float | None
    rows: tuple[CheckRow, ...]
    digest: str = ""
    version: int = 1
    details: Details | None = None
    series: SeriesReport | None = None

    def _repr_html_(self) -> str:
        # Here, so that matplotlib is loaded only by those who draw.
        from tfnode.validity.pages import Page

        return Page(self).framed().fragment()

    @classmethod
    def _from_plain(cls, content: dict[str, Any]) -> Self:
        version = content.get("version", 1)
        if version > VERSION:
            raise ValueError(
                f"it has version {version}, and this tfnode knows {VERSION}: upgrade it"
            )
        return super()._from_plain(content)

    def value_of(self, row: CheckRow) -> float | None:
        """What the gap of a row is a difference of; in regression the change of the outputs."""
        return {"accuracy": row.accuracy, "outputs": row.gap}.get(self.measure, row.metric)

    def plot(self, title: str | None = None) -> "Figure":
        """Accuracy over the number of steps, as in figures 1 (c, d) and 3 of the paper.

        Returns:
            A `matplotlib.figure.Figure`.
        """
        # Here, so that matplotlib is loaded only by those who draw.
        from tfnode import plots

        return plots.validity(self, title)

    def to_html(
        self,
        path: PathLike,
        class_names: Iterable[str] | None = None,
        title: str | None = None,
    ) -> None:
        """Writes the report as a page: one HTML file that needs no network and runs no script.

        It has the verdict in words; which solver to serve the model with, from its accuracy against
        its evaluations; which classes change into which; the samples that are nearest to a change;
        how the outputs converge; and the versions that the report was made with. Of a report that
        an earlier version of this package has written it shows what that holds.

        A notebook shows the same page where the report is the last value of a cell.

        Examples:

        >>> block = tfnode.ODEBlock(keras.layers.Rescaling(-1.0), tfnode.solvers.RK4(1 / 4))
        >>> model = keras.Sequential([keras.Input((2,)), block])
        >>> report = tfnode.validity.check(model, (np.eye(2), np.arange(2)), verbose=0)
        >>> report.to_html("report.html", class_names=["left", "right"])  # doctest: +SKIP

        Args:
            path: Path of the file, which is complete or not there.
            class_names: Optional iterable of strings, the names of the classes from 0 up.
            title: Optional string in place of the question with the name of the model.

        Raises:
            ValueError: If the file cannot be written, or if a class has no name.
        """
        # Here, so that matplotlib is loaded only by those who draw.
        from tfnode.validity.pages import Page

        Page.of(self, class_names, title).framed().write(path)
