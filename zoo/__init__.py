"""The four architectures of "When are Neural ODE Solutions Proper ODEs?" as Keras models.

`cifar10_conv` is beyond the paper: CIFAR-10 as people classify it today.
"""

import importlib
import typing

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

if typing.TYPE_CHECKING:
    from zoo.manifest import WeightsEntry
    from zoo.recipes import Recipe
    from zoo.registry import get_model, get_recipe, get_report, get_weights, list_models
    from zoo.sharing import push
else:
    # The names that do not lie in `registry`.
    _HOMES = {"Recipe": "recipes", "WeightsEntry": "manifest", "push": "sharing"}

    # Imported when they are asked for, as the commands of this package answer help and misuse
    # before a backend is loaded.
    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"zoo.{_HOMES.get(name, 'registry')}"), name)

    def __dir__() -> list[str]:
        return __all__
