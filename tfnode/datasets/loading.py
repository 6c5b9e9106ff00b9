"""`load`: one call from a name to batches or arrays."""

import contextlib
import pathlib
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from tfnode import arguments, files, parts
from tfnode.typing import PathLike

if TYPE_CHECKING:
    import tensorflow as tf

_SYNTHETIC = (
    "concentric_spheres/2d",
    "concentric_spheres/3d",
    "concentric_spheres/10d",
    "concentric_spheres/900d",
    "energy_landscape/three_minima",
)
_IMAGES = ("mnist", "cifar10")

# How long to wait for another process that prepares the same set, and may download it.
_SECONDS = 3600

# A split, or a slice of one, or several of them, in TFDS's notation.
_BOUND = r"-?[\d_]*(%|shard)?"
_SLICE = rf"(train|validation|test|all)(\[{_BOUND}:?{_BOUND}\](\(\w+\))?)?"
_SPLIT = re.compile(rf"{_SLICE}(\+{_SLICE})*")


def list_datasets() -> list[str]:
    """Returns the names that `load` knows."""
    return [*_SYNTHETIC, *_IMAGES]


def load(
    name: str,
    split: str,
    batch_size: int | None = None,
    as_numpy: bool = False,
    seed: int = 0,
    data_dir: PathLike | None = None,
) -> "tf.data.Dataset | tuple[np.ndarray, np.ndarray]":
    """Loads a split as a `tf.data.Dataset` of batches or as NumPy arrays.

    A synthetic set is generated when it is first used; TFDS downloads an image set unless it is
    already in the data directory. Of several processes that need it first, one prepares it, and
    the others wait.

    Examples:

    >>> train = load("concentric_spheres/2d", split="train", batch_size=128)
    >>> int(train.cardinality())
    15
    >>> x, y = load("concentric_spheres/2d", split="test", as_numpy=True)
    >>> x.shape, y.shape
    ((1000, 2), (1000,))

    Args:
        name: String, one of `list_datasets()`.
        split: `"train"`, `"test"`, of a synthetic set also `"validation"`, or a slice in TFDS's
            notation, such as `"train[:100]"`.
        batch_size: Integer, the samples in a batch; required unless `as_numpy`.
        as_numpy: Boolean. If true, returns arrays `(x, y)` in the set's own order.
        seed: Integer, which determines the order of the training batches.
        data_dir: Optional path of the TFDS data directory; TFDS's own default if None.

    Returns:
        A dataset of `(inputs, labels)` batches, or two arrays. Inputs are float32, images in
        [0, 1]; labels are int64. Training splits are shuffled anew in every epoch and drop the
        last, incomplete batch; others keep their order and the remainder.

    Raises:
        ValueError: If the name is unknown, if `batch_size` is missing or not positive, if another
            argument is not as described, or if a set is still to be prepared and the data directory
            cannot be written to.
        ImportError: If TensorFlow Datasets is not installed.
    """
    arguments.choice("name", name, list_datasets(), advice="Pick one of these.")
    if not isinstance(split, str) or not _SPLIT.fullmatch(split):
        rule = '`split` must be "train", "validation", "test" or a slice of one, as TFDS writes it'
        raise arguments.refused(rule, "split", split, 'An example is "train[:100]".')
    if name in _IMAGES and "validation" in split:
        rule = f"{name!r} has the splits of its authors, a training set and a test set"
        raise arguments.refused(rule, "split", split, 'Take a part of "train" that is left out.')
    as_numpy = arguments.flag("as_numpy", as_numpy)
    if not as_numpy or batch_size is not None:
        advice = "Pass one, or as_numpy=True for arrays."
        batch_size = arguments.count("batch_size", batch_size, advice=advice)
    seed = arguments.count("seed", seed, 0, advice="The default is 0.")
    if data_dir is not None:
        arguments.path("data_dir", data_dir)
    # It imports the second, and does not say so to an installer.
    parts.require("A data set", "tensorflow_datasets", "importlib_resources")
    x, y = _read(name, split, data_dir)
    if batch_size is None or as_numpy:
        return _scaled(x), y
    if split.startswith("train") and len(x) < batch_size:
        rule = f"Training batches are full, and {split!r} of {name!r} has {len(x)} samples"
        raise arguments.refused(rule, "batch_size", batch_size, "Pass a smaller one.")
    return batched(x, y, split, batch_size, seed)


def _read(name: str, split: str, data_dir: PathLike | None) -> tuple[np.ndarray, np.ndarray]:
    import tensorflow_datasets as tfds

    # Importing a builder registers it with TFDS.
    from tfnode.datasets import concentric_spheres, energy_landscape  # noqa: F401

    builder = tfds.builder(name, data_dir=data_dir)
    if not _is_prepared(builder):
        _prepare(name, builder)
        builder = tfds.builder(name, data_dir=data_dir)
    _check_slices(name, split, builder.info.splits)
    return tfds.as_numpy(builder.as_dataset(split=split, batch_size=-1, as_supervised=True))


def _check_slices(name: str, split: str, splits: Any) -> None:
    """Raises where a slice has no sample, or one that is not there."""
    for part in split.split("+"):
        try:
            # Less than none where the end lies before the start.
            is_good = splits[part].num_examples > 0
        except ValueError:
            is_good = False
        if not is_good:
            sizes = ", ".join(f"{key} has {info.num_examples}" for key, info in splits.items())
            rule = "A slice of a split must have samples, all of them in the split"
            raise arguments.refused(rule, "split", split, f"Of {name!r} {sizes}.")


def _prepare(name: str, builder: Any) -> None:
    """Prepares a set once, however many processes ask for it, or die while they prepare it."""
    import tensorflow_datasets as tfds

    place = pathlib.Path(builder.data_path)
    root = place.parents[1 + name.count("/")]
    files.check_writable(root, "data_dir")
    with files.locked(place.with_name(f".{place.name}.lock"), _SECONDS):
        if _is_prepared(builder):
            return
        with files.beside(place) as written:
            private = tfds.builder(name, data_dir=written.parent / "tfds")
            with _generating() if name in _SYNTHETIC else contextlib.nullcontext():
                private.download_and_prepare(download_dir=root / "downloads")
            pathlib.Path(private.data_path).rename(written)


def _is_prepared(builder: Any) -> bool:
    # Of a directory that is not there TFDS warns.
    return pathlib.Path(builder.data_path).is_dir() and builder.is_prepared()


@contextlib.contextmanager
def _generating() -> Iterator[None]:
    """Without what TFDS says of downloads, and its bars, which a log shows as broken lines."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.utils import tqdm_utils

    has_bars = not isinstance(tqdm_utils.tqdm(disable=True), tqdm_utils.EmptyTqdm)
    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(None):
            yield
    finally:
        tfds.display_progress_bar(has_bars)


def _scaled(x: np.ndarray) -> np.ndarray:
    return x.astype("float32") / np.float32(255) if x.dtype == np.uint8 else x


def batched(
    x: np.ndarray, y: np.ndarray, split: str, batch_size: int, seed: int
) -> "tf.data.Dataset":
    """Returns arrays as the `tf.data.Dataset` that `load` describes."""
    import tensorflow as tf

    training = split.startswith("train")
    dataset = tf.data.Dataset.from_tensor_slices((x, y))
    if training:
        dataset = dataset.shuffle(len(x), seed=seed, reshuffle_each_iteration=True)
    dataset = dataset.batch(batch_size, drop_remainder=training)
    if x.dtype == np.uint8:
        # Batches are scaled one by one, so that the whole set stays at one byte a pixel.
        dataset = dataset.map(lambda x, y: (tf.cast(x, tf.float32) / 255, y))
    options = tf.data.Options()
    # On one core, tuning makes training wait for half a millisecond in each step.
    options.autotune.enabled = False
    return dataset.prefetch(2).with_options(options)
