"""Nothing that runs on a backend loads another one's TensorFlow."""

import sys

import pytest
from autodiff import BACKEND


@pytest.mark.skipif(BACKEND == "tensorflow", reason="this is TensorFlow")
def test_tensorflow_is_not_loaded():
    loaded = {"tensorflow", "tensorflow_datasets", "tensorflow_probability"} & sys.modules.keys()
    assert loaded == set()
