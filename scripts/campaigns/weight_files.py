"""Changed weight files against the zoo's loader: refused with a clear error, or loaded as they say.

A process of its own loads each, so that a crash inside HDF5 or an endless loop is seen as such.
"""

import contextlib
import pathlib
import shutil
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection

import h5py
import keras
import numpy as np

import zoo
import zoo.loading
from scripts.campaigns.running import Try
from scripts.campaigns.workers import Died, Worker, answering

MODEL = "energy_landscape"
SECONDS = 10
_SECONDS_TO_START = 120

# What an answer begins with.
LOADED, REFUSED = "loaded", "refused: "


@contextlib.contextmanager
def campaign(directory: pathlib.Path) -> Iterator[Try]:
    original = saved(directory)
    with contextlib.ExitStack() as stack:

        def started() -> Worker:
            worker = stack.enter_context(Worker(answer_for_ever))
            worker.answer(_SECONDS_TO_START)
            return worker

        worker = started()

        def try_one(rng: np.random.Generator) -> int:
            nonlocal worker
            path, told = changed(original, rng)
            worker.send(str(path))
            try:
                answer = worker.answer(SECONDS)
            except (Died, TimeoutError) as error:
                worker.kill()
                worker = started()
                raise AssertionError(f"{told}: {error}") from error
            assert answer.startswith((LOADED, REFUSED)), f"{told}: {answer}"
            return 1

        yield try_one


def saved(directory: pathlib.Path) -> pathlib.Path:
    """A weight file as it should be."""
    path = directory / f"original{zoo.loading.SUFFIX}"
    zoo.get_model(MODEL, seed=0).save_weights(path)
    return path


# === The loader ===
def answer_for_ever(connection: Connection) -> None:
    model = zoo.get_model(MODEL, seed=1)
    answering(connection, lambda path: loaded(model, pathlib.Path(path)))


def loaded(model: keras.Model, path: pathlib.Path) -> str:
    """What comes of loading a file, in a word or in those of its error."""
    try:
        zoo.loading.load(model, path)
    except (ValueError, FileNotFoundError) as error:
        text = str(error)
        return REFUSED + text if "Received: " in text else f"an unclear error: {text}"
    except Exception as error:
        return f"{type(error).__name__} and no ValueError: {error}"
    written = path.with_name(f"written{zoo.loading.SUFFIX}")
    model.save_weights(written)
    with h5py.File(path, "r") as file, h5py.File(written, "r") as ours:
        names: list[str] = []
        ours.visit(names.append)
        arrays = [name for name in names if isinstance(ours[name], h5py.Dataset)]
        is_same = all(n in file and np.array_equal(file[n][()], ours[n][()]) for n in arrays)
    return LOADED if is_same else "loaded, and not as the file says"


# === Changes ===
def changed(original: pathlib.Path, rng: np.random.Generator) -> tuple[pathlib.Path, str]:
    """A changed copy of a file beside it, and what was done to it."""
    path = original.with_name(f"changed{zoo.loading.SUFFIX}")
    shutil.copyfile(original, path)
    change = CHANGES[rng.integers(len(CHANGES))]
    change(path, rng)
    return path, change.__name__


def _of_bytes(change: Callable[[bytearray, np.random.Generator], bytes]) -> Callable:
    def changing(path: pathlib.Path, rng: np.random.Generator) -> None:
        path.write_bytes(change(bytearray(path.read_bytes()), rng))

    changing.__name__ = change.__name__
    return changing


def _in_groups(change: Callable[[h5py.File, str, np.random.Generator], None]) -> Callable:
    """A change of an item, of which there are groups and arrays."""

    def changing(path: pathlib.Path, rng: np.random.Generator) -> None:
        with h5py.File(path, "r+") as file:
            names: list[str] = []
            file.visit(names.append)
            change(file, names[rng.integers(len(names))], rng)

    changing.__name__ = change.__name__
    return changing


def some_bytes_are_others(data: bytearray, rng: np.random.Generator) -> bytes:
    for _ in range(rng.integers(1, 20)):
        data[rng.integers(len(data))] = rng.integers(256)
    return data


def bits_of_the_head_are_flipped(data: bytearray, rng: np.random.Generator) -> bytes:
    for _ in range(rng.integers(1, 4)):
        data[rng.integers(2048)] ^= 1 << int(rng.integers(8))
    return data


def the_end_is_missing(data: bytearray, rng: np.random.Generator) -> bytes:
    return data[: rng.integers(len(data))]


def the_start_is_missing(data: bytearray, rng: np.random.Generator) -> bytes:
    return data[rng.integers(1, len(data)) :]


def a_stretch_is_zero(data: bytearray, rng: np.random.Generator) -> bytes:
    start, length = rng.integers(len(data)), rng.integers(1, 4096)
    return data[:start] + bytes(length) + data[start + length :]


def a_stretch_comes_twice(data: bytearray, rng: np.random.Generator) -> bytes:
    start, length = rng.integers(len(data)), rng.integers(1, 4096)
    return data[: start + length] + data[start:]


def nothing_but_noise(data: bytearray, rng: np.random.Generator) -> bytes:
    return rng.bytes(int(rng.integers(0, 10_000)))


def noise_after_the_signature(data: bytearray, rng: np.random.Generator) -> bytes:
    return data[:8] + rng.bytes(int(rng.integers(0, 10_000)))


def an_item_is_missing(file: h5py.File, name: str, rng: np.random.Generator) -> None:
    del file[name]


def an_item_is_text(file: h5py.File, name: str, rng: np.random.Generator) -> None:
    del file[name]
    file[name] = "weights"


def an_item_has_another_shape(file: h5py.File, name: str, rng: np.random.Generator) -> None:
    del file[name]
    file[name] = rng.normal(size=rng.integers(0, 5, size=rng.integers(0, 4)))


def an_item_is_of_another_type(file: h5py.File, name: str, rng: np.random.Generator) -> None:
    shape = getattr(file[name], "shape", ())
    del file[name]
    dtype = rng.choice(["int8", "uint64", "complex64", "bool", "S3", "float16"])
    file[name] = np.ones(shape).astype(dtype)


def numbers_are_not_finite(file: h5py.File, name: str, rng: np.random.Generator) -> None:
    if isinstance(file[name], h5py.Dataset) and file[name].dtype.kind == "f":
        file[name][...] = rng.choice([np.nan, np.inf, -np.inf, 1e300])


def an_item_claims_to_be_huge(file: h5py.File, name: str, rng: np.random.Generator) -> None:
    del file[name]
    size = 2 ** int(rng.integers(32, 45))
    file.create_dataset(name, shape=(size,), dtype="float32", chunks=(1024,))


def a_link_leads_in_a_circle(file: h5py.File, name: str, rng: np.random.Generator) -> None:
    del file[name]
    file[name] = h5py.SoftLink(f"/{name}")


def a_group_holds_itself(file: h5py.File, name: str, rng: np.random.Generator) -> None:
    group = file[name] if isinstance(file[name], h5py.Group) else file[name].parent
    group["again"] = file["/"]


def a_link_leads_out_of_the_file(file: h5py.File, name: str, rng: np.random.Generator) -> None:
    del file[name]
    file[name] = h5py.ExternalLink(rng.choice(["/etc/passwd", "/dev/zero", file.filename]), "/")


def groups_are_deep(file: h5py.File, name: str, rng: np.random.Generator) -> None:
    group = file["/layers"]
    for _ in range(int(10 ** rng.uniform(1.5, 3.5))):
        group = group.create_group("a")


def groups_are_many(file: h5py.File, name: str, rng: np.random.Generator) -> None:
    for i in range(rng.integers(100, 2000)):
        file["/layers"].create_group(f"more_{i}")


CHANGES = (
    *map(
        _of_bytes,
        (
            some_bytes_are_others,
            bits_of_the_head_are_flipped,
            the_end_is_missing,
            the_start_is_missing,
            a_stretch_is_zero,
            a_stretch_comes_twice,
            nothing_but_noise,
            noise_after_the_signature,
        ),
    ),
    *map(
        _in_groups,
        (
            an_item_is_missing,
            an_item_is_text,
            an_item_has_another_shape,
            an_item_is_of_another_type,
            numbers_are_not_finite,
            an_item_claims_to_be_huge,
            a_link_leads_in_a_circle,
            a_group_holds_itself,
            a_link_leads_out_of_the_file,
            groups_are_deep,
            groups_are_many,
        ),
    ),
)
