"""What is measured: each case returns groups of jobs, and the jobs of a group take turns."""

import argparse
import dataclasses
import math
from collections.abc import Callable

from scripts.benchmarks import worker
from scripts.benchmarks.peers import GPU, ON_GPU, PEERS, Job
from scripts.models import IMAGES

Groups = list[list[Job]]

# `fit` on the other backends.
BACKENDS = ("fit_jax", "fit_torch")
STEPPERS = ("fit", "bare", *PEERS)


def energy(args: argparse.Namespace) -> Groups:
    """With `--before`, the commit before takes turns, too: each twice, as first and as second."""
    own = ("fit_before", "fit", "fit_jax") if args.before else ("fit", "fit_jax")
    contestants = (*own, "bare", *PEERS)
    return [[small(args, "energy", c, k) for c in contestants] for k in (8, 64, 256)]


def spheres(args: argparse.Namespace) -> Groups:
    return [[small(args, "spheres", c, 64, "concentric_spheres_2d") for c in STEPPERS]]


def mnist(args: argparse.Namespace) -> Groups:
    return [[images(args, "mnist", c, k) for c in (*STEPPERS, "convolutions")] for k in (2, 16)]


def precision(args: argparse.Namespace) -> Groups:
    """In single and in half precision, each with the convolutions of its dtype as a floor."""
    contestants = ("fit", "fit_bfloat16", "convolutions", "convolutions_bfloat16")
    groups = [[images(args, model, c, 8, model) for c in contestants] for model in IMAGES]
    return [[in_half_precision(job) for job in group] for group in groups]


def gpu(args: argparse.Namespace) -> Groups:
    """Whole training steps on a GPU, several in one call, of the paper's two image models."""
    contestants = [f"{name}{half}" for name in ON_GPU for half in ("", "_bfloat16")]
    found = []
    for model in IMAGES:
        jobs = [images(args, GPU + model, c, 8, model) for c in contestants]
        steps = 2 if args.quick else 50
        jobs = [dataclasses.replace(j, steps=steps, steps_per_execution=steps) for j in jobs]
        found.append([in_half_precision(job) for job in jobs])
    return found


def memory(args: argparse.Namespace) -> Groups:
    """A step of every backend on few samples: on a CPU, the convolutions of JAX are slow."""
    jobs = [images(args, "memory", c, k) for c in ("fit", *BACKENDS) for k in (4, 64)]
    return [[dataclasses.replace(job, steps=1, batch=min(job.batch, 16)) for job in jobs]]


def first_step(args: argparse.Namespace) -> Groups:
    """A warm-up of one step: the time from the call of `fit` to its end."""
    return [[small(args, "first_step", "fit", k, steps=1) for k in (8, 64, 256)]]


def traces(args: argparse.Namespace) -> Groups:
    return [[small(args, "traces", c, 8) for c in ("traces", "traces_jax")]]


def checks(args: argparse.Namespace) -> Groups:
    """The share of the checks in trainings with `StepAdaption`."""
    models = {"checks_energy": "energy_landscape", "checks_spheres": "concentric_spheres_2d"}
    return [
        [small(args, case, "adaption", 32, model, args.iterations)]
        for case, model in models.items()
    ]


def latency(args: argparse.Namespace) -> Groups:
    """One image a request, one request after the other."""
    jobs = [images(args, "latency", contestant, 8) for contestant in worker.ANSWERING]
    return [[dataclasses.replace(job, batch=1, steps=args.requests) for job in jobs]]


def zoo(args: argparse.Namespace) -> Groups:
    """Every pretrained weight under the solver that it is served with: one sample, and several."""
    # Here, as it brings TensorFlow, and the names of the cases are read before.
    from zoo import manifest

    batch = 8 if args.quick else 32
    return [
        [Job("zoo", entry.name, entry.model, 0, batch, args.requests, 1, one_core=False)]
        for entry in manifest.read().weights.values()
    ]


_CASES = (energy, spheres, mnist, precision, gpu, memory, first_step, traces, checks, latency, zoo)
CASES: dict[str, Callable[[argparse.Namespace], Groups]] = {f.__name__: f for f in _CASES}


def small(
    args: argparse.Namespace,
    case: str,
    contestant: str,
    num_steps: int,
    model: str = "energy_landscape",
    steps: int | None = None,
) -> Job:
    execution = min(50, steps or args.steps)
    # About the same number of evaluations for every K, in whole executions of `fit`.
    steps = steps or execution * math.ceil(args.steps * 64 / (num_steps * execution))
    return Job(case, contestant, model, num_steps, 128, steps, execution, one_core=True)


def images(
    args: argparse.Namespace, case: str, contestant: str, num_steps: int, model: str = "mnist"
) -> Job:
    batch = 8 if args.quick else 256
    return Job(case, contestant, model, num_steps, batch, args.mnist_steps, 1, one_core=False)


def in_half_precision(job: Job) -> Job:
    """The job in the dtype that its contestant says."""
    if job.contestant.endswith("_bfloat16"):
        return dataclasses.replace(job, dtype="mixed_bfloat16")
    return job
