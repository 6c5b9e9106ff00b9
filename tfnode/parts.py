"""Packages that an installation may leave out: what is said where one of them is asked for."""

import importlib.util


def missing(*packages: str) -> list[str]:
    """Returns those packages that are not installed; nothing is imported.

    Examples:

    >>> missing("keras", "keras_of_tomorrow")
    ['keras_of_tomorrow']
    """
    return [name for name in packages if importlib.util.find_spec(name) is None]


def require(purpose: str, *packages: str, install: str | None = None, advice: str = "") -> None:
    """Raises if packages are not installed.

    Args:
        purpose: String, what needs them, as the start of a sentence.
        packages: Strings, their names in Python.
        install: String, what `pip install` is told; the packages themselves if None.
        advice: String, a sentence on what does without.

    Raises:
        ImportError: If one is missing.
    """
    absent = missing(*packages)
    if absent:
        needed = " and ".join(f"`{name}`" for name in packages)
        command = f"pip install {install or ' '.join(packages)}"
        raise ImportError(
            f"{purpose} needs {needed}. Received: an installation without {', '.join(absent)}. "
            f"Install it by `{command}`. {advice}".rstrip()
        )
