"""Where runs are computed: processes of this machine, a Slurm cluster, or a Ray cluster.

An engine is anything with `submit(function, *arguments)`, whose answer has `done()` and `result()`.
Each is here its own library's; `opened` says how it is started for runs of this project, one core
for each.
"""

import argparse
import concurrent.futures
import contextlib
import importlib
import os
import pathlib
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker
from typing import Any, Protocol

from scripts import command_line

NAMES = ("local", "slurm", "ray")

# One thread for each process: these models are too small to gain from a second one.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "1",
}
# Where workers find the packages of this checkout.
_ROOT = pathlib.Path(__file__).parents[2]
# What Slurm is told unless the command line says otherwise: a day, one core, 4 GB.
_SLURM = {"timeout_min": 24 * 60, "cpus_per_task": 1, "mem_gb": 4}


class Unavailable(Exception):
    """An engine that cannot be reached from here."""


class Job(Protocol):
    """What was submitted."""

    def done(self) -> bool: ...

    def result(self) -> Any: ...


class Engine(Protocol):
    """What computes."""

    def submit(self, function: Callable, /, *arguments: Any) -> Job: ...


class Pool(Protocol):
    """A pool of processes of `joblib`."""

    def submit(self, function: Callable, /, *arguments: Any) -> concurrent.futures.Future: ...

    def shutdown(self, *, kill_workers: bool) -> None: ...


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say where runs are computed."""
    parser.add_argument("--engine", choices=NAMES, default="local", help="(%(default)s)")
    parser.add_argument(
        "--jobs", type=command_line.positive, default=os.cpu_count(), help="processes, of local"
    )
    parser.add_argument("--address", help="of a Ray cluster; without it one is started here")
    parser.add_argument(
        "--slurm",
        nargs="+",
        type=_setting,
        default=[],
        metavar="NAME=VALUE",
        help="as submitit names them: slurm_partition=cpu timeout_min=600",
    )


def _setting(text: str) -> tuple[str, str | int]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"must be NAME=VALUE. Received: {text}")
    return name, int(value) if value.isdecimal() else value


def check_options(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Refuses options of an engine that is not the chosen one."""
    for option, engine in (("address", "ray"), ("slurm", "slurm")):
        if getattr(args, option) and args.engine != engine:
            parser.error(
                f"--{option} is for --engine {engine}. Received: --engine {args.engine} with "
                f"--{option} {getattr(args, option)}. Leave one of them out."
            )


@contextlib.contextmanager
def opened(args: argparse.Namespace, environment: dict[str, str]) -> Iterator[Engine]:
    """The engine of a command line; at the end nothing that it computes goes on.

    Args:
        args: What `add_options` has read, and `runs`, the directory of the results.
        environment: Further environment variables of the workers.

    Raises:
        Unavailable: If the engine or its library is not here.
    """
    environment = {**ENVIRONMENT, "PYTHONPATH": str(_ROOT), **environment}
    if args.engine == "local":
        engine = contextlib.closing(Local(args.jobs, environment))
    elif args.engine == "slurm":
        engine = slurm(args.runs / "slurm", dict(args.slurm), environment)
    else:
        engine = ray(args.address, environment)
    with engine as executor:
        yield executor


class Local:
    """Processes of this machine, of which each fails for itself.

    Args:
        jobs: Integer, the most processes.
        environment: Their further environment variables.
    """

    def __init__(self, jobs: int, environment: dict[str, str]):
        # A pool with one process for each thread: in a pool of many, one that dies ends them all.
        self._threads = concurrent.futures.ThreadPoolExecutor(jobs)
        self._own = threading.local()
        # Each with what it was given last.
        self._pools: dict[Pool, concurrent.futures.Future] = {}
        self._lock = threading.Lock()
        self._is_closed = False
        self._environment = environment

    def submit(self, function: Callable, /, *arguments: Any) -> concurrent.futures.Future:
        return self._threads.submit(self._run, function, *arguments)

    def _run(self, function: Callable, *arguments: Any) -> Any:
        if not hasattr(self._own, "pool"):
            self._own.pool = process(self._environment)
        pool = self._own.pool
        try:
            with self._lock:
                if self._is_closed:
                    raise concurrent.futures.CancelledError
                self._pools[pool] = future = submitted(pool, function, *arguments)
            return future.result()
        except concurrent.futures.BrokenExecutor:
            del self._own.pool
            with self._lock:
                self._pools.pop(pool, None)
            raise

    def close(self) -> None:
        """Ends the processes, whatever they do."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            self._is_closed = True
            # A thread drops its pool when the process is killed.
            pools = dict(self._pools)
        for pool, future in pools.items():
            # A pool that is shut down with something that it has not taken up dies of a KeyError.
            while not (future.running() or future.done()):
                time.sleep(0.01)
            pool.shutdown(kill_workers=True)


def process(environment: dict[str, str] | None = None) -> Pool:
    """A pool of one process, which ends with this one, even if this one is killed."""
    from joblib.externals.loky import ProcessPoolExecutor

    # Whoever starts Python's own tracker, as the first process of a pool would, listens for Ctrl-C
    # again from then on.
    resource_tracker.ensure_running()
    options = {"initializer": _end_with, "initargs": (os.getpid(),), "env": environment}
    with _without_ctrl_c():
        return ProcessPoolExecutor(1, **options)


def submitted(pool: Pool, function: Callable, *arguments: Any) -> concurrent.futures.Future:
    """Submits to a pool, which may start its process now."""
    with _without_ctrl_c():
        return pool.submit(function, *arguments)


@contextlib.contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """Lets processes, those of the library's own too, be born without ears for Ctrl-C.

    It reaches the whole process group, and the parent alone answers it.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with(parent: int) -> None:
    """Lets this process end a second after its parent."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def slurm(
    folder: pathlib.Path,
    settings: dict[str, str | int],
    environment: dict[str, str],
    cluster: str = "slurm",
) -> Iterator[Engine]:
    """Jobs of Slurm by `submitit`.

    Args:
        folder: Path of a directory that all nodes see, for the jobs and their logs.
        settings: Dictionary of parameters, as `submitit` names them.
        environment: Further environment variables of the jobs.
        cluster: `"slurm"`, or `"local"` for processes of this machine in its place.
    """
    submitit = _library("submitit", "slurm")
    if cluster == "slurm" and shutil.which("sbatch") is None:
        raise Unavailable(
            "Slurm is reached by its command `sbatch`. Received: --engine slurm, on a machine "
            "without it. Run the command on a node of the cluster, or take --engine local."
        )
    executor = submitit.AutoExecutor(folder, cluster=cluster)
    executor.update_parameters(**{**_SLURM, **settings})
    engine = _Kept(executor)
    # Jobs have the environment of the process that submits them.
    before = dict(os.environ)
    os.environ |= environment
    try:
        yield engine
    finally:
        os.environ.clear()
        os.environ |= before
        while engine.jobs:
            job = engine.jobs.pop()
            if not job.done():
                job.cancel(check=False)


class _Kept:
    """An engine whose jobs are kept, to be cancelled."""

    def __init__(self, engine: Engine):
        self._engine = engine
        self.jobs: list[Any] = []

    def submit(self, function: Callable, /, *arguments: Any) -> Job:
        self.jobs.append(self._engine.submit(function, *arguments))
        return self.jobs[-1]


@contextlib.contextmanager
def ray(address: str | None, environment: dict[str, str]) -> Iterator[Engine]:
    """Tasks of a Ray cluster, or of one on this machine where no address is given."""
    ray = _library("ray", "ray")
    quiet = {"logging_level": "ERROR", "log_to_driver": False}
    if address is None:
        quiet["include_dashboard"] = False
    ray.init(address, runtime_env={"env_vars": environment}, **quiet)
    try:
        yield _Ray(ray)
    finally:
        ray.shutdown()


class _Ray:
    def __init__(self, ray: Any):
        self._ray = ray

    def submit(self, function: Callable, /, *arguments: Any) -> concurrent.futures.Future:
        # What fails is tried again by whoever has submitted it.
        task = self._ray.remote(num_cpus=1, max_retries=0)(function)
        return task.remote(*arguments).future()


def _library(name: str, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise Unavailable(
            f"--engine {extra} needs the package {name!r}. Received: no such package. Install it "
            f"with `pip install tfnode[{extra}]`."
        ) from error
