"""The guide to JAX runs as it stands."""

import pathlib
import re

import keras
import pytest

GUIDE = pathlib.Path(__file__).parents[2] / "docs" / "jax.md"


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="the guide is to JAX")
def test_a_training_loop_of_ones_own():
    (code,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    names = {}
    exec(code, names)
    assert names["value"] < 0.01
