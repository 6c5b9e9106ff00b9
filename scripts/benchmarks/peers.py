"""The peers of `benchmark.py`, torchdiffeq and diffrax, and what every contestant shares.

A contestant builds its model and returns `train(steps)`, which runs that many training steps on
random data and returns the last loss. Architecture, initialisation, optimizer and loss are the
paper's in all of them. Every framework is imported where it is used, so that a process holds one.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

# Runs training steps and returns the last loss.
Train = Callable[[int], float]

# What the cases that are measured on a GPU begin with.
GPU = "gpu_"

# The packages that each peer needs.
PEERS = {
    "torchdiffeq": ("torch", "torchdiffeq"),
    "diffrax": ("jax", "diffrax", "equinox", "optax"),
}
ON_GPU = {"gpu_jax": ("jax",), "gpu_torchdiffeq": ("torch", "torchdiffeq")}


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
    dtype: str = "float32"


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
    def layers(self) -> tuple[tuple[int, int, int], ...]:
        """Inputs, outputs and kernel size of the layers of the field."""
        channels, hidden = self.channels, self.hidden
        return (channels, hidden, 1), (hidden, hidden, 3), (hidden, channels, 1)


# The zoo holds the same, but importing it would bring TensorFlow into the peers' processes.
ARCHITECTURES = {
    "energy_landscape": Architecture("Linear", 2, 48, (2,), 3, "adam", 5e-4),
    "concentric_spheres_2d": Architecture("Conv1d", 1, 32, (1, 2), 2, "adam", 1e-4),
    "mnist": Architecture("Conv2d", 1, 96, (1, 28, 28), 10, "sgd", 1e-2),
    "cifar10": Architecture("Conv2d", 3, 128, (3, 32, 32), 10, "adam", 1e-3),
}


def train_torchdiffeq(job: Job) -> Train:
    """`torchdiffeq.odeint`, with backpropagation through the solver as in the paper."""
    import torch
    from torch import nn

    architecture = ARCHITECTURES[job.model]
    model, parameters = _torch_model(job)
    optimizers = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}
    optimizer = optimizers[architecture.optimizer](parameters, architecture.learning_rate)
    device = _torch_device(job)
    x, y = (torch.from_numpy(v).to(device) for v in _peer_batch(architecture, job.batch))
    half = torch.autocast(device, torch.bfloat16, enabled=job.dtype != "float32")
    # As JAX does by itself.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True

    def train(steps: int) -> float:
        for _ in range(steps):
            optimizer.zero_grad()
            with half:
                loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
        return loss.item()

    return train


def answer_torchdiffeq(job: Job) -> Callable[[], np.ndarray]:
    """The same model as it answers: `answer()` returns the logits of a batch."""
    import torch

    model, _ = _torch_model(job)
    x = torch.from_numpy(_peer_batch(ARCHITECTURES[job.model], job.batch)[0])

    def answer() -> np.ndarray:
        with torch.inference_mode():
            return model(x).numpy()

    return answer


def _torch_model(job: Job) -> tuple[Callable, list[Any]]:
    """The model of a job in PyTorch as a function of a batch, and its parameters."""
    import torch
    from torch import nn
    from torchdiffeq import odeint

    architecture = ARCHITECTURES[job.model]

    def layer(
        inputs: int, outputs: int, kernel_size: int, name: str = architecture.layer
    ) -> nn.Module:
        window = () if name == "Linear" else (kernel_size, 1, kernel_size // 2)
        made = getattr(nn, name)(inputs, outputs, *window)
        nn.init.kaiming_normal_(made.weight)
        nn.init.zeros_(made.bias)
        return made

    first, hidden, last = (layer(*sizes) for sizes in architecture.layers)
    field = nn.Sequential(first, nn.ReLU(), hidden, nn.ReLU(), last)
    classifier = layer(math.prod(architecture.shape), architecture.classes, 1, "Linear")
    field, classifier = (module.to(_torch_device(job)) for module in (field, classifier))
    times, options = torch.tensor([0.0, 1.0]), {"step_size": 1 / job.num_steps}
    times = times.to(_torch_device(job))

    def model(x: torch.Tensor) -> torch.Tensor:
        z = odeint(lambda t, z: field(z), x, times, method="euler", options=options)[-1]
        return classifier(z.flatten(1))

    return model, [*field.parameters(), *classifier.parameters()]


def _torch_device(job: Job) -> str:
    return "cuda" if job.case.startswith(GPU) else "cpu"


def train_diffrax(job: Job) -> Train:
    """`diffrax.diffeqsolve` with its default adjoint; the whole step is compiled."""
    # XLA is slow at convolutions inside a loop on the CPU (issue 12868 of JAX), at their gradients
    # even with channels last: so equinox's own layers stay.
    import diffrax
    import equinox as eqx
    import jax
    import optax

    architecture = ARCHITECTURES[job.model]
    keys = iter(jax.random.split(jax.random.key(0), 8))

    def layer(
        inputs: int, outputs: int, kernel_size: int, name: str = architecture.layer
    ) -> eqx.Module:
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

    def train(steps: int) -> float:
        nonlocal parameters, state
        for _ in range(steps):
            parameters, state, loss = step(parameters, state, x, y)
        return float(loss)

    return train


def _peer_batch(architecture: Architecture, samples: int) -> tuple[np.ndarray, np.ndarray]:
    return random_batch(architecture.shape, architecture.classes, samples)


def random_batch(
    shape: tuple[int, ...], classes: int, samples: int
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(samples, *shape)).astype("float32")
    return x, rng.integers(classes, size=samples)
