"""The docstrings of Keras's style for mkdocstrings, which knows that of Google."""

import re
from typing import Any

import griffe

_EXAMPLE = re.compile(r"^>>> .*(?:\n.+)*", re.MULTILINE)


def in_googles_style(text: str) -> str:
    """Returns a docstring with its examples as code, and what a call takes as a section.

    Args:
        text: String, a docstring without indentation.
    """
    text = _EXAMPLE.sub(lambda found: f"```pycon\n{found[0]}\n```", text)
    return text.replace("\nCall arguments:\n", "\nOther args: Call arguments\n")


class Docstrings(griffe.Extension):
    """What mkdocstrings calls for every object that it finds."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring:
            obj.docstring.value = in_googles_style(obj.docstring.value)
