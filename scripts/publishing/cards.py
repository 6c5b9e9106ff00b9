"""The cards of pretrained weights: a page and a validity figure for each."""

import pathlib
from collections.abc import Iterator
from typing import Any

import tfnode
import zoo
from scripts import command_line, machine
from scripts.models import NAMES
from scripts.paper import origins, policies
from scripts.paper.runs import Result, Solver
from scripts.paper.table1 import PAPER, spread
from scripts.publishing import costs, places, wording
from tfnode import files, tables, versions
from tfnode.validity import ValidityReport as Report
from zoo import facts, manifest, reports

# That of the project's style, which examples keep too.
LINE_LENGTH = 100
HEADER = (
    "solver",
    "steps",
    "step size",
    "evaluations",
    "accuracy",
    "loses",
    "classes changed",
    "counts",
)


def write(entry: manifest.WeightsEntry) -> pathlib.Path:
    """Writes the card of a weight and its figure; returns the path of the card.

    A weight is judged when it is published, which takes minutes for images. What is not known of
    it yet, as the whole test set is large, is measured here.

    Raises:
        FileNotFoundError: If it has no report.
    """
    report = reports.read(entry)
    if entry.test_samples and entry.name not in whole_test_sets():
        measure_whole_test_set(entry)
    with files.beside(places.CARDS / f"{entry.name}.png") as written:
        report.plot(entry.name).savefig(written)
    path = places.CARDS / f"{entry.name}.md"
    files.write_text(path, card(entry))
    return path


def whole_test_sets() -> dict[str, dict[str, Any]]:
    """The accuracies on the whole test set, by the names of weights."""
    path = places.WHOLE_TEST_SETS
    return command_line.read_json(path) if path.exists() else {}


def measure_whole_test_set(entry: manifest.WeightsEntry) -> None:
    """Notes the accuracy on the whole test set under the solver of the training."""
    x, y = tfnode.datasets.load(entry.dataset, "test", as_numpy=True)
    model = zoo.get_model(entry.model, weights=entry.name)
    accuracy = (model.predict(x, batch_size=250).argmax(axis=-1) == y).mean()
    found = whole_test_sets() | {entry.name: {"accuracy": float(accuracy), "samples": len(y)}}
    files.write_json(places.WHOLE_TEST_SETS, found, indent=1)


def card(entry: manifest.WeightsEntry) -> str:
    """Returns the page of a weight, from what was measured of it."""
    result = command_line.read_json(places.RESULTS / f"{entry.name}.json")
    report, whole = reports.read(entry), ""
    first = f"first {entry.test_samples}" if entry.test_samples else str(report.num_samples)
    if found := whole_test_sets().get(entry.name):
        whole = (
            f" That is on the {first} samples of the test set; of all {found['samples']} the "
            f"solver of its training has {100 * found['accuracy']:.1f} % right."
        )
    known = facts.of(entry.model)
    parts = [
        header(entry),
        f"# {entry.name}",
        f"{NAMES[entry.model]}: a classifier whose depth is a Neural ODE. {entry.note}",
        f"**{verdict(report)}{whole}**",
        known.architecture,
        "## Load and predict",
        f"```python\n{code(entry)}\n```",
        f"**Inputs.** {known.inputs}\n\n**Outputs.** Logits. {classes(known)}",
        "## Serve",
        f"```python\n{serving_code(entry)}\n```",
        "## Use and limits",
        f"{known.intended} {limits(entry, report)}",
        "## Under every solver",
        f"On the {first} samples of the test set. *Loses*: against the solver of the "
        "training, the first row. The verdict looks at the rows that count: solvers with an error "
        "that is equal or smaller. The last row stands for the exact flow; with half its steps the "
        f"outputs are {wording.two_digits(100 * report.reference_error)} % of their size away.",
        tables.markdown(HEADER, [row_cells(row, report) for row in report.rows]),
        f"![Test accuracy over the number of steps]({entry.name}.png)",
        "## Cost",
        costs.in_words(entry),
        "## Training",
        "\n".join(f"- {line}" for line in training_lines(entry, result)),
        *papers_row(entry),
        "## Cite",
        "The method: Ott, Katiyar, Hennig, Tiemann: *When are Neural ODE Solutions Proper ODEs?*, "
        "2020, and its later version, *ResNet After All? Neural ODEs and Their Numerical "
        "Solution*, ICLR 2021, [arXiv 2007.15386](https://arxiv.org/abs/2007.15386); this software "
        "by its `CITATION.cff`.",
        f"`{entry.file}`, {wording.size(entry.bytes)}, {wording.rounded(entry.parameters)} "
        f"parameters, {entry.licence}, SHA-256 `{entry.sha256}`.",
    ]
    return "\n\n".join(parts) + "\n"


def classes(known: facts.Facts) -> str:
    """The classes by their numbers, of which some are their own names."""
    numbers = list(map(str, range(len(known.classes))))
    if list(known.classes) == numbers:
        return f"The classes are the digits {numbers[0]} to {numbers[-1]}."
    return f"The classes: {', '.join(map(' '.join, zip(numbers, known.classes)))}."


def header(entry: manifest.WeightsEntry) -> str:
    """The metadata that model hubs read, which is YAML."""
    task = facts.of(entry.model).task
    return f"""---
license: {entry.licence.lower()}
library_name: keras
pipeline_tag: {task}
tags: [neural-ode, tfnode]
metrics: [accuracy]
model-index:
- name: {entry.name}
  results:
  - task: {{type: {task}}}
    dataset: {{name: "{NAMES[entry.model]}", type: "{entry.dataset}", split: "{entry.split}"}}
    metrics:
    - {{type: accuracy, name: under its own solver, value: {entry.accuracy["train_solver"]:.4f}}}
    - {{type: accuracy, name: under a fine RK4, value: {entry.accuracy["rk4_fine"]:.4f}}}
---"""


def papers_row(entry: manifest.WeightsEntry) -> list[str]:
    """What the paper reports of the model, if it does."""
    if entry.model not in PAPER:
        return []
    grid_nfe, grid, nfe, adapted = PAPER[entry.model]
    return [
        "## The paper's",
        f"Table 1 of the paper: {adapted[0]} ± {adapted[1]} % with its step adaption, "
        f"at {nfe} evaluations an iteration; {grid[0]} ± {grid[1]} % by grid search, at {grid_nfe} "
        f"evaluations. This is one seed.{ours(entry.model)}{of_the_recipe(entry)}",
    ]


def ours(model: str) -> str:
    """What our runs at the paper's scale give by its rule, in a sentence; empty without any."""
    rows = command_line.read_json(places.TABLE1)["rows"]
    found = {row["model"]: row["adaption"] for row in rows}.get(model)
    if not found:
        return ""
    seeds = "one seed" if found["seeds"] == 1 else f"{found['seeds']} seeds"
    return (
        f" Ours by the paper's rule, at its scale, {seeds}: {spread(found['train_solver'])} %, and "
        f"{spread(found['rk4_fine'])} % under a fine RK4, at {found['nfe_per_iteration']:.1f} "
        "evaluations an iteration ([Table 1](../results/table1/table1.md))."
    )


def of_the_recipe(entry: manifest.WeightsEntry) -> str:
    """What our runs by the damped rule give, in a sentence; empty of other weights."""
    if recipe_name(entry) != "rk4_damped":
        return ""
    iterations = zoo.get_recipe(entry.model).iterations
    paths = sorted((places.RUNS / entry.model).glob(f"rk4_damped_{iterations}_seed*.json"))
    if not paths:
        return ""
    runs = list(map(command_line.read_json, paths))
    right, under_rk4 = (
        policies.over_seeds([100 * run["accuracy"][solver] for run in runs])
        for solver in ("train_solver", "rk4_fine")
    )
    return (
        f" By the damped rule, as this one, {len(runs)} seeds: {right} %, and {under_rk4} % under "
        f"a fine RK4, at {policies.over_seeds(list(map(policies.nfe, runs)))} evaluations an "
        "iteration ([the rules](../results/policies/policies.md))."
    )


def verdict(report: Report) -> str:
    rows = report.rows
    found = "An ODE" if report.is_ode else "Not an ODE"
    return (
        f"{found}: {100 * rows[0].accuracy:.1f} % under the solver of its training, "
        f"{100 * rows[-1].accuracy:.1f} % under RK4 with {rows[-1].num_steps} steps; at most "
        f"{100 * report.gap:.1f} points between the solver of the training and any better one that "
        "was tried."
    )


def code(entry: manifest.WeightsEntry) -> str:
    """How a model is loaded and predicts."""
    return f"""import tfnode
import zoo

{loading(entry)}
x, y = tfnode.datasets.load("{entry.dataset}", "test[:8]", as_numpy=True)
print(model.predict(x).argmax(axis=-1), y)"""


def loading(entry: manifest.WeightsEntry) -> str:
    arguments = f'"{entry.model}", weights="{entry.name}"'
    load = f"model = zoo.get_model({arguments})"
    return load if len(load) <= LINE_LENGTH else f"model = zoo.get_model(\n    {arguments}\n)"


def serving_code(entry: manifest.WeightsEntry) -> str:
    """How a loaded model becomes one that TensorFlow Serving serves."""
    arguments = f'"{entry.model}", "{entry.name}"'
    report = f"    report=zoo.get_report({arguments}),"
    if len(report) > LINE_LENGTH:
        report = f"    report=zoo.get_report(\n        {arguments}\n    ),"
    return f"""test = tfnode.datasets.load("{entry.dataset}", "{entry.split}", as_numpy=True)
tfnode.export.export_saved_models(
    model,
    "served/{entry.model}",
    [model.get_layer("ode_block").solver],
    test,
{report}
)"""


def row_cells(row: tfnode.validity.SweepRow, report: Report) -> tuple[str, ...]:
    return (
        row.solver,
        "adaptive" if row.num_steps is None else str(row.num_steps),
        "" if row.step_size is None else f"{row.step_size:.4f}",
        "" if row.nfe is None else str(row.nfe),
        f"{100 * row.accuracy:.1f} %",
        f"{100 * (report.rows[0].accuracy - row.accuracy):.1f}",
        f"{100 * row.changed:.1f} %",
        "yes" if row.is_better else "",
    )


def training_lines(entry: manifest.WeightsEntry, result: Result) -> Iterator[str]:
    recipe, run = entry.recipe, result["run"]
    command = f"python scripts/train.py --model {entry.model} --recipe {recipe_name(entry)}"
    papers = zoo.get_recipe(entry.model).iterations
    if recipe["iterations"] != papers:
        command += f" --iterations {recipe['iterations']}"
    if entry.seed:
        command += f" --seed {entry.seed}"
    if (dtype := recipe.get("dtype", "float32")) != "float32":
        command += f" --dtype {dtype}"
    if (version := entry.name.rsplit("_v", 1)[1]) != "1":
        command += f" --version {version}"
    yield f"`{command}`"
    yield (
        f"{recipe['iterations']} iterations of {recipe['batch_size']} samples with "
        f"{recipe['optimizer']}, learning rate {recipe['learning_rate']}"
        f"{_beside_the_rate(zoo.get_recipe(entry.model))}, seed {entry.seed}, in {dtype}"
    )
    if run.get("weights"):
        yield f"from the weights of [{run['weights']}]({run['weights']}.md)"
    if run["num_steps"] is None and result.get("history"):
        yield (
            f"{result['nfe_per_iteration']:.1f} evaluations of the field an iteration, "
            f"{result['nfe_per_iteration_with_checks']:.1f} with the checks of step adaption; "
            f"{wording.counted(result['history']['num_steps'][0])} at the first check, "
            f"{result['num_steps']} at the end"
        )
    elif run["num_steps"]:
        yield f"{wording.counted(run['num_steps'])} of {type(entry.solver).__name__} throughout"
    made_with = versions.in_words(entry.versions)
    device = result.get("device", "")
    where = f"{device}, {entry.machine}" if device else entry.machine
    # Before this was noted, nothing else trained on a GPU.
    if result.get("elsewhere", "NVIDIA" in device):
        yield (
            f"trained by `scripts/train_on_gpu.py --models {entry.model} --dtype {dtype}`, and "
            "published by the first command with `--trained` and the file that came back"
        )
    commit = "at a commit that was not noted"
    if "commit" in result:
        commit = f"at the commit {machine.short_commit(result['commit'])}"
    yield (
        f"{wording.duration(result['seconds'])} on {where}, {made_with}, {commit}"
        f"{origins.before(result)}"
    )


def _beside_the_rate(recipe: zoo.recipes.Recipe) -> str:
    """What a recipe has that the paper's have not, in words."""
    parts = {
        "which rises over the first twentieth and then falls by half a cosine": (
            recipe.schedule == "cosine"
        ),
        f"weight decay {recipe.weight_decay:g}": recipe.weight_decay,
        "images mirrored at random and moved by up to 4 pixels": recipe.augment,
    }
    return "".join(f", {words}" for words, applies in parts.items() if applies)


def recipe_name(entry: manifest.WeightsEntry) -> str:
    """The `--recipe` in the name of a weight, which is `<model>_<recipe>_v<N>`."""
    return entry.name.removeprefix(f"{entry.model}_").rsplit("_v", 1)[0]


def limits(entry: manifest.WeightsEntry, report: Report) -> str:
    of_data = (
        f"It knows the distribution of `{entry.dataset}` alone, and is one seed of one recipe."
    )
    if report.is_ode:
        return (
            f"{of_data} With steps that are longer than those of the training it is tried above, "
            "but nothing is promised."
        )
    return (
        f"{of_data} **Use it under {solver_in_words(entry.solver)} only**: it is here to show what "
        "a better solver does to a model that is not an ODE."
    )


def solver_in_words(solver: Solver) -> str:
    if isinstance(solver, tfnode.solvers.AdaptiveSolver):
        return str(solver)
    return f"{type(solver).__name__} with a step size of {solver.step_size:.4g}"
