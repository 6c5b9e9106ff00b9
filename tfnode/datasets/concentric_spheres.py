"""Concentric spheres (Ott et al., section 3.1): three shells, the outer and inner of one class."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

# Radii, class and share of each shell.
SHELLS: tuple[tuple[tuple[float, float], int, float], ...] = (
    ((0.1, 0.15), 0, 1 / 4),
    ((0.25, 0.3), 1, 1 / 2),
    ((0.4, 0.45), 0, 1 / 4),
)
# A split that is added leaves those before it as they are.
_NUM_EXAMPLES = {"train": 2000, "test": 1000, "validation": 1000}


def sample(dim: int, num_examples: int, seed: int | Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Draws points on the shells, in the order of the shells.

    The radius is `(r_max - r_min) u^(1/dim) + r_min` with `u` uniform; the direction is uniform
    on the sphere.

    Args:
        dim: Integer, the dimension of the points.
        num_examples: Integer, divisible by 4.
        seed: Integer or sequence of integers.

    Returns:
        Tuple of float32 points of shape `(num_examples, dim)` and int64 classes.
    """
    rng = np.random.default_rng(seed)
    points, labels = [], []
    for (r_min, r_max), label, share in SHELLS:
        count = round(share * num_examples)
        direction = rng.normal(size=(count, dim))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        radius = (r_max - r_min) * rng.uniform(size=(count, 1)) ** (1 / dim) + r_min
        points.append(radius * direction)
        labels.append(np.full(count, label))
    return np.concatenate(points).astype("float32"), np.concatenate(labels)


@dataclasses.dataclass(kw_only=True)
class ConcentricSpheresConfig(tfds.core.BuilderConfig):
    """A dimension of the space, and the seed of the sample."""

    dim: int
    seed: int = 0


class ConcentricSpheres(tfds.core.GeneratorBasedBuilder):
    """Points on three concentric shells in `dim` dimensions; 2000 to train, else 1000."""

    VERSION = tfds.core.Version("1.1.0")
    RELEASE_NOTES = {"1.0.0": "First release.", "1.1.0": "A validation split."}
    BUILDER_CONFIGS = [
        ConcentricSpheresConfig(name=f"{dim}d", description=f"{dim} dimensions.", dim=dim)
        for dim in (2, 3, 10, 900)
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            description="Three concentric shells; the outer and the inner one are one class.",
            features=tfds.features.FeaturesDict(
                {
                    "point": tfds.features.Tensor(
                        shape=(self.builder_config.dim,), dtype=np.float32
                    ),
                    "label": tfds.features.ClassLabel(num_classes=2),
                }
            ),
            supervised_keys=("point", "label"),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[Any]]:
        return {split: self._generate_examples(split) for split in _NUM_EXAMPLES}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        config = self.builder_config
        split_index = list(_NUM_EXAMPLES).index(split)
        points, labels = sample(config.dim, _NUM_EXAMPLES[split], (config.seed, split_index))
        for i, (point, label) in enumerate(zip(points, labels)):
            yield i, {"point": point, "label": int(label)}
