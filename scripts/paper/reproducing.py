"""What the reproducing commands share: their settings, and training with resume."""

import argparse
import dataclasses
import sys
from collections.abc import Sequence

import tfnode
from scripts import machine
from scripts.command_line import Stop
from scripts.models import ALL_IMAGES, IMAGES, NAMES, SYNTHETIC
from scripts.paper import engines, experiments, runner
from scripts.paper.runs import RK4_STEPS_OF_IMAGES, Run
from zoo import get_recipe

# The quick setting: enough to see every part work, in minutes.
_QUICK_ITERATIONS = {"concentric_spheres_900d": 200, "mnist": 200, "cifar10": 200}
_QUICK_IMAGES = {"batch_size": 16, "test_samples": 100, "rk4_steps": 16}


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
    if model in IMAGES:
        options |= _QUICK_IMAGES if args.quick else {"rk4_steps": RK4_STEPS_OF_IMAGES}
    run = Run(model, num_steps, seed, args.iterations or iterations, **options)
    choices = [args.dtype] if args.dtype else ["float32", "mixed_bfloat16"]
    found = [dataclasses.replace(run, dtype=dtype) for dtype in choices]
    # A result that is there may come from another machine.
    done = [run for run in found if (args.runs / run.path).exists()]
    return (done or [dataclasses.replace(run, dtype=args.dtype or fastest_dtype(model))])[0]


def fastest_dtype(model: str) -> str:
    """The dtype policy that this machine trains a model fastest in."""
    return "mixed_bfloat16" if model in ALL_IMAGES and machine.has_amx() else "float32"


def train_all(runs: Sequence[Run], args: argparse.Namespace) -> int:
    """Trains what is not finished yet, unless the arguments say otherwise.

    Returns:
        0, or the exit status of a command that was stopped before the end.

    Raises:
        Stop: If a result is not whole, or if there is none and nothing may be trained.
    """
    finished = runner.read_results(runs, args.runs)
    if args.finished:
        if runs and not finished:
            raise Stop(
                "--finished reports on runs that are finished. Received: none of these "
                f"{len(runs)} below {str(args.runs)!r}. Leave it out to train them."
            )
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
