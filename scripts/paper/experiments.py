"""One training run of the paper, from a seed to a dictionary of results."""

import dataclasses
import logging
import os
import pathlib
import platform
import time
from collections.abc import Callable
from typing import Any

import keras

import tfnode
import tfnode.versions
import zoo
from scripts import machine
from scripts.paper import checkpoints, compiled_training, convolutions, data, measurements
from scripts.paper.runs import Result, Run, Solver

# XLA pays for dense fields; for convolutions TensorFlow's own kernels are faster.
_COMPILED = ("energy_landscape",)

# oneDNN's dispatch costs more than it gives on the tiny convolutions of the spheres.
ENVIRONMENT = {"TF_ENABLE_ONEDNN_OPTS": "0"}


def train(
    run: Run, report: Callable[[float], object], directory: pathlib.Path | None = None
) -> Result:
    """Trains one run and returns its results as plain values; see `fit`."""
    return fit(run, report, directory)[1]


def fit(
    run: Run,
    report: Callable[[float], object],
    directory: pathlib.Path | None = None,
    ends_at: float | None = None,
) -> tuple[keras.Model, Result]:
    """Trains one run; returns the model and its results as plain values.

    Args:
        run: What to train.
        report: Is told the finished fraction of the training.
        directory: Where checkpoints lie. A training that was interrupted is taken up from the last
            of them, to the same model and results; only the rounding of `loss` may differ, and
            `seconds`, which leaves out what was lost. If a part of it ran elsewhere, or by another
            commit, `earlier` says where.
        ends_at: The `time.time()` from which on it leaves a checkpoint and ends.

    Raises:
        ValueError: If the checkpoint is of another run, or of other versions.
        checkpoints.OutOfTime: At `ends_at`.
    """
    start = time.perf_counter()
    # Each run compiles models of its own, which TensorFlow takes for needless retracing.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    keras.backend.clear_session()
    keras.utils.set_random_seed(run.seed)
    origin = {"run": dataclasses.asdict(run), **provenance()}
    found = checkpoints.load(directory, origin) if directory else None
    model, states, begun = found or (compiled(run), {}, origin)
    if earlier := _earlier(begun, origin):
        origin["earlier"] = earlier
    test = _measured_on(run, "test")
    callbacks = {"curve": measurements.TestCurve(test, run.iterations, report)}
    if run.adapts:
        callbacks = {"step_adaption": _step_adaption(run), **callbacks}
    for name, state in states.items():
        callbacks[name].set_state(state)
    every = list(callbacks.values())
    if directory:
        every.append(checkpoints.Checkpoint(directory, origin, callbacks, ends_at))
    try:
        _train(model, run, every)
    except _failures() as error:
        return model, {**origin, "error": str(error)}
    model = _in_float32(model, run)
    result = {**origin, **_measured(run, model, test, **callbacks)}
    before = callbacks["curve"].before["seconds"]
    return model, {**result, "seconds": round(before + time.perf_counter() - start, 1)}


def _earlier(begun: Result, origin: Result) -> list[Result]:
    """Where else the parts of a training ran that goes on here, each as `provenance` has it."""
    here = {name: origin[name] for name in provenance()}
    before = {name: begun.get(name, "unknown") for name in here}
    parts = [*begun.get("earlier", ()), before]
    return [part for i, part in enumerate(parts) if part != here and part not in parts[:i]]


def _failures() -> tuple[type[Exception], ...]:
    """What a training raises that diverges."""
    if keras.backend.backend() != "tensorflow":
        return (FloatingPointError,)
    import tensorflow as tf

    return (FloatingPointError, tf.errors.InvalidArgumentError)


def _in_float32(model: keras.Model, run: Run) -> keras.Model:
    """The trained model to measure: itself, or in float32 with its weights and its solver."""
    if run.dtype == "float32":
        return model
    measured = _built(run, model.get_layer("ode_block").solver, "float32")
    measured.compile(loss=model.loss)
    for ours, theirs in zip(measured.trainable_weights, model.trainable_weights, strict=True):
        ours.assign(theirs)
    return measured


def _measured(
    run: Run,
    model: keras.Model,
    test: data.Data,
    curve: measurements.TestCurve,
    step_adaption: tfnode.StepAdaption | tfnode.ToleranceAdaption | None = None,
) -> Result:
    """What a training gave, from the trained model and from the callbacks."""
    found = measurements.final_accuracies(model, test, _to_choose_by(run), run.rk4_steps)
    result = {"loss": curve.loss, **found}
    result["sweep"] = measurements.sweep(model, test)
    result["test_curve"] = measurements.columns(curve.records)
    if run.paths:
        result["paths"] = measurements.paths(model, test[0])
    if step_adaption is not None:
        result["nfe_per_iteration"] = step_adaption.nfe_per_iteration
        result["nfe_per_iteration_with_checks"] = step_adaption.nfe_per_iteration_with_checks
        result["history"] = measurements.history(step_adaption.history)
    return result


def _train(model: keras.Model, run: Run, callbacks: list[keras.callbacks.Callback]) -> None:
    done = int(keras.ops.convert_to_numpy(model.optimizer.iterations))
    if done >= run.iterations:
        # Its last checkpoint may be of before the moving average took the place of the weights.
        model.optimizer.finalize_variable_values(model.trainable_variables)
        return
    batches = _batches(run, run.seed)
    if keras.backend.backend() == "jax":
        compiled_training.train(model, batches, run.iterations, callbacks, run.iterations_at_once)
        return
    left = run.iterations - done
    if isinstance(batches, data.Batches):
        batches = batches.starting_at(done)
    else:
        batches = batches.repeat().skip(done).take(left)
    model.fit(batches, steps_per_epoch=left, shuffle=False, callbacks=callbacks, verbose=0)


def _step_adaption(run: Run) -> tfnode.StepAdaption | tfnode.ToleranceAdaption:
    # Batches of their own: two iterators over one shuffled dataset race for random numbers.
    batches = _batches(run, run.seed + 1000, run.check_samples, run.check_split)
    if run.policy == "tolerance":
        return tfnode.ToleranceAdaption(batches, run.check_every)
    start = 1 / run.start_steps if run.start_steps else "auto"
    return tfnode.StepAdaption(batches, run.check_every, run.rule(), initial_step_size=start)


def compiled(run: Run) -> keras.Model:
    """Returns the model of a run as its training begins."""
    recipe = run.recipe()
    optimizer = recipe.build_optimizer()
    if run.average is not None:
        optimizer.use_ema, optimizer.ema_momentum = True, run.average
    model = _built(run, run.start_solver(), run.dtype)
    by_xla = run.model in _COMPILED and run.tolerance is None and run.policy != "tolerance"
    model.compile(
        optimizer,
        recipe.build_loss(),
        jit_compile=by_xla or keras.backend.backend() == "jax",
        steps_per_execution=run.iterations_at_once,
    )
    # Variables that are made while TensorFlow traces have it trace once more.
    model.optimizer.build(model.trainable_variables)
    return model


def _built(run: Run, solver: Solver, dtype: str) -> keras.Model:
    """The model of a run with a solver and in a dtype, not compiled."""
    model = zoo.get_model(run.model, run.weights, solver, dtype=dtype, seed=run.seed)
    if changes := _changes(run, model.get_layer("ode_block")):
        model = _with_block(model, changes)
    model.get_layer("ode_block").gradient = run.gradient
    return model


def _changes(run: Run, block: tfnode.ODEBlock) -> dict[str, Any]:
    """What the block of a run has in place of the zoo's, by the names of its arguments."""
    changes: dict[str, Any] = {}
    regularization = run.regularization()
    if run.t1 != 1 or regularization.has_penalty or regularization.is_random:
        changes = {"t1": run.t1, "regularization": regularization}
    if keras.backend.backend() == "jax" and run.model.startswith("concentric_spheres"):
        field = convolutions.as_products(block.field)
        changes["field"] = keras.saving.serialize_keras_object(field)
    return changes


def _with_block(model: keras.Model, changes: dict[str, Any]) -> keras.Model:
    """The same model with other arguments of its ODE block."""

    def copied(layer: keras.Layer) -> keras.Layer:
        is_block = isinstance(layer, tfnode.ODEBlock)
        return type(layer).from_config(layer.get_config() | (changes if is_block else {}))

    changed = keras.models.clone_model(model, clone_function=copied)
    changed.set_weights(model.get_weights())
    return changed


def _batches(run: Run, seed: int, batch_size: int | None = None, split: str = "train") -> Any:
    """The batches of a split, shuffled by a seed: as a `tf.data.Dataset` where that is enough."""
    recipe = run.recipe()
    batch_size = batch_size or recipe.batch_size
    if keras.backend.backend() == "tensorflow" and not recipe.augment:
        batches = tfnode.datasets.load(recipe.dataset, split, batch_size, seed=seed)
        return batches if run.scale == 1 else batches.map(lambda x, y: (run.scale * x, y))
    return data.Batches(_loaded(run, split), batch_size, seed, recipe.augment)


def _measured_on(run: Run, split: str) -> data.Data:
    x, y = _loaded(run, split)
    return x[: run.test_samples], y[: run.test_samples]


def _to_choose_by(run: Run) -> data.Data:
    """What runs are chosen by, which is not the test set."""
    split, samples = data.to_choose_by(run.recipe().dataset)
    x, y = _measured_on(run, split)
    return x[:samples], y[:samples]


def _loaded(run: Run, split: str) -> data.Data:
    x, y = data.load(run.recipe().dataset, split)
    # Images are not copied for nothing.
    return (x if run.scale == 1 else run.scale * x), y


def provenance() -> dict[str, Any]:
    """What a run says of the code and the machine that it comes from."""
    return {
        "versions": versions(),
        "backend": keras.backend.backend(),
        "device": _device(),
        "commit": machine.commit(),
    }


def versions() -> dict[str, str]:
    """The versions that a result depends on, and the machine."""
    return {
        **tfnode.versions.of(keras.backend.backend(), "keras", "numpy", "tfnode"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def _device() -> str:
    """The name of what JAX computes on, else of the processor."""
    if keras.backend.backend() == "jax":
        import jax

        if jax.default_backend() != "cpu":
            return jax.devices()[0].device_kind
    return machine.processor()
