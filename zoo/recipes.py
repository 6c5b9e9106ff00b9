"""`Recipe`: how the paper trains an architecture, as frozen data."""

import dataclasses

import keras


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
    """

    dataset: str
    optimizer: str
    learning_rate: float
    batch_size: int
    iterations: int
    loss: str = "SparseCategoricalCrossentropy"

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
