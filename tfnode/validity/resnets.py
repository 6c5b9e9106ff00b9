"""The verdict on residual layers: the steps of an ODE between them, or layers on their own."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from tfnode import batches, solvers
from tfnode.models import digest
from tfnode.models.judge import checked_metric, checked_task, root_mean_square
from tfnode.models.outputs import loss_of
from tfnode.models.residual import ResidualModel, Stage, check_names, residual_model
from tfnode.typing import Data, Metric
from tfnode.validity.evaluation import Samples, check_built
from tfnode.validity.resnet_report import ResNetReport, ResNetStage
from tfnode.validity.trials import fine_step_size
from tfnode.validity.verdict import check, checked_settings

# Enough for means over all features; the states of every layer are kept.
_NUM_SAMPLES = 64


def check_resnet(
    model: keras.Model,
    data: Data,
    states: Sequence[str] | None = None,
    threshold: float = 0.02,
    task: str | None = None,
    metric: Metric | None = None,
    reference_steps: int = 16,
    verbose: int | str = "auto",
) -> ResNetReport:
    """Judges whether the residual layers of a model are steps of an ODE.

    A residual layer `x -> x + f_k(x)` looks like a step of Euler's method, which does not make a
    model an ODE: any weights fit it. Sander et al. (2022), *Do residual neural networks discretize
    neural ordinary differential equations?*, take the ODE whose field is `f_k` at time k, with
    something smooth between the layers, and show that the layers are near it where the `f_k` change
    little from one to the next, by the order of 1 over the depth. Queiruga et al. (2020),
    *Continuous-in-depth neural networks*, change the depth and the solver, and look at whether the
    accuracy stays.

    Both are measured here. Weights are interpolated between the layers, and an `ODEBlock` with that
    field takes the place of each run of layers of one form. Under Euler's method with step 1 it is
    the model itself, with step 2 the model at half its depth, with step 1/2 at twice its depth. So
    `check` can judge it: **the layers are steps of an ODE if no solver with an equal or smaller
    error changes the accuracy by more than `threshold`**, twice the depth and fine RK4 among them.
    For each run of layers, `ResNetStage` says how smooth it is and how far the ODE is.

    Normalization is taken as in inference, and what lies before, between and behind the residual
    layers is left as it is: layers that change the shape, and those that stand alone.

    Examples:

    Layers that add a tenth of the state are steps of `dz/dt = z / 10`, near `exp(4 / 10)`:

    >>> x = inputs = keras.Input((1,))
    >>> for _ in range(4):
    ...     branch = keras.layers.Dense(1, kernel_initializer=keras.initializers.Constant(0.1))
    ...     x = keras.layers.Add()([x, branch(x)])
    >>> data = np.ones((2, 1)), np.ones((2, 1))
    >>> model = keras.Model(inputs, x)
    >>> report = check_resnet(model, data, task="regression", reference_steps=2)
    >>> report.stages[0].depth, report.stages[0].weight_changes
    (4, (0.0, 0.0, 0.0))
    >>> report.is_ode, round(report.gap, 4), round(float(np.exp(0.4) / 1.1**4 - 1), 4)
    (True, 0.0189, 0.0189)

    Args:
        model: Functional or `Sequential` Keras model, such as those of `keras.applications`; models
            inside it are opened. It needs no `ODEBlock`.
        data: Batches `(inputs, labels)` or a tuple of arrays `(x, y)`, as for `sweep`. The
            distances and the changes of outputs are those of up to 64 samples of the first batch.
        states: Names of the layers whose outputs are the states between the residual layers, from
            the input of the first on. None to look for them: sums of a tensor and a branch that
            starts from it, with the activation behind them if the next layer starts from that.
        threshold: Float, the largest gap that an ODE may have, as for `check`.
        task: `"classification"`, `"regression"`, or None to infer it as `sweep` does.
        metric: Optional Keras metric, its name, or a function, as for `check`.
        reference_steps: Integer, the fewest steps of RK4 in place of the ODE's exact solution, for
            each run of layers; two for each layer at least.
        verbose: 0, 1 for a progress bar, or `"auto"` for one if it takes long.

    Returns:
        `ResNetReport`.

    Raises:
        ValueError: If the model has no graph, or no two residual layers of one form that follow
            each other, if something leads around them, if `states` are not names of its layers, or
            for the reasons of `check`.
    """
    threshold, reference_steps, verbose = checked_settings(threshold, reference_steps, verbose)
    task, metric = checked_task(task), checked_metric(metric)
    check_names(states)
    batches.check_data(data)
    check_built(model)
    found = residual_model(model, states)
    if loss_of(model) is not None:
        found.model.compile(loss=loss_of(model))
    samples = Samples(data)
    # First, as it refuses what cannot be judged.
    verdict = check(found.model, samples, threshold, task, metric, reference_steps, verbose)
    stages = _stages(found, samples.first_inputs, reference_steps)
    verdict = dataclasses.replace(verdict, digest=digest(model))
    return ResNetReport(verdict.is_ode, verdict.gap, verdict.threshold, stages, verdict)


def _stages(found: ResidualModel, inputs: Any, reference_steps: int) -> tuple[ResNetStage, ...]:
    """What is measured of each stage, on some of the samples of a batch."""
    few = keras.tree.map_structure(lambda x: x[:_NUM_SAMPLES], inputs)
    pairs = zip(found.stages, keras.tree.flatten(found.entry(few, training=False)))
    return tuple(_measured(stage, z, reference_steps) for stage, z in pairs)


def _measured(stage: Stage, z: Any, reference_steps: int) -> ResNetStage:
    depth = len(stage.layers)
    # As the finest RK4 of the verdict; the states are those behind every layer, a step of 1.
    fine = solvers.RK4(fine_step_size(depth, 1.0, reference_steps))
    layers, flow = (_states(stage, solver, z) for solver in (stage.block.solver, fine))
    residuals = np.diff(layers, axis=0)
    way = root_mean_square(layers[-1] - layers[0])
    with np.errstate(divide="ignore", invalid="ignore"):
        distances = [float(np.divide(root_mean_square(d), way)) for d in (flow - layers)[1:]]
    weight_changes = _changes([_weights(layer) for layer in stage.layers])
    residual_changes = _changes(list(residuals))
    return ResNetStage(
        start=stage.names[0],
        end=stage.names[-1],
        depth=depth,
        weight_changes=weight_changes,
        residual_changes=residual_changes,
        weight_rate=depth * float(np.mean(weight_changes)),
        residual_rate=depth * float(np.mean(residual_changes)),
        distances=tuple(distances),
    )


def _states(stage: Stage, solver: solvers.FixedStepSolver, z: Any) -> np.ndarray:
    """The states before and behind all layers, `(depth + 1, num_samples, ...)`."""
    block = stage.block.with_solver(solver, range(1, len(stage.layers) + 1))
    states = np.moveaxis(ops.convert_to_numpy(block(z)), 1, 0)
    return np.concatenate([ops.convert_to_numpy(z)[None], states]).astype("float64")


def _weights(layer: keras.Model) -> np.ndarray:
    """Kernels as one vector: norms and biases start alike everywhere, and would hide them."""
    variables = layer.trainable_variables or layer.variables
    kernels = [v for v in variables if len(v.shape) > 1] or variables
    return np.concatenate([ops.convert_to_numpy(v.value).ravel() for v in kernels] or [np.zeros(1)])


def _changes(arrays: Sequence[np.ndarray]) -> tuple[float, ...]:
    """The size of each difference to the next, over that of the two; 0 where both are nothing."""
    sizes = [root_mean_square(a) for a in arrays]
    changes = []
    for a, b, size, following in zip(arrays, arrays[1:], sizes, sizes[1:]):
        both = np.hypot(size, following) / np.sqrt(2)
        changes.append(float(root_mean_square(b - a) / both) if both else 0.0)
    return tuple(changes)
