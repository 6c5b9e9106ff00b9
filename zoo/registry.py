"""The models by name."""

import dataclasses
import fnmatch
import functools
from collections.abc import Callable
from typing import Literal, overload

import keras

import tfnode
from tfnode import arguments
from tfnode.solvers import SolverLike
from tfnode.typing import PathLike
from tfnode.validity import ValidityReport
from zoo import (
    archives,
    cifar10,
    cifar10_conv,
    concentric_spheres,
    energy_landscape,
    hub,
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


@overload
def list_models(pattern: str | None = ..., pretrained: Literal[False] = ...) -> list[str]: ...


@overload
def list_models(
    pattern: str | None = ..., *, pretrained: Literal[True]
) -> listing.WeightsTable: ...


def list_models(pattern: str | None = None, pretrained: bool = False) -> list[str]:
    """Returns the names of the zoo's models, or of its pretrained weights.

    Examples:

    >>> list_models("cifar*")
    ['cifar10', 'cifar10_conv']
    >>> list_models("cifar10", pretrained=True)[:1]
    ['cifar10_rk4_damped_small_v1']

    Args:
        pattern: Optional string in the notation of shells, such as `"cifar*"`, which the name of
            the model or of the weights must match.
        pretrained: Boolean. If true, returns the names of pretrained weights: a list that prints
            as a table of their solvers, test accuracies and verdicts, and has these and more as
            plain values in `.records`.

    Raises:
        ValueError: If `pattern` is not a string, or `pretrained` not a boolean.
    """
    if pattern is not None:
        advice = 'An example is "cifar*"; pass `pretrained` by its name.'
        pattern = arguments.text("pattern", pattern, advice=advice)
    pretrained = arguments.flag("pretrained", pretrained)
    matches = lambda *names: any(fnmatch.fnmatchcase(name, pattern or "*") for name in names)
    if not pretrained:
        return [name for name in _MODELS if matches(name)]
    content = manifest.read()
    chosen = [entry for entry in content.weights.values() if matches(entry.name, entry.model)]
    return listing.WeightsTable(chosen, content.default.values())


def get_weights(name: str) -> manifest.WeightsEntry:
    """Returns what is known of pretrained weights: their metrics, classes, inputs and recipe.

    These are attributes; `preprocessing()` is a method, which makes a new layer.

    Examples:

    >>> found = get_weights("mnist")
    >>> found.name, found.metrics["accuracy"], found.classes[:3]
    ('mnist_rk4_damped_tuned_v1', 0.964, ('0', '1', '2'))
    >>> images = np.full((1, 28, 28, 1), 255, "uint8")
    >>> float(found.preprocessing()(images)[0, 0, 0, 0])
    1.0

    Args:
        name: String, one of `list_models(pretrained=True)`, or a model for its `"DEFAULT"`.

    Returns:
        `WeightsEntry`.

    Raises:
        ValueError: If there are no such weights.
    """
    return manifest.read().get(name)


def get_model(
    name: str,
    weights: PathLike | None = None,
    solver: SolverLike | None = None,
    step_size: float | None = None,
    dtype: str | None = None,
    seed: int | None = None,
    classes: int | None = None,
    include_top: bool = True,
) -> keras.Model:
    """Returns a functional model that ends in logits.

    Examples:

    >>> model = get_model("energy_landscape", solver="euler", step_size=1 / 8)
    >>> model.output_shape
    (None, 3)

    A model for five classes of one's own, trained but for its last layer, and the features that
    this layer would be given:

    >>> get_model("mnist", weights="DEFAULT", classes=5).output_shape
    (None, 5)
    >>> get_model("cifar10_conv", weights="DEFAULT", include_top=False).output_shape
    (None, 128)

    Args:
        name: String, one of `list_models()`; or a model on the Hugging Face Hub that `push` has
            written there, `"hf://user/repository"`, or for ever the same one
            `"hf://user/repository@commit"`, which needs `huggingface_hub`, the extra `hub`. Only
            files of weights and of safe layers are opened, when their SHA-256 is right.
        weights: None for fresh weights, and for a model on the hub; the name of pretrained weights
            of this model, one of `list_models(pretrained=True)`, or `"DEFAULT"` for its default; or
            the path of a `.weights.h5` file of this architecture.
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
        classes: Optional integer, the number of logits in place of that of the model's own data.
            If the weights are by name and have another number, the last layer is fresh. A path is
            that of a file with this number.
        include_top: Boolean. If false, the model ends in the features that its last layer would be
            given, whose weights are loaded as with it.

    Raises:
        ValueError: If an argument is not valid, or if a file is not the one in the manifest, is
            damaged, or is of another architecture.
        OSError: If a file is not there or cannot be fetched.
        ImportError: If `huggingface_hub` is needed and not installed.
    """
    include_top = arguments.flag("include_top", include_top)
    wanted = _Wanted(solver, step_size, dtype, seed, classes)
    if hub.is_address(name):
        return _shared(name, weights, wanted, include_top)
    _entry(name)
    if weights is None or loading.is_path(weights):
        model = wanted.build(name, wanted.in_place_of("euler"), classes)
        if weights is not None:
            loading.load(model, weights)
            if step_size is not None:
                model.get_layer("ode_block").step_size = step_size
    else:
        entry = manifest.read().find(name, weights)
        read = lambda: find(entry.file, entry.sha256, entry.bytes)
        model = wanted.trained(name, entry.solver, None, read, entry.file)
    return model if include_top else _features(model)


@dataclasses.dataclass(frozen=True)
class _Wanted:
    """What `get_model` is asked for beside the name and the weights."""

    solver: SolverLike | None
    step_size: float | None
    dtype: str | None
    seed: int | None
    classes: int | None

    def __post_init__(self) -> None:
        # Refused before anything is fetched.
        Layers(self.dtype, self.seed, self.classes)
        self.in_place_of("euler")

    def in_place_of(self, own: SolverLike) -> tfnode.solvers.Solver:
        """The solver of a model that has one of its own."""
        return tfnode.solvers.get(own if self.solver is None else self.solver, self.step_size)

    def build(self, name: str, solver: SolverLike, classes: int | None) -> keras.Model:
        return _entry(name)[0](solver, Layers(self.dtype, self.seed, classes))

    def trained(
        self,
        name: str,
        own: tfnode.solvers.Solver,
        classes: int | None,
        read: Callable[[], bytes],
        source: str,
    ) -> keras.Model:
        """A model with weights that were saved with a solver and a number of classes."""
        solver = self.in_place_of(own)
        model = self.build(name, own, classes)
        loading.load_content(model, read(), source)
        if solver == own and self.classes in (None, model.output_shape[-1]):
            return model
        # Exchanged only now: the file holds the step size of the training solver.
        other = self.build(name, solver, self.classes or classes)
        # Of another number of classes, the last kernel and bias stay fresh.
        is_other = other.output_shape != model.output_shape
        kept = model.trainable_weights[: -2 if is_other else None]
        for ours, theirs in zip(other.trainable_weights, kept):
            ours.assign(theirs)
        return other


def _shared(
    address: str, weights: PathLike | None, wanted: _Wanted, include_top: bool
) -> keras.Model:
    """A model from a repository of the hub."""
    if weights is not None:
        rule = "A model on the hub has weights of its own"
        raise arguments.refused(rule, "weights", weights, f"Leave it out for {address!r}.")
    description, content = hub.fetch(address)
    architecture = description.architecture
    if architecture is None:
        if wanted != _Wanted(*[None] * 5) or not include_top:
            raise ValueError(
                "A whole model is loaded as it is: only one of the zoo's architectures takes "
                f"`solver`, `classes` and the like. Received: name={address!r} with {wanted} and "
                f"include_top={include_top}. Leave them out; `tfnode.with_solver` exchanges the "
                "solver of any model."
            )
        return archives.load(content, address)
    solver = _own_solver(address, architecture, description.size, wanted)
    read = lambda: content
    model = wanted.trained(architecture.model, solver, architecture.classes, read, address)
    return model if include_top else _features(model)


def _own_solver(
    address: str, architecture: hub.Architecture, size: int, wanted: _Wanted
) -> tfnode.solvers.Solver:
    """The solver of an architecture, which a stranger may have described, if it is one."""
    try:
        solver = tfnode.solvers.deserialize(architecture.solver)
        # A last kernel is made only if the file has room for it.
        features = _features(wanted.build(architecture.model, solver, None)).output_shape[-1]
        if not 1 <= architecture.classes <= size / (4 * features):
            raise ValueError(f"{architecture.classes} classes in {size} bytes")
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(
            "A repository must describe a model of the zoo, its solver and its classes. Received: "
            f"name={address!r} ({str(error)[:200]}). Push the model again, or use the version of "
            "tfnode that it was pushed with."
        ) from error
    return solver


def _features(model: keras.Model) -> keras.Model:
    features = model.get_layer("logits").input
    return keras.Model(model.input, features, name=f"{model.name}_features")


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
