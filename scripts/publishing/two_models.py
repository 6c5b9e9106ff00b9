"""Two pretrained models of the energy landscape, one an ODE and one not, and what the tools say."""

import pathlib

import keras
import numpy as np

import tfnode
import zoo
from scripts import command_line
from scripts.paper import experiments
from tfnode import files, tables, validity, versions

MODEL = "energy_landscape"
WEIGHTS = ("energy_landscape_rk4_damped_v1", "energy_landscape_euler_coarse_v1")
FINE = tfnode.solvers.RK4(1 / 256)
ROWS = (
    "solver of the training",
    "`check(...).is_ode`",
    "accuracy under the training solver",
    "under RK4, 256 steps or more",
    "largest gap under a better solver",
    "samples whose class changes",
    "`convergence_test(...).order`",
    "`.loss_optimum_at_training_step`",
    "`certify(...).fraction`",
    "`crossings(...).count` of 30 trajectories",
    "the same under RK4, 256 steps",
)


def report(out: pathlib.Path, command: str) -> None:
    """Writes the table, what it is made of and the pictures below a directory; prints the table."""
    recipe = zoo.get_recipe(MODEL)
    data = tfnode.datasets.load(recipe.dataset, "test", as_numpy=True)
    for weights in WEIGHTS:
        model = zoo.get_model(MODEL, weights=weights)
        model.compile(loss=recipe.build_loss())
        examine(model, data, weights, out / weights)
    made_with = versions.in_words(experiments.versions())
    files.write_text(out / "table.md", f"{table(out)}\n\nMade by `{command}` with {made_with}.\n")
    print(table(out))


def examine(
    model: keras.Model, data: tuple[np.ndarray, np.ndarray], name: str, out: pathlib.Path
) -> None:
    """Asks every tool about a model; writes what they say, and draws what can be drawn."""
    x, y = data
    report = validity.check(model, data)
    convergence = validity.convergence_test(model, data)
    found = validity.crossings(model, x[:30])
    flow = validity.crossings(tfnode.with_solver(model, FINE), x[:30])
    pictures = {
        "check": report.plot(f"{name}: {'an ODE' if report.is_ode else 'not an ODE'}"),
        "convergence": convergence.plot(name),
        "crossings": found.plot(y[:30], f"{name}: {found.count} crossings"),
        "flow": flow.plot(y[:30], f"under RK4, 256 steps: {flow.count} crossings"),
    }
    for picture, figure in pictures.items():
        with files.beside(out / f"{picture}.png") as written:
            figure.savefig(written)
    files.write_text(out / "check.json", report.to_json() + "\n")
    others = {
        "order": convergence.order,
        "expected_order": convergence.expected_order,
        "loss_optimum_at_training_step": convergence.loss_optimum_at_training_step,
        "certified": validity.certify(model, data).fraction,
        "crossings": found.count,
        "crossings_of_the_flow": flow.count,
    }
    files.write_json(out / "others.json", others, indent=1)


def table(out: pathlib.Path) -> str:
    """The table of what `examine` has written for each model."""
    columns = {f"`{weights}`": column(out / weights) for weights in WEIGHTS}
    return tables.markdown(("", *columns), list(zip(ROWS, *columns.values())))


def column(of_model: pathlib.Path) -> tuple[str, ...]:
    """The cells of a column."""
    check = (of_model / "check.json").read_text(encoding="utf-8")
    report = validity.ValidityReport.from_json(check)
    others = command_line.read_json(of_model / "others.json")
    training = report.rows[0]
    return (
        f"{training.solver}, {training.num_steps} steps",
        str(report.is_ode),
        f"{100 * training.accuracy:.1f} %",
        f"{100 * report.rows[-1].accuracy:.1f} %",
        f"{100 * report.gap:.1f} points",
        f"{100 * report.changed:.1f} %",
        f"{others['order']:.2f}, expected {others['expected_order']}",
        str(others["loss_optimum_at_training_step"]),
        f"{100 * others['certified']:.1f} %",
        str(others["crossings"]),
        str(others["crossings_of_the_flow"]),
    )
