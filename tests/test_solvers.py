"""Solver configurations are plain values: comparable, hashable and serializable."""

import dataclasses
import json
from typing import ClassVar

import numpy as np
import pytest

from tfnode import solvers, tableaus

RALSTON = tableaus.ButcherTableau(
    "ralston", a=((), (2 / 3,)), b=(1 / 4, 3 / 4), c=(0, 2 / 3), order=2
)
NAMED = {
    "euler": (solvers.Euler, tableaus.EULER, 1),
    "midpoint": (solvers.Midpoint, tableaus.MIDPOINT, 2),
    "heun": (solvers.Heun, tableaus.HEUN, 2),
    "rk4": (solvers.RK4, tableaus.RK4, 4),
    "rk38": (solvers.RK38, tableaus.RK38, 4),
}
SOLVERS = [
    *(cls(step_size=0.1) for cls, _, _ in NAMED.values()),
    solvers.RungeKutta(tableau=RALSTON, step_size=0.1),
    solvers.RungeKutta(tableau=tableaus.DORMAND_PRINCE54, step_size=0.1),
]

all_solvers = pytest.mark.parametrize("solver", SOLVERS, ids=lambda s: f"{s.tableau.name}")


@pytest.mark.parametrize("name", NAMED)
def test_get_by_name(name):
    cls, tableau, order = NAMED[name]
    assert solvers.get(name) == cls(step_size=1 / 32)
    assert solvers.get(name.upper(), step_size=0.2) == cls(step_size=0.2)
    assert solvers.get(name).tableau is tableau
    assert solvers.get(name).order == order


@all_solvers
def test_get_takes_solvers_and_dictionaries(solver):
    assert solvers.get(solver) is solver
    assert solvers.get(solvers.serialize(solver)) == solver
    finer = solvers.get(solver, step_size=0.05)
    assert (type(finer), finer.step_size, finer.tableau) == (type(solver), 0.05, solver.tableau)
    assert solver.step_size == 0.1


@all_solvers
def test_serialization_round_trip(solver):
    config = json.loads(json.dumps(solvers.serialize(solver)))
    assert set(config) == {"class_name", "config"}
    assert solvers.deserialize(config) == solver
    assert type(solver).from_config(solver.get_config()) == solver


@dataclasses.dataclass(frozen=True)
class Ralston(solvers.FixedStepSolver):
    tableau: ClassVar[tableaus.ButcherTableau] = RALSTON


@dataclasses.dataclass(frozen=True)
class Own(solvers.Fehlberg21):
    pass


def test_a_solver_of_a_class_of_ones_own_is_saved_as_its_tableau():
    again = solvers.deserialize(solvers.serialize(Ralston(0.1)))
    assert again == solvers.RungeKutta(0.1, RALSTON)
    assert type(solvers.get(Ralston(0.1))) is Ralston


def test_an_adaptive_solver_of_a_class_of_ones_own_is_refused_before_the_work():
    with pytest.raises(ValueError, match=r"could not be loaded. Received: solver=Own\("):
        solvers.get(Own())


def test_equality_and_hash():
    assert len({*SOLVERS, *(solvers.deserialize(solvers.serialize(s)) for s in SOLVERS)}) == 7
    assert solvers.Euler(0.1) != solvers.Euler(0.2)
    assert solvers.Midpoint(0.1) != solvers.Heun(0.1)


@all_solvers
def test_solver_is_frozen(solver):
    with pytest.raises(dataclasses.FrozenInstanceError):
        solver.step_size = 0.5
    assert solver.with_step_size(0.5).step_size == 0.5


def test_step_size_becomes_a_python_float():
    assert type(solvers.Euler(np.float32(0.5)).step_size) is float
    assert solvers.Euler(1) == solvers.Euler(1.0)


@pytest.mark.parametrize(
    "step_size",
    [0, -0.1, float("nan"), float("inf"), float("-inf"), "small", "0.1", None, 10**400],
    ids=lambda value: str(value)[:9],
)
def test_bad_step_size_raises(step_size):
    with pytest.raises(ValueError, match="Received: step_size="):
        solvers.RK4(step_size=step_size)


def test_bad_step_size_raises_everywhere():
    for make in (
        lambda: solvers.get("euler", step_size=-1),
        lambda: solvers.RK4(0.1).with_step_size(0),
        lambda: solvers.RungeKutta(-1.0, RALSTON),
        lambda: solvers.deserialize({"class_name": "Heun", "config": {"step_size": 0}}),
    ):
        with pytest.raises(ValueError, match=r"positive, finite number\. Received: step_size="):
            make()


@pytest.mark.parametrize("identifier", ["rk5", "", "rungekutta", 4, None, solvers.Euler, RALSTON])
def test_unknown_solver_lists_the_names(identifier):
    with pytest.raises(ValueError, match="Received: solver=") as error:
        solvers.get(identifier)
    names = "'bogackishampine32', 'dormandprince', 'euler', 'fehlberg21', 'heun', 'midpoint'"
    assert f"[{names}, 'rk38', 'rk4']" in str(error.value)


@pytest.mark.parametrize("config", [{}, {"class_name": "RK5", "config": {}}])
def test_unknown_class_lists_the_names(config):
    with pytest.raises(ValueError, match="Received: class_name=") as error:
        solvers.deserialize(config)
    names = "'BogackiShampine32', 'DormandPrince', 'Euler', 'Fehlberg21', 'Heun', 'Midpoint'"
    assert f"[{names}, 'RK38', 'RK4', 'RungeKutta']" in str(error.value)


ADAPTIVE = {
    "fehlberg21": (solvers.Fehlberg21, tableaus.FEHLBERG21, 2),
    "bogackishampine32": (solvers.BogackiShampine32, tableaus.BOGACKI_SHAMPINE32, 3),
    "dormandprince": (solvers.DormandPrince, tableaus.DORMAND_PRINCE54, 5),
}


@pytest.mark.parametrize("name", ADAPTIVE)
def test_adaptive_solvers(name):
    cls, tableau, order = ADAPTIVE[name]
    solver = cls(rtol=1e-3, atol=1e-6, max_num_steps=50, per_sample=True)
    assert (solvers.get(name), solver.tableau, solver.order) == (cls(), tableau, order)
    assert solver.scaled(0.5) == cls(5e-4, 5e-7, 50, True)
    assert solver.with_tolerance(1e-4) == cls(1e-4, 1e-4, 50, True)
    assert solvers.deserialize(json.loads(json.dumps(solvers.serialize(solver)))) == solver
    with pytest.raises(ValueError, match=r"chooses its own steps\. Received: step_size=0\.1"):
        solvers.get(name, step_size=0.1)


@pytest.mark.parametrize("tolerance", [0, -1e-3, float("nan"), float("inf"), "1e-3", None, True])
def test_bad_tolerance_raises(tolerance):
    with pytest.raises(ValueError, match=r"positive, finite number\. Received: rtol="):
        solvers.Fehlberg21(rtol=tolerance)
    with pytest.raises(ValueError, match=r"positive, finite number\. Received: atol="):
        solvers.DormandPrince(atol=tolerance)


@pytest.mark.parametrize("max_num_steps", [0, -1, 1.5, None])
def test_bad_budget_raises(max_num_steps):
    with pytest.raises(ValueError, match="Received: max_num_steps="):
        solvers.BogackiShampine32(max_num_steps=max_num_steps)


@pytest.mark.parametrize(
    "tableau", [None, "rk4", RALSTON.get_config()], ids=["none", "str", "dict"]
)
def test_runge_kutta_needs_a_tableau(tableau):
    with pytest.raises(ValueError, match="Received: tableau="):
        solvers.RungeKutta(0.1, tableau)
