"""Two pretrained models of the energy landscape, one an ODE and one not, and what the tools say."""

import pathlib

import keras
import numpy as np

import tfnode
import zoo
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
    """Writes the table and the pictures below a directory, and prints the table."""
    recipe = zoo.get_recipe(MODEL)
    data = tfnode.datasets.load(recipe.dataset, "test", as_numpy=True)
    columns = {}
    for weights in WEIGHTS:
        model = zoo.get_model(MODEL, weights=weights)
        model.compile(loss=recipe.build_loss())
        columns[f"`{weights}`"] = examine(model, data, weights, out / weights)
    table = tables.markdown(("", *columns), list(zip(ROWS, *columns.values())))
    made_with = versions.in_words(experiments.versions())
    files.write_text(out / "table.md", f"{table}\n\nMade by `{command}` with {made_with}.\n")
    print(table)


def examine(
    model: keras.Model, data: tuple[np.ndarray, np.ndarray], name: str, out: pathlib.Path
) -> tuple[str, ...]:
    """Asks every tool about a model; draws what can be drawn, and returns the cells of a column."""
    x, y = data
    report = validity.check(model, data)
    convergence = validity.convergence_test(model, data)
    certificate = validity.certify(model, data)
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
    solver = model.get_layer("ode_block").solver
    return (
        f"{type(solver).__name__}, {round(1 / solver.step_size)} steps",
        str(report.is_ode),
        f"{100 * report.rows[0].accuracy:.1f} %",
        f"{100 * report.rows[-1].accuracy:.1f} %",
        f"{100 * report.gap:.1f} points",
        f"{100 * report.changed:.1f} %",
        f"{convergence.order:.2f}, expected {convergence.expected_order}",
        str(convergence.loss_optimum_at_training_step),
        f"{100 * certificate.fraction:.1f} %",
        str(found.count),
        str(flow.count),
    )
