"""`Recipe`: how the paper trains an architecture, as frozen data."""

import dataclasses

import keras

from tfnode import arguments

# name -> class and what it has beside its learning rate
_OPTIMIZERS = {
    "adam": (keras.optimizers.Adam, {"epsilon": 1e-8}),
    "adamw": (keras.optimizers.AdamW, {"epsilon": 1e-8}),
    "sgd": (keras.optimizers.SGD, {}),
}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Hyper-parameters of one row of the paper's supplement A, or of a model beyond it.

    Args:
        dataset: String, a name for `tfnode.datasets.load`.
        optimizer: `"adam"`, `"adamw"` or `"sgd"`, without momentum.
        learning_rate: Float, the largest.
        batch_size: Integer; the last, incomplete batch is dropped.
        iterations: Integer, the number of optimizer steps.
        loss: String, the name of a Keras loss, applied to logits.
        schedule: `"constant"`, or `"cosine"` for a learning rate that rises over the first
            twentieth of the iterations and then falls to zero by half a cosine.
        weight_decay: Float, that of `"adamw"`.
        augment: Boolean, whether images are mirrored at random, and moved by up to 4 pixels.

    Raises:
        ValueError: If a value is not as described.
    """

    dataset: str
    optimizer: str
    learning_rate: float
    batch_size: int
    iterations: int
    loss: str = "SparseCategoricalCrossentropy"
    schedule: str = "constant"
    weight_decay: float = 0.0
    augment: bool = False

    def __post_init__(self) -> None:
        advice = "`zoo.get_recipe` returns the paper's."
        arguments.text("dataset", self.dataset, advice=advice)
        arguments.choice("optimizer", self.optimizer, _OPTIMIZERS, advice=advice)
        arguments.number("learning_rate", self.learning_rate, 0, advice=advice)
        arguments.count("batch_size", self.batch_size, advice=advice)
        arguments.count("iterations", self.iterations, advice=advice)
        arguments.choice("schedule", self.schedule, ("constant", "cosine"), advice=advice)
        arguments.number("weight_decay", self.weight_decay, 0, ends="[)", advice=advice)
        arguments.flag("augment", self.augment)
        if not isinstance(self.loss, str) or not hasattr(keras.losses, self.loss):
            rule = "`loss` must be the name of a Keras loss"
            raise arguments.refused(rule, "loss", self.loss, advice)

    def build_optimizer(self) -> keras.optimizers.Optimizer:
        """Returns a new optimizer; Adam has the epsilon 1e-8 of the authors' experiments."""
        optimizer, options = _OPTIMIZERS[self.optimizer]
        decay = {"weight_decay": self.weight_decay} if self.weight_decay else {}
        return optimizer(self._rate(), **options, **decay)

    def _rate(self) -> float | keras.optimizers.schedules.LearningRateSchedule:
        if self.schedule == "constant":
            return self.learning_rate
        warmup = self.iterations // 20
        return keras.optimizers.schedules.CosineDecay(
            0.0, self.iterations - warmup, warmup_target=self.learning_rate, warmup_steps=warmup
        )

    def build_loss(self) -> keras.losses.Loss:
        """Returns a new loss on logits."""
        return getattr(keras.losses, self.loss)(from_logits=True)
