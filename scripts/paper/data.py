"""The data of the runs: from TFDS, or from a bundle of arrays where that is not at hand."""

import functools
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

import tfnode
from tfnode import files

# The directory of a bundle; where it is set, nothing else is read.
BUNDLE = "TFNODE_BUNDLE"

# The pixels by which an image is moved at most, in each direction.
MARGIN = 4

# Samples `x` and their classes `y`.
Data = tuple[np.ndarray, np.ndarray]


_IMAGES = ("mnist", "cifar10")


def splits(name: str) -> list[str]:
    """The splits of a data set."""
    return ["train", "test"] if name in _IMAGES else ["train", "test", "validation"]


def to_choose_by(name: str) -> tuple[str, int | None]:
    """The split by which something is chosen, and how many of its samples; None for all.

    It is never the test set. The authors of the images have left no validation set, and the
    paper's models have seen the whole training set: of images it is the beginning of that.
    """
    return ("train", 1000) if name in _IMAGES else ("validation", None)


def load(name: str, split: str) -> Data:
    """Returns one of the `splits`, as `tfnode.datasets.load(as_numpy=True)` gives it."""
    if BUNDLE not in os.environ:
        return tfnode.datasets.load(name, split, as_numpy=True)
    return _from_bundle(pathlib.Path(os.environ[BUNDLE]), name, split)


@functools.cache
def _from_bundle(directory: pathlib.Path, name: str, split: str) -> Data:
    """The split, unpacked once for all runs of a process."""
    paths = sorted(directory.glob(f"{_stem(name, split)}_*.npz"))
    if not paths:
        raise FileNotFoundError(
            "A bundle must hold the data of its runs. "
            f"Received: {BUNDLE}={str(directory)!r}, without {name!r}. Make it with this model."
        )
    parts = [_read(path) for path in paths]
    x, y = (np.concatenate(arrays) for arrays in zip(*parts))
    return (x.astype("float32") / np.float32(255) if x.dtype == np.uint8 else x), y


def write(name: str, directory: pathlib.Path, part_samples: int = 20_000) -> None:
    """Writes the splits of a data set into files of a bundle, losslessly compressed.

    Images become bytes again, as what a predictor leaves of them, which compresses to two thirds.

    Args:
        name: String, of `tfnode.datasets.list_datasets()`.
        directory: A directory that exists.
        part_samples: Integer, the most samples in a file.
    """
    for split in splits(name):
        x, y = tfnode.datasets.load(name, split, as_numpy=True)
        is_image = x.ndim == 4
        for part, start in enumerate(range(0, len(x), part_samples)):
            rows = slice(start, start + part_samples)
            samples = residuals(np.rint(x[rows] * 255).astype(np.uint8)) if is_image else x[rows]
            path = directory / f"{_stem(name, split)}_{part}.npz"
            with files.beside(path) as written:
                np.savez_compressed(written, x=samples, y=y[rows])


def _stem(name: str, split: str) -> str:
    return f"{name.replace('/', '-')}_{split}"


def _read(path: pathlib.Path) -> Data:
    with np.load(path, allow_pickle=False) as arrays:
        x, y = arrays["x"], arrays["y"]
    return (images(x) if x.dtype == np.uint8 else x), y


def residuals(x: np.ndarray) -> np.ndarray:
    """What the median edge detector, the predictor of JPEG-LS, leaves of images of bytes.

    Args:
        x: Array of uint8, `(samples, rows, columns, channels)`.

    Returns:
        Array of uint8, `(channels, rows, columns, samples)`, from which `images` gives `x` again.
    """
    planes = x.transpose(3, 1, 2, 0).copy()
    # Colours go together with green, so that the differences to it say less.
    planes[[0, 2][: len(planes) - 1]] -= planes[1:2]
    padded = np.pad(planes, ((0, 0), (1, 0), (1, 0), (0, 0)))
    return planes - _predicted(padded[:, 1:, :-1], padded[:, :-1, 1:], padded[:, :-1, :-1])


def images(residuals: np.ndarray) -> np.ndarray:
    """The images of bytes that `residuals` were made from."""
    channels, rows, columns, samples = residuals.shape
    padded = np.zeros((channels, rows + 1, columns + 1, samples), np.uint8)
    for i in range(rows):
        for j in range(columns):
            before = padded[:, i + 1, j], padded[:, i, j + 1], padded[:, i, j]
            padded[:, i + 1, j + 1] = residuals[:, i, j] + _predicted(*before)
    planes = padded[:, 1:, 1:]
    planes[[0, 2][: channels - 1]] += planes[1:2]
    return np.ascontiguousarray(planes.transpose(3, 1, 2, 0))


def _predicted(left: np.ndarray, above: np.ndarray, corner: np.ndarray) -> np.ndarray:
    low, high = np.minimum(left, above), np.maximum(left, above)
    # Bytes wrap around, in both directions alike.
    inside = left + above - corner
    return np.where(corner >= high, low, np.where(corner <= low, high, inside))


class Batches:
    """Full batches of arrays, in every epoch in another order, which the seed determines.

    What a batch holds depends on nothing else, so that a training can go on from any of them.

    Args:
        data: Two arrays.
        batch_size: Integer.
        seed: Integer.
        augment: Boolean, whether images are mirrored and moved, each time by other numbers.
    """

    def __init__(self, data: Data, batch_size: int, seed: int, augment: bool = False):
        self.x, self.y = data
        self.augments = augment
        self._batch_size = min(batch_size, len(self.x))
        self._seed = seed
        self._epoch, self._order = -1, np.empty(0, int)

    def rows(self, batch: int) -> np.ndarray:
        """The indices of the samples of a batch, counted through all epochs."""
        epoch, within = divmod(batch, len(self.x) // self._batch_size)
        if epoch != self._epoch:
            generator = np.random.default_rng([self._seed, epoch])
            self._epoch, self._order = epoch, generator.permutation(len(self.x))
        return self._order[within * self._batch_size : (within + 1) * self._batch_size]

    def moves(self, batch: int) -> np.ndarray:
        """How `moved` changes the images of a batch: array of int, `(batch_size, 3)`."""
        generator = np.random.default_rng([self._seed, batch, 1])
        shape = (self._batch_size, 3)
        return generator.integers(0, [2, 2 * MARGIN + 1, 2 * MARGIN + 1], shape)

    def starting_at(self, batch: int) -> Iterator[Data]:
        """The batches from this one on, without an end."""
        while True:
            rows = self.rows(batch)
            x = self.x[rows]
            yield (moved(x, self.moves(batch), np) if self.augments else x), self.y[rows]
            batch += 1

    def __iter__(self) -> Iterator[Data]:
        return self.starting_at(0)


def moved(x: Any, moves: Any, library: Any) -> Any:
    """Images of which some are mirrored, each moved by some pixels, with black at its borders.

    Args:
        x: Array of shape `(samples, rows, columns, channels)`.
        moves: Array of int, `(samples, 3)`: whether an image is mirrored, and the pixels, of those
            of a margin, that are cut off above and on the left.
        library: `numpy` or `jax.numpy`.
    """
    samples, rows, columns, _ = x.shape
    margin = (MARGIN, MARGIN)
    padded = library.pad(x, ((0, 0), margin, margin, (0, 0)))
    column = library.arange(columns)
    column = library.where(moves[:, :1] == 1, column[::-1], column) + moves[:, 2:]
    row = library.arange(rows) + moves[:, 1:2]
    return padded[library.arange(samples)[:, None, None], row[:, :, None], column[:, None, :]]
