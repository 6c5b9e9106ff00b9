"""The manifest: which pretrained weights there are, and what was measured on each."""

import dataclasses
import difflib
import json
import pathlib
import re
from collections.abc import Callable
from typing import Any, Self

import keras

from tfnode import arguments, solvers
from tfnode.typing import PathLike
from zoo import facts

PATH = pathlib.Path(__file__).parent / "weights.json"
LICENCE = "Apache-2.0"


@dataclasses.dataclass(frozen=True)
class WeightsEntry:
    """The pretrained weights of one name, as in the manifest.

    Args:
        name: String, `<model>_<solver>_<how>_v<N>`, such as
            `"energy_landscape_euler_adapted_v1"`.
        model: String, a name for `zoo.get_model`.
        file: String, `<name>.weights.h5`.
        sha256: String, the file's hash as 64 hexadecimal digits.
        bytes: Integer, the size of the file.
        parameters: Integer, the number of trainable parameters.
        dataset: String, a name for `tfnode.datasets.load`.
        accuracy: Dictionary of the test accuracies, as fractions: with the training solver
            (`train_solver`) and with RK4 at `rk4_steps` (`rk4_fine`).
        rk4_steps: Integer, the number of steps of the fine RK4, in the verdict too.
        test_samples: Integer, how many of the first test samples the accuracies and the verdict
            come from; None for the whole test set.
        is_ode: Boolean, the verdict of `tfnode.validity.check`.
        gap: Float, the verdict's gap.
        solver: The training solver with its last step size or tolerances; serialized in the
            manifest.
        seed: Integer.
        recipe: Dictionary of plain values that say how they were trained, with the `iterations`.
        versions: Dictionary from packages to versions.
        machine: String.
        licence: `"Apache-2.0"`.
        note: String.

    Raises:
        ValueError: If a value is not as described.
    """

    name: str
    model: str
    file: str
    sha256: str
    bytes: int
    parameters: int
    dataset: str
    accuracy: dict[str, float]
    rk4_steps: int
    test_samples: int | None
    is_ode: bool
    gap: float
    solver: solvers.Solver
    seed: int
    recipe: dict[str, Any]
    versions: dict[str, str]
    machine: str
    licence: str
    note: str

    def __post_init__(self) -> None:
        for field, (rule, is_valid) in _RULES.items():
            if not is_valid(getattr(self, field), self):
                raise ValueError(
                    f"`{field}` of a weight must be {rule}. Received: "
                    f"{field}={getattr(self, field)!r} of {self.name!r}. Correct the manifest."
                )

    @property
    def split(self) -> str:
        """String, what the accuracies come from, for `tfnode.datasets.load`."""
        return "test" if self.test_samples is None else f"test[:{self.test_samples}]"

    @property
    def metrics(self) -> dict[str, float]:
        """Dictionary of the test accuracies and of the verdict's gap, as fractions."""
        return {
            "accuracy": self.accuracy["train_solver"],
            "accuracy_under_rk4": self.accuracy["rk4_fine"],
            "gap": self.gap,
        }

    @property
    def classes(self) -> tuple[str, ...]:
        """Tuple of strings, what each logit stands for."""
        return facts.of(self.model).classes

    @property
    def inputs(self) -> str:
        """String, a sentence on the inputs and their range."""
        return facts.of(self.model).inputs

    def preprocessing(self) -> keras.Layer:
        """Returns a layer from raw data to the model's inputs: it scales the bytes of images.

        A method, unlike what is a fact of the weights, as each call makes a layer of its own:
        `get_weights(name).preprocessing()(x)`.
        """
        return keras.layers.Rescaling(facts.of(self.model).scale, name="preprocessing")

    @classmethod
    def from_config(cls, name: str, config: dict[str, Any]) -> Self:
        """Returns the entry for a name and its dictionary in the manifest."""
        fields = {field.name for field in dataclasses.fields(cls)} - {"name"}
        _check_keys(f"entry {name!r}", config, fields)
        return cls(name, **{**config, "solver": _solver(name, config["solver"])})

    def get_config(self) -> dict[str, Any]:
        """The plain values from which `from_config` makes an equal entry."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        del values["name"]
        return {**values, "solver": solvers.serialize(self.solver)}


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The pretrained weights.

    Args:
        weights: Dictionary from names to `WeightsEntry`s.
        default: Dictionary from models to the names of their default weights.
    """

    weights: dict[str, WeightsEntry]
    default: dict[str, str]

    def get(self, name: Any) -> WeightsEntry:
        """Returns the entry of a name, or that of a model's default.

        Raises:
            ValueError: If there is none.
        """
        known = {**self.default, **{name: name for name in self.weights}}
        if not isinstance(name, str) or name not in known:
            close = difflib.get_close_matches(str(name), known, cutoff=0.5)
            guess = f"Did you mean {' or '.join(map(repr, close))}? " if close else ""
            raise arguments.refused(
                "`name` must be that of pretrained weights, or of a model that has a default",
                "name",
                name,
                f"{guess}`tfnode zoo list --pretrained` shows all, and so does "
                "`zoo.list_models(pretrained=True)`.",
            )
        return self.weights[known[name]]

    def find(self, model: str, weights: Any) -> WeightsEntry:
        """Returns a model's entry of a name, or of `"DEFAULT"`.

        Raises:
            ValueError: If the model has no such weights.
        """
        names = [name for name, entry in self.weights.items() if entry.model == model]
        is_default = isinstance(weights, str) and weights == "DEFAULT"
        name = self.default.get(model) if is_default else weights
        if not isinstance(name, str) or name not in names:
            raise ValueError(
                f'`weights` must be None, "DEFAULT" if {model!r} has one, one of the names {names} '
                f"of its pretrained weights, or the path of a `.weights.h5` file. "
                f"Received: weights={weights!r} for the model {model!r}. "
                "`zoo.list_models(pretrained=True)` shows the weights of all models."
            )
        return self.weights[name]


def read(path: PathLike | None = None) -> Manifest:
    """Returns the `Manifest` in a file, by default the one of the package.

    Raises:
        ValueError: If a key is missing or unknown, or a value is not valid.
    """
    content = json.loads(pathlib.Path(path or PATH).read_text(encoding="utf-8"))
    _check_keys("manifest", content, {"weights", "default"})
    for key, value in content.items():
        if not isinstance(value, dict):
            raise ValueError(
                f"`{key}` of the manifest must be a dictionary. Received: {key}={value!r}. Correct "
                "the manifest."
            )
    weights = {n: WeightsEntry.from_config(n, config) for n, config in content["weights"].items()}
    for model, name in content["default"].items():
        if not isinstance(name, str) or name not in weights or weights[name].model != model:
            raise ValueError(
                "The default of a model must be one of its weights. "
                f"Received: default={name!r} of {model!r}. Correct the manifest."
            )
    return Manifest(weights, content["default"])


def _check_keys(what: str, config: Any, expected: set[str]) -> None:
    found = set(config) if isinstance(config, dict) else set()
    if found != expected:
        raise ValueError(
            f"The {what} must be a dictionary with the keys {sorted(expected)}. Received: missing "
            f"keys {sorted(expected - found)}, unknown keys {sorted(found - expected)}. Correct "
            "the manifest."
        )


def _solver(name: str, config: Any) -> solvers.Solver:
    try:
        return solvers.deserialize(config)
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(
            "`solver` of a weight must be a serialized solver. "
            f"Received: solver={config!r} of {name!r}. Make it with `tfnode.solvers.serialize`."
        ) from error


def _is_name(name: str, entry: WeightsEntry) -> bool:
    solver = type(entry.solver).__name__.lower()
    return isinstance(name, str) and bool(
        re.fullmatch(rf"{re.escape(entry.model)}_{solver}_[a-z0-9_]+_v[1-9][0-9]*", name)
    )


def _is_model(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch("[a-z0-9_]+", value) is not None


def _is_hash(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def _is_fraction(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= 1


def _is_accuracy(value: Any) -> bool:
    names = {"train_solver", "rk4_fine"}
    return (
        isinstance(value, dict) and set(value) == names and all(map(_is_fraction, value.values()))
    )


def _is_recipe(value: Any) -> bool:
    return isinstance(value, dict) and _is_integer(value.get("iterations"), 1)


def _is_integer(value: Any, least: int) -> bool:
    return type(value) is int and value >= least


_Rule = tuple[str, Callable[[Any, WeightsEntry], bool]]
_TEXT: _Rule = ("a string", lambda value, _: isinstance(value, str))
_COUNT: _Rule = ("a positive integer", lambda value, _: _is_integer(value, 1))
# field: the rule in words, and as a function of the value and the entry
_RULES: dict[str, _Rule] = {
    # Of which the names of files are made.
    "model": ("a name of small letters, digits and underscores", lambda value, _: _is_model(value)),
    "name": ("`<model>_<solver>_<how>_v<N>` in lower case", _is_name),
    "file": ("`<name>.weights.h5`", lambda value, entry: value == f"{entry.name}.weights.h5"),
    "sha256": ("64 hexadecimal digits in lower case", lambda value, _: _is_hash(value)),
    "bytes": _COUNT,
    "parameters": _COUNT,
    "dataset": _TEXT,
    "accuracy": (
        "a dictionary of `train_solver` and `rk4_fine`, fractions in [0, 1]",
        lambda value, _: _is_accuracy(value),
    ),
    "rk4_steps": ("an integer of at least 2", lambda value, _: _is_integer(value, 2)),
    "test_samples": (
        "a positive integer or null",
        lambda value, _: value is None or _is_integer(value, 1),
    ),
    "is_ode": ("a boolean", lambda value, _: isinstance(value, bool)),
    "gap": ("a fraction in [0, 1]", lambda value, _: _is_fraction(value)),
    "seed": ("a non-negative integer", lambda value, _: _is_integer(value, 0)),
    "recipe": ("a dictionary with the `iterations`", lambda value, _: _is_recipe(value)),
    "versions": ("a dictionary", lambda value, _: isinstance(value, dict)),
    "machine": _TEXT,
    "licence": (repr(LICENCE), lambda value, _: value == LICENCE),
    "note": _TEXT,
}
