"""The paper's data sets by name: two synthetic TFDS builders, and TFDS's MNIST and CIFAR-10."""

from tfnode.datasets.loading import list_datasets, load

__all__ = ["list_datasets", "load"]
