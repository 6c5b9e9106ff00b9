"""The cards of pretrained weights: a page and a validity figure for each, and their index."""

import csv
import io
import math
import pathlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

import tfnode
import zoo
from scripts import command_line
from scripts.models import NAMES
from scripts.paper.runs import Result
from scripts.paper.table1 import PAPER
from scripts.publishing import places
from tfnode import files, tables, versions
from tfnode.validity import ValidityReport as Report
from zoo import facts, listing, manifest, reports

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

    A weight is judged when it is published, which takes minutes for images.

    Raises:
        FileNotFoundError: If it has no report.
    """
    result = command_line.read_json(places.RESULTS / f"{entry.name}.json")
    report, whole = reports.read(entry), ""
    if entry.test_samples:
        x, y = tfnode.datasets.load(entry.dataset, "test", as_numpy=True)
        whole = whole_test_set(zoo.get_model(entry.model, weights=entry.name), x, y)
    with files.beside(places.CARDS / f"{entry.name}.png") as written:
        report.plot(entry.name).savefig(written)
    path = places.CARDS / f"{entry.name}.md"
    files.write_text(path, card(entry, result, report, whole))
    return path


def write_index(content: manifest.Manifest) -> None:
    """Writes the page that lists the cards, and the same for programs."""
    files.write_text(places.CARDS / "README.md", index(content))
    files.write_text(places.CARDS / "results.csv", results(content))


def whole_test_set(model: keras.Model, x: np.ndarray, y: np.ndarray) -> str:
    """Says how many samples of the whole test set are right under the solver of the training."""
    right = model.predict(x, batch_size=250).argmax(axis=-1) == y
    return f" Of all {len(y)} the solver of the training has {100 * right.mean():.1f} % right."


def card(entry: manifest.WeightsEntry, result: Result, report: Report, whole: str = "") -> str:
    """Returns the page of a weight.

    Args:
        entry: What the manifest says of it.
        result: That of its training.
        report: That of its model, with these weights.
        whole: A sentence on the whole test set if the report has a part of it.
    """
    first = f"first {entry.test_samples}" if entry.test_samples else str(report.num_samples)
    known = facts.of(entry.model)
    classes = ", ".join(f"{number} {name}" for number, name in enumerate(known.classes))
    parts = [
        header(entry),
        f"# {entry.name}",
        f"{NAMES[entry.model]}: a classifier whose depth is a Neural ODE. {entry.note}",
        f"**{verdict(report)}**",
        "## Load and predict",
        f"```python\n{code(entry)}\n```",
        f"**Inputs.** {known.inputs}\n\n**Outputs.** Logits. The classes: {classes}.",
        "## Serve",
        f"```python\n{serving_code(entry)}\n```",
        "## Use and limits",
        f"{known.intended} {limits(entry, report)}",
        "## Under every solver",
        f"On the {first} samples of the test set.{whole} *Loses*: against the solver of the "
        "training, the first row. The verdict looks at the rows that count: solvers with an error "
        "that is equal or smaller. The last row stands for the exact flow; with half its steps the "
        f"outputs are {distance(100 * report.reference_error)} % of their size away.",
        tables.markdown(HEADER, [row_cells(row, report) for row in report.rows]),
        f"![Test accuracy over the number of steps]({entry.name}.png)",
        "## Cost",
        cost(entry),
        "## Training",
        "\n".join(f"- {line}" for line in training_lines(entry, result)),
        *papers_row(entry),
        "## Cite",
        "Ott, Katiyar, Hennig, Tiemann: *ResNet After All? Neural ODEs and Their Numerical "
        "Solution*, ICLR 2021, [arXiv 2007.15386](https://arxiv.org/abs/2007.15386); this software "
        "by its `CITATION.cff`.",
        f"`{entry.file}`, {entry.bytes} bytes, {entry.parameters} parameters, {entry.licence}, "
        f"SHA-256 `{entry.sha256}`.",
    ]
    return "\n\n".join(parts) + "\n"


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


def cost(entry: manifest.WeightsEntry) -> str:
    """What one sample costs, in words."""
    block = zoo.get_model(entry.model, solver=entry.solver).get_layer("ode_block")
    flops = flops_of(block.field, block.output.shape)
    if isinstance(entry.solver, tfnode.solvers.AdaptiveSolver):
        return f"An evaluation of the field takes {rounded(flops)} operations a sample."
    return (
        f"{block.nfe} evaluations of the field, each of {rounded(flops)} floating-point operations "
        f"a sample: {rounded(block.nfe * flops)} in all."
    )


def rounded(count: int) -> str:
    """A large number with two digits, in words."""
    count = round(count, 1 - int(math.log10(count)))
    for size, name in ((10**9, "billion"), (10**6, "million"), (10**3, "thousand")):
        if count >= size:
            return f"{count / size:.3g} {name}"
    return str(count)


def flops_of(field: keras.Layer, state: tuple) -> int:
    """The floating-point operations of the products of a field, for one sample.

    Args:
        field: Layer whose convolutions keep the size of the state.
        state: Shape of a batch of states.
    """
    places = math.prod(state[1:-1])
    kernels = [weight for weight in field.trainable_weights if len(weight.shape) > 1]
    return 2 * places * sum(math.prod(kernel.shape) for kernel in kernels)


def papers_row(entry: manifest.WeightsEntry) -> list[str]:
    """What the paper reports of the model, if it does."""
    if entry.model not in PAPER:
        return []
    grid_nfe, grid, nfe, adapted = PAPER[entry.model]
    return [
        "## The paper's",
        f"Table 1 of the paper, five seeds: {adapted[0]} ± {adapted[1]} % with its step adaption, "
        f"at {nfe} evaluations an iteration; {grid[0]} ± {grid[1]} % by grid search, at {grid_nfe} "
        "evaluations. This is one seed; ours over the seeds are in "
        "[Table 1](../results/table1/table1.md).",
    ]


def verdict(report: Report) -> str:
    rows = report.rows
    found = "An ODE" if report.is_ode else "Not an ODE"
    return (
        f"{found}: {100 * rows[0].accuracy:.1f} % under the solver of its training, "
        f"{100 * rows[-1].accuracy:.1f} % under RK4 with {rows[-1].num_steps} steps, at most "
        f"{100 * report.gap:.1f} points between it and any better solver."
    )


def distance(percent: float) -> str:
    """Two digits of a percentage, and all those before the point."""
    return f"{percent:.2g}" if percent < 10 else f"{percent:.0f}"


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
        f"{recipe['optimizer']}, learning rate {recipe['learning_rate']}, seed {entry.seed}, in "
        f"{dtype}"
    )
    if run.get("weights"):
        yield f"from the weights of [{run['weights']}]({run['weights']}.md)"
    if run["num_steps"] is None and result.get("history"):
        yield (
            f"{result['nfe_per_iteration']:.1f} evaluations of the field an iteration, "
            f"{result['nfe_per_iteration_with_checks']:.1f} with the checks of step adaption; "
            f"{counted(result['history']['num_steps'][0])} at the first check, "
            f"{result['num_steps']} at the end"
        )
    elif run["num_steps"]:
        yield f"{counted(run['num_steps'])} of {type(entry.solver).__name__} throughout"
    made_with = versions.in_words(entry.versions)
    device = result.get("device", "")
    where = f"{device}, {entry.machine}" if device else entry.machine
    if result.get("backend") == "jax":
        yield (
            f"trained by `scripts/train_on_gpu.py --models {entry.model} --dtype {dtype}`, and "
            "published by the first command with `--trained` and the file that came back"
        )
    yield f"{duration(result['seconds'])} on {where}, {made_with}"


def counted(num_steps: int) -> str:
    return f"{num_steps} step{'s' * (num_steps != 1)}"


def duration(seconds: float) -> str:
    """A time for people."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


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
        f"{of_data} **Use it under {entry.solver} only**: it is here to show what a better solver "
        "does to a model that is not an ODE."
    )


def records(content: manifest.Manifest) -> list[dict[str, Any]]:
    """Returns what is known of every weight, as plain values, in the order of the models."""
    found = listing.WeightsTable(content.weights.values(), content.default.values()).records
    models = zoo.list_models()
    return sorted(found, key=lambda record: models.index(record["model"]))


def results(content: manifest.Manifest) -> str:
    """Returns the results of the zoo as a CSV file."""
    text, rows = io.StringIO(), records(content)
    writer = csv.DictWriter(text, rows[0] if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def index(content: manifest.Manifest) -> str:
    """Returns the page that lists the cards."""
    header = (
        *("weights", "solver", "steps", "evaluations", "accuracy", "under RK4", "gap"),
        *("verdict", ""),
    )
    cells = [
        (
            f"[{record['weights']}]({record['weights']}.md)",
            record["solver"],
            record["steps"] or "adaptive",
            record["nfe"] or "",
            f"{100 * record['accuracy']:.1f} %",
            f"{100 * record['accuracy_under_rk4']:.1f} %",
            f"{100 * record['gap']:.1f}",
            "an ODE" if record["is_ode"] else "not an ODE",
            "`DEFAULT`" if record["default"] else "",
        )
        for record in records(content)
    ]
    intro = (
        "The pretrained weights, accuracies on the test set, and for images on the part of it that "
        "their cards name. *Evaluations* are those of the vector field in a forward pass; the "
        "*gap* is the largest loss of accuracy under a better solver, in points. "
        "`scripts/train.py` made each, `scripts/verify_zoo.py` measures them again, and "
        "`scripts/write_cards.py` wrote this."
    )
    return "\n\n".join(["# The zoo", intro, tables.markdown(header, cells)]) + "\n"
