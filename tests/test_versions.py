"""Versions: of what is imported, else of what is installed."""

import importlib.metadata
import platform
import sys

import keras
import pytest

import tfnode
from tfnode import versions


def test_versions_of_what_is_imported_and_of_what_is_not(monkeypatch):
    assert versions.of("tfnode", "keras") == {
        "python": platform.python_version(),
        "tfnode": tfnode.__version__,
        "keras": keras.__version__,
    }
    monkeypatch.delitem(sys.modules, "rich", raising=False)
    assert versions.of("rich")["rich"] == importlib.metadata.version("rich")
    assert "rich" not in sys.modules


def test_what_is_not_there_has_none():
    with pytest.raises(importlib.metadata.PackageNotFoundError, match="tfnode_of_tomorrow"):
        versions.of("tfnode_of_tomorrow")


def test_in_words():
    assert versions.in_words({}) == ""
    assert versions.in_words({"python": "3.13.1", "jax": "0.10"}) == "python 3.13.1, jax 0.10"
