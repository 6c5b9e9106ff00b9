"""The versions that a result depends on."""

import importlib.metadata
import platform
import sys


def of(*packages: str) -> dict[str, str]:
    """Returns the versions of Python and of some packages, by their names.

    Examples:

    >>> list(of("keras", "numpy"))
    ['python', 'keras', 'numpy']
    """
    return {"python": platform.python_version(), **{name: _version(name) for name in packages}}


def in_words(versions: dict[str, str]) -> str:
    """Returns versions as a part of a sentence.

    Examples:

    >>> in_words({"python": "3.13.1", "keras": "3.15.1"})
    'python 3.13.1, keras 3.15.1'
    """
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _version(package: str) -> str:
    # What is imported knows best: `tensorflow` may have been installed as `tensorflow-cpu`, and
    # this package not at all. What is not imported stays so.
    found = getattr(sys.modules.get(package), "__version__", None)
    return found or importlib.metadata.version(package)
