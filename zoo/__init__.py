"""The four architectures of "When are Neural ODE Solutions Proper ODEs?" as Keras models.

`cifar10_conv` is beyond the paper: CIFAR-10 as people classify it today.
"""

from zoo.manifest import WeightsEntry
from zoo.recipes import Recipe
from zoo.registry import get_model, get_recipe, get_report, get_weights, list_models
from zoo.sharing import push

__all__ = [
    "Recipe",
    "WeightsEntry",
    "get_model",
    "get_recipe",
    "get_report",
    "get_weights",
    "list_models",
    "push",
]
