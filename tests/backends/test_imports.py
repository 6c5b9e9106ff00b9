"""No backend is loaded that was not chosen."""

import sys

import pytest
from autodiff import BACKEND

# Before any test: to train, Keras itself loads TensorFlow under JAX.
LOADED = frozenset(sys.modules)


@pytest.mark.skipif(BACKEND == "tensorflow", reason="this is TensorFlow")
def test_importing_the_package_loads_no_tensorflow():
    assert "tfnode" in LOADED
    assert {"tensorflow", "tensorflow_datasets", "tensorflow_probability"} & LOADED == set()
