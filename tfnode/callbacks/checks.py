"""What the adapting callbacks refuse in training: no optimizer, and losses that are not finite."""

import math

import keras


def check_loss(logs: dict | None, iteration: int, solver: str) -> None:
    """Raises if the loss in a callback's `logs` is no longer finite.

    Args:
        logs: Dictionary with a `loss`, or None.
        iteration: Integer, the optimizer steps so far.
        solver: String, the solver's setting as `name=value`.

    Raises:
        FloatingPointError: If the loss is infinite or NaN.
    """
    loss = (logs or {}).get("loss", 0.0)
    if not math.isfinite(loss):
        raise FloatingPointError(
            "The loss must stay finite. "
            f"Received: loss={loss} at iteration {iteration} with {solver}. Training "
            "has stopped; the model and the records of its callbacks stay as they are. Try a "
            "smaller learning rate, gradient clipping (`clipnorm`), or a more accurate solver."
        )


def check_optimizer(model: keras.Model) -> None:
    """Raises if a model has no optimizer, whose steps are counted."""
    if getattr(model, "optimizer", None) is None:
        raise ValueError(
            "Checks are told by the steps of the model's optimizer. "
            f"Received: model={model.name!r}, which has none. Compile it, or in a training loop of "
            "your own set `model.optimizer` to the one that takes the steps."
        )
