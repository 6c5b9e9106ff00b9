"""From a trained model to the SavedModels of its solver configurations, each complete or absent."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

import keras
import numpy as np

from tfnode import arguments, files, validity
from tfnode import solvers as tfnode_solvers
from tfnode.batches import check_data
from tfnode.export import cards, graphs, repositories, warmup
from tfnode.export.names import solver_slug
from tfnode.export.signatures import named_inputs, served_model
from tfnode.models import digest, held_blocks
from tfnode.models.judge import Judge
from tfnode.models.outputs import judged_output, with_mask
from tfnode.solvers import AdaptiveSolver, FixedStepSolver, RungeKutta, Solver, SolverLike
from tfnode.typing import Data, Nested, PathLike
from tfnode.validity import SweepRow, ValidityReport
from tfnode.validity.evaluation import Samples
from tfnode.validity.verdict import checked_settings

# The directory of a SavedModel that holds every configuration.
ALL_SOLVERS = "all_solvers"


def export_saved_models(
    model: keras.Model,
    base: PathLike,
    solvers: Iterable[SolverLike],
    data: Data | None = None,
    data_name: str | None = None,
    require_valid: bool = False,
    threshold: float = 0.02,
    reference_steps: int = 256,
    as_signatures: bool = False,
    version: int | None = None,
    repository: PathLike | None = None,
    verbose: int | str = "auto",
    report: ValidityReport | None = None,
) -> list[pathlib.Path]:
    """Writes a SavedModel for each solver configuration of a trained model.

    `<base>/<configuration>/<version>/` is what TensorFlow Serving loads: a graph without XLA that
    takes the model's inputs by name, with any number of rows, and returns `logits` and
    `probabilities`, of the classes or of labels that may be right at once, or an error where a
    number is not finite. Without data, in regression, and for a model with several outputs there is
    no verdict: then it returns the outputs of the model by their names, and no version is valid. A
    name that is no parameter of a function in ASCII is changed: `größe` to `gr__e`, `class` to
    `input_class`; the card has both. Under a solver with `per_sample=True` a sample that is not
    finite, or cannot be integrated, is answered with NaN instead, and the others of its batch with
    their numbers. Beside it lie the validity card
    `assets.extra/validity.json`, warm-up requests (with the package `tensorflow-serving-api`),
    and, if a sample's answer does not depend on the rest of its batch, the batching parameters.
    `models.config` lists everything in the repository, by directories and by names such as
    `rk4_16_steps`, which the card has as well.

    A configuration is valid if `tfnode.validity.check` finds the model to be an ODE, and its
    accuracy under the configuration is within `threshold` of that under the solver of its
    training. Only a valid version gets the label `stable`.

    Everything is written under a temporary name and renamed when it is complete. All
    configurations of a call get the same version, the next that is free in all of them.

    Examples:

    >>> model = zoo.get_model("energy_landscape", solver="rk4", step_size=1 / 8)
    >>> x, y = np.zeros((16, 2)), np.zeros(16, int)
    >>> solvers = [tfnode.solvers.Euler(1 / 8), tfnode.solvers.RK4(1 / 16)]
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as base:
    ...     paths = export_saved_models(model, base, solvers, (x, y), reference_steps=32)
    ...     print([str(path.relative_to(base)) for path in paths])
    ['euler_h0p125/1', 'rk4_h0p0625/1']

    Args:
        model: Keras model with `ODEBlock`s of one method, in single precision. A subclassed one
            must have been called, with all inputs as one argument. If it is judged, its output is
            logits, or probabilities if its loss says so.
        base: Path of the directory to write to.
        solvers: Iterable of solvers of `tfnode.solvers`, their names, or serialized dictionaries.
        data: `tf.data.Dataset` of `(inputs, labels)` batches, or a tuple of arrays `(x, y)`, to
            judge the model on, and to take the warm-up requests from. It is read more than once.
            None gives a version without either.
        data_name: Optional string for the card that names the data.
        require_valid: Boolean. If true, a model that is bound to its solver, or a configuration
            that is not accurate enough, is refused and the report is printed.
        threshold: Float, as for `tfnode.validity.check`.
        reference_steps: Integer, likewise.
        as_signatures: Boolean. If true, one SavedModel `<base>/all_solvers/<version>/` is written,
            which holds the weights once and has a signature for each configuration, called by
            `solver_name`, and by `solver_slug` too. A request chooses by `signature_name`; the
            default is the first that is valid, or the first. The version is valid, and batched,
            if all configurations are.
        version: Optional integer in place of the next free version.
        repository: Optional path of the directory that servers see, in which `models.config` is
            written: a parent of `base`, or `base` itself, which is the default.
        verbose: As for `tfnode.validity.check`.
        report: Optional `tfnode.validity.ValidityReport` of this model, which is then not judged
            again: `data` is used for requests, and for solvers that the report does not have, which
            are compared with that of the training on it.
            `threshold` and `reference_steps` are those of the report. A pretrained model's is
            `zoo.get_report`.

    Returns:
        List of the paths of the versions.

    Raises:
        ValueError: If the backend is not TensorFlow, if an argument is not valid or a directory
            cannot be written to, if two solvers have the same name, if a version exists already,
            if the model is not in single precision, or, with `require_valid`, if it is no
            classifier or not valid.
        TimeoutError: If another process exports to `base` for too long.
    """
    base = arguments.path("base", base)
    repository = base if repository is None else arguments.path("repository", repository)
    _check_given(data, data_name, report)
    require_valid = arguments.flag("require_valid", require_valid)
    as_signatures = arguments.flag("as_signatures", as_signatures)
    if version is not None:
        advice = "Leave it out for the next free one."
        version = arguments.count("version", version, 1, repositories.LAST_VERSION, advice=advice)
    *_, verbose = settings = checked_settings(threshold, reference_steps, verbose)
    check_exportable(model, base)
    _check_repository(base, repository)
    models = _models(model, solvers)
    folders = [base / slug for slug in ([ALL_SOLVERS] if as_signatures else models)]
    # Before the verdict; and again when nobody else can take a version.
    _targets(folders, version)
    x = _first_inputs(data)
    judged_on = _judged_on(model, models, data, report, require_valid)
    are_labels = judged_on is not None and _first_judge(model, judged_on).has_labels
    if judged_on is not None:
        graphs.check_outputs(model, x, are_labels)
        report = report or _verdict(model, models, judged_on, settings, require_valid)
        configurations = _judged(model, models, report, judged_on, require_valid, verbose)
    else:
        configurations = [cards.Configuration(slug, *pair) for slug, pair in models.items()]
    are_logits = None if report is None else graphs.has_logits(model)
    groups = [configurations] if as_signatures else [[c] for c in configurations]
    with _new_versions(base, folders, version) as paths:
        for (target, path), served in zip(paths.items(), groups):
            one = {"serving_default": served[0]}
            signatures = cards.by_signature(served) if as_signatures else one
            name = f"{base.resolve().name}_{target.parent.name}"
            _write(path, signatures, x, name, are_logits, are_labels)
            card = cards.card(model, report, served, data_name)
            (path / repositories.CARD).write_text(card, encoding="utf-8")
    repositories.write_models_config(repository)
    return list(paths)


def _verdict(
    model: keras.Model,
    models: Mapping[str, tuple[Solver, keras.Model]],
    data: Data,
    settings: tuple[float, int, int | str],
    require_valid: bool,
) -> ValidityReport:
    """The verdict on a model, under the solvers that it is served with too."""
    threshold, reference_steps, verbose = settings
    return validity.check(
        model,
        data,
        threshold,
        reference_steps=reference_steps,
        verbose=verbose,
        solvers=[solver for solver, _ in models.values()],
        stop_early=require_valid,
    )


def _check_given(data: Data | None, data_name: str | None, report: ValidityReport | None) -> None:
    """Raises if what may be left out is there and is something else."""
    if not (data is None or isinstance(data, tuple)):
        # Arrays are checked with the model, which may have labels for several outputs.
        check_data(data)
    if data_name is not None:
        arguments.text("data_name", data_name, advice="Leave it out for none.")
    if report is not None:
        advice = "Pass what `tfnode.validity.check` returned, or leave it out."
        arguments.instance("report", report, ValidityReport, "a `ValidityReport`", advice=advice)


def check_exportable(model: keras.Model, base: PathLike) -> None:
    """Raises, before a training, if the model could not be exported at its end.

    Args:
        model: Keras model, which need not be built.
        base: Path of the directory to write to.

    Raises:
        ValueError: If the backend is not TensorFlow, if `base` cannot be written to, or if the
            model is not a Keras model or does not compute in single precision.
    """
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "A SavedModel is TensorFlow's format and needs its backend. "
            f"Received: base={str(base)!r} with KERAS_BACKEND={keras.backend.backend()!r}. Save "
            "weights instead, with `model.save_weights`."
        )
    repositories.check_path(arguments.path("base", base))
    files.check_writable(base, "base")
    graphs.check_model(model)


def _check_repository(base: pathlib.Path, repository: pathlib.Path) -> None:
    if not base.resolve().is_relative_to(repository.resolve()):
        raise ValueError(
            "Models are written below the repository that servers see. "
            f"Received: base={str(base)!r} with repository={str(repository)!r}. Name a directory "
            "above `base`, or leave `repository` out."
        )
    files.check_writable(repository, "repository")


def _models(
    model: keras.Model, solvers: Iterable[SolverLike]
) -> dict[str, tuple[Solver, keras.Model]]:
    """A dictionary from slugs to pairs of a solver and a model with it that shares the weights."""
    models: dict[str, tuple[Solver, keras.Model]] = {}
    advice = "Pass a list of solvers, such as [tfnode.solvers.Euler(1 / 8)]."
    given = arguments.items("solvers", solvers, "solvers", advice=advice)
    for solver in map(tfnode_solvers.get, given):
        slug = solver_slug(solver)
        if slug in models:
            raise ValueError(
                "Every configuration must have a name of its own. "
                f"Received: {slug!r} for {solver} and for {models[slug][0]}. Leave one out, or "
                "give the tableau another name."
            )
        models[slug] = solver, served_model(model, _as_served(solver))
    if not models:
        raise ValueError(
            "There must be a solver to serve the model with. Received: solvers=[]. Pass the one of "
            "the training, for example `[model.get_layer('ode_block').solver]`."
        )
    return models


def _as_served(solver: Solver) -> Solver:
    """The solver as it serves the requests of many: one sample that fails is alone with that."""
    if isinstance(solver, AdaptiveSolver) and solver.per_sample:
        return dataclasses.replace(solver, per_sample_failure="nan")
    return solver


@contextlib.contextmanager
def _new_versions(
    base: pathlib.Path, folders: Sequence[pathlib.Path], version: int | None
) -> Iterator[dict[pathlib.Path, pathlib.Path]]:
    """Yields, while nobody else writes to `base`, the new versions and where to write them.

    They take their places at the end, when all of them are complete.
    """
    base.mkdir(parents=True, exist_ok=True)
    with files.locked(base / repositories.LOCK), contextlib.ExitStack() as stack:
        repositories.remove_abandoned(base)
        targets = _targets(folders, version)
        yield {target: stack.enter_context(files.beside(target)) for target in targets}


def _targets(folders: Sequence[pathlib.Path], version: int | None) -> list[pathlib.Path]:
    """The paths of the versions to write, none of which exists."""
    if version is None:
        version = repositories.next_version(folders)
    targets = [folder / str(version) for folder in folders]
    for target in targets:
        if target.exists():
            raise ValueError(
                "A version is never overwritten: servers may have loaded it. "
                f"Received: version={version}, and {str(target)!r} exists. Leave `version` out "
                "for the next free one."
            )
    return targets


def _first_inputs(data: Data | None) -> Nested:
    """The first rows of the data, as NumPy arrays; None without data."""
    if data is None:
        return None
    if isinstance(data, Iterator):
        raise ValueError(
            "Data is read more than once: for the verdict and for warm-up requests. "
            f"Received: data={data!r}, an iterator, which ends. Pass a `tf.data.Dataset`, a list "
            "of batches or a tuple of arrays."
        )
    rows = lambda x: len(keras.tree.flatten(x)[0])
    given = iter([data]) if isinstance(data, tuple) else data
    x = next((batch[0] for batch in given if rows(batch[0])), np.zeros(0))
    if not rows(x):
        raise ValueError(
            f"Data must have at least one sample. Received: data={data!r}. Leave it out to export "
            "a model without a verdict."
        )
    take = lambda array: keras.ops.convert_to_numpy(array[: max(warmup.BATCH_SIZES)])
    return keras.tree.map_structure(take, x)


def _judged_on(
    model: keras.Model,
    models: Mapping[str, tuple[Solver, keras.Model]],
    data: Data | None,
    report: ValidityReport | None,
    require_valid: bool,
) -> Data | None:
    """The data that a verdict is on; None without a verdict."""
    num_outputs = len(next(iter(models.values()))[1].outputs)
    if data is None:
        found = "no data"
    elif num_outputs > 1:
        found = f"{num_outputs} outputs"
    elif (report or _first_judge(model, data)).task == "regression":
        found = "targets of a regression"
    else:
        return data
    if require_valid or report is not None:
        raise ValueError(
            "A verdict is one on data, and on a classifier with one output. Received: "
            f"{found} for model={model.name!r}. Pass data and a `keras.Model(model.inputs, "
            "output)` that classifies, or neither `require_valid` nor `report`: without a verdict "
            "any model is exported."
        )
    return None


def _first_judge(model: keras.Model, data: Data) -> Judge:
    """What a model is judged by, from the first samples."""
    samples = Samples(data)
    outputs, mask = judged_output(*with_mask(model(samples.first_inputs, training=False)))
    y, weights = samples.first_labels, samples.first_weights
    return Judge(model, y, outputs, weights=weights, mask=mask, is_all=False)


def _judged(
    model: keras.Model,
    models: Mapping[str, tuple[Solver, keras.Model]],
    report: ValidityReport,
    data: Data,
    require_valid: bool,
    verbose: int | str,
) -> list[cards.Configuration]:
    """The configurations with what a report says of them; those that must be valid are."""
    _check_report(model, report)
    if require_valid:
        cards.require_ode(model, report)
    chosen = [solver for solver, _ in models.values()]
    pairs = _rows(model, report, chosen, data, verbose)
    configurations = cards.configurations(models, report, pairs)
    if require_valid:
        cards.require_accurate(model, report, configurations)
    return configurations


def _rows(
    model: keras.Model,
    report: ValidityReport,
    chosen: Sequence[Solver],
    data: Data,
    verbose: int | str,
) -> list[tuple[SweepRow, SweepRow]]:
    """A row for each solver, and that of the training on the same data.

    They are from the report where that surely has the solver, and else measured.
    """
    blocks = held_blocks(model)
    of_step = {(row.solver, row.step_size): row for row in report.rows}
    known: dict[Solver, tuple[SweepRow, SweepRow]] = {}
    for solver in chosen if len(blocks) == 1 else ():
        # A row has no more of a solver than its class and its step.
        if isinstance(solver, FixedStepSolver) and not isinstance(solver, RungeKutta):
            row = of_step.get((type(solver).__name__, solver.step_size))
            if row is not None:
                known[solver] = row, report.rows[0]
    missing = [solver for solver in chosen if solver not in known]
    if missing:
        rows = validity.sweep(model, data, missing, verbose=verbose)
        # The report may be of other data, on which all accuracies are others.
        at_its_step = validity.sweep(model, data, factors=[1.0], verbose=verbose)
        training = next(row for row in at_its_step if row.is_training)
        known |= {s: (row, training) for s, row in zip(missing, rows, strict=True)}
    return [known[solver] for solver in chosen]


def _check_report(model: keras.Model, report: ValidityReport) -> None:
    if report.digest != digest(model):
        raise ValueError(
            "A report must be that of the model: of these weights and this solver. Received: "
            f"report.digest={report.digest!r} for model={model.name!r}, whose digest is "
            f"{digest(model)!r}. Judge the model by `tfnode.validity.check`, or leave the report "
            "out."
        )
    if report.task != "classification":
        raise ValueError(
            "A model that is judged must return logits or probabilities of classes. "
            f"Received: model={model.name!r} with targets of a {report.task}. Leave `data` out: "
            "the model is then exported without a verdict, with its outputs by their names."
        )


def _write(
    path: pathlib.Path,
    served: Mapping[str, cards.Configuration],
    x: Nested,
    model_name: str,
    are_logits: bool | None,
    are_labels: bool,
) -> None:
    """Writes a version without its card: `served` has the configurations by signature."""
    models = {name: configuration.model for name, configuration in served.items()}
    graphs.write_graphs(path, models, are_logits, are_labels)
    (path / "assets.extra").mkdir(exist_ok=True)
    if x is not None:
        inputs = named_inputs(next(iter(models.values())), x)
        warmup.write_warmup(path / warmup.WARMUP, model_name, served, inputs)
    if all(repositories.can_be_batched(c.solver) for c in served.values()):
        (path / repositories.BATCHING).write_text(
            repositories.BATCHING_PARAMETERS, encoding="utf-8"
        )
