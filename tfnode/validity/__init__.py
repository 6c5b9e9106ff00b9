"""Is a trained model really an ODE, or has it grown together with its solver?

`check` gives the verdict and `sweep` the accuracies under every solver and step of the paper;
`convergence_test`, `certify` and `crossings` look at the same question from three other sides,
and `critical_step` evaluates a grid search. `check_series` gives the verdict on a model of a time
series, and `check_resnet` on one of residual layers, which has no ODE block.
"""

from tfnode.validity.convergence import ConvergenceResult, ConvergenceRow, convergence_test
from tfnode.validity.details import ClassChange, Details, NearSample
from tfnode.validity.margins import Certificate, certify
from tfnode.validity.paths import Crossings, crossings
from tfnode.validity.report import CheckRow, ValidityReport
from tfnode.validity.resnet_report import ResNetReport, ResNetStage
from tfnode.validity.resnets import check_resnet
from tfnode.validity.series import check_series
from tfnode.validity.series_report import SeriesReport, SeriesRow
from tfnode.validity.sweeps import SweepRow, sweep
from tfnode.validity.verdict import check, critical_step

__all__ = [
    "Certificate",
    "CheckRow",
    "ClassChange",
    "ConvergenceResult",
    "ConvergenceRow",
    "Crossings",
    "Details",
    "NearSample",
    "ResNetReport",
    "ResNetStage",
    "SeriesReport",
    "SeriesRow",
    "SweepRow",
    "ValidityReport",
    "certify",
    "check",
    "check_resnet",
    "check_series",
    "convergence_test",
    "critical_step",
    "crossings",
    "sweep",
]
