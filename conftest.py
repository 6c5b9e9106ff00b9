"""What every test and every docstring example shares."""

import gc
import importlib.util
import os
import tempfile

# Before TFDS is imported, which reads it once: generated data goes to a place of its own, unless
# one with prepared images is given.
os.environ.setdefault("TFDS_DATA_DIR", tempfile.mkdtemp(prefix="tfds-"))
# Before JAX is imported, here and in processes of the tests: they compile for longer than they run.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

import keras
import numpy as np
import pytest

import tfnode
import zoo

# Docstrings are looked for in every file, and these need what may not be installed.
NEED = {
    "tests/fake_hub.py": "yaml",
    "tfnode/integrate/loops/jax.py": "jax",
    "tfnode/integrate/loops/torch.py": "torch",
}
collect_ignore = [file for file, package in NEED.items() if not importlib.util.find_spec(package)]


def pytest_configure(config):
    """Generates the synthetic data before worker processes would race to do so.

    The tests that run on other backends read none, and need not load TensorFlow for it.
    """
    is_main = getattr(config.option, "numprocesses", None) and not hasattr(config, "workerinput")
    if is_main and keras.backend.backend() == "tensorflow":
        from scripts.models import SYNTHETIC

        for model in SYNTHETIC:
            tfnode.datasets.load(zoo.get_recipe(model).dataset, "test", as_numpy=True)


def pytest_collection_finish():
    """Spares the garbage collector what stays: the libraries' own objects are half a million."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000)


@pytest.fixture(autouse=True)
def _fresh_keras():
    """Each test starts from the same seed, with fresh layer names."""
    keras.backend.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)


@pytest.fixture(autouse=True)
def _names_of_examples(doctest_namespace):
    doctest_namespace.update(keras=keras, np=np, tfnode=tfnode, zoo=zoo)
