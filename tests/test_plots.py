"""Figures hold the data they are given, within their axes."""

import keras
import numpy as np
import pytest

import tfnode
from tfnode import plots, validity

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
    figure = plots.adaption_over_training(dict.fromkeys(range(seeds), CURVE), "a title")
    accuracy, steps = axes_of(figure)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [f"seed {i}" for i in range(seeds)]
    # Beside the panels and not on their lines.
    figure.draw_without_rendering()
    assert legend.get_window_extent().x0 >= steps.get_window_extent().x1
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


X = np.arange(0.05, 2, 0.1)[:, None]


def decay(solver, loss=None):
    """The field `-z`, and class 1 above 1/4 (for a single output above 1/2)."""
    inputs = keras.Input((1,))
    z = tfnode.ODEBlock(keras.layers.Rescaling(-1.0), solver)(inputs)
    model = keras.Model(inputs, keras.layers.Rescaling(1.0, offset=0.25)(z))
    model.compile(loss=loss)
    return model


def test_the_training_solver_is_dark_among_light_ones():
    report = validity.check(decay(tfnode.solvers.Euler(1 / 2)), (X, (X > 1).astype(int)))
    (axes,) = report.plot("a title").axes
    assert (axes.get_xscale(), axes.get_xlabel(), axes.get_ylabel(), axes.get_title()) == (
        *("log", "number of steps"),
        *("accuracy", "a title"),
    )
    marks = {c.get_label(): c for c in axes.collections}
    assert list(marks) == ["Euler", "Midpoint", "RK4", "training solver"]
    assert marks["training solver"].get_offsets().tolist() == [[2, report.rows[0].accuracy]]
    for name in ("Euler", "Midpoint", "RK4"):
        rows = [row for row in report.rows if row.solver == name and not row.is_training]
        offsets = marks[name].get_offsets().tolist()
        assert offsets == [[row.num_steps, row.accuracy] for row in rows]
    # A disc has more vertices than a triangle, and a cross is not filled.
    vertices = {name: len(mark.get_paths()[0].vertices) for name, mark in marks.items()}
    assert vertices["Euler"] == vertices["training solver"] > vertices["RK4"]
    assert marks["training solver"].get_alpha() is None
    assert marks["Euler"].get_alpha() < 1


@pytest.mark.parametrize(
    ("accuracies", "limits"),
    [
        ((0.77, 0.775), (0.23, 1.02)),
        ((0.995, 1.0), (0.23, 1.02)),
        ((0.0, 0.004), (-0.02, 1.02)),
        ((0.2, 0.8), (0.18, 1.02)),
    ],
)
def test_accuracies_go_from_chance_to_one(accuracies, limits):
    rows = tuple(
        validity.CheckRow(
            *("Euler", factor, factor / 4, None, 4, 4, factor == 1, accuracy, None, None),
            *(0.0, 0.0, 0.0, True),
        )
        for factor, accuracy in zip((1, 0.5), accuracies)
    )
    report = validity.ValidityReport(
        *(True, 0.0, 0.02, "accuracy", "classification", 10, 0.1),
        *(dict.fromkeys(range(4), 0.1), None, 0.0, rows),
    )
    (axes,) = report.plot().axes
    assert axes.get_ylim() == pytest.approx(limits, abs=1e-3)
    (chance,) = [line for line in axes.lines if line.get_label() == "chance"]
    assert set(chance.get_ydata()) == {0.25}


def test_the_title_says_the_verdict_and_regression_shows_the_change():
    report = validity.check(decay(tfnode.solvers.RK4(1 / 4), loss="mse"), (X, X))
    (axes,) = report.plot().axes
    assert axes.get_title().startswith("an ODE (gap ")
    assert axes.get_ylabel() == "relative change of the outputs"
    heights = [y for c in axes.collections for _, y in c.get_offsets()]
    assert sorted(heights) == sorted(row.gap for row in report.rows)


def test_tolerances_run_to_the_finer_ones():
    def row(solver, tolerance, accuracy, **more):
        values = {"factor": None, "step_size": None, "num_steps": None, "nfe": None, "loss": None}
        more = {"is_training": False, "metric": None, "changed": 0.0, "error": 0.0, **more}
        own = {"solver": solver, "tolerance": tolerance, "accuracy": accuracy, "gap": 0.0}
        return validity.CheckRow(is_better=True, **values, **own, **more)

    rows = (
        row("DormandPrince", 1e-3, 0.9, is_training=True),
        row("DormandPrince", 1e-4, 0.8),
        row("RK4", None, 0.7),
    )
    report = validity.ValidityReport(
        False, 0.1, 0.02, "accuracy", "classification", 10, 0.1, {0: 0.1}, None, 0.0, rows
    )
    (axes,) = report.plot().axes
    assert axes.get_xlabel() == "tolerance"
    assert axes.get_xlim()[0] > axes.get_xlim()[1]
    assert [c.get_offsets().tolist() for c in axes.collections] == [[[1e-4, 0.8]], [[1e-3, 0.9]]]
    lines = {line.get_label(): line.get_ydata() for line in axes.lines}
    assert lines == {"chance": [0.5, 0.5], "RK4, fine": [0.7, 0.7]}


@pytest.mark.parametrize("loss", [None, "mse"])
def test_convergence_has_a_panel_for_the_loss(loss):
    result = validity.convergence_test(decay(tfnode.solvers.Euler(1 / 4), loss), (X, X))
    figure = result.plot("a title")
    assert figure.get_suptitle() == "a title"
    assert [axes.get_ylabel() for axes in figure.axes] == ["relative error", "loss"][
        : 1 + bool(loss)
    ]
    steps = [row.step_size for row in result.rows]
    curve, training = figure.axes[0].lines
    assert curve.get_xydata().tolist() == [[h, row.error] for h, row in zip(steps, result.rows)]
    assert training.get_xdata() == [0.25, 0.25]
    assert figure.axes[0].get_title() == f"fitted order {result.order:.2f}, expected 1"


def test_trajectories_have_the_colours_of_their_classes():
    block = tfnode.ODEBlock(keras.layers.Rescaling(-3.0), tfnode.solvers.Euler(1 / 2))
    found = validity.crossings(block, np.eye(2, dtype="float32"))
    (axes,) = found.plot([0, 2]).axes
    assert [line.get_color() for line in axes.lines] == ["C0", "C2"]
    for sample, line in enumerate(axes.lines):
        np.testing.assert_array_equal(line.get_xydata(), found.states[:, sample])
    starts, crossings = axes.collections
    np.testing.assert_array_equal(starts.get_offsets(), np.eye(2))
    np.testing.assert_array_equal(crossings.get_offsets(), found.points)
    assert axes.get_title() == f"{found.count} crossings"
    # Without classes one colour, and without crossings no marks of them.
    still = validity.crossings(
        tfnode.ODEBlock(keras.layers.Rescaling(-0.1)), np.eye(2, dtype="float32")
    )
    (axes,) = still.plot().axes
    assert (len(axes.collections), {line.get_color() for line in axes.lines}) == (1, {"C0"})
