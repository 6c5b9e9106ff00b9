"""Which solvers and steps a model is tried with."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np

from tfnode import arguments, solvers
from tfnode.layers import ODEBlock
from tfnode.models import Reached
from tfnode.solvers import AdaptiveSolver, SolverLike

# The paper's section 4.1, and the tolerances of its supplement.
STEP_FACTORS = (0.5, 0.75, 1.0, 1.5, 2.0)
TOLERANCE_FACTORS = (0.1, 1.0, 10.0)


@dataclasses.dataclass(frozen=True)
class Trial:
    """A solver for each block of a model; equal if the solvers are.

    Args:
        solvers: Tuple of solvers, one for each block.
        factor: Float, the step (or tolerance) over that of the training; None for a solver that
            stands for itself.
        save_at: Tuple of floats, other times for the blocks that have some; None for their own.
    """

    solvers: tuple[Any, ...]
    factor: float | None = dataclasses.field(default=None, compare=False)
    save_at: tuple[float, ...] | None = None

    @property
    def is_adaptive(self) -> bool:
        return isinstance(self.solvers[0], AdaptiveSolver)

    def describe(self) -> dict[str, Any]:
        """Solver, factor and step size (of the first block) or tolerance, as plain values."""
        solver = self.solvers[0]
        return {
            "solver": type(solver).__name__,
            "factor": self.factor,
            "step_size": None if self.is_adaptive else solver.step_size,
            "tolerance": solver.rtol if self.is_adaptive else None,
        }


def training_trial(model: keras.Model, reached: Sequence[Reached]) -> Trial:
    """The solvers of the blocks of a model, after a check that a sweep fits them all.

    A step that the times of `save_at` cut is as long as the way between them: multiples of one that
    is never taken would not be what they are called.
    """
    check_one_method(model, [found.block for found in reached])
    return Trial(tuple(_as_taken(found, found.block.solver) for found in reached), 1.0)


def check_one_method(model: keras.Model, blocks: Sequence[ODEBlock]) -> None:
    """Raises if the blocks of a model have different methods."""
    found = [block.solver for block in blocks]
    if len({(type(solver), solver.tableau) for solver in found}) > 1:
        raise ValueError(
            "Every block of the model must have the same method, so that one sweep fits them all. "
            f"Received: solvers={found} of model={model.name!r}. Give them one method, for "
            "example with `tfnode.with_solver`."
        )


def given_trial(reached: Sequence[Reached], solver: Any) -> Trial:
    """The trial of a solver that stands for itself, in every block."""
    return Trial(tuple(_as_taken(found, solver) for found in reached))


def _as_taken(found: Reached, solver: Any) -> Any:
    """A solver with the step that a block takes; one that it refuses is left to it."""
    if isinstance(solver, AdaptiveSolver) or not _fits(solver.step_size, found.way):
        return solver
    is_cut = not _fits(solver.step_size, found.longest_step)
    return solver.with_step_size(found.longest_step) if is_cut else solver


def require_fixed_step(training: Trial, what: str) -> None:
    if training.is_adaptive:
        raise ValueError(
            f"{what} needs a step size to halve. Received: solver={training.solvers[0]}, which "
            "chooses its own steps. Use `tfnode.validity.check`, or give the model a fixed step "
            "with `tfnode.with_solver`."
        )


def sweep_trials(
    reached: Sequence[Reached],
    training: Trial,
    methods: Sequence[SolverLike] | None,
    factors: Sequence[float] | None,
) -> list[Trial]:
    """The trials of a sweep, without steps that are longer than those of some block.

    Args:
        reached: The blocks that the model calls.
        training: The model's own `Trial`.
        methods: None for those of the paper, or what `check_methods` returns: names are tried at
            multiples of the training step, solvers as they are.
        factors: None for those of the paper, or what `check_factors` returns.
    """
    if factors is None:
        factors = TOLERANCE_FACTORS if training.is_adaptive else STEP_FACTORS
    if methods is None and training.is_adaptive:
        return _tolerance_trials(reached, training, factors)
    trials = []
    methods = _methods(training) if methods is None else methods
    for method in methods:
        if isinstance(method, str):
            trials += [scaled(training, factor, method) for factor in factors]
        else:
            trials.append(given_trial(reached, solvers.get(method)))
    fitting = [trial for trial in trials if fits(reached, trial)]
    if not fitting:
        raise ValueError(
            "A sweep needs at least one solver whose step is not longer than the interval, or than "
            "the way between two times of `save_at`. "
            f"Received: solvers={methods}, factors={factors} with a training solver "
            f"{training.solvers[0]}. Leave them out for those of the paper."
        )
    return fitting


def check_factors(factors: Iterable[float]) -> list[float]:
    """The multiples of a step size or of tolerances as floats; at least one."""
    advice = "Pass at least one positive number, or leave them out for the usual ones."
    given = arguments.items("factors", factors, "numbers", advice=advice)
    checked = [arguments.number(f"factors[{i}]", f, 0, advice=advice) for i, f in enumerate(given)]
    if not checked:
        rule = "A model is tried at one multiple of its step size or tolerances at least"
        raise arguments.refused(rule, "factors", checked, advice)
    return checked


def check_methods(methods: Iterable[SolverLike]) -> list[SolverLike]:
    """The methods as a list, each of them known by its name or a solver."""
    advice = "Pass a list of solvers and names, such as ['rk4']."
    checked = arguments.items("solvers", methods, "solvers", advice=advice)
    for method in checked:
        solvers.get(method)
    return checked


def check_reference_steps(num_steps: int) -> int:
    return arguments.count("reference_steps", num_steps, 2, advice="The default is 256.")


def _tolerance_trials(
    reached: Sequence[Reached], training: Trial, factors: Iterable[float]
) -> list[Trial]:
    """The training solvers at multiples of their tolerances, none below what a dtype can meet."""
    floors = [found.block.min_tolerance for found in reached]
    trials = []
    for factor in factors:
        scaled = (s.scaled(factor) for s in training.solvers)
        trials.append(Trial(tuple(map(_at_least, scaled, floors)), factor))
    # Of equal ones the last stands, which is nearer to the training's own factor of 1.
    return list({trial: trial for trial in trials}.values())


def _at_least(solver: AdaptiveSolver, tolerance: float) -> AdaptiveSolver:
    rtol, atol = max(solver.rtol, tolerance), max(solver.atol, tolerance)
    return dataclasses.replace(solver, rtol=rtol, atol=atol)


def _methods(training: Trial) -> tuple[str, ...]:
    """As in section 4.1: Euler, midpoint and RK4 for Euler's method, and RK4 alone for RK4.

    The paper tries no other; lower orders than RK4's are tried with themselves and RK4.
    """
    solver = training.solvers[0]
    if isinstance(solver, solvers.Euler):
        return ("euler", "midpoint", "rk4")
    return ("training", "rk4") if solver.order < 4 else ("training",)


def scaled(training: Trial, factor: float, method: str = "training") -> Trial:
    """The trial of a method, by name or `"training"`, at a multiple of the training step."""
    require_fixed_step(training, f"A sweep of {method!r}")
    scaled_solvers = tuple(s.with_step_size(factor * s.step_size) for s in training.solvers)
    if method != "training":
        scaled_solvers = tuple(solvers.get(method, s.step_size) for s in scaled_solvers)
    return Trial(scaled_solvers, factor)


def fits(reached: Sequence[Reached], trial: Trial) -> bool:
    """Whether every block takes the steps of its solver, and does not cut them."""
    if trial.is_adaptive:
        return True
    pairs = zip(trial.solvers, reached)
    return all(_fits(solver.step_size, found.longest_step) for solver, found in pairs)


def _fits(step_size: float, longest: float) -> bool:
    """Whether a step is not too long; a block's weight may be single precision."""
    return step_size <= longest * (1 + 1e-6)


def fine_step_size(way: float, longest_step: float, num_steps: int) -> float:
    """The step of RK4 in the place of the exact flow: with twice that no time cuts it either."""
    return min(way / num_steps, longest_step / 2)


def fine_trial(
    reached: Sequence[Reached], training: Trial, finest_factor: float, num_steps: int
) -> Trial:
    """RK4 in the place of the exact flow: at least `num_steps` steps.

    It has at least twice the steps of the training solver, and at least twice those of the finest
    step of the sweep where that is of RK4's order too.
    """
    factor = finest_factor / 2 if training.solvers[0].order >= 4 else 0.5
    steps = [fine_step_size(found.way, found.longest_step, num_steps) for found in reached]
    if not training.is_adaptive:
        # Where they differ by the rounding of a block's weight alone, the multiple is taken: twice
        # that is a step of the sweep, and is not tried again.
        multiples = [factor * s.step_size for s in training.solvers]
        steps = [s if s < m * (1 - 1e-6) else m for s, m in zip(steps, multiples)]
    return Trial(tuple(solvers.RK4(step) for step in steps))


def is_better(
    trial: Trial, training: Trial, error: float | None, training_error: float | None
) -> bool:
    """Whether a trial's error is that of the training solver or smaller, in theory or measured.

    Args:
        trial: `Trial`.
        training: The model's own `Trial`.
        error: Float, the distance of the trial's outputs from those of the finest RK4, or None
            where it is not known.
        training_error: Likewise for the training solver.
    """
    if is_finer(trial, training):
        return True
    return error is not None and training_error is not None and error <= training_error


def is_finer(trial: Trial, training: Trial) -> bool:
    """Whether theory calls the solver equal or better: order no lower, step no longer."""
    if trial.is_adaptive != training.is_adaptive:
        return False
    pairs = list(zip(trial.solvers, training.solvers))
    if trial.is_adaptive:
        return all(_is_tighter(s, t) for s, t in pairs)
    # The step of a block is a weight, which rounds 0.7 down, and the step of a solver is none.
    longest = 1 + float(np.finfo("float32").eps)
    return all(s.order >= t.order and s.step_size <= t.step_size * longest for s, t in pairs)


def _is_tighter(solver: AdaptiveSolver, training: AdaptiveSolver) -> bool:
    order = solver.order >= training.order
    return order and solver.rtol <= training.rtol and solver.atol <= training.atol
