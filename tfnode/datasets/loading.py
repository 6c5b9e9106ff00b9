"""`load`: one call from a name to batches or arrays."""

import contextlib

import numpy as np

_SYNTHETIC = (
    "concentric_spheres/2d",
    "concentric_spheres/3d",
    "concentric_spheres/10d",
    "concentric_spheres/900d",
    "energy_landscape/three_minima",
)
_IMAGES = ("mnist", "cifar10")


def list_datasets():
    """Returns the names that `load` knows."""
    return [*_SYNTHETIC, *_IMAGES]


def load(name, split, batch_size=None, as_numpy=False, seed=0, data_dir=None):
    """Loads a split as a `tf.data.Dataset` of batches or as NumPy arrays.

    A synthetic set is generated at its first use, an image set is downloaded by TFDS unless it
    is already in the data directory.

    Examples:

    >>> train = load("concentric_spheres/2d", split="train", batch_size=128)
    >>> int(train.cardinality())
    15
    >>> x, y = load("concentric_spheres/2d", split="test", as_numpy=True)
    >>> x.shape, y.shape
    ((1000, 2), (1000,))

    Args:
        name: String, one of `list_datasets()`.
        split: `"train"`, `"test"`, or a slice in TFDS's notation, such as `"train[:100]"`.
        batch_size: Integer, the samples of a batch; needed unless `as_numpy`.
        as_numpy: Boolean. If true, returns arrays `(x, y)` in the set's own order.
        seed: Integer, the seed of the order of the training batches.
        data_dir: Optional path of the TFDS data directory; TFDS's own default if None.

    Returns:
        A dataset of `(inputs, labels)` batches, or two arrays. Inputs are float32, images in
        [0, 1]; labels are int64. Training splits are shuffled anew in every epoch and drop the
        last, incomplete batch; others keep order and remainder.

    Raises:
        ValueError: If the name is unknown, or `batch_size` is missing or not positive.
    """
    if name not in list_datasets():
        raise ValueError(
            f"`name` must be one of {list_datasets()}. Received: name={name!r}. Pick one of these."
        )
    if not as_numpy and (not isinstance(batch_size, int) or batch_size < 1):
        raise ValueError(
            "A dataset of batches needs a positive `batch_size`. "
            f"Received: batch_size={batch_size!r}. Pass one, or as_numpy=True for arrays."
        )
    x, y = _read(name, split, data_dir)
    return (_scaled(x), y) if as_numpy else batched(x, y, split, batch_size, seed)


def _read(name, split, data_dir):
    import tensorflow_datasets as tfds

    # Importing a builder registers it with TFDS.
    from tfnode.datasets import concentric_spheres, energy_landscape  # noqa: F401

    builder = tfds.builder(name, data_dir=data_dir)
    if not builder.is_prepared():
        # TFDS reports a download, which a generated set is not.
        quiet = contextlib.redirect_stdout(None) if name in _SYNTHETIC else contextlib.nullcontext()
        with quiet:
            builder.download_and_prepare()
    return tfds.as_numpy(builder.as_dataset(split=split, batch_size=-1, as_supervised=True))


def _scaled(x):
    return x.astype("float32") / np.float32(255) if x.dtype == np.uint8 else x


def batched(x, y, split, batch_size, seed):
    """Returns arrays as the `tf.data.Dataset` that `load` describes."""
    import tensorflow as tf

    training = split.startswith("train")
    dataset = tf.data.Dataset.from_tensor_slices((x, y))
    if training:
        dataset = dataset.shuffle(len(x), seed=seed, reshuffle_each_iteration=True)
    dataset = dataset.batch(batch_size, drop_remainder=training)
    if x.dtype == np.uint8:
        # Batches are scaled one by one: the whole set stays at a byte a pixel.
        dataset = dataset.map(lambda x, y: (tf.cast(x, tf.float32) / 255, y))
    options = tf.data.Options()
    # On one core, tuning makes training wait for half a millisecond a step.
    options.autotune.enabled = False
    return dataset.prefetch(2).with_options(options)
