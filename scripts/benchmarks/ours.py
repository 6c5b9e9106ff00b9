"""tfnode's own measurements for `benchmark.py`, and the bare convolutions as a floor."""

import math
import tempfile
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from scripts.benchmarks.peers import ARCHITECTURES, Job, Train, random_batch

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


def fit(job: Job) -> Train:
    """`model.fit`, with the input pipeline of `tfnode.datasets.load`; the peers have one batch."""
    from tfnode.datasets import loading

    model = _compiled_model(job)
    # As many samples as the synthetic training sets have.
    x, y = _keras_batch(model, max(2000, job.batch))
    data = loading.batched(x, y, "train", job.batch, seed=0).repeat()

    def train(steps: int) -> float:
        return model.fit(data.take(steps), shuffle=False, verbose=0).history["loss"][-1]

    return train


def fit_on_gpu(job: Job) -> Train:
    """Whole training steps in one compiled call on JAX, with the data on the device."""
    from scripts.paper import compiled_training, data

    model = _compiled_model(job)
    batches = data.Batches(_keras_batch(model, 4 * job.batch), job.batch, seed=0)
    call = compiled_training.Compiled(model, batches)
    return lambda steps: float(call(0, steps)[-1])


def bare(job: Job) -> Train:
    """The same compiled step on a fixed batch without `fit`: no metrics, no pipeline.

    The loop is in the graph, as `steps_per_execution` has it: calls from Python would cost more.
    """
    import tensorflow as tf

    model = _compiled_model(job)
    x, y = (tf.constant(v) for v in _keras_batch(model, job.batch))
    variables = model.trainable_variables
    model.optimizer.build(variables)

    @tf.function(jit_compile=model.jit_compile)
    def step():
        with tf.GradientTape() as tape:
            loss = model.loss(y, model(x, training=True))
        model.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables))
        return loss

    @tf.function
    def loop(steps):
        loss = 0.0
        for _ in tf.range(steps):
            loss = step()
        return loss

    return lambda steps: float(loop(tf.constant(steps)))


def answer_served(job: Job) -> Callable[[], np.ndarray]:
    """The exported SavedModel: `answer()` returns the logits of a batch."""
    return _exported(_compiled_model(job), job.batch, reference_steps=2)


def answer_pretrained(job: Job, samples: int) -> Callable[[], np.ndarray]:
    """The same of the pretrained weights that are called as the contestant."""
    import zoo

    model = zoo.get_model(job.model, weights=job.contestant)
    return _exported(model, samples, report=zoo.get_report(job.model, job.contestant))


def _exported(model: "keras.Model", samples: int, **options: Any) -> Callable[[], np.ndarray]:
    import tensorflow as tf

    import tfnode

    x, y = _keras_batch(model, samples)
    solver = model.get_layer("ode_block").solver
    with tempfile.TemporaryDirectory() as base:
        (path,) = tfnode.export.export_saved_models(
            model, base, [solver], (x, y), verbose=0, **options
        )
        served = tf.saved_model.load(path)
    signature, inputs = served.signatures["serving_default"], {model.inputs[0].name: tf.constant(x)}
    # The variables live as long as the object that was loaded.
    return lambda served=served: signature(**inputs)["logits"].numpy()


def bare_convolutions(job: Job) -> Train:
    """The convolutions of a training step of ours and nothing else: no bias, ReLU or update.

    Each of the K steps has the convolutions forward, again in the backward pass (the discrete
    adjoint recomputes them), and both their gradients. The loops are those of ours: in one graph,
    one iteration at a time. They carry every result, so that nothing is hoisted or pruned.
    """
    import tensorflow as tf

    rng = np.random.default_rng(0)
    architecture = ARCHITECTURES[job.model]
    dtype = tf.as_dtype(job.dtype.removeprefix("mixed_"))
    # Scaled so that a step keeps the variance: no value overflows or becomes denormal.
    filters = [
        tf.constant(rng.normal(size=(k, k, i, o)) / math.sqrt(k * k * i), dtype)
        for i, o, k in architecture.layers
    ]
    channels, *image = architecture.shape
    z0 = tf.constant(rng.uniform(size=(job.batch, *image, channels)), dtype)
    options = {"strides": [1, 1, 1, 1], "padding": "SAME"}

    def forward(k, z):
        return k + 1, _convolve(z, filters, options)[-1]

    def backward(k, z, adjoint, sums):
        *states, z = _convolve(z, filters, options)
        terms = []
        for h, w in zip(reversed(states), reversed(filters)):
            terms.append(
                tf.raw_ops.Conv2DBackpropFilter(
                    input=h, filter_sizes=w.shape, out_backprop=adjoint, **options
                )
            )
            adjoint = tf.raw_ops.Conv2DBackpropInput(
                input_sizes=h.shape, filter=w, out_backprop=adjoint, **options
            )
        return k + 1, z, adjoint, [a + b for a, b in zip(sums, reversed(terms))]

    def loop(body, *carried):
        more = lambda k, *_: k < job.num_steps
        return tf.while_loop(more, body, (0, *carried), parallel_iterations=1)

    @tf.function
    def step():
        _, z1 = loop(forward, z0)
        _, _, adjoint, sums = loop(backward, z1, z1, [tf.zeros_like(w) for w in filters])
        return adjoint, sums

    return lambda steps: float(tf.reduce_mean([step()[0] for _ in range(steps)][-1]))


def _convolve(z: "tf.Tensor", filters: list["tf.Tensor"], options: dict) -> list["tf.Tensor"]:
    import tensorflow as tf

    states = [z]
    for w in filters:
        states.append(tf.nn.conv2d(states[-1], w, **options))
    return states


def count_traces(job: Job) -> dict[str, int]:
    """The traces of the training step in a run in which the step size changes 20 times."""
    import keras

    model = _compiled_model(job)
    x, y = _keras_batch(model, job.batch * job.steps_per_execution * 21)
    # Else any Keras model, with an ODE or not, is traced once more: the first trace creates the
    # variables of the optimizer and the metrics.
    model.optimizer.build(model.trainable_variables)
    model.evaluate(x[: job.batch], y[: job.batch], verbose=0)
    block, train_step, traces = model.get_layer("ode_block"), model.train_step, []

    def counting_train_step(*arguments):
        # Python runs here when the step is traced, and never again.
        traces.append(block.name)
        return train_step(*arguments)

    model.train_step = counting_train_step
    divisors = iter(range(10, 50, 2))
    taken = {block.num_steps}

    def change(batch: int, logs: dict | None) -> None:
        if keras.backend.backend() == "jax":
            # Whose trainer keeps the values of variables to itself between batches.
            model.jax_state_sync()
        if (divisor := next(divisors, None)) is not None:
            block.step_size = 1 / divisor
            taken.add(block.num_steps)

    callback = keras.callbacks.LambdaCallback(on_train_batch_end=change)
    model.fit(x, y, batch_size=job.batch, callbacks=[callback], verbose=0)
    return {"traces": len(traces), "changes": len(taken) - 1}


def adaption_run(job: Job) -> dict[str, float]:
    """A training with `StepAdaption`: its seconds, and those of them that the checks took."""
    import keras

    import tfnode

    step_adaption = tfnode.StepAdaption(_real_data(job, seed=1000), every=50)
    data = _real_data(job, seed=0).repeat().take(job.steps)
    before, after = [], []

    def clock(times: list[float]) -> keras.callbacks.Callback:
        note = lambda batch, logs: times.append(time.perf_counter())
        return keras.callbacks.LambdaCallback(on_train_batch_end=note)

    start = time.perf_counter()
    # Callbacks are called in their order, each after an execution, whose result is then there.
    callbacks = [clock(before), step_adaption, clock(after)]
    _compiled_model(job).fit(data, shuffle=False, callbacks=callbacks, verbose=0)
    seconds = time.perf_counter() - start
    checks = [end - begin for begin, end in zip(before, after)]
    # The first execution and the first check trace and compile; the rest is the steady state.
    return {
        "seconds": seconds,
        "checks_seconds": sum(checks),
        "steady_seconds": after[-1] - after[0],
        "steady_checks_seconds": sum(checks[1:]),
    }


def _real_data(job: Job, seed: int) -> "tf.data.Dataset":
    """That of a model, generated at first use: random labels would choose other steps."""
    import zoo
    from tfnode import datasets

    return datasets.load(zoo.get_recipe(job.model).dataset, "train", job.batch, seed=seed)


def _compiled_model(job: Job) -> "keras.Model":
    """The model as `experiments.train` compiles it."""
    import keras

    import zoo

    keras.utils.set_random_seed(0)
    recipe = zoo.get_recipe(job.model)
    # An earlier commit, to compare with, knows no other.
    options = {} if job.dtype == "float32" else {"dtype": job.dtype}
    step_size = 1 / job.num_steps
    model = zoo.get_model(job.model, solver="euler", step_size=step_size, **options)
    model.compile(
        recipe.build_optimizer(),
        recipe.build_loss(),
        metrics=["accuracy"],
        jit_compile=_jit_compile(job),
        steps_per_execution=job.steps_per_execution,
    )
    return model


def _jit_compile(job: Job) -> bool | str:
    """On TensorFlow XLA pays for dense fields; convolutions are faster without."""
    import keras

    if keras.backend.backend() != "tensorflow":
        return "auto"
    return job.model == "energy_landscape"


def _keras_batch(model: "keras.Model", samples: int) -> tuple[np.ndarray, np.ndarray]:
    return random_batch(model.input_shape[1:], model.output_shape[-1], samples)
