"""One training run of the paper, from a seed to a dictionary of results."""

import dataclasses
import logging
import os
import pathlib
import platform
import time
from collections.abc import Callable

import keras
import tensorflow as tf

import tfnode
import tfnode.versions
import zoo
from scripts.paper import checkpoints, measurements
from scripts.paper.runs import Result, Run

# XLA pays for dense fields; for convolutions TensorFlow's own kernels are faster.
_COMPILED = ("energy_landscape",)

# oneDNN's dispatch costs more than it gives on the tiny convolutions of the spheres.
ENVIRONMENT = {"TF_ENABLE_ONEDNN_OPTS": "0"}


def train(run: Run, report: Callable[[float], object]) -> Result:
    """Trains one run and returns its results as plain values.

    Args:
        run: What to train.
        report: Is told the finished fraction of the training.
    """
    return fit(run, report)[1]


def fit(
    run: Run, report: Callable[[float], object], directory: pathlib.Path | None = None
) -> tuple[keras.Model, Result]:
    """Trains one run; returns the model and its results as plain values.

    Args:
        run: What to train.
        report: Is told the finished fraction of the training.
        directory: Where checkpoints lie. A training that was interrupted is taken up from the last
            of them, to the same model and results; only the rounding of `loss` may differ, and
            `seconds`, which leaves out what was lost.

    Raises:
        ValueError: If the checkpoint is of another run, or of other versions.
    """
    start = time.perf_counter()
    # Each run compiles models of its own, which TensorFlow takes for needless retracing.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    keras.backend.clear_session()
    keras.utils.set_random_seed(run.seed)
    origin = {"run": dataclasses.asdict(run), "versions": versions()}
    found = checkpoints.load(directory, origin) if directory else None
    model, states = found or (_compiled(run), {})
    test = _test_data(run)
    callbacks = {"curve": measurements.TestCurve(test, run.iterations, report)}
    if run.adapts:
        callbacks = {"step_adaption": _step_adaption(run), **callbacks}
    for name, state in states.items():
        callbacks[name].set_state(state)
    every = list(callbacks.values())
    if directory:
        every.append(checkpoints.Checkpoint(directory, origin, callbacks))
    try:
        _train(model, run, every)
    except (FloatingPointError, tf.errors.InvalidArgumentError) as error:
        return model, {**origin, "error": str(error)}
    result = {**origin, **_measured(run, model, test, **callbacks)}
    before = callbacks["curve"].before["seconds"]
    return model, {**result, "seconds": round(before + time.perf_counter() - start, 1)}


def _measured(
    run: Run,
    model: keras.Model,
    test: measurements.Data,
    curve: measurements.TestCurve,
    step_adaption: tfnode.StepAdaption | None = None,
) -> Result:
    """What a training gave, from the trained model and from the callbacks."""
    result = {"loss": curve.loss, **measurements.final_accuracies(model, test, run.rk4_steps)}
    result["sweep"] = measurements.sweep(model, test)
    result["test_curve"] = measurements.columns(curve.records)
    if run.paths:
        result["paths"] = measurements.paths(model, test[0])
    if step_adaption is not None:
        result["nfe_per_iteration"] = step_adaption.nfe_per_iteration
        result["nfe_per_iteration_with_checks"] = step_adaption.nfe_per_iteration_with_checks
        result["history"] = measurements.columns(step_adaption.history)
    return result


def _train(model: keras.Model, run: Run, callbacks: list[keras.callbacks.Callback]) -> None:
    done = int(model.optimizer.iterations)
    if done < run.iterations:
        data = _train_data(run, run.seed).repeat().skip(done).take(run.iterations - done)
        model.fit(data, shuffle=False, callbacks=callbacks, verbose=0)


def _step_adaption(run: Run) -> tfnode.StepAdaption:
    # A dataset of its own: two iterators over one shuffled dataset race for random numbers.
    data = _train_data(run, run.seed + 1000, run.check_samples)
    start = 1 / run.start_steps if run.start_steps else "auto"
    return tfnode.StepAdaption(data, run.check_every, run.policy, initial_step_size=start)


def _compiled(run: Run) -> keras.Model:
    recipe = run.recipe()
    optimizer = recipe.build_optimizer()
    if run.average is not None:
        optimizer.use_ema, optimizer.ema_momentum = True, run.average
    model = zoo.get_model(run.model, run.weights, run.start_solver())
    model.get_layer("ode_block").gradient = run.gradient
    model.compile(
        optimizer,
        recipe.build_loss(),
        metrics=["accuracy"],
        jit_compile=run.model in _COMPILED and run.tolerance is None,
        steps_per_execution=50,
    )
    return model


def _train_data(run: Run, seed: int, batch_size: int | None = None) -> tf.data.Dataset:
    recipe = run.recipe()
    batch_size = batch_size or recipe.batch_size
    return tfnode.datasets.load(recipe.dataset, "train", batch_size, seed=seed)


def _test_data(run: Run) -> measurements.Data:
    x, y = tfnode.datasets.load(zoo.get_recipe(run.model).dataset, "test", as_numpy=True)
    return x[: run.test_samples], y[: run.test_samples]


def versions() -> dict[str, str]:
    """The versions that a result depends on, and the machine."""
    return {
        **tfnode.versions.of("tensorflow", "keras", "numpy", "tfnode"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }
