"""Whether a directory has all of a SavedModel: nothing is missing, and nothing was cut short."""

import math
import pathlib


def is_complete(version: pathlib.Path) -> bool:
    """Whether a directory, which is no link to one, has all of a SavedModel.

    The graph is parsed, and the weights fill as many bytes as their index says. They are not read,
    as they may be large.

    Args:
        version: Path of the directory.
    """
    if version.is_symlink():
        return False
    try:
        return _has_graph(version / "saved_model.pb") and _has_weights(version / "variables")
    except OSError:
        return False


def _has_graph(path: pathlib.Path) -> bool:
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    try:
        # An empty file is a message without any field.
        return bool(saved_model_pb2.SavedModel.FromString(path.read_bytes()).meta_graphs)
    except DecodeError:
        return False


def _has_weights(folder: pathlib.Path) -> bool:
    """Whether the shards are all there, none is empty, and together they hold the weights."""
    shards = list(folder.glob("variables.data-*-of-*"))
    count = {path.name.rpartition("-")[2] for path in shards}
    if count != {f"{len(shards):05d}"}:
        return False
    sizes = [path.stat().st_size for path in shards]
    needed = _size(folder / "variables")
    return needed is not None and all(sizes) and sum(sizes) >= needed


def _size(checkpoint: pathlib.Path) -> int | None:
    """The bytes of the tensors that an index lists; None if it cannot be read."""
    import tensorflow as tf

    if not checkpoint.with_suffix(".index").is_file():
        return None
    try:
        reader = tf.train.load_checkpoint(str(checkpoint))
        dtypes = reader.get_variable_to_dtype_map()
        return sum(
            # The index does not have the length of a text: that of the names of the weights.
            len(reader.get_tensor(name))
            if dtypes[name] == tf.string
            else dtypes[name].size * math.prod(shape)
            for name, shape in reader.get_variable_to_shape_map().items()
        )
    except (IndexError, tf.errors.OpError):
        return None
