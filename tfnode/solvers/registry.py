"""The solvers by name, and as dictionaries that can be stored."""

from typing import Any, TypeAlias

from tfnode import arguments
from tfnode.solvers.embedded_pairs import (
    AdaptiveSolver,
    BogackiShampine32,
    DormandPrince,
    Fehlberg21,
)
from tfnode.solvers.fixed_step import RK4, RK38, Euler, FixedStepSolver, Heun, Midpoint, RungeKutta

# A solver, and all that `get` takes for one.
Solver: TypeAlias = FixedStepSolver | AdaptiveSolver
SolverLike: TypeAlias = Solver | str | dict[str, Any]

_FIXED_STEP: tuple[type[Solver], ...] = (Euler, Midpoint, Heun, RK4, RK38, RungeKutta)
_ADAPTIVE: tuple[type[Solver], ...] = (Fehlberg21, BogackiShampine32, DormandPrince)
_SOLVERS = {cls.__name__: cls for cls in (*_FIXED_STEP, *_ADAPTIVE)}
_NAMES = {name.lower(): cls for name, cls in _SOLVERS.items() if cls is not RungeKutta}


def get(identifier: SolverLike, step_size: float | None = None) -> Solver:
    """Returns the solver that an identifier stands for.

    Examples:

    >>> get("midpoint", step_size=1 / 16)
    Midpoint(step_size=0.0625)

    Args:
        identifier: A solver, its name (`"euler"`, `"midpoint"`, `"heun"`, `"rk4"`, `"rk38"`,
            `"fehlberg21"`, `"bogackishampine32"`, `"dormandprince"`), or a dictionary made by
            `serialize`.
        step_size: Optional float that replaces the step size of a fixed-step solver.

    Returns:
        A solver.

    Raises:
        ValueError: If the identifier does not stand for a solver, if it is an adaptive one of a
            class of your own, or if a step size is given for an adaptive one.
    """
    if isinstance(identifier, str) and identifier.lower() in _NAMES:
        solver = _NAMES[identifier.lower()]()
    elif isinstance(identifier, dict):
        solver = deserialize(identifier)
    elif isinstance(identifier, (FixedStepSolver, AdaptiveSolver)):
        solver = identifier
    else:
        raise ValueError(
            f"A solver is one of the names {sorted(_NAMES)}, a solver such as "
            "`tfnode.solvers.Euler(step_size=1/8)`, or its serialized dictionary. "
            f"Received: solver={identifier!r}. Pick one of these."
        )
    if isinstance(solver, AdaptiveSolver) and type(solver) not in _ADAPTIVE:
        raise ValueError(
            "An adaptive solver is of one of the classes "
            f"{[kind.__name__ for kind in _ADAPTIVE]}: a model with another could not be loaded. "
            f"Received: solver={solver}. Take one of them with tolerances of your own."
        )
    if step_size is None:
        return solver
    if isinstance(solver, AdaptiveSolver):
        raise ValueError(
            "An adaptive solver chooses its own steps. "
            f"Received: step_size={step_size!r} for {solver}. Set its tolerances instead, for "
            "example `tfnode.solvers.DormandPrince(rtol=1e-5, atol=1e-5)`."
        )
    return solver.with_step_size(step_size)


def serialize(solver: Solver) -> dict[str, Any]:
    """Returns the solver as a JSON-compatible dictionary of `class_name` and `config`.

    One of a class of your own is a `RungeKutta` with its tableau, which needs no such class.

    Raises:
        ValueError: If it is none.
    """
    check_solver(solver)
    if isinstance(solver, FixedStepSolver) and type(solver) not in _FIXED_STEP:
        solver = RungeKutta(solver.step_size, solver.tableau)
    return {"class_name": type(solver).__name__, "config": solver.get_config()}


def deserialize(config: dict[str, Any]) -> Solver:
    """Returns the solver that `serialize` was given.

    Raises:
        ValueError: If `config` does not name a known solver.
    """
    advice = "Make the dictionary with `tfnode.solvers.serialize(solver)`."
    class_name = arguments.mapping("config", config, advice=advice).get("class_name")
    if not isinstance(class_name, str) or class_name not in _SOLVERS:
        raise arguments.refused(
            f"A serialized solver names one of the classes {sorted(_SOLVERS)}",
            "class_name",
            class_name,
            advice,
        )
    values: Any = config.get("config")
    return _SOLVERS[class_name].from_config(values)


def check_solver(solver: Any, *kinds: type[Solver]) -> Any:
    """Returns a solver, or raises if it is none of some kinds; a name does not stand for one here.

    Examples:

    >>> check_solver("euler", FixedStepSolver)
    Traceback (most recent call last):
        ...
    ValueError: `solver` must be a `FixedStepSolver`. Received: solver='euler'. Make one with
    `tfnode.solvers.get`, or take what is meant for solvers of the other kind.

    Args:
        solver: What was received for it.
        *kinds: The base classes that it may have; any if there are none.
    """
    kinds = kinds or (FixedStepSolver, AdaptiveSolver)
    what = "a " + " or ".join(f"`{kind.__name__}`" for kind in kinds)
    return arguments.instance(
        "solver",
        solver,
        kinds,
        what,
        advice="Make one with `tfnode.solvers.get`, or take what is meant for solvers of the other "
        "kind.",
    )
