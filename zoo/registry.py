"""The models by name."""

import functools

import tfnode
from zoo import cifar10, concentric_spheres, energy_landscape, mnist

# name -> (builder of the model for a solver, recipe)
_MODELS = {
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
}


def list_models():
    """Returns the names of the zoo's models."""
    return list(_MODELS)


def get_model(name, weights=None, solver="euler", step_size=None):
    """Returns a functional model of the paper, ending in logits.

    Examples:

    >>> model = get_model("energy_landscape", solver="euler", step_size=1 / 8)
    >>> model.output_shape
    (None, 3)

    Args:
        name: String, one of `list_models()`.
        weights: Path of a `.weights.h5` file of this architecture, or None for fresh weights.
            The file also holds the step size, which replaces the solver's.
        solver: A solver of `tfnode.solvers`, its name, or its serialized dictionary.
        step_size: Optional float that replaces the step size of the solver and of the file.

    Raises:
        ValueError: If the name, the solver or the step size is not valid.
    """
    build, _ = _entry(name)
    model = build(tfnode.solvers.get(solver, step_size))
    if weights is not None:
        model.load_weights(weights)
        if step_size is not None:
            model.get_layer("ode_block").step_size = step_size
    return model


def get_recipe(name):
    """Returns the `Recipe` of a model: the paper's hyper-parameters."""
    return _entry(name)[1]


def _entry(name):
    if name not in _MODELS:
        raise ValueError(
            f"`name` must be one of {list_models()}. Received: name={name!r}. Pick one of these."
        )
    return _MODELS[name]
