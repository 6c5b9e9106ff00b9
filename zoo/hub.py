"""Models in repositories of the Hugging Face Hub, as bytes that have the hash they should have.

A repository holds `tfnode.json`, which names one file, its SHA-256 and its size, and that file: the
weights of a model of the zoo, or a whole Keras model. Nothing else is ever fetched, so that no
pickle is. Both are read from one commit.

| environment | |
|---|---|
| `HF_ENDPOINT` | the address of the hub, in place of `https://huggingface.co` |
| `HF_TOKEN`, `HF_HOME` | and whatever else `huggingface_hub` reads |
| `TFNODE_OFFLINE` | `1` forbids the network: only what the cache has is found |
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, Self

from tfnode import parts
from zoo import weights

PREFIX = "hf://"
# Of the description; a later one may say more, under the same number.
_FORMAT = 1
_WEIGHTS = "model.weights.h5"
_WHOLE = "model.keras"
_DESCRIPTION = "tfnode.json"
_CARD = "README.md"
# Of the description, which has some hundreds.
_MOST_BYTES = 2**16
_REPOSITORY = r"[\w-][\w.-]*/[\w-][\w.-]*"
_ADVICE = "An example is 'hf://user/repository', or with a commit 'hf://user/repository@3f2a91c'."


@dataclasses.dataclass(frozen=True)
class Architecture:
    """The model of the zoo that weights are of.

    Args:
        model: String, its name.
        classes: Integer, the number of its logits.
        solver: Dictionary, the solver of its training, serialized.
    """

    model: str
    classes: int
    solver: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Description:
    """What a repository says of its file.

    Args:
        sha256: String, the file's hash as 64 hexadecimal digits.
        size: Integer, its length in bytes.
        architecture: `Architecture` of the weights in it; None for a whole model.
    """

    sha256: str
    size: int
    architecture: Architecture | None

    @property
    def file(self) -> str:
        """String, the name of the file."""
        return _WHOLE if self.architecture is None else _WEIGHTS

    @classmethod
    def of(cls, content: bytes, architecture: Architecture | None) -> Self:
        """Returns the description of a file's content."""
        return cls(hashlib.sha256(content).hexdigest(), len(content), architecture)

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """Returns the description that `to_json` wrote, perhaps in a later version.

        Raises:
            KeyError, TypeError, ValueError: If it is none.
        """
        content = json.loads(text)
        sha256, size, of_zoo = (content[key] for key in ("sha256", "bytes", "architecture"))
        if content["format"] != _FORMAT:
            raise ValueError(f"format={content['format']!r}, which is another one than {_FORMAT}")
        if not re.fullmatch("[0-9a-f]{64}", sha256) or type(size) is not int or size < 0:
            raise ValueError(f"sha256={sha256!r}, bytes={size!r}")
        if of_zoo is None:
            return cls(sha256, size, None)
        architecture = Architecture(*(of_zoo[key] for key in ("model", "classes", "solver")))
        kinds = [type(value) for value in vars(architecture).values()]
        if kinds != [str, int, dict]:
            raise ValueError(f"{architecture}")
        return cls(sha256, size, architecture)

    def to_json(self) -> str:
        """The description as a JSON string."""
        of_zoo = self.architecture and dataclasses.asdict(self.architecture)
        content = {
            "format": _FORMAT,
            "file": self.file,
            "sha256": self.sha256,
            "bytes": self.size,
            "architecture": of_zoo,
        }
        return json.dumps(content, indent=1) + "\n"


def is_address(name: Any) -> bool:
    """Whether this is the address of a model in a repository."""
    return isinstance(name, str) and name.startswith(PREFIX)


def fetch(address: str) -> tuple[Description, bytes]:
    """Returns what a repository says of its model, and the model's file.

    Args:
        address: String, `hf://user/repository`, or `hf://user/repository@revision`.

    Raises:
        ImportError: If `huggingface_hub` is not installed.
        ValueError: If the address is not valid, or if the repository has no description, or a file
            of another hash.
        OSError: If the file is not available.
    """
    found = re.fullmatch(rf"{PREFIX}({_REPOSITORY})(?:@([\w.-]+))?", address, re.ASCII)
    if not found:
        raise ValueError(
            "A model on the hub is named by its repository, and a revision if it has one. "
            f"Received: name={address!r}. {_ADVICE}"
        )
    repository, revision = found.groups()
    path = _download(address, repository, _DESCRIPTION, revision)
    description = _described(address, path)
    # The cache's directory is called after the commit, from which the file comes, too.
    path = _download(address, repository, description.file, path.parent.name)
    return description, _checked(address, path, description)


def commit(address: str, content: bytes, description: Description, card: str, private: bool) -> str:
    """Writes a model to a repository, which is made if it is not there; a card that is there stays.

    Returns:
        String, the address of the model in this commit.

    Raises:
        ImportError: If `huggingface_hub` is not installed.
        ValueError: If the address is not valid.
        OSError: If the hub does not take it.
    """
    repository = address.removeprefix(PREFIX)
    if not is_address(address) or not re.fullmatch(_REPOSITORY, repository, re.ASCII):
        raise ValueError(
            "A model is pushed to a repository, and to no revision of it. "
            f"Received: address={address!r}. An example is 'hf://user/repository'."
        )
    hub = _hub()
    about = description.to_json().encode()
    files: Mapping[str, bytes] = {description.file: content, _DESCRIPTION: about}
    with _failures(
        address,
        "be one that may be written to",
        "Check the name, and that HF_TOKEN may write there.",
    ):
        api = hub.HfApi(endpoint=_endpoint(), library_name="tfnode")
        api.create_repo(repository, private=private, exist_ok=True)
        if not api.file_exists(repository, _CARD):
            files = {**files, _CARD: card.encode()}
        added = [hub.CommitOperationAdd(name, value) for name, value in files.items()]
        message = f"A model of tfnode, SHA-256 {description.sha256[:12]}"
        made = api.create_commit(repository, added, commit_message=message)
    return f"{PREFIX}{repository}@{made.oid}"


def _download(
    address: str, repository: str, file: str, revision: str | None = None
) -> pathlib.Path:
    advice = "Check the name, the connection and HF_TOKEN."
    with _failures(address, f"be in reach, and hold {file!r}", advice):
        found = _hub().hf_hub_download(
            repository,
            file,
            revision=revision,
            endpoint=_endpoint(),
            local_files_only=weights.is_offline(),
            library_name="tfnode",
        )
    return pathlib.Path(found)


def _described(address: str, path: pathlib.Path) -> Description:
    with path.open("rb") as file:
        text = file.read(_MOST_BYTES + 1)
    try:
        return Description.from_json(text)
    except (KeyError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(
            f"{_DESCRIPTION!r} of a repository must be what `zoo.push` writes. "
            f"Received: name={address!r} ({type(error).__name__}: {str(error)[:200]}). Push the "
            "model again."
        ) from error


def _checked(address: str, path: pathlib.Path, description: Description) -> bytes:
    """The content of a file, read once, if it is the one that is described."""
    with path.open("rb") as file:
        content = file.read(description.size + 1)
    found = hashlib.sha256(content).hexdigest()
    if found != description.sha256:
        raise ValueError(
            "A file must have the hash that its repository states. "
            f"Received: name={address!r}, expected sha256={description.sha256}, "
            f"{description.size} bytes, found sha256={found} in {str(path)!r}. It was not opened. "
            "Remove it from the cache and try again, or push the model again."
        )
    return content


def _endpoint() -> str | None:
    # `huggingface_hub` reads the variable only once, when it is imported.
    return os.environ.get("HF_ENDPOINT")


def _hub() -> Any:
    parts.require("A model on the hub", "huggingface_hub", install="'tfnode[hub]'")
    import huggingface_hub.errors

    return huggingface_hub


@contextlib.contextmanager
def _failures(address: str, rule: str, advice: str) -> Iterator[None]:
    """Says in three parts what the hub or the connection says in its own way."""
    errors = _hub().errors
    try:
        yield
    except (OSError, RuntimeError, ValueError, errors.HTTPError) as error:
        reason = next(iter(str(error).splitlines()), "")
        raise OSError(
            f"A repository must {rule}. Received: {address!r} "
            f"({type(error).__name__}: {reason[:200]}). {advice}"
        ) from error
