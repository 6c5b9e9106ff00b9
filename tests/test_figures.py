"""The paper's figures from finished runs: which runs, which points, which colours; no training."""

import numpy as np
import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

import tfnode
from scripts.paper import figures, options, runs
from scripts.paper.figures_by_number import FIGURES
from tfnode.datasets import energy_landscape


def result(num_steps, seed, accuracies, tolerance=None, solver="Euler"):
    """Accuracies of the training solver, of half its step, and under RK4."""
    step = None if tolerance else 1 / num_steps
    return {
        "run": {
            "model": "concentric_spheres_2d",
            "num_steps": num_steps,
            "seed": seed,
            "tolerance": tolerance,
        },
        "accuracy": {"train_solver": accuracies[0]},
        "solvers": {"train_solver": {"class_name": solver}},
        "sweep": {
            "solver": [solver, solver, solver if tolerance else "RK4"],
            "factor": [1.0, 0.5, 1.0],
            "step_size": [step, step and step / 2, step],
            "tolerance": [tolerance, tolerance and tolerance / 2, tolerance],
            "accuracy": list(accuracies),
        },
    }


def marks(ax):
    """Offsets, colour and transparency of each collection."""
    return [
        (c.get_offsets().tolist(), tuple(c.get_facecolor()[0][:3]), c.get_alpha())
        for c in ax.collections
    ]


def test_a_colour_for_each_number_of_steps_and_means_of_the_seeds_that_trained():
    results = [
        result(1, 0, (0.9, 0.5, 0.4)),
        result(1, 1, (0.8, 0.7, 0.2)),
        result(1, 2, (0.79, 0.0, 0.0)),  # more than 10 points below the best: left out
        result(256, 0, (0.9, 0.9, 0.9)),
    ]
    figure = figures.solver_dependence({"left": results, "right": results[-1:]})
    left, right = figure.axes
    assert [ax.get_title() for ax in figure.axes] == ["(a) left", "(b) right"]
    assert (left.get_xlabel(), left.get_ylabel()) == ("number of steps, 1 / h", "test accuracy")
    first, last = (tuple(figures.colormaps["viridis"](x)[:3]) for x in (0.0, 0.9))
    light, triangle, dark = marks(left)[:3]
    assert light == ([[2, pytest.approx(0.6)]], first, 0.35)
    assert triangle == ([[1, pytest.approx(0.3)]], first, 0.35)
    assert dark == ([[1, pytest.approx(0.85)]], first, None)
    # The same number of steps has the same colour in every panel.
    assert marks(left)[3:] == marks(right)
    assert marks(right)[-1] == ([[256, 0.9]], last, None)


def test_seeds_that_have_not_trained_are_grey():
    results = [result(4, 0, (0.9, 0.5, 0.4)), result(4, 3, (0.5, 0.5, 0.5))]
    (ax,) = figures.seeds_of_steps({"4 steps of Euler": results}).axes
    labels = [t.get_text() for t in ax.figure.legends[-1].get_texts()]
    assert labels == ["0", "left out"]
    colors = [color for *_, color, _ in marks(ax)]
    assert colors == [to_rgba("C0")[:3]] * 3 + [to_rgba("lightgrey")[:3]] * 3


def test_a_panel_without_runs_is_left_out():
    results = [result(4, 0, (0.9, 0.5, 0.4))]
    for draw in (figures.solver_dependence, figures.seeds_of_steps):
        (ax,) = draw({"RK4": [], "Euler": results}).axes
        assert ax.get_title() == "(a) Euler"


def test_the_keys_stand_beside_the_panels_and_accuracies_start_at_chance():
    results = [result(1, 0, (0.9, 0.6, 0.5)), result(16, 1, (0.9, 0.45, 0.5))]
    figure = figures.solver_dependence({"some": results[:1], "all": results})
    markers, colors = figure.legends
    assert [text.get_text() for text in markers.get_texts()] == [
        *("the solver and the step of the training", "its method, other steps", "RK4")
    ]
    assert colors.get_title().get_text() == "steps in training"
    assert [text.get_text() for text in colors.get_texts()] == ["1", "16"]
    assert [ax.get_legend() for ax in figure.axes] == [None, None]
    lows = [ax.get_ylim()[0] for ax in figure.axes]
    np.testing.assert_allclose(lows, [0.48, 0.43])


def test_a_step_that_does_not_divide_the_interval_stands_between_two_numbers():
    one = result(2, 0, (0.9, 0.6, 0.5))
    one["sweep"]["step_size"][1] = 0.75
    (ax,) = figures.seeds_of_steps({"2 steps": [one]}).axes
    assert marks(ax)[0][0] == [[pytest.approx(4 / 3), 0.6]]


@pytest.mark.parametrize("panels", [1, 2])
def test_the_key_of_the_markers_is_not_wider_than_the_figure(panels):
    one = result(2, 0, (0.9, 0.6, 0.5))
    # As long as it gets.
    one["sweep"] = {name: [*column, column[-1]] for name, column in one["sweep"].items()}
    one["sweep"]["solver"][-1] = "Midpoint"
    figure = figures.seeds_of_steps({str(i): [one] for i in range(panels)})
    figure.draw_without_rendering()
    for legend in figure.legends:
        box = legend.get_window_extent()
        assert figure.bbox.x0 <= box.x0
        assert box.x1 <= figure.bbox.x1


def test_the_key_has_the_marks_of_every_panel():
    by_rk4 = result(4, 0, (0.9, 0.6, 0.5), solver="RK4")
    panels = {"Euler": [result(4, 0, (0.9, 0.6, 0.5))], "RK4": [by_rk4]}
    key = figures.solver_dependence(panels).legends[0]
    assert [text.get_text() for text in key.get_texts()][2:] == ["RK4"]


def test_the_learned_field_stands_beside_the_true_one():
    grid = np.array([[-1.0, 0.5], [0.5, -1.0], [2.0, 0.0]])
    field = {"states": grid.tolist(), "slopes": (-grid).tolist()}
    found = {"states": np.zeros((3, 2, 2)), "classes": [0, 2], "points": [], "field": field}
    figure = figures.true_and_learned_paths([{"run": {"seed": 4}, "paths": found}])
    true, learned = figure.axes[-2:]
    assert learned.get_title() == "(d) learned field, seed 4"
    quivers = [ax.collections[0] for ax in (true, learned)]
    np.testing.assert_array_equal(quivers[0].get_offsets(), grid)
    # At rest in position the particle falls by the slope of the potential.
    np.testing.assert_allclose(quivers[0].U[2], 0, atol=1e-12)
    lengths = np.linalg.norm(grid, axis=-1)
    np.testing.assert_allclose(np.hypot(quivers[1].U, quivers[1].V), np.sqrt(lengths))


def test_step_adaption_has_two_lettered_panels_for_each_data_set():
    curve = {"iteration": [50, 100], "train_solver": [0.2, 0.6], "num_steps": [22, 20]}
    one = {"run": {"seed": 3, "model": "mnist"}, "test_curve": curve}
    figure = figures.adaption({"MNIST": [one], "Cifar10": []})
    accuracy, steps = figure.axes
    assert [ax.get_title() for ax in figure.axes] == ["(a)", "(b)"]
    assert accuracy.get_lines()[0].get_label() == "seed 3"
    np.testing.assert_allclose(steps.get_ylim(), (0, 1.1 * 22))
    # From chance to one.
    np.testing.assert_allclose(accuracy.get_ylim(), (0.08, 1.02))
    better = {"midpoint": [None, 0.05], "rk4": [None, 0.5]}
    figure = figures.behaviour({**one, "test_curve": {**curve, **better}})
    assert figure.get_suptitle() == "MNIST, seed 3"
    np.testing.assert_allclose(figure.axes[0].get_ylim(), (0.03, 1.02))


def test_tolerances_run_to_the_finer_ones():
    results = [result(None, 0, (0.9, 0.8, 0.9), tolerance=1e-2, solver="Fehlberg21")]
    (ax,) = figures.seeds_of_steps({"tolerance 0.01": results}).axes
    assert ax.get_xlabel() == "tolerance"
    assert ax.get_xlim()[0] > ax.get_xlim()[1]
    assert [text.get_text() for text in ax.figure.legends[0].get_texts()] == [
        *("the solver and the tolerance of the training", "its method, other tolerances")
    ]
    assert marks(ax)[-1][0] == [[0.01, 0.9], [0.01, 0.9]]
    assert marks(ax)[0][0] == [[0.005, 0.8]]


def test_paths_of_the_landscape_start_at_the_data_and_fall_towards_their_minimum():
    found = {"states": np.zeros((3, 2, 2)), "classes": [0, 2], "points": [[0.0, 0.0]]}
    figure = figures.true_and_learned_paths([{"run": {"seed": 4}, "paths": found}])
    truth, learned = figure.axes
    (key,) = figure.legends
    assert [text.get_text() for text in key.get_texts()] == ["start of a path", "crossing"]
    assert (truth.get_title(), learned.get_title()) == (
        "(a) true dynamics, t = 0 .. 20",
        "(b) Neural ODE, seed 4",
    )
    x, y = tfnode.datasets.load("energy_landscape/three_minima", "test", as_numpy=True)
    minima = np.array(tfnode.datasets.energy_landscape.THREE_MINIMA.minima)
    assert len(truth.lines) == 30
    for line, start, label in zip(truth.lines, x, y):
        path = line.get_xydata()
        np.testing.assert_array_equal(path[0], start)
        assert line.get_color() == f"C{label}"
        # After 20 units of time every particle moves about the minimum of its class.
        assert np.abs(path[-1, 0] - minima).argmin() == label


def test_the_minima_have_the_colours_of_their_classes():
    potential = energy_landscape.THREE_MINIMA
    line, plane = Figure().subplots(1, 2)
    figures._draw_potential(line, potential, "")
    figures._draw_plane(plane, potential, "")
    for ax, dims in ((line, 1), (plane, 2)):
        minima = ax.collections[-1]
        x = np.asarray(minima.get_offsets())[:, :dims]
        states = np.concatenate([x, np.zeros_like(x)], axis=1)
        classes = energy_landscape.settle(potential, 0.2, states, t1=0.02)
        expected = [to_rgba(f"C{label}") for label in classes]
        assert list(map(tuple, minima.get_facecolors())) == expected
        assert len(set(expected)) == 3**dims


def test_every_figure_of_the_paper_is_there():
    assert list(FIGURES) == list(range(1, 24))


def runs_of(number, *arguments):
    args = options.parser("", out="out").parse_args(arguments)
    return FIGURES[number].runs(args)


def test_the_runs_of_the_papers_figures():
    titles = list(runs_of(9, "--paper"))
    assert titles == [
        *("64 steps of Euler", "64 steps of RK4", "128 steps of Euler", "128 steps of RK4"),
        "256 steps of Euler",
    ]
    panels = runs_of(3, "--paper")
    counts = {t: [r.num_steps for r in runs][::5] for t, runs in panels.items()}
    powers = [2**i for i in range(9)]
    assert counts == {
        "Concentric spheres 2d, trained with Euler": powers,
        "Concentric spheres 2d, trained with RK4": powers[:8],
        "Three Minima, trained with Euler": powers,
        "Three Minima, trained with RK4": powers[:7],
    }
    run = panels["Three Minima, trained with RK4"][-1]
    assert run == runs.Run("energy_landscape", 64, 4, 30_000, solver="rk4")
    assert run.path == "energy_landscape/rk4_k064_30000_seed4.json"


def test_the_runs_of_the_quick_setting():
    run = runs_of(5, "--quick", "--seeds", "1")["MNIST"][0]
    assert run.path == "mnist/euler_adaption_200_batch16_test100_rk4016_seed0.json"
    panels = runs_of(21, "--quick", "--seeds", "1")
    assert [run.path for (run,) in panels.values()] == [
        f"concentric_spheres_2d/dormandprince_tol{tolerance}_3000_seed0.json"
        for tolerance in ("0.1", "0.001")
    ]
    assert [run.start_solver().rtol for (run,) in panels.values()] == [0.1, 0.001]
