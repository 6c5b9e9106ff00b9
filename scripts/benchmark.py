"""Times tfnode against torchdiffeq, diffrax and its own floors, on the paper's architectures.

    python scripts/benchmark.py --quick
    python scripts/benchmark.py --cases energy checks --rounds 5 --out docs/results/benchmark.json

Every measurement has a process of its own. The contestants of a comparison take turns, so that a
slow minute of the machine hits them all: a ratio is the median over the rounds of the ratios
within one. The small models get one core and one thread, MNIST gets all cores. tfnode and the
peers are those that this Python imports; a peer that is not installed is named and left out.
"""

import argparse
import dataclasses
import datetime
import importlib.util
import json
import math
import os
import pathlib
import platform
import shlex
import subprocess
import sys

import benchmark_tables as tables
import benchmark_worker
import command_line
from benchmark_peers import PEERS, Job
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from tfnode import files, versions

STEPPERS = ("fit", "bare", *PEERS)

# As the runner starts its workers; a single core besides, so that no contestant evades it.
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
}
EVERYWHERE = {
    "KERAS_BACKEND": "tensorflow",
    "CUDA_VISIBLE_DEVICES": "-1",
    "JAX_PLATFORMS": "cpu",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}


def main():
    args = parse(sys.argv[1:])
    if args.worker:
        return work(Job(**json.loads(args.worker)))
    report = {**description(), "results": []}
    groups = [group for case in args.cases for group in CASES[case](args)]
    groups = [[job for job in g if job.contestant not in args.without] for g in groups]
    for result in run_all(groups, args):
        report["results"].append(result)
        report["targets"] = tables.targets(report["results"])
        files.write_json(pathlib.Path(args.out), report)
    page = tables.page(report)
    files.write_text(pathlib.Path(args.out).with_suffix(".md"), page)
    print(page)
    errors = [result["error"] for result in report["results"] if "error" in result]
    return int(any(not error.startswith("not installed") for error in errors))


# === Cases: each returns groups of jobs; the jobs of a group take turns ===
def energy(args):
    return [[small(args, "energy", c, k) for c in STEPPERS] for k in (8, 64, 256)]


def spheres(args):
    return [[small(args, "spheres", c, 64, "concentric_spheres_2d") for c in STEPPERS]]


def mnist(args):
    return [[images(args, "mnist", c, k) for c in (*STEPPERS, "convolutions")] for k in (2, 16)]


def memory(args):
    return [[dataclasses.replace(images(args, "memory", "fit", k), steps=1) for k in (4, 64)]]


def first_step(args):
    """A warm-up of one step: the time from the call of `fit` to its end."""
    return [[small(args, "first_step", "fit", k, steps=1) for k in (8, 64, 256)]]


def traces(args):
    return [[small(args, "traces", "traces", 8)]]


def checks(args):
    """`replay` follows the step sizes of the `adaption` before it, without its checks."""
    contestants = ("adaption", "replay")
    return [[small(args, "checks", c, 32, steps=args.iterations) for c in contestants]]


def latency(args):
    """One image a request, one request after the other."""
    jobs = [images(args, "latency", contestant, 8) for contestant in benchmark_worker.ANSWERING]
    return [[dataclasses.replace(job, batch=1, steps=args.requests) for job in jobs]]


_CASES = (energy, spheres, mnist, memory, first_step, traces, checks, latency)
CASES = {f.__name__: f for f in _CASES}


def small(args, case, contestant, num_steps, model="energy_landscape", steps=None):
    execution = min(50, steps or args.steps)
    # About the same number of evaluations for every K, in whole executions of `fit`.
    steps = steps or execution * math.ceil(args.steps * 64 / (num_steps * execution))
    return Job(case, contestant, model, num_steps, 128, steps, execution, one_core=True)


def images(args, case, contestant, num_steps):
    batch = 8 if args.quick else 256
    return Job(case, contestant, "mnist", num_steps, batch, args.mnist_steps, 1, one_core=False)


# === Processes ===
def run_all(groups, args):
    """Yields the result of every job, round by round; what failed once is not run again."""
    errors = {}
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        task = progress.add_task("", total=args.rounds * sum(map(len, groups)))
        for group in groups:
            for number in range(args.rounds):
                schedule = ()
                for job in group:
                    name = f"{job.case} K={job.num_steps} {job.contestant}"
                    progress.update(task, description=f"{name}, round {number + 1}")
                    scheduled = dataclasses.replace(job, schedule=schedule)
                    measured = errors.get(job) or run_one(scheduled, args.timeout)
                    if "error" in measured:
                        errors[job] = measured
                    schedule = measured.get("schedule", ())
                    yield {**dataclasses.asdict(job), "round": number, **measured}
                    progress.advance(task)


def run_one(job, timeout):
    """Measures a job in a process of its own; returns its results or an `error`."""
    absent = [n for n in PEERS.get(job.contestant, ()) if importlib.util.find_spec(n) is None]
    if absent:
        return {"error": f"not installed: {', '.join(absent)}"}
    command = [sys.executable, __file__, "--worker", json.dumps(dataclasses.asdict(job))]
    options = {"env": environment(job), "timeout": timeout, "capture_output": True, "text": True}
    try:
        process = subprocess.run(command, **options)
    except subprocess.TimeoutExpired:
        return {"error": f"no result in {timeout} s"}
    if process.returncode:
        sys.stderr.write(process.stderr)
        return {"error": f"failed with exit status {process.returncode}"}
    return json.loads(process.stdout.splitlines()[-1])


def environment(job):
    variables = {k: v for k, v in os.environ.items() if k not in ONE_THREAD} | EVERYWHERE
    if job.one_core:
        variables |= ONE_THREAD
    if job.contestant == "diffrax" and job.one_core:
        variables["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    if job.model == "concentric_spheres_2d":
        # As in `experiments.ENVIRONMENT`, which cannot be imported without TensorFlow.
        variables["TF_ENABLE_ONEDNN_OPTS"] = "0"
    return variables


def work(job):
    """The worker: pins itself before any framework counts the cores."""
    if job.one_core and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    print(json.dumps(benchmark_worker.measure(job)))


def description():
    """The command, the versions and the machine that the results depend on."""
    packages = ("tensorflow", "keras", "numpy", "jaxlib", *(n for p in PEERS.values() for n in p))
    present = [name for name in packages if importlib.util.find_spec(name)]
    git = ["git", "-C", os.path.dirname(__file__), "describe", "--always", "--dirty"]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "command": shlex.join(["python", "scripts/benchmark.py", *sys.argv[1:]]),
        "date": datetime.date.today().isoformat(),
        "commit": subprocess.run(git, capture_output=True, text=True).stdout.strip(),
        "versions": versions.of(*present),
        "machine": {
            "system": f"{platform.system()} {platform.machine()}",
            "processor": processor(),
            "cores": os.cpu_count(),
            "memory_gb": round(memory / 1e9, 1),
        },
    }


def processor():
    """The name of the processor, which `platform` does not tell on Linux."""
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def parse(arguments):
    parser = command_line.parser(__doc__)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--without", nargs="+", choices=PEERS, default=[])
    parser.add_argument("--steps", type=int, default=1000, help="small models, at K = 64")
    parser.add_argument("--mnist-steps", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=5000, help="of the case checks")
    parser.add_argument("--requests", type=int, default=300, help="of the case latency")
    parser.add_argument("--timeout", type=int, default=1800, help="seconds for one measurement")
    parser.add_argument("--out", default="docs/results/benchmark.json")
    parser.add_argument("--quick", action="store_true", help="tiny numbers, to see it run")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.quick:
        args.rounds, args.steps, args.mnist_steps, args.iterations = 1, 5, 1, 300
        args.requests = 5
    return args


if __name__ == "__main__":
    sys.exit(main())
