"""The contestants of `benchmark.py`, measured one in a process.

A contestant builds its model and returns `train(steps)`, which runs that many training steps on
random data and returns the last loss. Architecture, initialisation, optimizer and loss are the
paper's in all of them. Every framework is imported where it is used, so that a process holds one.
"""

import dataclasses
import itertools
import math
import os
import resource
import sys
import time

import numpy as np


@dataclasses.dataclass(frozen=True)
class Job:
    """One measurement: what a process builds, and how many training steps it times."""

    case: str
    contestant: str
    model: str
    num_steps: int
    batch: int
    steps: int
    steps_per_execution: int
    one_core: bool
    schedule: tuple = ()


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A model of the zoo for the peers; torch and equinox share the names of their layers."""

    layer: str
    channels: int
    hidden: int
    shape: tuple
    classes: int
    optimizer: str
    learning_rate: float

    @property
    def layers(self):
        """Inputs, outputs and kernel size of the layers of the field."""
        channels, hidden = self.channels, self.hidden
        return (channels, hidden, 1), (hidden, hidden, 3), (hidden, channels, 1)


# The zoo holds the same, but importing it would bring TensorFlow into the peers' processes.
ARCHITECTURES = {
    "energy_landscape": Architecture("Linear", 2, 48, (2,), 3, "adam", 5e-4),
    "concentric_spheres_2d": Architecture("Conv1d", 1, 32, (1, 2), 2, "adam", 1e-4),
    "mnist": Architecture("Conv2d", 1, 96, (1, 28, 28), 10, "sgd", 1e-2),
}


def measure(job):
    """Runs a job in this process and returns its results as plain values."""
    if job.contestant in WHOLE_RUNS:
        return WHOLE_RUNS[job.contestant](job)
    train = CONTESTANTS[job.contestant](job)
    resident = _resident_bytes()
    start = time.perf_counter()
    train(job.steps_per_execution)
    first_seconds = time.perf_counter() - start
    start, cpu_start = time.perf_counter(), time.process_time()
    loss = train(job.steps)
    seconds = (time.perf_counter() - start) / job.steps
    cpu_seconds = (time.process_time() - cpu_start) / job.steps
    if not math.isfinite(loss):
        raise FloatingPointError(f"The loss must stay finite. Received: loss={loss}.")
    peak = _peak_bytes()
    return {
        "seconds_per_step": seconds,
        # On one core the two agree unless another process took it: the run was then disturbed.
        "cpu_seconds_per_step": cpu_seconds,
        "first_seconds": first_seconds,
        "peak_bytes": peak,
        "peak_increase_bytes": peak - resident,
    }


def ours_fit(job):
    """`model.fit`, with the input pipeline of `tfnode.datasets.load`; the peers have one batch."""
    import tensorflow as tf

    model = _compiled_model(job)
    # As many samples as the synthetic training sets have.
    data = tf.data.Dataset.from_tensor_slices(_keras_batch(model, max(2000, job.batch)))
    data = data.shuffle(2000, seed=0).batch(job.batch, drop_remainder=True)
    data = data.prefetch(tf.data.AUTOTUNE).repeat()

    def train(steps):
        return model.fit(data.take(steps), shuffle=False, verbose=0).history["loss"][-1]

    return train


def ours_bare(job):
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


def bare_convolutions(job):
    """The convolutions of a training step of ours and nothing else: no bias, ReLU or update.

    Each of the K steps has the convolutions forward, again in the backward pass (the discrete
    adjoint recomputes them), and both their gradients. The loops are those of ours: in one graph,
    one iteration at a time. They carry every result, so that nothing is hoisted or pruned.
    """
    import tensorflow as tf

    rng = np.random.default_rng(0)
    # Scaled so that a step keeps the variance: no value overflows or becomes denormal.
    filters = [
        tf.constant(rng.normal(size=(k, k, i, o)) / math.sqrt(k * k * i), tf.float32)
        for i, o, k in ARCHITECTURES[job.model].layers
    ]
    z0 = tf.constant(rng.uniform(size=(job.batch, 28, 28, 1)), tf.float32)
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


def _convolve(z, filters, options):
    import tensorflow as tf

    states = [z]
    for w in filters:
        states.append(tf.nn.conv2d(states[-1], w, **options))
    return states


def peer_torchdiffeq(job):
    """`torchdiffeq.odeint`, with backpropagation through the solver as in the paper."""
    import torch
    from torch import nn
    from torchdiffeq import odeint

    architecture = ARCHITECTURES[job.model]

    def layer(inputs, outputs, kernel_size, name=architecture.layer):
        window = () if name == "Linear" else (kernel_size, 1, kernel_size // 2)
        made = getattr(nn, name)(inputs, outputs, *window)
        nn.init.kaiming_normal_(made.weight)
        nn.init.zeros_(made.bias)
        return made

    first, hidden, last = (layer(*sizes) for sizes in architecture.layers)
    field = nn.Sequential(first, nn.ReLU(), hidden, nn.ReLU(), last)
    classifier = layer(math.prod(architecture.shape), architecture.classes, 1, "Linear")
    parameters = [*field.parameters(), *classifier.parameters()]
    optimizers = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}
    optimizer = optimizers[architecture.optimizer](parameters, architecture.learning_rate)
    x, y = (torch.from_numpy(v) for v in _peer_batch(architecture, job.batch))
    times, options = torch.tensor([0.0, 1.0]), {"step_size": 1 / job.num_steps}

    def train(steps):
        for _ in range(steps):
            optimizer.zero_grad()
            z = odeint(lambda t, z: field(z), x, times, method="euler", options=options)[-1]
            loss = nn.functional.cross_entropy(classifier(z.flatten(1)), y)
            loss.backward()
            optimizer.step()
        return loss.item()

    return train


def peer_diffrax(job):
    """`diffrax.diffeqsolve` with its default adjoint; the whole step is compiled.

    XLA is slow at convolutions inside a loop on the CPU (issue 12868 of JAX): their gradients
    even with channels last, so equinox's own layers stay.
    """
    import diffrax
    import equinox as eqx
    import jax
    import optax

    architecture = ARCHITECTURES[job.model]
    keys = iter(jax.random.split(jax.random.key(0), 8))

    def layer(inputs, outputs, kernel_size, name=architecture.layer):
        window = () if name == "Linear" else (kernel_size, 1, kernel_size // 2)
        made = getattr(eqx.nn, name)(inputs, outputs, *window, key=next(keys))
        shape = made.weight.shape
        weight = jax.random.normal(next(keys), shape) * math.sqrt(2 / math.prod(shape[1:]))
        return eqx.tree_at(lambda m: (m.weight, m.bias), made, (weight, 0 * made.bias))

    relu = eqx.nn.Lambda(jax.nn.relu)
    first, hidden, last = (layer(*sizes) for sizes in architecture.layers)
    field = eqx.nn.Sequential([first, relu, hidden, relu, last])
    classifier = layer(math.prod(architecture.shape), architecture.classes, 1, "Linear")
    parameters, static = eqx.partition((field, classifier), eqx.is_array)
    optimizer = getattr(optax, architecture.optimizer)(architecture.learning_rate)
    state = optimizer.init(parameters)
    x, y = (jax.numpy.asarray(v) for v in _peer_batch(architecture, job.batch))

    def loss_of(parameters, x, y):
        field, classifier = eqx.combine(parameters, static)
        term = diffrax.ODETerm(lambda t, z, args: jax.vmap(field)(z))
        z = diffrax.diffeqsolve(term, diffrax.Euler(), 0.0, 1.0, 1 / job.num_steps, x).ys[0]
        logits = jax.vmap(classifier)(z.reshape(len(z), -1))
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    # jax.jit on the arrays alone: equinox's filter_jit costs more for each call.
    @jax.jit
    def step(parameters, state, x, y):
        loss, gradients = jax.value_and_grad(loss_of)(parameters, x, y)
        updates, state = optimizer.update(gradients, state)
        return optax.apply_updates(parameters, updates), state, loss

    def train(steps):
        nonlocal parameters, state
        for _ in range(steps):
            parameters, state, loss = step(parameters, state, x, y)
        return float(loss)

    return train


def count_traces(job):
    """The traces of the training step in a run in which the step size changes 20 times."""
    import keras

    model = _compiled_model(job)
    x, y = _keras_batch(model, job.batch * job.steps_per_execution * 21)
    # Else any Keras model, with an ODE or not, is traced once more: the first trace creates the
    # variables of the optimizer and the metrics.
    model.optimizer.build(model.trainable_variables)
    model.evaluate(x[: job.batch], y[: job.batch], verbose=0)
    block, train_step, traces = model.get_layer("ode_block"), model.train_step, []

    def counting_train_step(data):
        # Python runs here when the step is traced, and never again.
        traces.append(block.name)
        return train_step(data)

    model.train_step = counting_train_step
    divisors = iter(range(10, 50, 2))
    taken = {block.num_steps}

    def change(batch, logs):
        if (divisor := next(divisors, None)) is not None:
            block.step_size = 1 / divisor
            taken.add(block.num_steps)

    callback = keras.callbacks.LambdaCallback(on_train_batch_end=change)
    model.fit(x, y, batch_size=job.batch, callbacks=[callback], verbose=0)
    return {"traces": len(traces), "changes": len(taken) - 1}


def adaption_run(job):
    """A training with `StepAdaption`, and the schedule of step sizes that it chose."""
    import tfnode

    checks = _energy_landscape(job, seed=1000)
    step_adaption = tfnode.StepAdaption(checks, every=50)
    result = _timed_fit(job, _compiled_model(job), step_adaption)
    history = step_adaption.history
    changes = [(a["iteration"], b["step_size"]) for a, b in itertools.pairwise(history)]
    return {**result, "schedule": [(0, history[0]["step_size"]), *changes]}


def replay_run(job):
    """The same training, with the step sizes assigned from a schedule instead of measured."""
    import keras

    model = _compiled_model(job)
    block, schedule = model.get_layer("ode_block"), dict(job.schedule)
    block.step_size = schedule[0]

    def change(batch, logs):
        iteration = int(model.optimizer.iterations)
        if iteration in schedule:
            block.step_size = schedule[iteration]

    return _timed_fit(job, model, keras.callbacks.LambdaCallback(on_train_batch_end=change))


def _timed_fit(job, model, callback):
    import keras

    data = _energy_landscape(job, seed=0).repeat().take(job.steps)
    times = []
    clock = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: times.append(time.perf_counter())
    )
    start = time.perf_counter()
    history = model.fit(data, shuffle=False, callbacks=[callback, clock], verbose=0)
    # The first execution and the first check trace and compile; the rest is the steady state.
    return {
        "seconds": time.perf_counter() - start,
        "steady_seconds": times[-1] - times[0],
        "loss": history.history["loss"][-1],
    }


def _energy_landscape(job, seed):
    """The real data, generated at first use: random labels would choose another schedule."""
    from tfnode import datasets

    return datasets.load("energy_landscape/three_minima", "train", job.batch, seed=seed)


def _compiled_model(job):
    """The model as `experiments.train` compiles it."""
    import keras

    import zoo

    keras.utils.set_random_seed(0)
    recipe = zoo.get_recipe(job.model)
    model = zoo.get_model(job.model, solver="euler", step_size=1 / job.num_steps)
    model.compile(
        recipe.build_optimizer(),
        recipe.build_loss(),
        metrics=["accuracy"],
        # XLA pays for dense fields; convolutions are faster without.
        jit_compile=job.model == "energy_landscape",
        steps_per_execution=job.steps_per_execution,
    )
    return model


def _keras_batch(model, samples):
    return _random_batch(model.input_shape[1:], model.output_shape[-1], samples)


def _peer_batch(architecture, samples):
    return _random_batch(architecture.shape, architecture.classes, samples)


def _random_batch(shape, classes, samples):
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(samples, *shape)).astype("float32")
    return x, rng.integers(classes, size=samples)


def _peak_bytes():
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _resident_bytes():
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return _peak_bytes()


CONTESTANTS = {
    "fit": ours_fit,
    "bare": ours_bare,
    "convolutions": bare_convolutions,
    "torchdiffeq": peer_torchdiffeq,
    "diffrax": peer_diffrax,
}

# These measure a whole training instead of its steps.
WHOLE_RUNS = {"traces": count_traces, "adaption": adaption_run, "replay": replay_run}
