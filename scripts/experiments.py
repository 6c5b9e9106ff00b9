"""One training run of the paper, from a seed to a dictionary of results."""

import dataclasses
import logging
import os
import platform
import time

import checkpoints
import keras
import measurements
import tensorflow as tf

import tfnode
import tfnode.versions
import zoo

# XLA pays for dense fields; for convolutions TensorFlow's own kernels are faster.
_COMPILED = ("energy_landscape",)

# oneDNN's dispatch costs more than it gives on the tiny convolutions of the spheres.
ENVIRONMENT = {"TF_ENABLE_ONEDNN_OPTS": "0"}


def train(run, report):
    """Trains one run and returns its results as plain values.

    Args:
        run: `runs.Run`.
        report: Callable that is told the finished fraction of the training.
    """
    return fit(run, report)[1]


def fit(run, report, directory=None):
    """Trains one run; returns the model and its results as plain values.

    Args:
        run: `runs.Run`.
        report: Callable that is told the finished fraction of the training.
        directory: Optional `pathlib.Path` of checkpoints. A training that was interrupted is taken
            up from the last of them, to the same model and results; only the rounding of `loss` may
            differ, and `seconds`, which leaves out what was lost.

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
    step_adaption, curve = callbacks.get("step_adaption"), callbacks["curve"]
    result = {**origin, "loss": curve.loss}
    result |= measurements.final_accuracies(model, test, run.rk4_steps)
    result["sweep"] = measurements.sweep(model, test)
    result["test_curve"] = measurements.columns(curve.records)
    if run.paths:
        result["paths"] = measurements.paths(model, test[0])
    if step_adaption is not None:
        result["nfe_per_iteration"] = step_adaption.nfe_per_iteration
        result["nfe_per_iteration_with_checks"] = step_adaption.nfe_per_iteration_with_checks
        result["history"] = measurements.columns(step_adaption.history)
    result["seconds"] = round(curve.before["seconds"] + time.perf_counter() - start, 1)
    return model, result


def _train(model, run, callbacks):
    done = int(model.optimizer.iterations)
    if done < run.iterations:
        data = _train_data(run, run.seed).repeat().skip(done).take(run.iterations - done)
        model.fit(data, shuffle=False, callbacks=callbacks, verbose=0)


def _step_adaption(run):
    # A dataset of its own: two iterators over one shuffled dataset race for random numbers.
    data = _train_data(run, run.seed + 1000, run.check_samples)
    start = 1 / run.start_steps if run.start_steps else "auto"
    return tfnode.StepAdaption(data, run.check_every, run.policy, initial_step_size=start)


def _compiled(run):
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


def _train_data(run, seed, batch_size=None):
    recipe = run.recipe()
    batch_size = batch_size or recipe.batch_size
    return tfnode.datasets.load(recipe.dataset, "train", batch_size, seed=seed)


def _test_data(run):
    x, y = tfnode.datasets.load(zoo.get_recipe(run.model).dataset, "test", as_numpy=True)
    return x[: run.test_samples], y[: run.test_samples]


def versions():
    """The versions that a result depends on, and the machine."""
    return {
        **tfnode.versions.of("tensorflow", "keras", "numpy", "tfnode"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }
