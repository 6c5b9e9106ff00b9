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


def pack_results(work: pathlib.Path, out: pathlib.Path, runs: Sequence[Run]) -> None:
    """Writes the finished runs of each model into an archive, which is whole at any time."""
    for model in dict.fromkeys(run.model for run in runs):
        finished = [run for run in runs if run.model == model and (work / run.path).exists()]
        names = [name for run in finished for name in (run.path, run.weights_path, run.report_path)]
        paths = [work / name for name in names]
        _pack(out / f"{model}.zip", work, [path for path in paths if path.exists()])


def pack_checkpoints(work: pathlib.Path, out: pathlib.Path, runs: Sequence[Run]) -> None:
    """Writes the checkpoints of the runs that are not finished into one archive."""
    pending = [run for run in runs if not (work / run.path).exists()]
    paths = [
        path
        for run in pending
        for path in sorted(runner.checkpoints_path(work, run).rglob("*"))
        if path.is_file()
    ]
    _pack(out / "checkpoints.zip", work, paths)


def _pack(archive: pathlib.Path, root: pathlib.Path, paths: Sequence[pathlib.Path]) -> None:
    if not paths:
        archive.unlink(missing_ok=True)
        return
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
                beside = name.endswith((WEIGHTS, REPORT))
                root = (weights if beside else runs) if is_results else checkpoints
                target = root / name
                if target.exists():
                    continue
                with files.beside(target) as written:
                    written.write_bytes(content.read(name))
                new.append(target)
    return new


def copy_checkpoints(source: pathlib.Path, work: pathlib.Path, runs: Sequence[Run]) -> None:
    """Takes up the checkpoints of runs that another session, here or elsewhere, has left."""
    for run in runs:
        there, here = runner.checkpoints_path(source, run), runner.checkpoints_path(work, run)
        if there.is_dir() and not here.exists():
            shutil.copytree(there, here)
