"""The figures of the paper by number: what each shows, and which trainings it needs."""

import argparse
import dataclasses
from collections.abc import Callable, Sequence

import matplotlib.figure

from scripts.models import NAMES
from scripts.paper import figures, reproducing
from scripts.paper.runs import Run

# The runs of a figure by the titles of its panels, in the setting of the arguments.
Runs = Callable[[argparse.Namespace], dict[str, list[Run]]]

_POWERS = tuple(2**i for i in range(9))

# The numbers of steps in training, up to the last of the paper's figures, for Euler and for RK4.
_PAPER_STEPS = {
    "concentric_spheres_2d": (256, 128),
    "concentric_spheres_3d": (128, 32),
    "concentric_spheres_10d": (128, 32),
    "concentric_spheres_900d": (64, 16),
    "energy_landscape": (256, 64),
    "mnist": (64, 32),
    "cifar10": (64, 16),
}
_QUICK_STEPS = {
    "concentric_spheres_900d": (2, 1),
    "mnist": (8, 1),
    "cifar10": (8, 1),
}
_TOLERANCES = (1.0, 1e-1, 1e-2, 1e-3, 1e-4)
_QUICK_TOLERANCES = (1e-1, 1e-3)


@dataclasses.dataclass(frozen=True)
class Need:
    """What a figure cannot be drawn without.

    Args:
        words: What must be there.
        is_met: Whether results are enough, by the titles of the panels.
    """

    words: str
    is_met: Callable[[figures.Panels], bool]


ANY = Need("a finished run", lambda results: any(results.values()))
EACH = Need("a finished run of each panel", lambda results: all(results.values()))
CURVE = Need(
    "a finished run of 50 iterations or more, which has a curve,",
    lambda results: any(result["test_curve"] for found in results.values() for result in found),
)


@dataclasses.dataclass(frozen=True)
class Figure:
    """One figure of the paper.

    Args:
        caption: What it shows.
        runs: Returns the runs that it needs.
        draw: Makes it, from the same dictionary with results in the place of the runs.
        need: What of them it cannot do without.
    """

    caption: str
    runs: Runs
    draw: Callable[[figures.Panels], matplotlib.figure.Figure]
    need: Need = ANY


# === The runs of a figure ===
def grid(args: argparse.Namespace, model: str, solver: str, counts: Sequence[int]) -> list[Run]:
    """The runs of a model with several numbers of steps, for each seed."""
    return [
        reproducing.run_of(args, model, count, seed, solver=solver)
        for count in counts
        for seed in reproducing.seeds(args)
    ]


def counts_of(args: argparse.Namespace, model: str, solver: str) -> list[int]:
    """The numbers of steps that a model is trained with, in the setting of the arguments."""
    last = (_QUICK_STEPS.get(model, (64, 8)) if args.quick else _PAPER_STEPS[model])[
        solver != "euler"
    ]
    return [count for count in _POWERS if count <= last][:: 3 if args.quick and last > 8 else 1]


def dependence(*models: str) -> Runs:
    """The panels of figures 3, 4 and 17 to 19: each model, trained with Euler and with RK4."""

    def runs(args: argparse.Namespace) -> dict[str, list[Run]]:
        return {
            f"{NAMES[model]}, trained with {name}": grid(
                args, model, solver, counts_of(args, model, solver)
            )
            for model in models
            for solver, name in (("euler", "Euler"), ("rk4", "RK4"))
        }

    return runs


def steps_of(model: str, counts: Sequence[int]) -> Runs:
    """The panels of figures 7 to 16: each number of steps, trained with Euler and with RK4."""

    def runs(args: argparse.Namespace) -> dict[str, list[Run]]:
        return {
            f"{count} {'step' if count == 1 else 'steps'} of {name}": grid(
                args, model, solver, [count]
            )
            for count in counts
            for solver, name in (("euler", "Euler"), ("rk4", "RK4"))
            if count in counts_of(args, model, solver)
        }

    return runs


def tolerances(solver: str) -> Runs:
    """The panels of figures 20 and 21: each tolerance."""

    def runs(args: argparse.Namespace) -> dict[str, list[Run]]:
        return {
            f"trained with tolerance {tolerance:g}": [
                reproducing.run_of(
                    args, "concentric_spheres_2d", None, seed, solver=solver, tolerance=tolerance
                )
                for seed in reproducing.seeds(args)
            ]
            for tolerance in (_QUICK_TOLERANCES if args.quick else _TOLERANCES)
        }

    return runs


def adapted(*models: str, seeds: Sequence[int] | None = None) -> Runs:
    """The panels of figures 5 and 6: each model, trained with step adaption."""

    def runs(args: argparse.Namespace) -> dict[str, list[Run]]:
        return {
            NAMES[model]: [
                reproducing.run_of(args, model, None, seed)
                for seed in seeds or reproducing.seeds(args)
            ]
            for model in models
        }

    return runs


def with_paths(*counts: int) -> Runs:
    """The panels of figures 1 and 22: the energy landscape, with some trajectories kept."""

    def runs(args: argparse.Namespace) -> dict[str, list[Run]]:
        return {
            f"{count} steps": [
                reproducing.run_of(args, "energy_landscape", count, seed, paths=True)
                for seed in reproducing.seeds(args)
            ]
            for count in counts
        }

    return runs


# === The figures ===
_DEPENDENCE = (
    "Neural ODEs trained with different step sizes (colours) on {}. Dark discs: test solver and "
    "step of the training. Light: other solvers and steps; discs the method of the training, "
    "crosses midpoint, triangles RK4. Means over the seeds, without those {}. {}"
)
_CHANCE = "Dotted: chance."
_CLOSE = (
    "Even the paths of an ODE cross as a solver finds them where they run together closer than its "
    "error; those of the paper's figure 1 (a) do not."
)
# The rule of `selection.trained_seeds`.
_LEFT_OUT = (
    "that end more than 10 points below the best of their setting, under the solver of the "
    "training, on the validation set, or where the runs have looked at none on the test set"
)
_SEEDS = (
    "Accuracies by seed on {}: test solver and step of the training (dark), other solvers and "
    "steps (light). Grey: seeds {}. {}"
)
_TWO_SPHERES = "the concentric spheres in 2 dimensions"


def _dependence(names: str, *models: str) -> Figure:
    caption = _DEPENDENCE.format(names, _LEFT_OUT, _CHANCE)
    return Figure(caption, dependence(*models), figures.solver_dependence)


def _by_seed(model: str, name: str, counts: Sequence[int]) -> Figure:
    described = f"{name}, {', '.join(map(str, counts))} steps"
    caption = _SEEDS.format(described, _LEFT_OUT, _CHANCE)
    return Figure(caption, steps_of(model, counts), figures.seeds_of_steps)


def _by_tolerance(solver: str, name: str) -> Figure:
    return Figure(
        f"{name} on {_TWO_SPHERES}: trained with different tolerances, tested with a tenth, the "
        f"same and ten times the tolerance of the training (dark). Grey: seeds {_LEFT_OUT}. "
        f"{_CHANCE}",
        tolerances(solver),
        figures.seeds_of_steps,
    )


FIGURES = {
    1: Figure(
        "A Neural ODE trained on the energy landscape with small (a) and with large steps (b): "
        "its paths, in the colours of the classes that it answers, and in brackets the crossings "
        "of every seed, of which the one with the median is shown. (c), (d): its test accuracy "
        f"over the number of steps. {_CHANCE} {_CLOSE}",
        with_paths(256, 8),
        figures.trajectories_and_accuracies,
        EACH,
    ),
    2: Figure(
        "Synthetic data: (a) the potential with its minima, in the colours of the classes, (b) the "
        "class of each initial position and velocity, (c) the concentric spheres.",
        lambda args: {},
        lambda results: figures.datasets(),
    ),
    3: _dependence(
        f"{_TWO_SPHERES} and the energy landscape",
        "concentric_spheres_2d",
        "energy_landscape",
    ),
    4: _dependence("MNIST and CIFAR-10", "mnist", "cifar10"),
    5: Figure(
        "Step adaption on MNIST and CIFAR-10: test accuracy, and the number of steps at the times "
        f"at which it was measured. {_CHANCE}",
        adapted("mnist", "cifar10"),
        figures.adaption,
        CURVE,
    ),
    6: Figure(
        "Step adaption on the energy landscape, one seed: (a) test accuracy, at some times also "
        f"under better solvers, (b) number of steps at the times of (a). {_CHANCE}",
        adapted("energy_landscape", seeds=[0]),
        lambda results: figures.behaviour(*(of_panel[0] for of_panel in results.values())),
        CURVE,
    ),
    7: _by_seed("concentric_spheres_2d", _TWO_SPHERES, (1, 2, 4)),
    8: _by_seed("concentric_spheres_2d", _TWO_SPHERES, (8, 16, 32)),
    9: _by_seed("concentric_spheres_2d", _TWO_SPHERES, (64, 128, 256)),
    10: _by_seed("energy_landscape", "the energy landscape", (1, 2, 4)),
    11: _by_seed("energy_landscape", "the energy landscape", (8, 16, 32)),
    12: _by_seed("energy_landscape", "the energy landscape", (64, 128, 256)),
    13: _by_seed("mnist", "MNIST", (1, 2, 4)),
    14: _by_seed("mnist", "MNIST", (8, 16, 32, 64)),
    15: _by_seed("cifar10", "CIFAR-10", (1, 2, 4)),
    16: _by_seed("cifar10", "CIFAR-10", (8, 16, 32, 64)),
    17: _dependence("the concentric spheres in 3 dimensions", "concentric_spheres_3d"),
    18: _dependence("the concentric spheres in 10 dimensions", "concentric_spheres_10d"),
    19: _dependence("the concentric spheres in 900 dimensions", "concentric_spheres_900d"),
    20: _by_tolerance("fehlberg21", "Fehlberg's method 2(1)"),
    21: _by_tolerance("dormandprince", "Dormand and Prince's method 5(4)"),
    22: Figure(
        "(a) The true dynamics of the energy landscape, in position and velocity, in the colours "
        "of the classes; then paths of Neural ODEs of 256 steps, one a seed, in the colours of "
        "their answers; last the true vector field and beside it that of the first seed, where its "
        "run has kept it, slow in dark colours and fast in light ones. "
        f"{_CLOSE}",
        with_paths(256),
        lambda results: figures.true_and_learned_paths(*results.values()),
    ),
    # Beyond the paper, which says that it is possible.
    23: Figure(
        "The energy landscape (a) with five minima and (c) in two dimensions with three in each, "
        "by lines of equal height, dark where it is low; (b), (d): the class of each start, in "
        "the colours of the minima.",
        lambda args: {},
        lambda results: figures.landscapes(),
    ),
}
