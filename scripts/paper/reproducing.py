"""What the reproducing commands share: their settings, their options, and training with resume."""

import argparse
import dataclasses
import pathlib
import sys
from collections.abc import Sequence

import tfnode
from scripts import command_line, machine
from scripts.paper import engines, experiments, runner
from scripts.paper.runs import Run
from zoo import get_recipe

SPHERES = tuple(f"concentric_spheres_{dim}d" for dim in (2, 3, 10, 900))
SYNTHETIC = (*SPHERES, "energy_landscape")
IMAGES = ("mnist", "cifar10")
NAMES = {
    **{f"concentric_spheres_{dim}d": f"Concentric spheres {dim}d" for dim in (2, 3, 10, 900)},
    "energy_landscape": "Three Minima",
    "mnist": "MNIST",
    "cifar10": "Cifar10",
}

# The quick setting: enough to see every part work, in minutes.
_QUICK_ITERATIONS = {"concentric_spheres_900d": 200, "mnist": 200, "cifar10": 200}
_QUICK_IMAGES = {"batch_size": 16, "test_samples": 100, "rk4_steps": 16}


def parser(description: str, out: str) -> argparse.ArgumentParser:
    """Returns a parser with the options that the commands share; `out` is the default of one."""
    options = command_line.parser(description)
    setting = options.add_mutually_exclusive_group(required=True)
    setting.add_argument("--quick", action="store_true", help="minutes: few iterations and seeds")
    setting.add_argument("--paper", action="store_true", help="hours: the paper's setting")
    options.add_argument("--seeds", type=command_line.positive, help="seeds of each run; 2 or 5")
    options.add_argument(
        "--iterations", type=command_line.positive, help="in place of the setting's"
    )
    options.add_argument(
        "--finished", action="store_true", help="train nothing: report on the finished runs"
    )
    command_line.add_dtype(options)
    engines.add_options(options)
    for name, default, what in (
        ("runs", "results/runs", "the finished runs"),
        ("checkpoints", "results/checkpoints", "checkpoints of those under way"),
        ("out", out, "tables and figures"),
    ):
        options.add_argument(
            f"--{name}", type=pathlib.Path, default=default, help=f"directory of {what}"
        )
    return options


def seeds(args: argparse.Namespace) -> range:
    """The seeds of each run in the setting of the arguments."""
    return range(args.seeds or (2 if args.quick else 5))


def run_of(
    args: argparse.Namespace, model: str, num_steps: int | None, seed: int, **options
) -> Run:
    """Returns the run of a model in the setting of the arguments."""
    iterations = get_recipe(model).iterations
    if args.quick:
        iterations = _QUICK_ITERATIONS.get(model, 3000)
        options |= _QUICK_IMAGES if model in IMAGES else {}
    run = Run(model, num_steps, seed, args.iterations or iterations, **options)
    choices = [args.dtype] if args.dtype else ["float32", "mixed_bfloat16"]
    found = [dataclasses.replace(run, dtype=dtype) for dtype in choices]
    # A result that is there may come from another machine.
    done = [run for run in found if (args.runs / run.path).exists()]
    return (done or [dataclasses.replace(run, dtype=args.dtype or fastest_dtype(model))])[0]


def fastest_dtype(model: str) -> str:
    """The dtype policy that this machine trains a model fastest in."""
    return "mixed_bfloat16" if model in IMAGES and machine.has_amx() else "float32"


def train_all(runs: Sequence[Run], args: argparse.Namespace) -> int:
    """Trains what is not finished yet, unless the arguments say otherwise.

    Returns:
        0, or the exit status of a command that was stopped before the end.
    """
    if args.finished:
        return 0
    failed: dict[Run, Exception] = {}
    try:
        for model in dict.fromkeys(run.model for run in runs):
            failed |= _train([run for run in runs if run.model == model], model, args)
    except KeyboardInterrupt:
        return _stopped("Interrupted.", runs, args, code=130)
    except engines.Unavailable as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        return _stopped(f"A result could not be written: {error}.", runs, args, code=1)
    for run, error in failed.items():
        print(f"{run.path} failed: {type(error).__name__}: {error}", file=sys.stderr)
    if failed:
        return _stopped(f"{len(failed)} runs failed.", runs, args, code=1)
    return 0


def _train(runs: Sequence[Run], model: str, args: argparse.Namespace) -> dict[Run, Exception]:
    """Trains the runs of a model; returns those that failed, with their errors."""
    # Once, here: the workers would race to prepare the same data.
    tfnode.datasets.load(get_recipe(model).dataset, "test", as_numpy=True)
    environment = experiments.ENVIRONMENT if model in SYNTHETIC else {}
    if any(run.dtype != "float32" for run in runs):
        print(f"{NAMES[model]} trains in mixed_bfloat16, which is fast here.")
    with engines.opened(args, environment) as engine:
        return runner.run_all(
            experiments.train, runs, engine, args.runs, args.checkpoints, NAMES[model]
        )


def _stopped(reason: str, runs: Sequence[Run], args: argparse.Namespace, code: int) -> int:
    finished = len(runner.read_results(runs, args.runs))
    print(
        f"\n{reason} {finished} of {len(runs)} runs are finished and kept in {args.runs}. "
        "Run the same command again to go on.",
        file=sys.stderr,
    )
    return code
