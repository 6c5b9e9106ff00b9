"""What the adapting callbacks refuse in training: losses that are not finite."""

import math


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
