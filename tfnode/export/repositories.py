"""The model repository: its versions, and what TensorFlow Serving reads of them."""

import collections
import json
import os
import pathlib
import re
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from tfnode import arguments, files, solvers
from tfnode.export.completeness import is_complete
from tfnode.export.names import solver_name
from tfnode.solvers import AdaptiveSolver, Solver
from tfnode.typing import PathLike

CARD = pathlib.PurePath("assets.extra", "validity.json")
MODELS_CONFIG = "models.config"
# How that file begins, which the next export reads; then a path in quotes.
_MOUNTED = "# The server finds the repository at "
_DEFAULT_MOUNT = pathlib.PurePosixPath("/models")
# An empty file in a version that is not to be served.
WITHDRAWN = "withdrawn"
# Held by who writes to a directory.
LOCK = ".lock"

# TensorFlow Serving's are 64-bit integers.
LAST_VERSION = 2**63 - 1

# Read with `--enable_per_model_batching_parameters`. A request with more rows is split.
BATCHING = pathlib.PurePath("batching_params.pbtxt")
BATCHING_PARAMETERS = """\
max_batch_size { value: 64 }
batch_timeout_micros { value: 1000 }
max_enqueued_batches { value: 1000 }
enable_large_batch_splitting { value: true }
max_execution_batch_size { value: 64 }
"""


def can_be_batched(solver: Solver) -> bool:
    """Whether a sample's answer does not depend on the requests that share its batch."""
    return not isinstance(solver, AdaptiveSolver) or solver.per_sample


# === Versions ===
def numbers(folder: pathlib.Path) -> list[int]:
    """The versions of a configuration that are taken, in order, whatever has their names."""
    if not folder.is_dir():
        return []
    names = [path.name for path in folder.iterdir()]
    found = [int(name) for name in names if re.fullmatch("[1-9][0-9]*", name)]
    return sorted(number for number in found if number <= LAST_VERSION)


def versions(folder: pathlib.Path) -> list[int]:
    """The versions of a configuration that are served, in order: complete, and not withdrawn."""
    return [n for n in _complete(folder) if not (folder / str(n) / WITHDRAWN).exists()]


def _complete(folder: pathlib.Path) -> list[int]:
    """The versions that a server takes for some, in order."""
    return [number for number in numbers(folder) if is_complete(folder / str(number))]


def next_version(folders: Iterable[pathlib.Path]) -> int:
    """The version after the latest of all configurations, so that a number means one model."""
    return 1 + max((number for folder in folders for number in numbers(folder)), default=0)


def remove_abandoned(base: pathlib.Path) -> None:
    """Removes what killed exports left below a base."""
    for folder in [base, *(path for path in base.iterdir() if numbers(path))]:
        files.sweep(folder)


def is_valid(version: pathlib.Path) -> bool:
    """Whether a version's card says that it may be called stable.

    A card that is not as it was written says nothing, and there is a warning.
    """
    path = version / CARD
    if not path.exists():
        return False
    try:
        return _verdict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, RecursionError, ValueError) as error:
        warnings.warn(
            "Only a validity card as `export_saved_models` writes it makes a version `stable`. "
            f"Received: {str(path)!r}, of which {error}. The version counts as not judged; export "
            "the model again.",
            stacklevel=4,
        )
        return False


def _verdict(card: Any) -> bool:
    """Whether a card calls its version valid, which only an ODE can be.

    Raises:
        ValueError: If it is not what a card is.
    """
    if not isinstance(card, dict) or not isinstance(card.get("is_valid"), bool):
        raise ValueError("`is_valid` is neither true nor false")
    if not card["is_valid"]:
        return False
    verdict = card.get("verdict")
    is_ode = verdict.get("is_ode") if isinstance(verdict, dict) else None
    if is_ode is not True:
        raise ValueError(f"`is_ode` of the verdict is {is_ode!r}, though `is_valid` is true")
    return True


# === Names ===
def _readable_names(folders: Mapping[str, pathlib.Path]) -> dict[str, str]:
    """The names of models that people read, by their names of directories; those that are clear.

    Args:
        folders: Dictionary from names by directories to directories with versions.
    """
    found = {
        name: name.removesuffix(folder.name) + readable
        for name, folder in folders.items()
        if (readable := _readable_name(folder)) is not None
    }
    times = collections.Counter([*folders, *found.values()])
    return {name: readable for name, readable in found.items() if times[readable] == 1}


def _readable_name(folder: pathlib.Path) -> str | None:
    """What all versions of a configuration say that its solver is called."""
    found = {_named_by_card(folder / str(number), folder.name) for number in versions(folder)}
    return found.pop() if len(found) == 1 else None


def _named_by_card(version: pathlib.Path, slug: str) -> str | None:
    try:
        card = json.loads((version / CARD).read_text(encoding="utf-8"))
        if "names" in card:
            name = card["names"][slug]
        else:
            # The zoo's first exports, whose blocks run from 0 to 1.
            name = solver_name(solvers.deserialize(card["solvers"][slug]))
    except (KeyError, OSError, RecursionError, TypeError, ValueError):
        # What is wrong with a card is told where its verdict is read.
        return None
    return name if isinstance(name, str) and re.fullmatch("[A-Za-z0-9_.-]+", name) else None


# === TensorFlow Serving's configuration ===
def write_models_config(
    repository: PathLike, mount: str | pathlib.PurePosixPath | None = None
) -> pathlib.Path:
    """Writes `models.config` for every SavedModel below a directory.

    A model is named by its directories: `mnist/rk4_h0p0625/1` below `saved_models` is version 1
    of `mnist_rk4_h0p0625`, and so is `rk4_h0p0625/1` below `saved_models/mnist`. It is listed by
    the name of its solver, too, as `mnist_rk4_16_steps`, if the cards of its versions agree on that
    and nothing else has it. Every version is served: a directory that is named by a positive
    integer, has a complete SavedModel, and no file `withdrawn`. The latest has the label `canary`,
    and the latest whose validity card calls it valid has the label `stable`; a model without a
    valid version has no such label. A card that is not as it was written is not trusted, and there
    is a warning.

    Examples:

    >>> write_models_config("empty_repository")
    Traceback (most recent call last):
        ...
    ValueError: A model repository holds `<model>/<version>/saved_model.pb`. Received:
    repository='empty_repository', without any. Export a model with `export_saved_models`.

    Args:
        repository: Path of the directory that TensorFlow Serving will see as `mount`.
        mount: String, the absolute path of the repository on the server. If `None`, that of the
            file that is there, and `/models` for a first one.

    Returns:
        Path of the file.

    Raises:
        ValueError: If there is no SavedModel below the directory, if two would have the same
            name, if `mount` is not absolute, or if a path is not UTF-8.
        TimeoutError: If another process writes to the directory for too long.
    """
    repository = arguments.path("repository", repository).resolve()
    if mount is not None:
        arguments.path("mount", mount)
        mount = pathlib.PurePosixPath(mount)
        check_path(mount)
        if not mount.is_absolute():
            raise ValueError(
                "TensorFlow Serving finds models by absolute paths. "
                f"Received: mount={str(mount)!r}. The first one is '/models' if it is left out."
            )
    if not repository.is_dir():
        raise _nothing_in(repository)
    path = repository / MODELS_CONFIG
    # Else of two who list at once the one that read first could write last.
    with files.locked(repository / LOCK):
        files.write_text(path, _config(repository, mount or _mount_of(path)))
    return path


def _mount_of(config: pathlib.Path) -> pathlib.PurePosixPath:
    """Where the server finds the repository, by a file that was written before."""
    try:
        first = config.read_text(encoding="utf-8").partition("\n")[0]
        found = json.loads(first.removeprefix(_MOUNTED))
    except (FileNotFoundError, ValueError):
        return _DEFAULT_MOUNT
    return pathlib.PurePosixPath(found) if isinstance(found, str) else _DEFAULT_MOUNT


def check_path(path: PathLike) -> None:
    """Raises if a path cannot be told to TensorFlow Serving."""
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            "TensorFlow and `models.config` take paths in UTF-8. "
            f"Received: {str(path)!r}, whose bytes are not. Rename the directory."
        ) from error


def _config(repository: pathlib.Path, mount: pathlib.PurePosixPath) -> str:
    """The text of `models.config`."""
    folders: dict[str, pathlib.Path] = {}
    for folder in _model_folders(repository):
        parts = folder.relative_to(repository).parts
        name = "_".join(parts if len(parts) > 1 else (repository.name, *parts))
        if name in folders:
            raise ValueError(
                "A model is named by its directories, joined by underscores. "
                f"Received: name={name!r} of {str(folder)!r} and of {str(folders[name])!r}. "
                "Rename one of the directories."
            )
        folders[name] = folder
    if not folders:
        raise _nothing_in(repository)
    readable = _readable_names(folders)
    entries = [
        entry
        for name, folder in folders.items()
        for entry in _entries(
            [readable[name], name] if name in readable else [name],
            mount / folder.relative_to(repository).as_posix(),
            folder,
        )
    ]
    return f"{_MOUNTED}{_quoted(str(mount))}\nmodel_config_list {{\n{''.join(entries)}}}\n"


def _nothing_in(repository: pathlib.Path) -> ValueError:
    return ValueError(
        "A model repository holds `<model>/<version>/saved_model.pb`. "
        f"Received: repository={repository.name!r}, without any. Export a model with "
        "`export_saved_models`."
    )


def _model_folders(repository: pathlib.Path) -> list[pathlib.Path]:
    """The directories with versions; names of those still being written start with a dot."""
    paths = [path.relative_to(repository) for path in repository.rglob("saved_model.pb")]
    # At least <model>/<version>/saved_model.pb.
    folders = {path.parent.parent for path in paths if len(path.parts) > 2}
    found = [
        repository / folder
        for folder in sorted(folders)
        if not any(part.startswith(".") for part in folder.parts)
    ]
    for folder in found:
        # TensorFlow could not open it to see whether it is complete.
        check_path(folder)
    return [folder for folder in found if versions(folder)]


def _entries(
    names: Iterable[str], base_path: pathlib.PurePosixPath, folder: pathlib.Path
) -> list[str]:
    """The entries of a directory under each of its names."""
    served = versions(folder)
    valid = [number for number in served if is_valid(folder / str(number))]
    labels = {"stable": valid[-1]} if valid else {}
    labels["canary"] = served[-1]
    lines = [
        f"base_path: {_quoted(str(base_path))}",
        'model_platform: "tensorflow"',
        f"model_version_policy {{ {_policy(folder, served)} }}",
        *(f'version_labels {{ key: "{key}" value: {value} }}' for key, value in labels.items()),
    ]
    return [
        "  config {\n"
        + "".join(f"    {line}\n" for line in [f"name: {_quoted(name)}", *lines])
        + "  }\n"
        for name in names
    ]


def _policy(folder: pathlib.Path, served: list[int]) -> str:
    if served == _complete(folder):
        # So that the next one is loaded before the list is read again.
        return "all {}"
    return f"specific {{ {' '.join(f'versions: {number}' for number in served)} }}"


def _quoted(text: str) -> str:
    # JSON has the same escapes as text protocol buffers.
    return json.dumps(text, ensure_ascii=False)
