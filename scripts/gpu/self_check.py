"""A look at the machine before the runs: gradients, goldens, and the time of a training step."""

import contextlib
import time
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

import tfnode
from scripts import command_line
from scripts.gpu.plan import Estimate
from scripts.paper import compiled_training, data, experiments
from scripts.paper.runs import Run
from scripts.publishing import goldens
from zoo import manifest

# Of the largest gradient or logit: single precision, summed in another order.
TOLERANCE = 1e-3
# What a run takes beside its iterations: traces, compilation, and the final accuracies.
_SECONDS_PER_RUN = 30.0


def gradients() -> float:
    """The largest relative difference of the discrete adjoint's gradient from an unrolled one."""
    import jax

    keras.utils.set_random_seed(0)
    conv = keras.layers.Conv2D
    field = keras.Sequential(
        [conv(8, 1, activation="tanh"), conv(8, 3, padding="same", activation="tanh"), conv(1, 1)]
    )
    x = np.random.default_rng(0).random((4, 12, 12, 1), "float32")
    solver = tfnode.solvers.RK4(1 / 4)
    blocks = (
        tfnode.ODEBlock(field, solver),
        tfnode.ODEBlock(field, solver, gradient="backprop", unroll=True),
    )

    def gradient(block: tfnode.ODEBlock) -> list:
        block(x)
        others = [v.value for v in block.non_trainable_variables]

        def value(weights: list) -> Any:
            return (block.stateless_call(weights, others, x, training=True)[0] ** 2).sum()

        return jax.jit(jax.grad(value))([v.value for v in field.trainable_variables])

    with jax.default_matmul_precision("highest"):
        ours, exact = map(gradient, blocks)
    return max(float(abs(a - b).max() / abs(b).max()) for a, b in zip(ours, exact, strict=True))


def outputs(model: str) -> dict[str, float]:
    """The largest relative difference of pretrained models' logits from their goldens, by name."""
    import jax

    found = {}
    for entry in manifest.read().weights.values():
        path = goldens.path_of(entry)
        if entry.model != model or not path.exists() or found:
            continue
        golden = command_line.read_json(path)
        x, differences = goldens.inputs(golden["inputs"]), []
        for output in golden["outputs"]:
            solver = tfnode.solvers.deserialize(output["solver"])
            expected = np.array(output["logits"])
            with jax.default_matmul_precision("highest"):
                logits = goldens.logits(entry, solver, x)
            differences.append(float(abs(logits - expected).max() / abs(expected).max()))
        found[entry.name] = max(differences)
    return found


def timing(run: Run) -> Estimate:
    """Times the training step of a run's model at two numbers of steps of its method."""
    import jax

    # Without a GPU, convolutions would take minutes.
    (few, many), iterations = ((1, 2), 1) if jax.default_backend() == "cpu" else ((4, 16), 20)
    model = experiments.compiled(run)
    recipe = run.recipe()
    training = data.load(recipe.dataset, "train")
    batches = data.Batches(training, recipe.batch_size, 0, recipe.augment)
    block, seconds = model.get_layer("ode_block"), {}
    for num_steps in (few, many):
        block.step_size = 1 / num_steps
        seconds[block.nfe] = min(compiled_training.seconds(model, batches, iterations))
    (few, low), (many, high) = seconds.items()
    slope = max(0.0, (high - low) / (many - few))
    return Estimate(max(0.0, low - few * slope), slope, _SECONDS_PER_RUN)


def check(runs: Sequence[Run]) -> dict[str, Any]:
    """Checks what can be checked, and says what could not be; plain values and estimates."""
    found: dict[str, Any] = {**experiments.provenance(), "problems": []}

    @contextlib.contextmanager
    def part(name: str) -> Any:
        start = time.perf_counter()
        try:
            yield
        except Exception as error:
            found["problems"].append(f"{name}: {type(error).__name__}: {error}"[:500])
        seconds = time.perf_counter() - start
        print(f"self-check, {name}: {found.get(name)}, {seconds:.1f} s", flush=True)

    with part("gradient_difference"):
        found["gradient_difference"] = gradients()
        if not found["gradient_difference"] <= TOLERANCE:
            found["problems"].append("the gradient differs from an unrolled block's")
    estimates = {}
    for run in {run.model: run for run in runs}.values():
        with part(f"outputs of {run.model}"):
            found[f"outputs of {run.model}"] = differences = outputs(run.model)
            if not all(difference <= TOLERANCE for difference in differences.values()):
                found["problems"].append(f"the outputs of {run.model} differ from their golden's")
        with part(f"timing of {run.model}"):
            estimates[run.model] = estimate = timing(run)
            found[f"timing of {run.model}"] = {
                "ms_per_iteration": 1e3 * estimate.seconds_per_iteration,
                "ms_per_evaluation": 1e3 * estimate.seconds_per_evaluation,
            }
    return {"report": found, "estimates": estimates}
