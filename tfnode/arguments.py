"""Checks of arguments: each returns the value in its plain form, or raises a `ValueError`.

Every error has three parts: the rule, what was received, and what to do next. A number is also a
NumPy scalar, or an array, tensor or variable without axes; a boolean is none.
"""

import itertools
import math
import numbers
import os
import pathlib
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

# Counts fit into int32.
MAX_COUNT = 2**31 - 1
# What has more items is endless.
_MAX_ITEMS = 10**6
_MAX_SHOWN = 200


def refused(rule: str, name: str, value: Any, advice: str) -> ValueError:
    """The error for an argument.

    Examples:

    >>> refused("`every` must be an integer", "every", "often", "The paper has 50.")
    ValueError("`every` must be an integer. Received: every='often'. The paper has 50.")

    Args:
        rule: String, a sentence without its full stop.
        name: String, the argument.
        value: What was received for it.
        advice: String, one or more sentences.
    """
    return ValueError(f"{rule}. Received: {name}={shown(value)}. {advice}")


def shown(value: Any) -> str:
    """A value in the text of an error: short, whatever it is."""
    try:
        text = repr(value)
    except Exception:
        # As that of an integer of more than 4300 digits.
        return f"<{type(value).__name__}>"
    if len(text) > _MAX_SHOWN and getattr(value, "shape", None):
        return f"<{type(value).__name__} of shape {tuple(value.shape)} and dtype {value.dtype}>"
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


# === Numbers ===
def number(
    name: str,
    value: Any,
    low: float = -math.inf,
    high: float = math.inf,
    ends: str = "()",
    *,
    advice: str,
) -> float:
    """A finite number in an interval, as a float.

    Examples:

    >>> number("threshold", np.float32(0.5), 0, 1, "[)", advice="The default is 0.1.")
    0.5

    Args:
        name: String, the argument.
        value: What was received for it.
        low: Float, the lower end.
        high: Float, the upper end.
        ends: String of two brackets, square ones where an end belongs to the interval.
        advice: String, what to do if it is not such a number.
    """
    found = _as_float(value)
    from_low = low < found or (ends[0] == "[" and low == found)
    to_high = found < high or (ends[1] == "]" and found == high)
    if not (math.isfinite(found) and from_low and to_high):
        raise refused(f"`{name}` must be {_in_words(low, high, ends)}", name, value, advice)
    return found


def count(name: str, value: Any, low: int = 1, high: int = MAX_COUNT, *, advice: str) -> int:
    """An integer from `low` to `high`."""
    found = _plain(value)
    is_integer = not isinstance(found, bool) and isinstance(found, numbers.Integral)
    if not is_integer or not low <= found <= high:
        rule = f"`{name}` must be an integer from {low} to {high}"
        raise refused(rule, name, value, advice)
    return int(found)


def reals(name: str, value: Any, is_finite: bool = True, *, advice: str) -> np.ndarray:
    """Real numbers of any shape, finite unless they need not be, as an array of doubles."""
    try:
        found = np.asarray(value)
    except (TypeError, ValueError):
        # Rows of different lengths, or a tensor without values.
        found = np.asarray(None)
    are_real = found.dtype.kind in "iuf"
    if not are_real or (is_finite and not np.isfinite(found).all()):
        rule = f"`{name}` must be {'finite' if is_finite else 'real'} numbers"
        raise refused(rule, name, value, advice)
    return found.astype("float64")


def _as_float(value: Any) -> float:
    """A number as a float, NaN for all else."""
    found = _plain(value)
    if isinstance(found, bool) or not isinstance(found, numbers.Real):
        return math.nan
    try:
        return float(found)
    except OverflowError:
        return math.inf


def _plain(value: Any) -> Any:
    """What a scalar, or an array, tensor or variable without axes, holds; all else as it is."""
    if getattr(value, "shape", None) != ():
        return value
    try:
        return ops.convert_to_numpy(value).item()
    except (AttributeError, NotImplementedError, TypeError, ValueError):
        # A tensor of a graph that is being written has no value.
        return value


def _in_words(low: float, high: float, ends: str) -> str:
    if math.isfinite(high):
        return f"a number in {ends[0]}{low:g}, {high:g}{ends[1]}"
    if not math.isfinite(low):
        return "a finite number"
    if ends[0] == "[":
        return f"a finite number from {low:g} up"
    return "a positive, finite number" if low == 0 else f"a finite number above {low:g}"


# === Other plain values ===
def flag(name: str, value: Any) -> bool:
    """A boolean."""
    found = _plain(value)
    if not isinstance(found, bool):
        raise refused(f"`{name}` must be a boolean", name, value, "Pass True or False.")
    return found


def text(name: str, value: Any, *, advice: str) -> str:
    """A string."""
    return instance(name, value, str, "a string", advice=advice)


def choice(name: str, value: Any, choices: Collection[str], *, advice: str) -> str:
    """One of some strings."""
    if not isinstance(value, str) or value not in choices:
        listed = ", ".join(map(repr, choices))
        raise refused(f"`{name}` must be one of {listed}", name, value, advice)
    return value


def verbosity(value: Any, *others: str) -> Any:
    """Keras's `verbose`: 0, 1, or another of its values. It takes booleans, too."""
    if isinstance(value, str) and value in others:
        return value
    found = _plain(value)
    if not isinstance(found, int) or found not in (0, 1):
        listed = ", ".join(map(repr, (*others, 0, 1)))
        raise refused(f"`verbose` must be one of {listed}", "verbose", value, "Pass 0 for silence.")
    return int(found)


def path(name: str, value: Any) -> pathlib.Path:
    """The path of a file or a directory."""
    is_path = isinstance(value, (str, os.PathLike)) and isinstance(os.fspath(value), str)
    if not is_path or not os.fspath(value) or "\0" in os.fspath(value):
        rule = f"`{name}` must be a path"
        raise refused(rule, name, value, "Pass a string or a `pathlib.Path`.")
    return pathlib.Path(value)


# === Objects ===
def instance(name: str, value: Any, kind: Any, what: str, *, advice: str) -> Any:
    """A value of a class.

    Args:
        name: String, the argument.
        value: What was received for it.
        kind: The class, or a tuple of classes.
        what: String, the class in words.
        advice: String, what to do if it is another.
    """
    if not isinstance(value, kind):
        raise refused(f"`{name}` must be {what}", name, value, advice)
    return value


def function(name: str, value: Any, *, advice: str) -> Callable:
    """A callable; a class is none, as it makes an object where an answer is wanted."""
    if not callable(value) or isinstance(value, type):
        raise refused(f"`{name}` must be a callable", name, value, advice)
    return value


def model(value: Any) -> keras.Layer:
    """A Keras model, or a block, which is a layer."""
    advice = "Build one with `tfnode.ODEBlock` as a layer of it."
    return instance("model", value, keras.Layer, "a Keras model", advice=advice)


def record(name: str, value: Any, fields: Collection[str], what: str, *, advice: str) -> Any:
    """A result of this package, known by its fields to those who may not import its class."""
    if isinstance(value, type) or not all(hasattr(value, field) for field in fields):
        raise refused(f"`{name}` must be {what}", name, value, advice)
    return value


# === Several ===
def items(name: str, value: Any, what: str, *, advice: str) -> list:
    """The items of an iterable; a string, a dictionary and a single thing are none."""
    found = None
    if is_iterable(value):
        found = list(itertools.islice(value, _MAX_ITEMS + 1))
    if found is None or len(found) > _MAX_ITEMS:
        raise refused(f"`{name}` must be a list of {what}", name, value, advice)
    return found


def is_iterable(value: Any) -> bool:
    """Whether a value has items; those of a string or a dictionary are not meant."""
    if isinstance(value, (str, bytes, type, Mapping)) or getattr(value, "shape", None) == ():
        return False
    # Nothing is begun here: the iterator of a loader may start processes.
    return isinstance(value, Iterable)


def mapping(name: str, value: Any, keys: Collection[str] = (), *, advice: str) -> Mapping:
    """A dictionary that has some keys."""
    if not isinstance(value, Mapping) or not set(keys) <= set(value):
        rule = f"`{name}` must be a dictionary"
        if keys:
            rule += f" with the keys {sorted(keys)}"
        raise refused(rule, name, value, advice)
    return value


def tensors(name: str, value: Any, *, advice: str) -> Any:
    """A tensor, or a nested structure of some, of numbers."""
    try:
        found = keras.tree.map_structure(ops.convert_to_tensor, value)
        dtypes = [keras.backend.standardize_dtype(t.dtype) for t in keras.tree.flatten(found)]
    except (OverflowError, TypeError, ValueError):
        dtypes = []
    if not dtypes or "string" in dtypes:
        rule = f"`{name}` must be a tensor of numbers, or a nested structure of such"
        raise refused(rule, name, value, advice)
    return found
