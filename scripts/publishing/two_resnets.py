"""Two ResNets of the concentric spheres, whose layers start alike or not, and what is said."""

import pathlib

import keras

import tfnode
from scripts.paper import experiments
from tfnode import files, tables, validity, versions

DATASET = "concentric_spheres/2d"
DEPTH, WIDTH, EPOCHS = 16, 16, 60
# Name: whether all layers start from the same weights, as steps of one ODE do.
MODELS = {"alike": True, "independent": False}
ROWS = (
    "`check_resnet(...).is_ode`",
    f"accuracy with its {DEPTH} layers",
    "`.halved.accuracy`",
    "`.doubled.accuracy`",
    "under the ODE, RK4",
    "`.gap`",
    "`.stages[0].weight_rate`",
    "`.stages[0].residual_rate`",
    "`.stages[0].distances[-1]`",
)


def build(alike: bool, depth: int) -> keras.Model:
    """A classifier of residual layers `x + W2 tanh(W1 x) / depth`, not trained."""
    x = inputs = keras.Input((2,), name="x")
    # The spheres lie within a half of 0.
    x = keras.layers.Dense(WIDTH, name="stem")(keras.layers.Rescaling(8.0)(x))
    for k in range(depth):
        seed = 0 if alike else k
        branch = x
        for i, activation in enumerate(("tanh", None)):
            start = keras.initializers.VarianceScaling(2.0, seed=2 * seed + i)
            branch = keras.layers.Dense(WIDTH, activation, kernel_initializer=start)(branch)
        # Without the factor, what the layers add up to would grow with their number.
        branch = keras.layers.Rescaling(1 / depth if alike else 1.0)(branch)
        x = keras.layers.Add(name=f"layer_{k}")([x, branch])
    return keras.Model(inputs, keras.layers.Dense(2, name="classifier")(x))


def train(model: keras.Model, epochs: int) -> keras.Model:
    """Trains it in place."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(2e-3), loss, metrics=["accuracy"])
    x, y = tfnode.datasets.load(DATASET, "train", as_numpy=True)
    model.fit(x, y, batch_size=128, epochs=epochs, verbose=0)
    return model


def report(out: pathlib.Path, command: str, depth: int = DEPTH, epochs: int = EPOCHS) -> None:
    """Writes the table, the reports and the pictures below a directory, and prints the table."""
    data = tfnode.datasets.load(DATASET, "test", as_numpy=True)
    for name, alike in MODELS.items():
        keras.utils.set_random_seed(0)
        found = validity.check_resnet(train(build(alike, depth), epochs), data)
        verdict = "steps of an ODE" if found.is_ode else "not steps of an ODE"
        with files.beside(out / f"{name}.png") as written:
            found.plot(f"{name}: {verdict}").savefig(written)
        files.write_text(out / f"{name}.json", found.to_json() + "\n")
    made_with = versions.in_words(experiments.versions())
    files.write_text(out / "table.md", f"{table(out)}\n\nMade by `{command}` with {made_with}.\n")
    print(table(out))


def table(out: pathlib.Path) -> str:
    """The table of the reports below a directory."""
    texts = {name: (out / f"{name}.json").read_text(encoding="utf-8") for name in MODELS}
    columns = {name: cells(validity.ResNetReport.from_json(text)) for name, text in texts.items()}
    return tables.markdown(("", *columns), list(zip(ROWS, *columns.values())))


def cells(found: validity.ResNetReport) -> tuple[str, ...]:
    """The cells of a column."""
    (stage,) = found.stages
    rows = found.verdict.rows[0], found.halved, found.doubled, found.verdict.rows[-1]
    return (
        str(found.is_ode),
        *(f"{100 * row.accuracy:.1f} %" for row in rows if row.accuracy is not None),
        f"{100 * found.gap:.1f} points",
        f"{stage.weight_rate:.2f}",
        f"{stage.residual_rate:.2f}",
        f"{stage.distances[-1]:.3f}",
    )
