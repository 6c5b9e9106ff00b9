"""What the README and the guide show of JAX runs as it stands."""

import fences
import keras
import pytest

on_jax = pytest.mark.skipif(keras.backend.backend() != "jax", reason="the guide is to JAX")


@on_jax
def test_a_training_loop_of_ones_own():
    (code,) = fences.of("docs/jax.md", "python")
    names = {}
    exec(code, names)
    assert names["value"] < 0.01


@on_jax
def test_the_first_model_of_the_readme(capsys):
    (code,) = fences.of("README.md", "python", 0)
    exec(code, {})
    _, shown = fences.of("README.md", "text")
    words, numbers = fences.words_and_numbers(capsys.readouterr().out)
    shown_words, shown_numbers = fences.words_and_numbers(shown)
    assert words == shown_words
    # A training takes the rounding of the processor along.
    assert numbers == pytest.approx(shown_numbers, abs=1.5)
