"""Keras layers: `ODEBlock` with its `Regularization`, and `Augment`, for more dimensions."""

from tfnode.layers.augment import Augment
from tfnode.layers.ode_block import ODEBlock
from tfnode.layers.regularization import Regularization

__all__ = ["Augment", "ODEBlock", "Regularization"]
