"""What people need to know of the data of a model: its inputs, its classes, and what it is for."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Facts:
    """Of one data set.

    Args:
        inputs: String, a sentence on the inputs and their range.
        classes: Strings, by the number of the class.
        task: String, as model hubs name it.
        intended: String, a sentence on what a model of it is for.
        scale: Float, by which raw inputs are multiplied.
    """

    inputs: str
    classes: tuple[str, ...]
    task: str
    intended: str
    scale: float = 1.0


_TO_COMPARE = "Made to study solvers and step adaption on, not to decide anything about people."
_SPHERES = Facts(
    "Points `(dimensions,)`, float32, on shells of the radii 0.1 to 0.15, 0.25 to 0.3 and 0.4 to "
    "0.45.",
    ("the inner or the outer shell", "the shell between them"),
    "tabular-classification",
    _TO_COMPARE,
)
_CIFAR10 = Facts(
    "Images `(32, 32, 3)`, float32 in [0, 1].",
    (
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    ),
    "image-classification",
    _TO_COMPARE,
    scale=1 / 255,
)
# model -> its data
_FACTS = {
    "energy_landscape": Facts(
        "States `(position, velocity)` of a particle, float32, in [-1, 2] and [-2, 2].",
        ("the left minimum", "the middle minimum", "the right minimum"),
        "tabular-classification",
        _TO_COMPARE,
    ),
    "mnist": Facts(
        "Images `(28, 28, 1)`, float32 in [0, 1], white digits on black.",
        tuple("0123456789"),
        "image-classification",
        _TO_COMPARE,
        scale=1 / 255,
    ),
    "cifar10": _CIFAR10,
    "cifar10_conv": dataclasses.replace(
        _CIFAR10,
        intended="A small classifier of CIFAR-10's classes, whose depth is a true ODE: it may be "
        "served with more steps. " + _TO_COMPARE,
    ),
}


def of(model: str) -> Facts:
    """Returns the facts of a model of the zoo."""
    return _FACTS.get(model, _SPHERES)
