"""Keras callbacks that adapt the solver during `fit`: measure, ask `adaption`, assign, log."""

from tfnode.callbacks.base import check_loss
from tfnode.callbacks.step_adaption import StepAdaption

__all__ = ["StepAdaption", "check_loss"]
