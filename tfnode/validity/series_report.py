"""The report of a verdict on a time series: one row a distance of times, and what follows."""

import dataclasses
from typing import TYPE_CHECKING

from tfnode.typing import PathLike
from tfnode.validity.results import Record, Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True, repr=False)
class SeriesRow(Record):
    """A model that is asked at some times.

    Errors are root mean squares, over the spread of the observed states within the training.

    Args:
        factor: Float, the distance of the times over that of the training; None for the flow.
        time_step: Float, the mean distance of the times that the model was asked at.
        step_size: Float, the solver's, of the first block; None for an adaptive solver.
        num_steps: Integer, summed over the blocks; None for an adaptive solver.
        gap: Float, how far the states at the times of the training are from those that the model
            gives if it is asked as in training.
        error: Float, how far they are from the observed ones.
        training_error: Float, the error at the same times of the model asked as in training.
        error_between: Float, the error at observed times between those of the training; None where
            there are none.
        error_beyond: Float, the error at observed times behind the training; None likewise.
    """

    factor: float | None
    time_step: float
    step_size: float | None
    num_steps: int | None
    gap: float
    error: float
    training_error: float
    error_between: float | None
    error_beyond: float | None


@dataclasses.dataclass(frozen=True, repr=False)
class SeriesReport(Result):
    """What `check_series` found.

    Args:
        is_flow: Boolean, the verdict: whether `rise` is at most `threshold`.
        rise: Float, by how much the error grows where the model is asked at nearer times, or under
            the flow: the largest difference of `error` and `training_error` of these rows.
        gap: Float, the largest `gap` of these rows: how much the states depend on the times.
        threshold: Float.
        has_kink: Boolean, whether the error is smallest at the times of the training, and larger by
            more than the margin at nearer and wider ones and under the flow: the mark of a model
            that has learned its solver.
        num_samples: Integer.
        trained_until: Float, the last time that counts as seen in training.
        rows: Tuple of `SeriesRow`s, the widest times first.
        flow: `SeriesRow`, the field itself: RK4 at fine steps, asked at all the observed times.
        versions: Dictionary from packages to the versions that the report was made with; None in
            reports of earlier versions.
    """

    is_flow: bool
    rise: float
    gap: float
    threshold: float
    has_kink: bool
    num_samples: int
    trained_until: float
    rows: tuple[SeriesRow, ...]
    flow: SeriesRow
    versions: dict[str, str] | None = None

    def plot(self, title: str | None = None) -> "Figure":
        """Error over the distance of the times, with that of the training marked.

        Returns:
            A `matplotlib.figure.Figure`.
        """
        # Here, so that matplotlib is loaded only by those who draw.
        from tfnode import plots

        return plots.series(self, title)

    def _repr_html_(self) -> str:
        # Here, so that matplotlib is loaded only by those who draw.
        from tfnode.validity import series_page

        return series_page.framed(self).fragment()

    def to_html(self, path: PathLike, title: str | None = None) -> None:
        """Writes the report as a page: one HTML file that needs no network and runs no script.

        It has the verdict in words, the errors in a figure and in a table, and the versions that
        the report was made with. A notebook shows the same page where the report is the last value
        of a cell.

        Args:
            path: Path of the file, which is complete or not there.
            title: Optional string in place of the question.

        Raises:
            ValueError: If the file cannot be written.
        """
        # Here, so that matplotlib is loaded only by those who draw.
        from tfnode.validity import series_page

        series_page.framed(self, title).write(path)
