"""Measurements without a model, for the tests of the rules."""

import copy
import math

from tfnode.adaption import Measurement


class Probe:
    """Stands in for what is measured with another solver and notes which it was asked for.

    Args:
        accuracy: Float, the accuracy with the other solver.
        reference_accuracy: Float, the accuracy with the better solver, at all times.
        change: Float, the change between these two.
    """

    def __init__(self, accuracy=1.0, reference_accuracy=1.0, change=0.0):
        self.accuracy = accuracy
        self.reference_accuracy = reference_accuracy
        self.change = change
        self.asked = []

    def measurement(self, accuracy=1.0, change=0.0, recent_nfe=()):
        """What a check finds with the training solver."""
        return Measurement(accuracy, self.reference_accuracy, change, self._measure, recent_nfe)

    def _measure(self, solver):
        self.asked.append(solver)
        # Nobody asks from here on.
        return Measurement(self.accuracy, self.reference_accuracy, self.change, measure=None)


def without_a_number(solver, *names):
    """The solver with settings that are not a number, which none can be built with."""
    broken = copy.copy(solver)
    for name in names:
        object.__setattr__(broken, name, math.nan)
    return broken
