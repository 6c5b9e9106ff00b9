"""Whatever is public says its types; a type checker reads the rest (`mypy`)."""

import importlib
import inspect
import pkgutil

import pytest

import tfnode
import zoo


@pytest.fixture(autouse=True)
def _fresh_keras():
    """No Keras here: its clean-up between tests would take longer than the tests."""


def exported():
    """The exported functions and classes, by their dotted names."""
    packages = [tfnode, zoo]
    for module in pkgutil.iter_modules(tfnode.__path__, "tfnode."):
        if module.ispkg:
            packages.append(importlib.import_module(module.name))
    return {
        f"{package.__name__}.{name}": getattr(package, name)
        for package in packages
        for name in getattr(package, "__all__", ())
        if inspect.isfunction(getattr(package, name)) or inspect.isclass(getattr(package, name))
    }


def signatures(value):
    """Yields names and functions: the value itself, or a class's constructor and public members."""
    if inspect.isfunction(value):
        yield value.__name__, value
        return
    for cls in value.__mro__:
        if cls.__module__.partition(".")[0] not in ("tfnode", "zoo"):
            continue
        for name, member in vars(cls).items():
            function = getattr(member, "fget", None) or getattr(member, "__func__", member)
            # Not the constructor that `typing` gives a protocol.
            if not inspect.isfunction(function) or function.__module__ == "typing":
                continue
            if name == "__init__" or not name.startswith("_"):
                yield f"{cls.__name__}.{name}", function


def missing(function):
    """The parameters without a type, and "return" if that has none."""
    signature = inspect.signature(function)
    names = [
        parameter.name
        for parameter in signature.parameters.values()
        if parameter.annotation is parameter.empty and parameter.name not in ("self", "cls")
    ]
    return names + ["return"] * (signature.return_annotation is signature.empty)


def test_the_scanner_sees_what_is_missing():
    class Example:
        def __init__(self, a: int, b, **kwargs): ...

        @property
        def c(self): ...

        @classmethod
        def d(cls, e: int) -> None: ...

    Example.__module__ = "tfnode.example"
    assert {name: missing(function) for name, function in signatures(Example)} == {
        "Example.__init__": ["b", "kwargs", "return"],
        "Example.c": ["return"],
        "Example.d": [],
    }
    assert {"tfnode.Augment", "tfnode.validity.check", "zoo.get_model"} <= set(exported())


@pytest.mark.parametrize("name", exported())
def test_public_signatures_are_annotated(name):
    found = {name: missing(function) for name, function in signatures(exported()[name])}
    assert not any(found.values()), found
