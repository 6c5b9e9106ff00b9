"""Keras callbacks that adapt the solver during `fit`: measure, ask `adaption`, assign, log."""

from tfnode.callbacks.checks import check_loss
from tfnode.callbacks.step_adaption import StepAdaption
from tfnode.callbacks.tolerance_adaption import ToleranceAdaption

__all__ = ["StepAdaption", "ToleranceAdaption", "check_loss"]
