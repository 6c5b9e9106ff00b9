"""The mask of Keras goes past the layers, with a time axis where the output has one."""

import keras
import numpy as np
import pytest

import tfnode

TIMES = [0.5, 1.0]


def at_times():
    return tfnode.ODEBlock(keras.layers.Dense(2), "euler", save_at=TIMES)


@pytest.mark.parametrize("num_samples", [len(TIMES), 3])
@pytest.mark.parametrize("layer", [at_times, lambda: tfnode.Augment(2)])
def test_what_is_masked_does_not_count(layer, num_samples):
    x = np.random.default_rng(0).normal(size=(num_samples, 5, 2)).astype("float32")
    x[1:, 3:] = 0
    inputs = keras.Input((5, 2))
    # Zeros would hide what counts and should not.
    outputs = keras.layers.Rescaling(1.0, offset=1.0)(layer()(keras.layers.Masking()(inputs)))
    model = keras.Model(inputs, outputs)
    model.compile("sgd", "mse")
    answers = model.predict(x, verbose=0)
    counts = (x != 0).any(-1)
    if answers.ndim > x.ndim:
        counts = np.repeat(counts[:, None], len(TIMES), axis=1)
    loss = model.evaluate(x, np.zeros_like(answers), verbose=0)
    assert loss == pytest.approx((answers[counts] ** 2).mean(), rel=1e-5)
