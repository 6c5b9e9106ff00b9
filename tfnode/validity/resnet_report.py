"""The report of a verdict on a model of residual layers."""

import dataclasses
from typing import TYPE_CHECKING

from tfnode.typing import PathLike
from tfnode.validity.report import CheckRow, ValidityReport
from tfnode.validity.results import Record, Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True, repr=False)
class ResNetStage(Record):
    """Residual layers of one form that follow each other, `x_{k+1} = x_k + f_k(x_k)`.

    A change is the size of a difference over that of the two, root mean squares: 0 for equal
    layers, and sqrt(2) for those that have nothing to do with each other.

    Args:
        start: String, the layer whose output is the first state.
        end: String, the layer whose output is the last state.
        depth: Integer, the number n of residual layers.
        weight_changes: Tuple of n - 1 floats, the change of the weights from a layer to the next;
            of those with two axes at least, if there are such.
        residual_changes: Tuple of n - 1 floats, the change of `f_k(x_k)` to the next.
        weight_rate: Float, n times the mean of the weights' changes: how fast they change over the
            whole depth. It stays bounded where layers come from an ODE, however many they are.
        residual_rate: Float, the same of the outputs.
        distances: Tuple of n floats: behind each layer, how far its state is from that of the ODE
            between the layers, over the way from the first state to the last.
    """

    start: str
    end: str
    depth: int
    weight_changes: tuple[float, ...]
    residual_changes: tuple[float, ...]
    weight_rate: float
    residual_rate: float
    distances: tuple[float, ...]


@dataclasses.dataclass(frozen=True, repr=False)
class ResNetReport(Result):
    """What `check_resnet` found.

    Args:
        is_ode: Boolean, the verdict: whether `gap` is at most `threshold`.
        gap: Float, the largest gap of the better solvers.
        threshold: Float.
        stages: Tuple of `ResNetStage`s.
        verdict: `ValidityReport` of the model with the ODEs between its layers in their places. Its
            rows of Euler's method are the model at other depths: with a `factor` of 1 as it is, of
            2 at half the depth and of 1/2 at twice the depth.
    """

    is_ode: bool
    gap: float
    threshold: float
    stages: tuple[ResNetStage, ...]
    verdict: ValidityReport

    @property
    def halved(self) -> CheckRow:
        """`CheckRow`, the model with half of its residual layers, of twice the size."""
        return self._of_depth(2.0)

    @property
    def doubled(self) -> CheckRow:
        """`CheckRow`, the model with a layer of interpolated weights behind each, of half size."""
        return self._of_depth(0.5)

    def _of_depth(self, factor: float) -> CheckRow:
        rows = self.verdict.rows
        return next(row for row in rows if (row.solver, row.factor) == ("Euler", factor))

    def plot(self, title: str | None = None) -> "Figure":
        """Accuracy over the depth, the changes from layer to layer, and the distance to the ODE.

        Returns:
            A `matplotlib.figure.Figure`.
        """
        # Here, so that matplotlib is loaded only by those who draw.
        from tfnode import plots

        return plots.resnet(self, title)

    def _repr_html_(self) -> str:
        # Here, so that matplotlib is loaded only by those who draw.
        from tfnode.validity import resnet_page

        return resnet_page.framed(self).fragment()

    def to_html(self, path: PathLike, title: str | None = None) -> None:
        """Writes the report as a page: one HTML file that needs no network and runs no script.

        It has the verdict in words, the model at other depths and under other solvers, how its
        layers change, and the versions that the report was made with. A notebook shows the same
        page where the report is the last value of a cell.

        Args:
            path: Path of the file, which is complete or not there.
            title: Optional string in place of the question.

        Raises:
            ValueError: If the file cannot be written.
        """
        # Here, so that matplotlib is loaded only by those who draw.
        from tfnode.validity import resnet_page

        resnet_page.framed(self, title).write(path)
