"""Finding and exchanging the `ODEBlock`s of a model."""

import keras

from tfnode.blocks import ODEBlock


def ode_blocks(model):
    """Returns the `ODEBlock`s of a model, in order, nested models included."""
    if isinstance(model, ODEBlock):
        return [model]
    return [block for layer in getattr(model, "layers", ()) for block in ode_blocks(layer)]


def with_solver(model, solver):
    """Returns a new model with another solver in every block, sharing every weight with `model`.

    `model` is untouched, and so is its step size: the new model has step sizes of its own. It is
    not compiled.

    Examples:

    >>> field = keras.Sequential([keras.layers.Dense(8, "tanh"), keras.layers.Dense(2)])
    >>> model = keras.Sequential([keras.Input((2,)), ODEBlock(field, tfnode.solvers.Euler(1 / 4))])
    >>> fine = with_solver(model, tfnode.solvers.RK4(1 / 32))
    >>> fine.trainable_weights[0] is model.trainable_weights[0]
    True

    Args:
        model: Functional or Sequential Keras model with at least one `ODEBlock`, also in nested
            models, or an `ODEBlock`.
        solver: A solver of `tfnode.solvers`, its name, or its serialized dictionary.

    Returns:
        A new Keras model (an `ODEBlock` if one was given).

    Raises:
        ValueError: If the model has no `ODEBlock`, or is a subclassed model, whose layers cannot
            be exchanged.
    """
    return replace_blocks(model, lambda block: block.with_solver(solver))


def replace_blocks(model, replace):
    """Returns a model that shares every layer but the blocks, and has `replace(block)` there."""
    if isinstance(model, ODEBlock):
        return replace(model)
    if not ode_blocks(model):
        raise ValueError(
            "The model must have an `ODEBlock` whose solver can be exchanged. "
            f"Received: model={model.name!r} of type {type(model).__name__}, with none among its "
            "layers. Build it with `tfnode.ODEBlock`, as a functional or Sequential model."
        )

    # Before the model is cloned: what goes wrong here is no matter of the model's kind.
    exchanged = {
        id(layer): replace_blocks(layer, replace) for layer in model.layers if ode_blocks(layer)
    }

    def clone(layer):
        return exchanged.get(id(layer), layer)

    try:
        new = keras.models.clone_model(model, clone_function=clone)
    except ValueError as error:
        raise ValueError(
            "Only functional and Sequential models tell their layers, so that a block can be "
            f"exchanged. Received: model={model.name!r} of type {type(model).__name__}. Build the "
            f"model with the functional API. Keras says: {error}"
        ) from error
    if model.built and not new.built:
        # A Sequential model without an `Input` is built by its first batch; its clone by hand.
        new.build(model.input_shape)
    return new
