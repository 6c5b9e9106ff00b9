"""Pushes a trained model to a repository of the Hugging Face Hub."""

import pathlib
import tempfile
from typing import Any

import keras

import tfnode
from tfnode import arguments, files
from tfnode.export import cards
from tfnode.models import held_blocks
from tfnode.validity import ValidityReport
from zoo import archives, hub, loading, registry


def push(
    model: keras.Model, address: str, report: ValidityReport | None = None, private: bool = False
) -> str:
    """Writes a trained model to a repository of the Hugging Face Hub, for `zoo.get_model`.

    Of a model of the zoo only the weights are written, and of any other a `.keras` file; with
    either a description with its SHA-256, and a card, unless there is one already.

    It needs the package `huggingface_hub`, the extra `hub`, and a token: see `hf auth login`.

    Args:
        model: Keras model. One with a `Lambda`, or with layers that are not registered, is
            refused, as it could not be loaded again.
        address: String, `hf://user/repository`.
        report: Optional `tfnode.validity.ValidityReport` of the model, which the card then has.
        private: Boolean, whether a new repository is private.

    Returns:
        String, `hf://user/repository@commit`: exactly this model for ever.

    Raises:
        ImportError: If `huggingface_hub` is not installed.
        ValueError: If an argument is not valid, or the model could not be loaded again.
        OSError: If the hub does not take it.
    """
    model = arguments.instance(
        "model", model, keras.Model, "a Keras model", advice="Pass a trained one."
    )
    address = arguments.text("address", address, advice="An example is 'hf://user/repository'.")
    private = arguments.flag("private", private)
    if report is not None:
        advice = "Pass what `tfnode.validity.check` returned, or leave it out."
        arguments.instance("report", report, ValidityReport, "a `ValidityReport`", advice=advice)
    description, content = _packed(model)
    card = _card(model, address, report)
    return hub.commit(address, content, description, card, private)


def _packed(model: keras.Model) -> tuple[hub.Description, bytes]:
    """What is written of a model, and its description."""
    of_zoo = _of_zoo(model)
    with files.temporary_in(pathlib.Path(tempfile.gettempdir())) as folder:
        if of_zoo is None:
            path = folder / f"model{archives.SUFFIX}"
            model.save(path)
        else:
            path = folder / f"model{loading.SUFFIX}"
            of_zoo.save_weights(path)
        content = path.read_bytes()
    if of_zoo is None:
        # As others will.
        archives.load(content, model.name)
        return hub.Description.of(content, None), content
    solver = tfnode.solvers.serialize(of_zoo.get_layer("ode_block").solver)
    architecture = hub.Architecture(of_zoo.name, of_zoo.output_shape[-1], solver)
    return hub.Description.of(content, architecture), content


def _of_zoo(model: keras.Model) -> keras.Model | None:
    """A model of the zoo's code that is this one, without an optimizer; None if there is none."""
    blocks = held_blocks(model)
    if model.name not in registry.list_models() or len(blocks) != 1:
        return None
    made = registry.get_model(
        model.name,
        solver=blocks[0].solver,
        dtype=blocks[0].dtype_policy.name,
        classes=model.output_shape[-1],
    )
    if _structure(made.get_config()) != _structure(model.get_config()):
        return None
    for ours, theirs in zip(_weights(made), _weights(model), strict=True):
        ours.assign(theirs)
    return made


def _weights(model: keras.Model) -> list[keras.Variable]:
    """The weights, frozen ones too, without those that only the block's adaption changes."""
    (block,) = held_blocks(model)
    of_field = {id(variable) for variable in block.field.variables}
    own = {id(variable) for variable in block.variables} - of_field
    return [variable for variable in model.weights if id(variable) not in own]


def _structure(config: Any) -> Any:
    """A configuration without names, and without what only training depends on."""
    if isinstance(config, dict):
        return {
            key: _structure(value)
            for key, value in config.items()
            if key not in ("name", "trainable") and not key.endswith("_initializer")
        }
    return [_structure(v) for v in config] if isinstance(config, (list, tuple)) else config


def _card(model: keras.Model, address: str, report: ValidityReport | None) -> str:
    name = address.rpartition("/")[-1]
    parts = [
        "---\nlibrary_name: keras\ntags: [neural-ode, tfnode]\n---",
        f"# {name}",
        "A Keras model with a Neural ODE inside, made with tfnode.",
        f'```python\nimport zoo\n\nmodel = zoo.get_model("{address}")\n```',
    ]
    if report is not None:
        parts.append(f"```text\n{cards.describe(model.name, report)}\n```")
    return "\n\n".join(parts) + "\n"
