"""Figures of trainings and solvers: results in, a matplotlib `Figure` out; nothing is computed."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase
from numpy.typing import ArrayLike

from tfnode import arguments

if TYPE_CHECKING:
    from tfnode.validity import (
        CheckRow,
        ConvergenceResult,
        Crossings,
        ResNetReport,
        SeriesReport,
        ValidityReport,
    )

# The paper's markers: a disc for the training solver, crosses and triangles for better ones.
MARKERS = {"train_solver": "o", "midpoint": "x", "rk4": "^"}
_COLORS = {"train_solver": "tab:blue", "midpoint": "tab:orange", "rk4": "tab:green"}
_TWO_PANELS = (9, 3.5)
_LABELS = {"train_solver": "training solver", "midpoint": "midpoint", "rk4": "RK4"}


def adaption_over_training(
    curves: Mapping[int, Mapping[str, Sequence[Any]]],
    title: str | None = None,
    figure: FigureBase | None = None,
) -> FigureBase:
    """Test accuracy and number of steps over training, one line a seed (the paper's figure 5).

    Args:
        curves: Dictionary from seeds to dictionaries of equally long lists: `iteration`,
            `train_solver` (test accuracies in [0, 1]) and `num_steps`.
        title: Optional string.
        figure: Optional matplotlib figure or subfigure to draw in; a new figure if None.

    Returns:
        The figure, with two panels.

    Raises:
        ValueError: If an argument is not as described.
    """
    for curve in arguments.mapping("curves", curves, advice=_ADVICE).values():
        _check_curve("curves", curve, ("iteration", "train_solver", "num_steps"))
    if figure is None:
        figure = Figure(figsize=_TWO_PANELS, layout="constrained")
    advice = "Leave it out for a new one."
    arguments.instance("figure", figure, FigureBase, "a matplotlib figure", advice=advice)
    accuracy, steps = _two_panels(figure, title)
    for seed, curve in sorted(curves.items()):
        accuracy.plot(curve["iteration"], curve["train_solver"], label=f"seed {seed}")
        steps.step(curve["iteration"], curve["num_steps"], where="post", label=f"seed {seed}")
    _legend_beside(figure, accuracy)
    steps.set_ylim(0, 1.1 * steps.dataLim.y1)
    return figure


def adaption_behaviour(curve: Mapping[str, Sequence[Any]], title: str | None = None) -> Figure:
    """One training, with the accuracies under better solvers marked (the paper's figure 6).

    Args:
        curve: Dictionary of equally long lists: `iteration`, `num_steps`, and the test accuracies
            `train_solver`, `midpoint` and `rk4`, of which the last two may hold None.
        title: Optional string.

    Returns:
        A `matplotlib.figure.Figure` with two panels.

    Raises:
        ValueError: If an argument is not as described.
    """
    _check_curve("curve", curve, ("iteration", "num_steps", *MARKERS))
    figure = Figure(figsize=_TWO_PANELS, layout="constrained")
    accuracy, steps = _two_panels(figure, title)
    accuracy.plot(curve["iteration"], curve["train_solver"], color="tab:blue", linewidth=1)
    steps.step(curve["iteration"], curve["num_steps"], where="post", linewidth=1)
    marked = [i for i, value in enumerate(curve["rk4"]) if value is not None]
    times = [curve["iteration"][i] for i in marked]
    for name, marker in MARKERS.items():
        style: dict[str, Any] = {"color": _COLORS[name], "marker": marker, "label": _LABELS[name]}
        accuracy.scatter(times, [curve[name][i] for i in marked], zorder=3, **style)
    steps.scatter(times, [curve["num_steps"][i] for i in marked], color="tab:blue", zorder=3)
    _legend_beside(figure, accuracy)
    steps.set_ylim(0, 1.1 * steps.dataLim.y1)
    return figure


def validity(report: "ValidityReport", title: str | None = None) -> Figure:
    """Accuracy over the number of steps, under every solver (the paper's figures 1 (c, d) and 3).

    The training solver is a dark, filled circle. Its method with other steps has light circles,
    the midpoint method crosses, RK4 triangles, and any other method squares. If the metric
    decided, or in regression the change of the outputs, it takes the place of the accuracy.

    Args:
        report: `tfnode.validity.ValidityReport`.
        title: Optional string.

    Returns:
        A `matplotlib.figure.Figure` with one panel.

    Raises:
        ValueError: If an argument is not as described.
    """
    _check_title(title)
    fields = ("rows", "measure", "value_of", "is_ode", "gap")
    _check_result("report", report, fields, "ValidityReport")
    figure = Figure(figsize=(5, 3.5), layout="constrained")
    axes = figure.subplots()
    adaptive = report.rows[0].tolerance is not None
    axes.set_xscale("log", base=10 if adaptive else 2)
    axes.set_xlabel("tolerance" if adaptive else "number of steps")
    if not adaptive:
        axes.xaxis.set_major_formatter("{x:g}")
    training = report.rows[0]
    shown = [row for row in report.rows if adaptive == (row.tolerance is not None)]
    for solver in dict.fromkeys(row.solver for row in shown):
        rows = [row for row in shown if row.solver == solver and not row.is_training]
        marker = "o" if solver == training.solver else MARKERS.get(solver.lower(), "s")
        style: dict[str, Any] = {"color": "tab:blue", "alpha": 0.45, "marker": marker}
        heights = [_height(report, row) for row in rows]
        axes.scatter([_position(row) for row in rows], heights, label=solver, **style)
    own: dict[str, Any] = {
        "color": "midnightblue",
        "marker": "o",
        "label": "training solver",
        "zorder": 3,
    }
    axes.scatter([_position(training)], [_height(report, training)], **own)
    if report.measure == "accuracy":
        _from_chance(axes, report)
    if adaptive:
        # Finer to the right, as with steps.
        axes.invert_xaxis()
        axes.axhline(_height(report, report.rows[-1]), linestyle=":", label="RK4, fine")
    axes.set_ylabel(_measure(report))
    # The name of a model may be long.
    axes.set_title(title or f"{_verdict(report)} (gap {report.gap:.3g})", fontsize=10)
    axes.legend(fontsize="small")
    return figure


def _from_chance(axes: Axes, report: "ValidityReport") -> None:
    """Shows accuracies from chance, or what lies below, to one: a difference looks as it is."""
    chance = 1 / max(2, len(report.class_gaps or ()))
    axes.axhline(chance, color="grey", linewidth=0.8, linestyle=":", label="chance")
    axes.set_ylim(min(chance, axes.dataLim.y0) - 0.02, 1.02)


def _position(row: "CheckRow") -> Any:
    return row.num_steps if row.tolerance is None else row.tolerance


def _height(report: "ValidityReport", row: "CheckRow") -> Any:
    # A report that was read again has None where a number was not finite.
    value = report.value_of(row)
    return math.nan if value is None else value


def _measure(report: "ValidityReport") -> str:
    return {"outputs": "relative change of the outputs"}.get(report.measure, report.measure)


def _verdict(report: "ValidityReport") -> str:
    return "an ODE" if report.is_ode else "not an ODE"


def convergence(result: "ConvergenceResult", title: str | None = None) -> Figure:
    """Error, and loss if there is one, over the step size, with the training step marked.

    Args:
        result: `tfnode.validity.ConvergenceResult`.
        title: Optional string.

    Returns:
        A `matplotlib.figure.Figure` with one or two panels.

    Raises:
        ValueError: If an argument is not as described.
    """
    _check_title(title)
    _check_result("result", result, ("rows", "order", "reference_loss"), "ConvergenceResult")
    steps = [row.step_size for row in result.rows]
    curves: dict[str, list[Any]] = {"relative error": [row.error for row in result.rows]}
    if result.reference_loss is not None:
        curves["loss"] = [row.loss for row in result.rows]
    figure = Figure(figsize=(4.5 * len(curves), 3.5), layout="constrained")
    for axes, (name, values) in zip(
        figure.subplots(1, len(curves), squeeze=False)[0], curves.items()
    ):
        axes.plot(steps, values, marker="o", color="tab:blue")
        axes.axvline(result.training_step_size, linestyle="--", color="gray", label="training step")
        axes.set(xscale="log", xlabel="step size", ylabel=name)
        if name == "loss":
            axes.axhline(result.reference_loss, linestyle=":", label="RK4, fine")
        else:
            axes.set_yscale("log")
            order = "none" if result.order is None else f"{result.order:.2f}"
            axes.set_title(f"fitted order {order}, expected {result.expected_order}")
        axes.legend(fontsize="small")
    if title:
        figure.suptitle(title)
    return figure


def series(report: "SeriesReport", title: str | None = None) -> Figure:
    """Error over the distance of the times that a model is asked at, with that of the training.

    Args:
        report: `tfnode.validity.SeriesReport`.
        title: Optional string.

    Returns:
        A `matplotlib.figure.Figure` with one panel.

    Raises:
        ValueError: If an argument is not as described.
    """
    _check_title(title)
    _check_result("report", report, ("rows", "flow", "is_flow", "rise"), "SeriesReport")
    figure = Figure(figsize=(5, 3.5), layout="constrained")
    axes = figure.subplots()
    curves = {
        "error": "at times of the training",
        "error_between": "between them",
        "error_beyond": "behind them",
    }
    for i, (name, label) in enumerate(curves.items()):
        shown = [row for row in report.rows if getattr(row, name) is not None]
        if shown:
            steps, errors = [row.time_step for row in shown], [getattr(row, name) for row in shown]
            axes.plot(steps, errors, marker="o", color=f"C{i}", label=label)
        if getattr(report.flow, name) is not None:
            axes.axhline(getattr(report.flow, name), linestyle=":", color=f"C{i}")
    (training,) = (row for row in report.rows if row.factor == 1)
    axes.axvline(training.time_step, linestyle="--", color="gray", label="of the training")
    verdict = "a flow" if report.is_flow else "not a flow"
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="distance of times",
        ylabel="relative error (dotted: RK4, fine)",
        title=title or f"{verdict} (error rises by {report.rise:.3g})",
    )
    axes.legend(fontsize="small")
    return figure


def resnet(report: "ResNetReport", title: str | None = None) -> Figure:
    """Accuracy over the depth, what changes from layer to layer, and how far the ODE is.

    Args:
        report: `tfnode.validity.ResNetReport`.
        title: Optional string.

    Returns:
        A `matplotlib.figure.Figure` with three panels.

    Raises:
        ValueError: If an argument is not as described.
    """
    _check_title(title)
    _check_result("report", report, ("verdict", "stages", "is_ode", "gap"), "ResNetReport")
    figure = Figure(figsize=(13.5, 3.5), layout="constrained")
    depth, change, distance = figure.subplots(1, 3)
    rows = [row for row in report.verdict.rows if row.solver == "Euler" and not row.is_training]
    own = report.verdict.rows[0]
    rows = sorted([own, *rows], key=lambda row: row.num_steps or 0)
    heights = [_height(report.verdict, row) for row in rows]
    depth.plot([row.num_steps for row in rows], heights, marker="o", label="weights interpolated")
    depth.scatter([own.num_steps], [_height(report.verdict, own)], color="midnightblue", zorder=3)
    depth.axhline(_height(report.verdict, report.verdict.rows[-1]), linestyle=":", label="the ODE")
    depth.axvline(own.num_steps, linestyle="--", color="gray", label="as it is")
    if report.verdict.measure == "accuracy":
        _from_chance(depth, report.verdict)
    depth.set(xlabel="residual layers", ylabel=_measure(report.verdict), title="(a)")
    for i, stage in enumerate(report.stages):
        style: dict[str, Any] = {"color": f"C{i}", "marker": "."}
        curves = {"weights": stage.weight_changes, "outputs": stage.residual_changes}
        for line, (name, changes) in zip(("-", "--"), curves.items()):
            label = f"{name}, {stage.start}"
            change.plot(range(1, stage.depth), changes, linestyle=line, label=label, **style)
        distance.plot(range(1, stage.depth + 1), stage.distances, label=stage.start, **style)
    change.axhline(2**0.5, linestyle=":", color="gray", label="independent")
    change.set(xlabel="layer", ylabel="change to the next", title="(b)")
    distance.set(xlabel="layer", ylabel="distance to the ODE", title="(c)")
    for axes in (depth, change, distance):
        axes.legend(fontsize="small")
    figure.suptitle(title or f"{_verdict(report.verdict)} (gap {report.gap:.3g})")
    return figure


def crossings(
    found: "Crossings", classes: Sequence[int] | None = None, title: str | None = None
) -> Figure:
    """Trajectories in the plane with their crossings marked (the paper's figure 1 (a, b)).

    Args:
        found: `tfnode.validity.Crossings`.
        classes: Optional integers, one for each trajectory, to colour them by.
        title: Optional string.

    Returns:
        A `matplotlib.figure.Figure` with one panel.

    Raises:
        ValueError: If an argument is not as described.
    """
    _check_title(title)
    _check_result("found", found, ("states", "points", "count"), "Crossings")
    figure = Figure(figsize=(5, 4.5), layout="constrained")
    axes = figure.subplots()
    colours = [0] * found.states.shape[1] if classes is None else classes
    trajectories(axes, found.curves, colours, found.points)
    axes.set(xlabel="z1", ylabel="z2", title=title or f"{found.count} crossings")
    axes.legend(fontsize="small")
    return figure


def trajectories(
    axes: Axes, states: ArrayLike, classes: Sequence[int], points: ArrayLike = ()
) -> None:
    """Draws paths in the plane, each in the colour of its class.

    Args:
        axes: Matplotlib axes.
        states: Array `(num_states, num_samples, 2)`.
        classes: Integers, one for each path.
        points: Array `(count, 2)` of crossings to mark.

    Raises:
        ValueError: If an argument is not as described.
    """
    advice = "Take them from the axes of a matplotlib figure."
    arguments.instance("axes", axes, Axes, "matplotlib axes", advice=advice)
    advice = "Pass what `tfnode.validity.crossings` returned."
    states = arguments.reals("states", states, is_finite=False, advice=advice)
    points = arguments.reals("points", points, advice=advice)
    if states.ndim != 3 or states.shape[-1] != 2:
        rule = "`states` must have the shape (num_steps + 1, num_samples, 2)"
        raise arguments.refused(rule, "states", states, advice)
    if points.size and points.shape[1:] != (2,):
        raise arguments.refused("`points` must have the shape (count, 2)", "points", points, advice)
    classes = _checked_classes(classes, states.shape[1])
    for path, label in zip(states.transpose(1, 0, 2), classes):
        axes.plot(path[:, 0], path[:, 1], color=f"C{label}", linewidth=0.8)
    x, y = states[0].T
    axes.scatter(x, y, c=[f"C{label}" for label in classes], s=8, label="start")
    if len(points):
        x, y = points.T
        axes.scatter(x, y, color="black", marker="x", s=20, zorder=3, label="crossing")


# === What is refused ===
_ADVICE = "Pass the lists of a training by their names, all of one length."


def _check_curve(name: str, curve: Any, keys: Sequence[str]) -> None:
    arguments.mapping(name, curve, keys, advice=_ADVICE)
    lengths = {
        key: len(arguments.items(f"{name}[{key!r}]", curve[key], "values", advice=_ADVICE))
        for key in keys
    }
    if len({*lengths.values()}) > 1:
        raise arguments.refused("The lists of a curve must have one length", name, lengths, _ADVICE)


def _check_result(name: str, value: Any, fields: Sequence[str], kind: str) -> None:
    what, advice = f"a `tfnode.validity.{kind}`", "Pass what `tfnode.validity` returned."
    arguments.record(name, value, fields, what, advice=advice)


def _check_title(title: Any) -> None:
    if title is not None:
        arguments.text("title", title, advice="Leave it out for the usual one.")


def _checked_classes(classes: Any, num_paths: int) -> list[int]:
    advice = "Pass an integer from 0 up for each path."
    found = arguments.items("classes", classes, "integers", advice=advice)
    found = [arguments.count(f"classes[{i}]", c, 0, advice=advice) for i, c in enumerate(found)]
    if len(found) != num_paths:
        raise arguments.refused("Every path must have a class", "classes", found, advice)
    return found


def _two_panels(figure: FigureBase, title: str | None) -> tuple[Axes, Axes]:
    _check_title(title)
    accuracy, steps = figure.subplots(1, 2)
    accuracy.set(xlabel="iteration", ylabel="test accuracy", title="(a)")
    steps.set(xlabel="iteration", ylabel="number of steps", title="(b)")
    if title:
        figure.suptitle(title)
    return accuracy, steps


def _legend_beside(figure: FigureBase, axes: Axes) -> None:
    """The legend of some axes, outside of all of them: many seeds leave no room within."""
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right center", fontsize="small")
