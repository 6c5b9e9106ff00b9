"""What comes back of the runs: one archive a model, and what is unpacked from it here."""

import pathlib
import re
import shutil
import zipfile
from collections.abc import Sequence

from scripts.paper import runner
from scripts.paper.runs import REPORT, WEIGHTS, Run
from tfnode import files

_DEFLATED = zipfile.ZIP_DEFLATED
# What an archive may hold.
_RESULT = re.compile(r"[\w-]+/[\w.-]+(\.json|\.weights\.h5)")
_CHECKPOINT = re.compile(r"[\w-]+/[\w.-]+/iteration_\d+/(model\.keras|states\.json)")


def pack_results(work: pathlib.Path, out: pathlib.Path) -> None:
    """Writes all finished runs of each model into an archive, which is whole at any time.

    Those of an earlier session lie in `work` as well, whatever this one trains.
    """
    of_model: dict[str, list[pathlib.Path]] = {}
    for path in _matching(_RESULT, work):
        if _result_of(path).exists():
            of_model.setdefault(path.parent.name, []).append(path)
    for model, paths in of_model.items():
        _pack(out / f"{model}.zip", work, paths)


def pack_checkpoints(work: pathlib.Path, out: pathlib.Path) -> None:
    """Writes the checkpoints of all runs that are not finished into one archive, if there are."""
    archive = out / "checkpoints.zip"
    found = _matching(_CHECKPOINT, work)
    # Of model/run/iteration/file the second is called after the result.
    pending = [path for path in found if not _result_of(path.parents[1]).exists()]
    if pending:
        _pack(archive, work, pending)
    else:
        archive.unlink(missing_ok=True)


def _matching(pattern: re.Pattern[str], root: pathlib.Path) -> list[pathlib.Path]:
    """The files below a directory whose relative paths match."""
    return [
        path
        for path in sorted(root.rglob("*"))
        if path.is_file() and pattern.fullmatch(path.relative_to(root).as_posix())
    ]


def _result_of(path: pathlib.Path) -> pathlib.Path:
    """Where the result lies of the run that a file or a directory of checkpoints belongs to."""
    for ending in (WEIGHTS, REPORT, ".json"):
        if path.name.endswith(ending):
            return path.with_name(path.name.removesuffix(ending) + ".json")
    return path.with_name(f"{path.name}.json")


def _pack(archive: pathlib.Path, root: pathlib.Path, paths: Sequence[pathlib.Path]) -> None:
    with files.beside(archive) as written, zipfile.ZipFile(written, "w", _DEFLATED) as content:
        for path in paths:
            content.write(path, path.relative_to(root))


def unpack(
    directory: pathlib.Path, runs: pathlib.Path, weights: pathlib.Path, checkpoints: pathlib.Path
) -> list[pathlib.Path]:
    """Puts what came back where the other commands look for it; returns the new paths.

    Args:
        directory: Where the archives lie.
        runs: For the results; one that is there stays.
        weights: For the weights and the verdicts, likewise.
        checkpoints: For those of trainings that have not ended.

    Raises:
        ValueError: If an archive holds anything else.
    """
    new = []
    for archive in sorted(directory.glob("*.zip")):
        is_results = archive.name != "checkpoints.zip"
        with zipfile.ZipFile(archive) as content:
            for name in content.namelist():
                if not (_RESULT if is_results else _CHECKPOINT).fullmatch(name):
                    raise ValueError(
                        "An archive must hold results, weights or checkpoints of runs. "
                        f"Received: {str(archive)!r} with {name!r}. Is it of this command?"
                    )
            write = _unpack_results if is_results else _unpack_checkpoints
            new += write(content, *((runs, weights) if is_results else (checkpoints,)))
    return new


def _unpack_results(
    content: zipfile.ZipFile, runs: pathlib.Path, weights: pathlib.Path
) -> list[pathlib.Path]:
    new = []
    for name in content.namelist():
        target = (weights if name.endswith((WEIGHTS, REPORT)) else runs) / name
        if not target.exists():
            with files.beside(target) as written:
                written.write_bytes(content.read(name))
            new.append(target)
    return new


def _unpack_checkpoints(content: zipfile.ZipFile, root: pathlib.Path) -> list[pathlib.Path]:
    """Each at once with all its files: half of one would be taken for a whole one."""
    new = []
    of_checkpoint: dict[pathlib.Path, list[str]] = {}
    for name in content.namelist():
        of_checkpoint.setdefault((root / name).parent, []).append(name)
    for target, names in of_checkpoint.items():
        if not target.exists():
            with files.beside(target) as written:
                written.mkdir()
                for name in names:
                    (written / pathlib.PurePosixPath(name).name).write_bytes(content.read(name))
            new += [root / name for name in names]
    return new


def copy_checkpoints(source: pathlib.Path, work: pathlib.Path, runs: Sequence[Run]) -> None:
    """Takes up the checkpoints of runs that another session, here or elsewhere, has left."""
    for run in runs:
        there, here = runner.checkpoints_path(source, run), runner.checkpoints_path(work, run)
        if there.is_dir() and not here.exists():
            shutil.copytree(there, here)
