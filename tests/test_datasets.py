"""The generated data sets against their definitions, and `load`."""

import concurrent.futures
import itertools
import os
import pathlib

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import tensorflow as tf
import tensorflow_datasets as tfds
from tensorflow_datasets.core.utils import tqdm_utils

from tfnode.datasets import concentric_spheres, energy_landscape, list_datasets, load
from tfnode.datasets.concentric_spheres import ConcentricSpheres, ConcentricSpheresConfig
from tfnode.datasets.energy_landscape import (
    THREE_MINIMA,
    EnergyLandscape,
    EnergyLandscapeConfig,
    Potential,
    settle,
)

NAMES = (
    "concentric_spheres/2d",
    "concentric_spheres/3d",
    "concentric_spheres/10d",
    "concentric_spheres/900d",
    "energy_landscape/three_minima",
    "mnist",
    "cifar10",
)
# name: (shape of an input, examples in train and in test, classes)
GENERATED = {
    "concentric_spheres/2d": ((2,), (2000, 1000), 2),
    "concentric_spheres/3d": ((3,), (2000, 1000), 2),
    "concentric_spheres/10d": ((10,), (2000, 1000), 2),
    "energy_landscape/three_minima": ((2,), (2000, 1000), 3),
}
IMAGES = {
    "mnist": ((28, 28, 1), (60_000, 10_000), 10),
    "cifar10": ((32, 32, 3), (50_000, 10_000), 10),
}


@pytest.fixture(autouse=True)
def _fresh_keras():
    """No Keras here: its clean-up between tests would take longer than the tests."""


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("tfds")


@pytest.fixture(scope="session")
def arrays(data_dir):
    """Every generated set but the largest, as arrays, by name and split."""
    return {
        (name, split): load(name, split, as_numpy=True, data_dir=data_dir)
        for name in GENERATED
        for split in ("train", "test", "validation")
    }


# TFDS's DatasetBuilderTestCase compares a download with recorded files in dummy_data and their
# checksums. Nothing is downloaded here, so the same things are tested on the real builders.
@pytest.mark.parametrize(
    "cls, names, features",
    [
        (ConcentricSpheres, ["2d", "3d", "10d", "900d"], ("point", "label")),
        (EnergyLandscape, ["three_minima"], ("state", "label")),
    ],
)
def test_builders(cls, names, features, tmp_path):
    assert list(cls.builder_configs) == names
    for name in names:
        builder = cls(config=name, data_dir=tmp_path)
        assert builder.info.full_name == f"{cls.name}/{name}/1.1.0"
        assert builder.info.supervised_keys == features
        assert tuple(builder.info.features) == features
        shape, _, classes = GENERATED.get(f"{cls.name}/{name}", ((900,), None, 2))
        inputs, labels = (builder.info.features[key] for key in features)
        assert (inputs.shape, inputs.np_dtype) == (shape, np.float32)
        assert (labels.num_classes, labels.np_dtype) == (classes, np.int64)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", GENERATED)
def test_splits_hold_every_example_once(name, data_dir, arrays):
    info = tfds.builder(name, data_dir=data_dir).info
    counts = {**dict(zip(("train", "test"), GENERATED[name][1])), "validation": 1000}
    assert {split: info.splits[split].num_examples for split in info.splits} == counts
    x = np.concatenate([arrays[name, split][0] for split in counts])
    # The splits are disjoint, and no example comes twice.
    assert len(np.unique(x, axis=0)) == 4000


@pytest.mark.parametrize("name", IMAGES)
def test_images_have_the_splits_of_their_authors(name):
    with pytest.raises(ValueError, match=f"'{name}' has the splits of its authors.*'validation"):
        load(name, "validation[:10]", as_numpy=True)


@pytest.mark.parametrize("cls, name", [(ConcentricSpheres, "900d"), (EnergyLandscape, None)])
def test_keys_are_unique(cls, name, tmp_path):
    examples = list(cls(config=name, data_dir=tmp_path)._generate_examples("test"))
    assert [key for key, _ in examples] == list(range(1000))


def test_a_set_lands_in_its_data_dir_only(data_dir, arrays):
    assert sorted(path.name for path in data_dir.iterdir() if path.name != "downloads") == [
        "concentric_spheres",
        "energy_landscape",
    ]


def test_a_place_that_cannot_be_written_to_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="`data_dir` must be a directory that can be written to"):
        load("concentric_spheres/2d", "test", as_numpy=True, data_dir=tmp_path / "file")


def test_several_that_need_a_set_first_prepare_it_once(tmp_path, monkeypatch, capfd, caplog):
    """In threads, whose locks are as those of processes, and in silence."""
    prepared = []
    prepare = ConcentricSpheres.download_and_prepare

    def noted(self, **options):
        prepared.append(self)
        prepare(self, **options)

    monkeypatch.setattr(ConcentricSpheres, "download_and_prepare", noted)
    # What a killed process has left.
    left = tmp_path / "concentric_spheres" / "2d" / ".writing-left"
    left.mkdir(parents=True)
    with concurrent.futures.ThreadPoolExecutor(6) as executor:
        read = lambda _: load("concentric_spheres/2d", "test", as_numpy=True, data_dir=tmp_path)
        (x, _), *others = executor.map(read, range(6))
    assert len(prepared) == 1
    assert all((x == other).all() for other, _ in others)
    assert capfd.readouterr() == ("", "")
    assert [record for record in caplog.records if record.levelname != "DEBUG"] == []
    # The bars of other data are as before.
    assert not isinstance(tqdm_utils.tqdm(disable=True), tqdm_utils.EmptyTqdm)
    names = {path.name for path in left.parent.iterdir()}
    assert names == {"1.1.0", ".1.1.0.lock"}


@pytest.mark.parametrize("dim", [2, 3, 10, 900])
@pytest.mark.parametrize("num_examples", [2000, 1000])
def test_spheres_lie_in_their_shells(dim, num_examples):
    x, y = concentric_spheres.sample(dim, num_examples, seed=0)
    assert (x.shape, x.dtype, y.shape, y.dtype) == (
        (num_examples, dim),
        np.float32,
        (num_examples,),
        np.int64,
    )
    radius = np.linalg.norm(x.astype("float64"), axis=1)
    shells = [(0.1, 0.15, 0, 4), (0.25, 0.3, 1, 2), (0.4, 0.45, 0, 4)]
    inside = [(a - 1e-6 <= radius) & (radius <= b + 1e-6) for a, b, _, _ in shells]
    assert [mask.sum() for mask in inside] == [num_examples // part for *_, part in shells]
    for mask, (_, _, label, _) in zip(inside, shells):
        assert set(y[mask]) == {label}


@pytest.mark.parametrize("dim", [2, 10])
def test_the_law_of_the_spheres(dim):
    x, y = concentric_spheres.sample(dim, 40_000, seed=1)
    x = x[y == 1].astype("float64")
    radius = np.linalg.norm(x, axis=1)
    # ((r - r_min) / (r_max - r_min))^dim is uniform.
    uniform = ((radius - 0.25) / 0.05) ** dim
    assert scipy.stats.kstest(uniform, "uniform").pvalue > 0.01
    direction = x / radius[:, None]
    # The mean of 20000 isotropic directions: 0, with standard deviation 1/sqrt(20000 dim) each.
    assert np.max(np.abs(direction.mean(axis=0))) < 4 / np.sqrt(20_000 * dim)
    np.testing.assert_allclose(direction.T @ direction / 20_000, np.eye(dim) / dim, atol=0.02)
    # The radius tells nothing about the direction.
    assert np.max(np.abs(np.corrcoef(radius, direction.T)[0, 1:])) < 4 / np.sqrt(20_000)


def test_the_slope_is_the_derivative_of_the_product():
    # V(x) = 0.2 (x - 2)(x - 0.5)(x + 1)(x + 0.6)(x - 1.6) x
    product = 0.2 * np.poly1d([2.0, 0.5, -1.0, -0.6, 1.6, 0.0], r=True)
    np.testing.assert_allclose(THREE_MINIMA.slope, np.polyder(product).coeffs, atol=1e-14)
    assert THREE_MINIMA.slope == (1.2, -2.5, -0.768, 2.364, 0.176, -0.192)
    x = np.linspace(-1.5, 2.5, 9)
    np.testing.assert_allclose(THREE_MINIMA.derivative(x), np.polyder(product)(x), atol=1e-12)


def test_the_minima_are_minima():
    roots = np.sort(np.roots(THREE_MINIMA.slope).real)
    np.testing.assert_allclose(THREE_MINIMA.minima, roots[::2], atol=5e-4)
    curvature = np.polyval(np.polyder(THREE_MINIMA.slope), roots)
    assert list(np.sign(curvature)) == [1, -1, 1, -1, 1]


def test_labels_are_those_of_another_solver(arrays):
    states, labels = arrays["energy_landscape/three_minima", "test"]
    slope = np.polynomial.Polynomial(THREE_MINIMA.slope[::-1])

    def field(t, z):
        x, v = np.split(z, 2)
        return np.concatenate([v, -slope(x) - 0.2 * v])

    # All particles at once: their steps are then the smallest that any of them needs.
    z0 = states[:200].T.astype("float64").ravel()
    solution = scipy.integrate.solve_ivp(field, (0.0, 100.0), z0, "DOP853", rtol=1e-11, atol=1e-12)
    x, v = np.split(solution.y[:, -1], 2)
    assert np.max(np.abs(v)) < 1e-3
    distance = np.abs(x[:, None] - THREE_MINIMA.minima)
    assert np.max(distance.min(axis=1)) < 0.02
    np.testing.assert_array_equal(distance.argmin(axis=1), labels[:200])


def test_the_law_of_the_particles(arrays):
    states, labels = arrays["energy_landscape/three_minima", "train"]
    for column, (low, high) in zip(states.T, [(-1.0, 2.0), (-2.0, 2.0)]):
        assert scipy.stats.kstest(column, "uniform", (low, high - low)).pvalue > 0.01
    assert abs(np.corrcoef(states.T)[0, 1]) < 4 / np.sqrt(2000)
    # A golden of version 1.1.0: another count is another data set.
    assert np.bincount(labels).tolist() == [716, 711, 573]


def test_a_particle_that_has_not_come_to_rest_is_refused():
    with pytest.raises(ValueError, match=r"Received: 1 of 2"):
        settle(THREE_MINIMA, 0.2, [[0.269, 0.0], [2.0, 2.0]], t1=5.0)


def test_resting_between_minima_is_refused():
    # On a maximum, without a push, the particle rests where no class is.
    with pytest.raises(ValueError, match=r"Received: 1 of 1"):
        settle(Potential.from_minima((-1.0, 1.0)), 0.2, [[0.0, 0.0]])


def _build(config, cls, path):
    builder = cls(config=config, data_dir=path)
    builder.download_and_prepare()
    return [
        tfds.as_numpy(builder.as_dataset(split=s, batch_size=-1, as_supervised=True))
        for s in ("train", "test")
    ]


# Whose particles rest soon, after few steps.
STRONG = EnergyLandscapeConfig(name="strong", friction=2.0, t1=30.0, step_size=0.1)


@pytest.mark.parametrize(
    "cls, config",
    [
        (ConcentricSpheres, ConcentricSpheresConfig(name="4d", dim=4)),
        (EnergyLandscape, STRONG),
    ],
)
def test_builds_are_reproducible(cls, config, tmp_path):
    first, second = (_build(config, cls, tmp_path / str(i)) for i in range(2))
    for (x, y), (x_again, y_again) in zip(first, second):
        np.testing.assert_array_equal(x, x_again)
        np.testing.assert_array_equal(y, y_again)


def test_seeds_differ():
    # A seed of the builder and the index of a split.
    seeds = [(0, 0), (0, 1), (1, 0), (1, 1)]
    spheres = [concentric_spheres.sample(3, 8, seed)[0] for seed in seeds]
    states = [STRONG.sample(8, seed)[0] for seed in seeds]
    for some in (spheres, states):
        for a, b in itertools.combinations(some, 2):
            assert not np.any(a == b)


@pytest.mark.parametrize(
    "minima",
    [(-1.0, 1.0), (-2.0, 0.5, 1.0, 2.5), (-2.0, -1.0, 0.0, 1.0, 2.0)],
)
def test_any_minima(minima):
    potential = Potential.from_minima(minima, scale=2.0)
    assert potential.minima == minima
    maxima = [(a + b) / 2 for a, b in itertools.pairwise(minima)]
    roots = np.sort(np.roots(potential.slope).real)
    np.testing.assert_allclose(roots, sorted([*minima, *maxima]), atol=1e-9)
    assert potential.slope[0] == 2.0
    curvature = np.polyval(np.polyder(potential.slope), roots)
    assert list(np.sign(curvature)) == [(-1) ** i for i in range(len(roots))]
    # A particle that starts at rest beside a minimum, inside its basin, goes there.
    starts = [[m + d, 0.0] for m in minima for d in (-0.05, 0.05)]
    assert (
        settle(potential, 0.5, starts, t1=40.0).tolist()
        == np.repeat(range(len(minima)), 2).tolist()
    )


def test_maxima_may_be_given():
    potential = Potential.from_minima((-1.0, 1.0), maxima=(0.5,), scale=1.0)
    np.testing.assert_allclose(potential.slope, [1.0, -0.5, -1.0, 0.5])
    assert settle(potential, 1.0, [[0.45, 0.0], [0.55, 0.0]]).tolist() == [0, 1]


@pytest.mark.parametrize(
    "minima, maxima",
    [
        ((1.0, -1.0), None),
        ((1.0, 1.0), None),
        ((), None),
        ((-1.0, 1.0), ()),
        ((-1.0, 1.0), (0.0, 0.5)),
        ((-1.0, 1.0), (2.0,)),
        ((-1.0, 1.0), (-1.0,)),
        ((-1.0, 0.0, 1.0), (0.5, -0.5)),
        ((-1.0, float("nan")), None),
    ],
)
def test_minima_and_maxima_must_interleave(minima, maxima):
    with pytest.raises(ValueError, match="Received: minima="):
        Potential.from_minima(minima, maxima)


def test_in_two_dimensions_a_label_is_a_number_in_mixed_radix(tmp_path):
    fast = {"friction": 1.0, "t1": 40.0, "step_size": 0.05}
    config = EnergyLandscapeConfig(name="plane", dims=2, v_range=(-1.0, 1.0), **fast)
    states, labels = config.sample(64, seed=0)
    assert states.shape == (64, 4)
    for coordinate, digits in enumerate((labels // 3, labels % 3)):
        alone = settle(THREE_MINIMA, z0=states[:, coordinate::2], **fast)
        np.testing.assert_array_equal(digits, alone)
    assert set(labels) == set(range(9))
    info = EnergyLandscape(config=config, data_dir=tmp_path).info
    assert info.features["label"].num_classes == 9
    assert info.features["state"].shape == (4,)


def test_the_label_is_that_of_the_rounded_state():
    config = EnergyLandscape.builder_configs["three_minima"]
    states, labels = config.sample(100, seed=7)
    assert states.dtype == np.float32
    np.testing.assert_array_equal(settle(THREE_MINIMA, 0.2, states), labels)


def test_list_datasets():
    assert tuple(list_datasets()) == NAMES


def _image_dir():
    path = os.environ.get("TFDS_DATA_DIR")
    missing = [name for name in IMAGES if not path or not (pathlib.Path(path) / name).is_dir()]
    if missing:
        pytest.skip(f"{missing} not prepared: TFDS_DATA_DIR is {path!r}")
    return path


@pytest.mark.parametrize("name", [*GENERATED, *IMAGES])
@pytest.mark.parametrize("split", ["train", "test"])
def test_arrays(name, split, arrays):
    shape, counts, classes = {**GENERATED, **IMAGES}[name]
    count = counts[split == "test"]
    if name in IMAGES:
        part = f"{split}[:500]"
        x, y = load(name, part, as_numpy=True, data_dir=_image_dir())
        assert (x.min(), x.max()) == (0.0, 1.0)
        # Multiples of 1/255, as they were stored.
        np.testing.assert_allclose(x * 255, np.round(x * 255), atol=1e-4)
        builder = tfds.builder(name, data_dir=_image_dir())
        assert builder.info.splits[split].num_examples == count
        count = 500
    else:
        x, y = arrays[name, split]
    assert (x.shape, x.dtype) == ((count, *shape), np.float32)
    assert (y.shape, y.dtype) == ((count,), np.int64)
    assert set(y) == set(range(classes))


def test_pixels_and_labels_belong_together():
    data_dir = _image_dir()
    for name in IMAGES:
        raw = tfds.load(
            name, split="test[:20]", data_dir=data_dir, as_supervised=True, download=False
        )
        images, labels = zip(*tfds.as_numpy(raw))
        x, y = load(name, "test[:20]", as_numpy=True, data_dir=data_dir)
        np.testing.assert_allclose(x, np.stack(images) / 255, rtol=1e-6)
        np.testing.assert_array_equal(y, labels)
        ((batch, batch_labels),) = load(name, "test[:20]", batch_size=20, data_dir=data_dir)
        np.testing.assert_allclose(batch, x, rtol=1e-6)
        np.testing.assert_array_equal(batch_labels, y)


def _batches(split, data_dir, batch_size=128, **options):
    return load("concentric_spheres/2d", split, batch_size, data_dir=data_dir, **options)


def test_training_batches_drop_the_remainder_and_others_keep_it(data_dir, arrays):
    train, test = _batches("train", data_dir), _batches("test", data_dir)
    assert isinstance(train, tf.data.Dataset)
    spec = (tf.TensorSpec((128, 2), tf.float32), tf.TensorSpec((128,), tf.int64))
    assert train.element_spec == spec
    assert [len(y) for _, y in train] == [128] * 15
    assert [len(y) for _, y in test] == [128] * 7 + [104]
    assert [len(y) for _, y in _batches("train[:100]", data_dir, 30)] == [30] * 3
    # Other splits keep their order, too.
    x, y = arrays["concentric_spheres/2d", "test"]
    np.testing.assert_array_equal(np.concatenate([batch for batch, _ in test]), x)
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in test]), y)


def _epoch(dataset):
    return np.concatenate([x for x, _ in dataset])


def test_training_batches_are_shuffled_anew_and_reproducibly(data_dir, arrays):
    x, y = arrays["concentric_spheres/2d", "train"]
    # The builder goes shell by shell, and 2000 is no multiple of 128: 16 divides it.
    first, again, other = (_batches("train", data_dir, 16, seed=seed) for seed in (0, 0, 1))
    epochs = [_epoch(dataset) for dataset in (first, first, again, again, other)]
    for a, b in [(0, 2), (1, 3)]:
        np.testing.assert_array_equal(epochs[a], epochs[b])
    for a, b in [(0, 1), (0, 4), (1, 4)]:
        assert np.mean(epochs[a] == epochs[b]) < 0.01
    order = np.lexsort(x.T)
    labels = dict(zip(map(tuple, x), y))
    for epoch in epochs:
        # Every example once an epoch.
        np.testing.assert_array_equal(epoch[np.lexsort(epoch.T)], x[order])
    for batch, batch_labels in first:
        assert [labels[tuple(point)] for point in batch.numpy()] == batch_labels.numpy().tolist()


def test_the_whole_split_is_shuffled(data_dir, arrays):
    # A buffer smaller than the split would bring the classes shell by shell.
    shares = [float(np.mean(y)) for _, y in _batches("train", data_dir, 200)]
    assert max(abs(share - 0.5) for share in shares) < 4 * 0.5 / np.sqrt(200)


@pytest.mark.parametrize("name", ["concentric_spheres", "concentric_spheres/4d", "imagenet", ""])
def test_an_unknown_name_is_refused_with_the_list(name):
    with pytest.raises(ValueError, match="Received: name=") as error:
        load(name, "train", batch_size=128)
    assert all(known in str(error.value) for known in NAMES)


@pytest.mark.parametrize(
    "split", ["test[:0]", "test[100000:]", "train[:4001]", "test[50%:20%]", "test+train[3:3]"]
)
def test_a_slice_must_have_samples_that_are_there(data_dir, split):
    with pytest.raises(ValueError, match=r"Received: split=.* train has 2000, test has 1000"):
        load("concentric_spheres/2d", split, as_numpy=True, data_dir=data_dir)


def test_training_batches_are_full(data_dir):
    assert len(_batches("train[:3]", data_dir, batch_size=3)) == 1
    assert len(_batches("test[:3]", data_dir, batch_size=4)) == 1
    with pytest.raises(ValueError, match=r"'train\[:3\]' of .* has 3 samples. Received: batch_"):
        _batches("train[:3]", data_dir, batch_size=4)


@pytest.mark.parametrize("batch_size", [None, 0, -1, 2.5, "128"])
def test_batches_need_a_batch_size(batch_size):
    with pytest.raises(ValueError, match="Received: batch_size="):
        load("concentric_spheres/2d", "train", batch_size)


def test_vector_field_is_newtons_law():
    field = energy_landscape.vector_field(THREE_MINIMA, friction=0.2)
    z = np.array([[0.5, -1.0], [-0.6, 2.0]])
    expected = [[v, -THREE_MINIMA.derivative(x) - 0.2 * v] for x, v in z]
    np.testing.assert_allclose(field(0.0, z), expected)
