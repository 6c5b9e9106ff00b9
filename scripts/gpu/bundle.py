"""A bundle: what the other machine lacks, as files of arrays and wheels."""

import pathlib
import subprocess
import sys
from collections.abc import Sequence

import keras

from scripts import command_line, machine
from scripts.paper import data
from tfnode import files
from zoo import get_recipe

# What an array file may have, so that it can be carried.
MAX_BYTES = 40 * 2**20
# What a machine with JAX lacks of what the runs import.
_PACKAGES = (f"keras=={keras.__version__}", "optree", "namex", "pooch", "platformdirs")


def make(directory: pathlib.Path, models: Sequence[str], python: str | None = None) -> None:
    """Writes the data of some models of the zoo, and of which commit the runs are.

    Args:
        directory: Path of the bundle.
        models: Names of the zoo.
        python: The version of Python of the other machine, to bring wheels for it, or None.

    Raises:
        ValueError: If a file is too large to be carried.
        subprocess.CalledProcessError: If a wheel cannot be had.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if python:
        _fetch_wheels(directory, python)
    for model in models:
        data.write(get_recipe(model).dataset, directory)
    content = {"models": list(models), "commit": machine.commit()}
    files.write_json(directory / "bundle.json", content)
    for path in sorted([*directory.glob("*.npz"), *directory.glob("*.whl")]):
        size = path.stat().st_size
        print(f"Written: {path}, {size / 2**20:.1f} MiB")
        if size > MAX_BYTES:
            raise ValueError(
                f"A file of a bundle must have at most {MAX_BYTES} bytes. Received: "
                f"{str(path)!r} with {size}. Write fewer samples into one."
            )


def _fetch_wheels(directory: pathlib.Path, python: str) -> None:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    # Their own requirements are there, or are those of what is never imported.
    which = ["--no-deps", "--only-binary=:all:", "--python-version", python]
    subprocess.run([*pip, *which, "--dest", str(directory), *_PACKAGES], check=True)


def models(directory: pathlib.Path) -> list[str]:
    """The models that a bundle has data for."""
    return _content(directory)["models"]


def environment(directory: pathlib.Path) -> dict[str, str]:
    """What the processes that train find the data by, and the commit."""
    commit = _content(directory)["commit"]
    return {data.BUNDLE: str(directory.resolve()), machine.COMMIT: commit}


def _content(directory: pathlib.Path) -> dict:
    return command_line.read_json(directory / "bundle.json")
