"""The models by name."""

import functools
from collections.abc import Callable

import keras

import tfnode
from tfnode import arguments
from tfnode.solvers import SolverLike
from tfnode.typing import PathLike
from tfnode.validity import ValidityReport
from zoo import (
    cifar10,
    cifar10_conv,
    concentric_spheres,
    energy_landscape,
    listing,
    loading,
    manifest,
    mnist,
    reports,
)
from zoo.layers import Layers
from zoo.recipes import Recipe
from zoo.weights import find

# name -> (builder of the model for a solver and layers, recipe)
_MODELS: dict[str, tuple[Callable[[SolverLike, Layers], keras.Model], Recipe]] = {
    **{
        f"concentric_spheres_{dim}d": (
            functools.partial(concentric_spheres.build, dim),
            concentric_spheres.recipe(dim),
        )
        for dim in (2, 3, 10, 900)
    },
    "energy_landscape": (energy_landscape.build, energy_landscape.RECIPE),
    "mnist": (mnist.build, mnist.RECIPE),
    "cifar10": (cifar10.build, cifar10.RECIPE),
    "cifar10_conv": (cifar10_conv.build, cifar10_conv.RECIPE),
}


def list_models(pretrained: bool = False) -> list[str]:
    """Returns the names of the zoo's models, or of its pretrained weights.

    Examples:

    >>> list_models()[-3:]
    ['mnist', 'cifar10', 'cifar10_conv']

    Args:
        pretrained: Boolean. If true, prints a table of the pretrained weights, with their solver,
            test accuracy, verdict and size, and returns their names.

    Raises:
        ValueError: If `pretrained` is not a boolean.
    """
    if not arguments.flag("pretrained", pretrained):
        return list(_MODELS)
    entries = manifest.read().weights
    print(listing.pretrained(entries.values()) if entries else "There are no pretrained weights.")
    return list(entries)


def get_model(
    name: str,
    weights: PathLike | None = None,
    solver: SolverLike | None = None,
    step_size: float | None = None,
    dtype: str | None = None,
    seed: int | None = None,
) -> keras.Model:
    """Returns a functional model that ends in logits.

    Examples:

    >>> model = get_model("energy_landscape", solver="euler", step_size=1 / 8)
    >>> model.output_shape
    (None, 3)

    Args:
        name: String, one of `list_models()`.
        weights: None for fresh weights; the name of pretrained weights of this model, one of
            `list_models(pretrained=True)`, or `"DEFAULT"` for its default; or the path of a
            `.weights.h5` file of this architecture.
        solver: A solver of `tfnode.solvers`, its name, or its serialized dictionary. If None, a
            pretrained model has its training solver and step size, and any other model Euler's
            method. Given with the name of pretrained weights, it replaces that solver; given with
            a path, it is the solver of the file, which also holds the step size.
        step_size: Optional float that replaces the step size of the solver and of the file.
        dtype: Optional string, a Keras dtype policy such as `"mixed_bfloat16"`, in place of the
            global one. In mixed precision the vector field computes in half precision; the state,
            its integration, the weights and the logits are in single.
        seed: Optional integer, from which fresh weights are drawn. They are then those that follow
            `keras.utils.set_random_seed(seed)`, whatever else draws random numbers.

    Raises:
        ValueError: If the name, the weights, the solver, the step size, the dtype or the seed is
            not valid, or if a file is not the one in the manifest, is damaged, or is of another
            architecture.
        OSError: If a file is not there or cannot be fetched.
    """
    builder, _ = _entry(name)
    build = lambda solver: builder(solver, Layers(dtype, seed))
    if weights is None or loading.is_path(weights):
        model = build(tfnode.solvers.get("euler" if solver is None else solver, step_size))
        if weights is not None:
            loading.load(model, weights)
            if step_size is not None:
                model.get_layer("ode_block").step_size = step_size
        return model
    entry = manifest.read().find(name, weights)
    wanted = tfnode.solvers.get(entry.solver if solver is None else solver, step_size)
    model = build(entry.solver)
    content = find(entry.file, entry.sha256, entry.bytes)
    loading.load_content(model, content, entry.file)
    if wanted == entry.solver:
        return model
    # Exchanged only now: the file holds the step size of the training solver.
    other = build(wanted)
    for ours, theirs in zip(other.trainable_weights, model.trainable_weights):
        ours.assign(theirs)
    return other


def get_report(name: str, weights: str = "DEFAULT") -> ValidityReport:
    """Returns the `tfnode.validity.ValidityReport` of pretrained weights.

    It says how the model does under every solver, and `tfnode.export.export_saved_models` takes it
    in the place of a verdict of its own, which takes minutes for images.

    Examples:

    >>> get_report("energy_landscape").is_ode
    True

    Args:
        name: String, one of `list_models()`.
        weights: String, as for `get_model`.

    Raises:
        ValueError: If there are no such weights.
        FileNotFoundError: If these weights have no report.
    """
    _entry(name)
    return reports.read(manifest.read().find(name, weights))


def get_recipe(name: str) -> Recipe:
    """Returns the `Recipe` of a model: for those of the paper, the paper's hyper-parameters."""
    return _entry(name)[1]


def _entry(name: str) -> tuple[Callable[[SolverLike, Layers], keras.Model], Recipe]:
    return _MODELS[arguments.choice("name", name, list_models(), advice="Pick one of these.")]
