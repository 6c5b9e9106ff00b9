"""The figures of the paper, drawn from finished runs: results in, a matplotlib `Figure` out.

Colours, markers and axes are the paper's: a colour for each number of steps in training; the
training solver a dark disc, light discs for its method with other steps, crosses for the midpoint
method, triangles for RK4.
"""

import statistics
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

import tfnode
from scripts.models import NAMES
from scripts.paper.runs import Result
from scripts.paper.selection import by_num_steps, trained_seeds
from tfnode import plots
from tfnode.datasets import energy_landscape
from tfnode.integrate.runge_kutta import runge_kutta_step
from tfnode.typing import Field

# The results of each panel, by its title.
Panels = Mapping[str, Sequence[Result]]
# Of a sweep: the solver, where it lies on the axis, the accuracy, and whether it is the training's.
_Point = tuple[str, float, float, bool]

_MARKERS = {"Midpoint": "x", "RK4": "^"}
# model -> classes, where they are not two
_CLASSES = {"energy_landscape": 3, "mnist": 10, "cifar10": 10}
# What the marks on paths mean, with their styles.
_KEY_OF_PATHS = {
    "start of a path": {"marker": "o", "markersize": 3, "color": "grey"},
    "crossing": {"marker": "x", "markersize": 5, "color": "black"},
}
# The marks that fit side by side under a panel.
_MARKS_A_PANEL = 2


def solver_dependence(panels: Panels) -> Figure:
    """Test accuracy over the number of steps of the test solver, a colour for each training.

    The paper's figures 3, 4, 17, 18 and 19: means over the seeds that have trained.
    """
    panels = _run(panels)
    figure, axes = _panels(len(panels))
    for ax, (title, results) in zip(axes, panels.items()):
        for num_steps, runs in by_num_steps(results).items():
            trained, _ = trained_seeds(runs)
            _scatter(ax, _mean_sweep(trained), _color(num_steps), f"{num_steps}")
        _finish(ax, title, results)
    return _with_keys(_lettered(figure), _key_of_sweeps(panels), "steps in training")


def seeds_of_steps(panels: Panels) -> Figure:
    """Test accuracies of every seed, a panel for each training step (figures 7 to 16).

    The seeds that have not trained are grey.
    """
    panels = _run(panels)
    figure, axes = _panels(len(panels))
    for ax, (title, results) in zip(axes, panels.items()):
        trained, excluded = trained_seeds(results)
        for result in trained:
            _scatter(ax, _points(result), f"C{result['run']['seed']}", f"{_seed(result)}")
        for result in excluded:
            _scatter(ax, _points(result), "lightgrey", "left out")
        _finish(ax, title, results)
    return _with_keys(_lettered(figure), _key_of_sweeps(panels), "seed")


def trajectories_and_accuracies(panels: Panels) -> Figure:
    """Figure 1: paths and accuracies of a model with small steps, and of one with large steps.

    Of the seeds of each it shows that with the median number of crossings.
    """
    figure, axes = _panels(4)
    shown = []
    for path_axes, axes_of_sweep, results in zip(axes[:2], axes[2:], panels.values()):
        counts = sorted(result["paths"]["crossings"] for result in results)
        median = statistics.median_low(counts)
        result = next(r for r in results if r["paths"]["crossings"] == median)
        step, found = f"h = 1/{result['run']['num_steps']}, seed {_seed(result)}", result["paths"]
        plots.trajectories(path_axes, found["states"], found["classes"], found["points"])
        title = f"{step}: {median} crossings\n(of all seeds: {', '.join(map(str, counts))})"
        path_axes.set(xlabel="z1", ylabel="z2", title=title)
        _scatter(axes_of_sweep, _points(result), "tab:blue", "")
        _finish(axes_of_sweep, f"trained with {step}", [result])
        shown.append(result)
    return _with_keys(_lettered(figure), _key_of_sweeps({"": shown}) | _key_of_paths(shown))


def datasets() -> Figure:
    """Figure 2: the energy landscape with its classes, and the concentric spheres."""
    figure, axes = _panels(3, columns=3)
    _draw_potential(axes[0], energy_landscape.THREE_MINIMA, "energy landscape")
    for ax, name, labels, title in (
        (axes[1], "energy_landscape/three_minima", ("x", "v"), "its classes"),
        (axes[2], "concentric_spheres/2d", ("x1", "x2"), "concentric spheres"),
    ):
        points, classes = tfnode.datasets.load(name, "train", as_numpy=True)
        ax.scatter(*points.T, c=[f"C{label}" for label in classes], s=4)
        ax.set(xlabel=labels[0], ylabel=labels[1], title=title)
    axes[2].set_aspect("equal")
    return _lettered(figure)


def adaption(curves: Panels) -> Figure:
    """Figure 5: accuracy and number of steps over training, two panels for each data set."""
    curves = _run({title: _with_curve(results) for title, results in curves.items()})
    figure = Figure(figsize=(9, 3.2 * len(curves)), layout="constrained")
    rows = np.atleast_1d(figure.subfigures(len(curves), 1))
    for row, (title, results) in zip(rows, curves.items()):
        of_seed = {_seed(result): result["test_curve"] for result in results}
        plots.adaption_over_training(of_seed, title, row)
        _from_chance(row.axes[0], results)
        for ax in row.axes:
            ax.set_title("")  # its letter counts on through all the rows
    return _lettered(figure)


def behaviour(result: Result) -> Figure:
    """Figure 6: a training with step adaption, and better solvers beside it."""
    title = f"{NAMES[result['run']['model']]}, seed {_seed(result)}"
    figure = plots.adaption_behaviour(result["test_curve"], title)
    _from_chance(figure.axes[0], [result])
    return _lettered(figure)


def true_and_learned_paths(results: Sequence[Result]) -> Figure:
    """Figure 22: the dynamics of the energy landscape, and what models of five seeds make of it.

    Below, where the runs have kept it, the vector field of the first beside the true one.
    """
    fields = [result["paths"]["field"] for result in results if "field" in result["paths"]][:1]
    figure, axes = _panels(1 + len(results) + 2 * len(fields), columns=3)
    states, classes = tfnode.datasets.load("energy_landscape/three_minima", "test", as_numpy=True)
    states, classes = states[:30], classes[:30]
    plots.trajectories(axes[0], _true_paths(states), classes)
    axes[0].set(xlabel="x", ylabel="v", title="true dynamics, t = 0 .. 20")
    for ax, result in zip(axes[1:], results):
        found = result["paths"]
        plots.trajectories(ax, found["states"], found["classes"], found["points"])
        ax.set(xlabel="z1", ylabel="z2", title=f"Neural ODE, seed {_seed(result)}")
    for found in fields:
        grid = np.array(found["states"])
        _arrows(axes[-2], grid, _true_field()(0.0, grid))
        axes[-2].set(xlabel="x", ylabel="v", title="true field, its sinks marked")
        minima = energy_landscape.THREE_MINIMA.minima
        axes[-2].scatter(minima, np.zeros(len(minima)), c=["C0", "C1", "C2"], zorder=3)
        _arrows(axes[-1], grid, np.array(found["slopes"]))
        title = f"learned field, seed {_seed(results[0])}"
        axes[-1].set(xlabel="z1", ylabel="z2", title=title)
    return _with_keys(_lettered(figure), _key_of_paths(results))


def landscapes() -> Figure:
    """The energy landscape beyond the paper: five minima, and in two dimensions."""
    figure, axes = _panels(4)
    five = energy_landscape.Potential.from_minima((-2.0, -1.0, 0.0, 1.0, 2.0))
    config = energy_landscape.EnergyLandscapeConfig(name="five", potential=five)
    _draw_potential(axes[0], five, "five minima")
    states, classes = config.sample(4000, seed=0)
    axes[1].scatter(*states.T, c=[f"C{label}" for label in classes], s=3)
    axes[1].set(xlabel="x", ylabel="v", title="their classes")
    plane = energy_landscape.EnergyLandscapeConfig(name="plane", dims=2, v_range=(0.0, 0.0))
    _draw_plane(axes[2], plane.potential, "two dimensions")
    states, classes = plane.sample(4000, seed=0)
    axes[3].scatter(*states[:, :2].T, c=[f"C{label}" for label in classes], s=3)
    axes[3].set(xlabel="x1", ylabel="x2", title="their classes, started at rest")
    return _lettered(figure)


def _draw_potential(ax: Axes, potential: energy_landscape.Potential, title: str) -> None:
    """A potential of one dimension, with its minima in the colours of the classes."""
    minima = np.array(potential.minima)
    x = np.linspace(minima[0] - 0.3, minima[-1] + 0.3, 400)
    heights = _height(potential, x)
    ax.plot(x, heights, color="grey")
    colors = [f"C{label}" for label in range(len(minima))]
    ax.scatter(minima, _height(potential, minima), color=colors, zorder=3)
    # The walls may be many times as high as what is between them.
    between = heights[(x > minima[0]) & (x < minima[-1])]
    low, high = between.min(), between.max()
    ax.set_ylim(low - 0.1 * (high - low), high + (high - low))
    ax.set(xlabel="x", ylabel="V(x)", title=title)


def _draw_plane(ax: Axes, potential: energy_landscape.Potential, title: str) -> None:
    """The sum of a potential in each of two directions, as lines of equal height."""
    minima = np.array(potential.minima)
    x = np.linspace(minima[0] - 0.3, minima[-1] + 0.3, 200)
    heights = _height(potential, x)
    ax.contour(x, x, heights[:, None] + heights, levels=25, cmap="Greys_r", linewidths=0.8)
    # The class counts in the base of the number of minima, the first direction first.
    first, second = np.meshgrid(minima, minima, indexing="ij")
    ax.scatter(first, second, color=[f"C{label}" for label in range(first.size)], zorder=3)
    ax.set(xlabel="x1", ylabel="x2", title=title)


def _height(potential: energy_landscape.Potential, x: np.ndarray) -> np.ndarray:
    return np.polyval(np.polyint(potential.slope), x)


def _arrows(ax: Axes, states: np.ndarray, slopes: np.ndarray) -> None:
    """A vector field, of which the lengths are roots: the slow places are the interesting ones."""
    length = np.linalg.norm(slopes, axis=-1, keepdims=True)
    ax.quiver(*states.T, *(slopes / np.sqrt(length + 1e-12)).T, length[:, 0], cmap="viridis")


def _true_field() -> Field:
    config = energy_landscape.EnergyLandscape.BUILDER_CONFIGS[0]
    return energy_landscape.vector_field(config.potential, config.friction)


def _true_paths(states: np.ndarray, t1: float = 20.0, step_size: float = 0.02) -> np.ndarray:
    field, paths = _true_field(), [states.astype("float64")]
    for k in range(round(t1 / step_size)):
        t = k * step_size
        paths.append(runge_kutta_step(field, t, paths[-1], step_size, tfnode.tableaus.RK4))
    return np.stack(paths)


def _run(panels: Panels) -> Panels:
    """The panels that have a result."""
    return {title: results for title, results in panels.items() if results}


def _with_curve(results: Sequence[Result]) -> list[Result]:
    """Those that are long enough to have a curve."""
    return [result for result in results if result["test_curve"]]


def _seed(result: Result) -> int:
    return result["run"]["seed"]


def _color(num_steps: int) -> tuple[float, ...]:
    """The same colour for a number of steps in every panel, dark for 1 to light for 256."""
    return colormaps["viridis"](0.9 * np.log2(num_steps) / 8)


def _points(result: Result) -> list[_Point]:
    """The sweep of a result."""
    sweep, own = result["sweep"], result["solvers"]["train_solver"]["class_name"]
    tolerances = sweep.get("tolerance") or [None] * len(sweep["solver"])
    rows = zip(sweep["solver"], sweep["factor"], sweep["step_size"], tolerances, sweep["accuracy"])
    return [
        (
            solver,
            1 / step if tolerance is None else tolerance,
            accuracy,
            own == solver and factor == 1,
        )
        for solver, factor, step, tolerance, accuracy in rows
    ]


def _mean_sweep(results: Sequence[Result]) -> list[_Point]:
    """As `_points`, with the mean accuracy of several trainings of one setting."""
    rows = zip(*map(_points, results))
    return [(*row[0][:2], statistics.mean(p[2] for p in row), row[0][3]) for row in rows]


def _scatter(ax: Axes, points: list[_Point], color: str | tuple[float, ...], label: str) -> None:
    own = next(solver for solver, *_, is_training in points if is_training)
    for solver in dict.fromkeys(point[0] for point in points):
        marker = "o" if solver == own else _MARKERS.get(solver, "s")
        light = [point[1:3] for point in points if point[0] == solver and not point[3]]
        style = {"marker": marker, "s": 22, "alpha": 0.35, "color": color}
        ax.scatter(*zip(*light), **style)
    dark = [point[1:3] for point in points if point[3]]
    ax.scatter(*zip(*dark), color=color, marker="o", s=36, zorder=3, label=label)


def _finish(ax: Axes, title: str, results: Sequence[Result]) -> None:
    """Labels a panel of sweeps."""
    ax.set(ylabel="test accuracy", title=title)
    if results[0]["run"].get("tolerance") is not None:
        ax.set(xlabel="tolerance", xscale="log")
        ax.invert_xaxis()
    else:
        ax.set_xscale("log", base=2)
        # A step that does not divide the interval stands between two numbers.
        ax.set_xlabel("number of steps, 1 / h")
        ax.xaxis.set_major_formatter("{x:g}")
    _from_chance(ax, results)


def _from_chance(ax: Axes, results: Sequence[Result]) -> None:
    """Lets the accuracies of a panel go from chance, or what lies below, to one."""
    chance = 1 / _CLASSES.get(results[0]["run"]["model"], 2)
    lowest = min(chance, ax.dataLim.y0)
    ax.axhline(chance, color="grey", linewidth=0.8, linestyle=":")
    ax.set_ylim(lowest - 0.02, 1.02)


def _key_of_sweeps(panels: Panels) -> dict[str, dict]:
    """What the markers of some sweeps mean, with their styles."""
    results = [result for of_panel in panels.values() for result in of_panel]
    varied = "step" if results[0]["run"].get("tolerance") is None else "tolerance"
    own = lambda result: result["solvers"]["train_solver"]["class_name"]
    others = {name for r in results for name in r["sweep"]["solver"] if name != own(r)}
    # Not grey, which is that of the seeds that are left out.
    light = {"alpha": 0.35, "color": "black"}
    return {
        f"the solver and the {varied} of the training": {"marker": "o", "color": "black"},
        f"its method, other {varied}s": {"marker": "o", **light},
        **{solver: {"marker": _MARKERS.get(solver, "s"), **light} for solver in sorted(others)},
    }


def _key_of_paths(results: Sequence[Result]) -> dict[str, dict]:
    """What the marks on some paths mean, with their styles."""
    names = list(_KEY_OF_PATHS)
    if not any(len(result["paths"]["points"]) for result in results):
        names.remove("crossing")
    return {name: _KEY_OF_PATHS[name] for name in names}


def _with_keys(figure: Figure, markers: Mapping[str, dict], title: str = "") -> Figure:
    """Adds the key of the markers, and with a title that of the colours, outside the panels."""
    handles = [Line2D([], [], linestyle="", **style) for style in markers.values()]
    columns = len({ax.get_subplotspec().colspan.start for ax in figure.axes})
    figure.legend(
        handles,
        markers,
        loc="outside lower center",
        ncols=_MARKS_A_PANEL * columns,
        fontsize="small",
    )
    if title:
        found = {}
        for ax in figure.axes:
            found.update(zip(*ax.get_legend_handles_labels()[::-1]))
        names = sorted(found, key=lambda name: (not name.isdecimal(), len(name), name))
        handles = [found[name] for name in names]
        figure.legend(handles, names, title=title, loc="outside right upper", fontsize="small")
    return figure


def _panels(count: int, columns: int = 2) -> tuple[Figure, np.ndarray]:
    columns = min(columns, count)
    rows = -(-count // columns)
    # One panel beside a key is narrower than its title.
    figure = Figure(figsize=(max(4.2 * columns, 5.4), 3.4 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for unused in axes[count:]:
        unused.remove()
    return figure, axes[:count]


def _lettered(figure: Figure) -> Figure:
    """Names the panels (a), (b), ... as the paper does."""
    for letter, ax in zip("abcdefgh", figure.axes):
        title = f"({letter})"
        title = title if ax.get_title() in ("", title) else f"{title} {ax.get_title()}"
        # Smaller than the default: the longest is as wide as its panel.
        ax.set_title(title, fontsize=9)
    return figure
