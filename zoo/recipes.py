"""`Recipe`: how the paper trains an architecture, as frozen data."""

import dataclasses

import keras

from tfnode import arguments


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Hyper-parameters of one row of the paper's supplement A.

    Args:
        dataset: String, a name for `tfnode.datasets.load`.
        optimizer: `"adam"` or `"sgd"`, without momentum, decay or schedule.
        learning_rate: Float.
        batch_size: Integer; the last, incomplete batch is dropped.
        iterations: Integer, the number of optimizer steps.
        loss: String, the name of a Keras loss, applied to logits.

    Raises:
        ValueError: If a value is not as described.
    """

    dataset: str
    optimizer: str
    learning_rate: float
    batch_size: int
    iterations: int
    loss: str = "SparseCategoricalCrossentropy"

    def __post_init__(self) -> None:
        advice = "`zoo.get_recipe` returns the paper's."
        arguments.text("dataset", self.dataset, advice=advice)
        arguments.choice("optimizer", self.optimizer, ("adam", "sgd"), advice=advice)
        arguments.number("learning_rate", self.learning_rate, 0, advice=advice)
        arguments.count("batch_size", self.batch_size, advice=advice)
        arguments.count("iterations", self.iterations, advice=advice)
        if not isinstance(self.loss, str) or not hasattr(keras.losses, self.loss):
            rule = "`loss` must be the name of a Keras loss"
            raise arguments.refused(rule, "loss", self.loss, advice)

    def build_optimizer(self) -> keras.optimizers.Optimizer:
        """Returns a new optimizer; Adam has the epsilon 1e-8 of the authors' experiments."""
        options = {"epsilon": 1e-8} if self.optimizer == "adam" else {}
        identifier = {"class_name": self.optimizer, "config": options}
        optimizer = keras.optimizers.get(identifier)
        optimizer.learning_rate = self.learning_rate
        return optimizer

    def build_loss(self) -> keras.losses.Loss:
        """Returns a new loss on logits."""
        return getattr(keras.losses, self.loss)(from_logits=True)
