"""The report of a verdict: one row a solver, and what follows from them."""

import dataclasses
from typing import TYPE_CHECKING

from tfnode.validity.results import Result
from tfnode.validity.sweeps import SweepRow

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True)
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


@dataclasses.dataclass(frozen=True)
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

    def plot(self, title: str | None = None) -> "Figure":
        """Accuracy over the number of steps, as in figures 1 (c, d) and 3 of the paper.

        Returns:
            A `matplotlib.figure.Figure`.
        """
        # Here, so that matplotlib is loaded only by those who draw.
        from tfnode import plots

        return plots.validity(self, title)
