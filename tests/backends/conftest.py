"""What the tests share that run unchanged on every backend."""

import keras
import pytest


@pytest.fixture
def double():
    """Double precision by default; JAX must be told that it may."""
    before = keras.config.floatx()
    keras.config.set_floatx("float64")
    if keras.backend.backend() == "jax":
        import jax

        jax.config.update("jax_enable_x64", True)
    yield
    keras.config.set_floatx(before)
    if keras.backend.backend() == "jax":
        jax.config.update("jax_enable_x64", False)
