"""Figures hold the data they are given, within their axes."""

import numpy as np
import pytest

from tfnode import plots

CURVE = {
    "iteration": [100, 200, 300],
    "num_steps": [8, 30, 16],
    "train_solver": [0.5, 0.7, 0.9],
    "midpoint": [None, 0.6, None],
    "rk4": [None, 0.65, None],
}


def axes_of(figure):
    assert figure.get_suptitle() == "a title"
    accuracy, steps = figure.axes
    assert (accuracy.get_ylabel(), steps.get_ylabel()) == ("test accuracy", "number of steps")
    low, high = steps.get_ylim()
    assert low == 0
    assert 30 < high < 40
    return accuracy, steps


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_line_for_each_seed(seeds):
    accuracy, steps = axes_of(
        plots.adaption_over_training(dict.fromkeys(range(seeds), CURVE), "a title")
    )
    assert [text.get_text() for text in accuracy.get_legend().get_texts()] == [
        f"seed {i}" for i in range(seeds)
    ]
    for axes, name in ((accuracy, "train_solver"), (steps, "num_steps")):
        assert len(axes.lines) == seeds
        np.testing.assert_array_equal(axes.lines[-1].get_ydata(), CURVE[name])


def test_better_solvers_are_marked_where_they_were_measured():
    accuracy, steps = axes_of(plots.adaption_behaviour(CURVE, "a title"))
    marks = {c.get_label(): c.get_offsets().tolist() for c in accuracy.collections}
    assert marks == {
        "training solver": [[200, 0.7]],
        "midpoint": [[200, 0.6]],
        "RK4": [[200, 0.65]],
    }
    assert steps.collections[0].get_offsets().tolist() == [[200, 30]]
