"""What is in a SavedModel: forward passes with checks, and no side effects."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from tfnode.export.signatures import input_specs, inputs_of, outputs_of
from tfnode.keras_internals import sublayers
from tfnode.layers.passes import with_some_row
from tfnode.models import held_blocks
from tfnode.models.outputs import class_probabilities, gives_logits, loss_of, single_output
from tfnode.typing import Nested, PathLike, Tensor


def write_graphs(
    path: PathLike,
    models: Mapping[str, keras.Model],
    are_logits: bool | None = True,
    are_labels: bool = False,
) -> None:
    """Writes a SavedModel with a signature for each model; one must be `serving_default`.

    Args:
        path: Path of a directory that does not exist.
        models: Dictionary from names of signatures to functional models, which may share weights.
            Names of the same model share its graph.
        are_logits: Boolean, whether they end in logits or in probabilities, of which a signature
            gives both. None gives the outputs as they are, by their names.
        are_labels: Boolean, whether each of several outputs is a label that may be right beside
            others, and not a class.
    """
    import tensorflow as tf

    forward_passes = {
        id(model): tf.function(_forward_pass(model, are_logits, are_labels), autograph=False)
        for model in models.values()
    }
    archive = keras.export.ExportArchive()
    for table in _tables(models.values()):
        archive.track(table)
    for name, model in models.items():
        archive.add_endpoint(name, forward_passes[id(model)], [input_specs(model)])
    # Nothing is differentiated here, and a custom gradient in a loop cannot be saved.
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    archive.write_out(path, options=options, verbose=False)


def _tables(models: Iterable[keras.Model]) -> list[Any]:
    """The lookup tables of models, which an archive, unlike variables, does not find by itself."""
    import tensorflow as tf

    parts = {id(part): part for m in models for part in tf.train.TrackableView(m).descendants()}
    resource = tf.saved_model.experimental.TrackableResource
    return [part for part in parts.values() if isinstance(part, resource)]


def _forward_pass(
    model: keras.Model, are_logits: bool | None, are_labels: bool
) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    """A function from a dictionary of inputs to one of outputs."""
    names, names_of_outputs = list(inputs_of(model)), list(outputs_of(model))
    isolates = all(getattr(b.solver, "isolates_failures", False) for b in held_blocks(model))

    def forward_pass(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        tensors = _shaped([inputs[name] for name in names])
        if not isolates:
            tensors = [_finite(f"input {name!r}", t) for name, t in zip(names, tensors)]
        num_rows = ops.shape(tensors[0])[0]
        # A layer such as `Flatten` cannot tell the shape of what has no rows.
        tensors = [with_some_row(tensor) for tensor in tensors]
        x = keras.tree.pack_sequence_as(model.input, tensors)
        # No layer writes a weight here (statistics of adaptive steps): requests run in parallel.
        with keras.StatelessScope():
            outputs = keras.tree.flatten(model(x, training=False))
        if isolates:
            outputs = _finite_rows(outputs, tensors)
        else:
            outputs = [_finite(f"output {n!r}", o) for n, o in zip(names_of_outputs, outputs)]
        outputs = [output[:num_rows] for output in outputs]
        if are_logits is None:
            return dict(zip(names_of_outputs, outputs))
        (output,) = outputs
        if len(output.shape) == 1:
            output = output[:, None]
        return {
            "logits": output if are_logits else _logits(output, are_labels),
            "probabilities": class_probabilities(output, are_logits, are_labels),
        }

    return forward_pass


def _shaped(inputs: Sequence[Tensor]) -> list[Tensor]:
    """The inputs, or an error when the graph runs: another rank would end the server's process."""
    import tensorflow as tf

    # A server feeds what a request has, whatever the signature says.
    tensors = [tf.ensure_shape(tensor, tensor.shape) for tensor in inputs]
    num_rows = ops.shape(tensors[0])[0]
    message = "The inputs of a request have the same number of rows"
    checks = [tf.debugging.assert_equal(ops.shape(t)[0], num_rows, message) for t in tensors[1:]]
    with tf.control_dependencies(checks):
        return [tf.identity(tensor) for tensor in tensors]


def _finite(name: str, tensor: Tensor) -> Tensor:
    """The tensor, or an error when the graph runs: JSON has no NaN to answer with."""
    import tensorflow as tf

    if not tensor.dtype.is_floating:
        return tensor
    message = f"A served model takes and gives finite numbers. Received: {name} that is not finite"
    return tf.debugging.assert_all_finite(tensor, message)


def _finite_rows(outputs: Sequence[Tensor], inputs: Sequence[Tensor]) -> list[Tensor]:
    """The outputs, NaN in the rows in which an input or an output is not finite."""
    good = ops.ones(ops.shape(outputs[0])[:1], "bool")
    for tensor in [*inputs, *outputs]:
        if tensor.dtype.is_floating:
            rows = ops.reshape(ops.isfinite(tensor), (ops.shape(tensor)[0], -1))
            good = ops.logical_and(good, ops.all(rows, axis=-1))
    return [_nan_unless(good, o) if o.dtype.is_floating else o for o in outputs]


def _nan_unless(good: Tensor, output: Tensor) -> Tensor:
    good = ops.reshape(good, (-1, *(1 for _ in output.shape[1:])))
    return ops.where(good, output, float("nan"))


def _logits(probabilities: Tensor, are_labels: bool) -> Tensor:
    # The logit of a probability that is rounded to 0 or 1 must be finite, too.
    p = ops.maximum(probabilities, np.finfo("float32").tiny)
    if p.shape[-1] != 1 and not are_labels:
        return ops.log(p)
    return ops.log(p) - ops.log1p(-ops.minimum(p, np.nextafter(np.float32(1), np.float32(0))))


# === What can be served ===
def has_logits(model: keras.Model) -> bool:
    """Whether a classifier ends in logits: by its loss, or because it was not compiled."""
    return loss_of(model) is None or gives_logits(model)


def check_model(model: keras.Model) -> None:
    """Raises if this is not a model, or a layer does not compute in single precision."""
    if not isinstance(model, keras.Model):
        raise ValueError(
            "Only a classifier that is a Keras model can be served. "
            f"Received: model={model!r}. Put a block into a `keras.Sequential` with the layers "
            "that turn its states into logits."
        )
    for layer in sublayers(model):
        policy = layer.dtype_policy
        if {policy.compute_dtype, policy.variable_dtype} != {"float32"}:
            raise ValueError(
                "A served model must compute in single precision. "
                f"Received: model={model.name!r} whose layer {layer.name!r} has the dtype policy "
                f"{policy.name!r}. Build the model with dtype float32 and give it the weights: "
                "`model.set_weights(trained.get_weights())`."
            )


def check_outputs(model: keras.Model, x: Nested, are_labels: bool) -> None:
    """Raises if it cannot be told whether a model ends in logits or in probabilities.

    Args:
        model: Keras model.
        x: A few of its inputs.
        are_labels: Boolean, as for `write_graphs`.
    """
    outputs = single_output(model(x, training=False))
    is_single = outputs.shape[-1] == 1
    are_probabilities = bool((outputs >= 0).all() and (outputs <= 1).all()) and (
        is_single or are_labels or np.allclose(outputs.sum(axis=-1), 1, atol=1e-3)
    )
    if loss_of(model) is None:
        found, is_clear = "which is not compiled", not (is_single or are_probabilities)
    else:
        found = f"whose loss {loss_of(model)!r} takes probabilities"
        is_clear = has_logits(model) or are_probabilities
    if not is_clear:
        raise ValueError(
            "The loss of a model tells whether it ends in logits or in probabilities. "
            f"Received: model={model.name!r}, {found}, and outputs in [{outputs.min():.3g}, "
            f"{outputs.max():.3g}]. Compile it with its loss, for example `model.compile("
            "loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))`."
        )
