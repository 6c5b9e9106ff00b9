"""What runs in the process that holds the GPU."""

import pathlib
import time

from scripts.paper import checkpoints, experiments, measurements, runner
from scripts.paper.runs import Run
from scripts.publishing import measuring
from tfnode import files


def train(run: Run, work: pathlib.Path, ends_at: float) -> str:
    """Trains a run, and writes its result, weights and, of an adapted one, verdict below `work`.

    Args:
        run: What to train.
        work: A directory.
        ends_at: The `time.time()` from which on it leaves a checkpoint instead.

    Returns:
        What has become of it, in a few words.
    """
    progress = runner.progress_file(work, run)
    progress.parent.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    directory = runner.checkpoints_path(work, run)
    try:
        model, result = experiments.fit(
            run, lambda finished: files.note(progress, f"{finished:.3f}"), directory, ends_at
        )
    except checkpoints.OutOfTime as stop:
        return f"out of time, {stop}"
    if "error" not in result:
        with files.beside(work / run.weights_path) as written:
            model.save_weights(written)
    files.write_json(work / run.path, result)
    if run.adapts and "error" not in result:
        # Last: if the time is over, the result is there all the same.
        with measurements.full_precision():
            dataset, extent = run.recipe().dataset, (run.rk4_steps, run.test_samples)
            report = measuring.judge(model, dataset, *extent, verbose=0)
        files.write_text(work / run.report_path, report.to_json() + "\n")
    accuracy = result.get("accuracy", result.get("error"))
    return f"finished in {time.perf_counter() - start:.1f} s: {accuracy}"
