"""Figures of trainings and solvers: results in, a matplotlib `Figure` out; nothing is computed."""

from matplotlib.figure import Figure

# The markers of the paper: a disc for the training solver, crosses and triangles for better ones.
MARKERS = {"train_solver": "o", "midpoint": "x", "rk4": "^"}
_COLORS = {"train_solver": "tab:blue", "midpoint": "tab:orange", "rk4": "tab:green"}
_LABELS = {"train_solver": "training solver", "midpoint": "midpoint", "rk4": "RK4"}


def adaption_over_training(curves, title=None):
    """Test accuracy and number of steps over training, a line a seed (the paper's figure 5).

    Args:
        curves: Dictionary from seeds to dictionaries of equally long lists: `iteration`,
            `train_solver` (test accuracies in [0, 1]) and `num_steps`.
        title: Optional string.

    Returns:
        A `matplotlib.figure.Figure` with two panels.
    """
    figure, (accuracy, steps) = _two_panels(title)
    for seed, curve in sorted(curves.items()):
        accuracy.plot(curve["iteration"], curve["train_solver"], label=f"seed {seed}")
        steps.step(curve["iteration"], curve["num_steps"], where="post", label=f"seed {seed}")
    accuracy.legend(fontsize="small")
    steps.set_ylim(bottom=0)
    return figure


def adaption_behaviour(curve, title=None):
    """One training, with the accuracies under better solvers marked (the paper's figure 6).

    Args:
        curve: Dictionary of equally long lists: `iteration`, `num_steps`, and the test accuracies
            `train_solver`, `midpoint` and `rk4`, of which the last two may hold None.
        title: Optional string.

    Returns:
        A `matplotlib.figure.Figure` with two panels.
    """
    figure, (accuracy, steps) = _two_panels(title)
    accuracy.plot(curve["iteration"], curve["train_solver"], color="tab:blue", linewidth=1)
    steps.step(curve["iteration"], curve["num_steps"], where="post", linewidth=1)
    marked = [i for i, value in enumerate(curve["rk4"]) if value is not None]
    times = [curve["iteration"][i] for i in marked]
    for name, marker in MARKERS.items():
        style = {"color": _COLORS[name], "marker": marker, "label": _LABELS[name]}
        accuracy.scatter(times, [curve[name][i] for i in marked], zorder=3, **style)
    steps.scatter(times, [curve["num_steps"][i] for i in marked], color="tab:blue", zorder=3)
    accuracy.legend(fontsize="small")
    steps.set_ylim(bottom=0)
    return figure


def _two_panels(title):
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    accuracy, steps = figure.subplots(1, 2)
    accuracy.set(xlabel="iteration", ylabel="test accuracy", title="(a)")
    steps.set(xlabel="iteration", ylabel="number of steps", title="(b)")
    if title:
        figure.suptitle(title)
    return figure, (accuracy, steps)
