"""Keras layers: `ODEBlock`, and `Augment`, which gives it more dimensions."""

from tfnode.layers.augment import Augment
from tfnode.layers.ode_block import ODEBlock

__all__ = ["Augment", "ODEBlock"]
