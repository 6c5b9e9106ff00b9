"""Loads a whole Keras model from a `.keras` file, after a look at what the file holds."""

import io
import json
import pathlib
import tempfile
import warnings
import zipfile

import h5py
import keras

from tfnode import files
from zoo import loading

SUFFIX = ".keras"
_MEMBERS = {"metadata.json", "config.json", "model.weights.h5"}
# In the module of an optimizer that Keras has for PyTorch alone.
_TORCH_OPTIMIZERS = ".backend.torch.optimizers."
# Of the groups and weights in a file; a layer has about four.
_MOST_ITEMS = 100_000


def load(content: bytes, source: str) -> keras.Model:
    """Returns the model in a `.keras` file, which is looked at and loaded as the same bytes.

    Only what Keras and this package define is made, and what the caller has registered: nothing in
    the file is run.

    Args:
        content: Bytes of the file.
        source: String, what errors call it.

    Raises:
        ValueError: If it is not a whole `.keras` file, holds anything but a configuration and
            weights, or has a layer that is not safe or not known.
    """
    try:
        _check_members(content)
        with files.temporary_in(pathlib.Path(tempfile.gettempdir())) as folder:
            path = folder / f"model{SUFFIX}"
            path.write_bytes(_for_every_backend(content))
            with warnings.catch_warnings():
                # Of a model that was compiled and never trained, about nothing that is missed.
                warnings.filterwarnings("ignore", "Skipping variable loading for optimizer")
                return keras.saving.load_model(path, safe_mode=True)
    except (
        *(AttributeError, ImportError, KeyError, NotImplementedError, OSError, RuntimeError),
        *(TypeError, ValueError, zipfile.BadZipFile),
    ) as error:
        raise ValueError(
            "A model is loaded from a whole `.keras` file, of layers that are safe and known: no "
            f"pickle and no Lambda is ever opened. Received: {source!r}, {len(content)} bytes. "
            "Save it by `model.save`, and register layers of your own by "
            f"`keras.saving.register_keras_serializable` before you load it. {error}"
        ) from error


def _for_every_backend(content: bytes) -> bytes:
    """The file with an optimizer of Keras where it has PyTorch's.

    Keras on PyTorch names its own subclasses, which need PyTorch and train on nothing else.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {member.filename: archive.read(member) for member in archive.infolist()}
    config = json.loads(members["config.json"])
    compiled = config.get("compile_config") if isinstance(config, dict) else None
    optimizer = compiled.get("optimizer") if isinstance(compiled, dict) else None
    if not isinstance(optimizer, dict):
        return content
    if _TORCH_OPTIMIZERS not in str(optimizer.get("module")):
        return content
    optimizer.update(module="keras.optimizers", registered_name=None)
    members["config.json"] = json.dumps(config).encode()
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    return written.getvalue()


def _check_members(content: bytes) -> None:
    # Keras stores them as they are: what grows when it is unpacked is no file of its own.
    most_bytes = 2 * len(content)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = archive.infolist()
        if {member.filename for member in members} != _MEMBERS or len(members) != len(_MEMBERS):
            found = [member.filename for member in members[:10]]
            raise ValueError(f"It must hold {sorted(_MEMBERS)}, and holds {found}")
        if sum(member.file_size for member in members) > most_bytes:
            raise ValueError("It grows when it is unpacked")
        weights = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(weights, "r") as file:
        loading.weights_below(file, most_bytes, _MOST_ITEMS)
