"""What the results of this package have in common."""

import dataclasses
import inspect
import json
import math
import reprlib
import types
import typing
from collections.abc import Iterator
from typing import Any, Self

import keras
import numpy as np

from tfnode import arguments, versions


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Record:
    """Base of the results and of their rows, which fit on a screen however much they hold.

    A class of it is a dataclass with `repr=False`, so that it keeps the repr of this one.
    """

    def __repr__(self) -> str:
        """The values that are short, how many the others are, and what else it can be asked for."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        shown = [f"{k}={_shown(k, value)}" for k, value in values.items() if value is not None]
        more = ", ".join(sorted(_members(type(self))))
        return f"{type(self).__name__}({', '.join(shown)}{more and f'; {more}'})"


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Result(Record):
    """Base of the results: plain values, which JSON can hold."""

    def to_json(self) -> str:
        """The result as a JSON string; numbers that are not finite become null."""
        return json.dumps(_plain(dataclasses.asdict(self)), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Returns the result that `to_json` wrote.

        Raises:
            ValueError: If the text is not the JSON of such a result.
        """
        name = cls.__name__
        arguments.text("text", text, advice=f"Pass what `{name}.to_json` wrote.")
        try:
            return cls._from_plain(json.loads(text))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"A report is read from the JSON that `{name}.to_json` wrote. Received: "
                f"text={arguments.shown(text)}. Write it again by what returned it: {error}."
            ) from error

    @classmethod
    def _from_plain(cls, content: Any) -> Self:
        return _read(cls, content)


def made_with() -> dict[str, str]:
    """The versions that a result depends on."""
    return versions.of("tfnode", "keras", keras.backend.backend(), "numpy")


def _shown(name: str, value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Record):
        return f"<{type(value).__name__}>"
    if isinstance(value, np.ndarray):
        return f"<array {value.shape}>"
    if isinstance(value, (tuple, dict)):
        has_records = any(isinstance(item, Record) for item in value)
        return f"<{len(value)} {name if has_records else 'values'}>"
    return reprlib.repr(value)


def _members(kind: type) -> Iterator[str]:
    """The public methods and properties of a class."""
    for name, member in inspect.getmembers(kind):
        if inspect.isfunction(member) and not name.startswith("_"):
            yield f"{name}()"
        elif isinstance(member, property):
            yield name


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _read(kind: Any, value: Any) -> Any:
    """A value of a type, from what `_plain` made of it."""
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        types_of = typing.get_type_hints(kind)
        return kind(**{name: _read(types_of[name], item) for name, item in value.items()})
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:
        # None, or one other type.
        return None if value is None else _read(inner[0], value)
    if origin is tuple:
        return tuple(_read(inner[0], item) for item in value)
    if origin is dict:
        return {inner[0](key): _read(inner[1], item) for key, item in value.items()}
    if kind is np.ndarray:
        return np.asarray(value)
    if kind is float:
        # A number that JSON cannot hold: one that is too large.
        return math.inf if value is None else float(value)
    return value
