"""What people need to know of a model: how it is built, its inputs and classes, its purpose."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Facts:
    """Of one model.

    Args:
        architecture: String, a sentence on its layers.
        inputs: String, a sentence on the inputs and their range.
        classes: Strings, by the number of the class.
        task: String, as model hubs name it.
        intended: String, a sentence on what a model of it is for.
        scale: Float, by which raw inputs are multiplied.
    """

    architecture: str
    inputs: str
    classes: tuple[str, ...]
    task: str
    intended: str
    scale: float = 1.0


_TO_COMPARE = "Made to study solvers and step adaption on, not to decide anything about people."
_IMAGES = (
    "The paper's architecture: one ODE block on the image itself, whose field has convolutions of "
    "1, 3 and 1 pixels with {} hidden channels, and a linear classifier."
)


def _spheres(dim: int) -> Facts:
    return Facts(
        "The paper's architecture for 2 dimensions: one ODE block on the point as a sequence, "
        "whose field convolves along its coordinates with kernels of 1, 3 and 1 and 32 hidden "
        "channels, and a linear classifier.",
        f"Points `({dim},)`, float32, on shells of the radii 0.1 to 0.15, 0.25 to 0.3 and 0.4 to "
        "0.45.",
        ("the inner or the outer shell", "the shell between them"),
        "tabular-classification",
        _TO_COMPARE,
    )


_CIFAR10 = Facts(
    _IMAGES.format(128),
    "Images `(32, 32, 3)`, float32 in [0, 1].",
    (
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    ),
    "image-classification",
    _TO_COMPARE,
    scale=1 / 255,
)
# model -> its facts
_FACTS = {
    **{f"concentric_spheres_{dim}d": _spheres(dim) for dim in (2, 3, 10, 900)},
    "energy_landscape": Facts(
        "The paper's architecture: one ODE block whose field is dense, with two hidden layers of "
        "48 units, and a linear classifier.",
        "States `(position, velocity)` of a particle, float32, in [-1, 2] and [-2, 2].",
        ("the left minimum", "the middle minimum", "the right minimum"),
        "tabular-classification",
        _TO_COMPARE,
    ),
    "mnist": Facts(
        _IMAGES.format(96),
        "Images `(28, 28, 1)`, float32 in [0, 1], white digits on black.",
        tuple("0123456789"),
        "image-classification",
        _TO_COMPARE,
        scale=1 / 255,
    ),
    "cifar10": _CIFAR10,
    "cifar10_conv": dataclasses.replace(
        _CIFAR10,
        architecture="Beyond the paper: a stem of two convolutions, the second with strides, one "
        "ODE block of 128 channels, whose field has two convolutions of 3 pixels with group "
        "normalization and the time as a channel, and a pooled linear classifier.",
        intended="A small classifier of CIFAR-10's classes, which may be served with more steps. "
        + _TO_COMPARE,
    ),
}


def of(model: str) -> Facts:
    """Returns the facts of a model of the zoo."""
    return _FACTS[model]
