"""The decisions of the damped rule as tables, and how it settles on a plant that obeys theory."""

import dataclasses
import math

import numpy as np
import pytest
from probes import Probe

from tfnode import tableaus
from tfnode.adaption import DampedMemory, DampedRule, Decision, Measurement, StepRule
from tfnode.solvers import RK4, RK38, Euler, Heun, Midpoint, RungeKutta

# Binary fractions: the target is 1/8, and a boundary is a boundary.
RULE = DampedRule(
    low=1 / 16,
    high=1 / 4,
    patience=2,
    memory=4,
    shrink=1 / 4,
    growth=1.5,
    min_step_size=1 / 64,
    max_step_size=1.0,
)
CALM, RIGHT, TOO_MUCH = 0.0, 1 / 8, 1.0
ABOVE, BELOW = math.nextafter(1 / 4, 1), math.nextafter(1 / 16, 0)
ORDER_3 = RungeKutta(1.0, tableaus.BOGACKI_SHAMPINE32)


@pytest.fixture(autouse=True)
def _fresh_keras():
    """No Keras here: its clean-up between tests would take longer than the tests."""


def after(solver, change, rule=RULE, probe=None, **memory):
    """The decision with this solver and memory."""
    measurement = (probe or Probe()).measurement(change=change)
    return rule.decide(solver, DampedMemory(**memory), measurement)


def going_on(decision, change, rule=RULE, probe=None):
    """The decision after another one."""
    return after(decision.solver, change, rule, probe, **decision.memory._asdict())


def begin(solver):
    """What stands before the first check."""
    return Decision(solver, RULE.first_memory(), "keep")


def test_the_defaults():
    assert dataclasses.asdict(DampedRule()) == {
        "low": 0.003,
        "high": 0.01,
        "patience": 4,
        "memory": 40,
        "shrink": 0.5,
        "growth": 1.25,
        "min_step_size": 1 / 500,
        "max_step_size": 1.0,
    }
    assert DampedRule().target == pytest.approx(0.003**0.5 * 0.1, rel=1e-15)
    assert RULE.target == 1 / 8
    assert DampedRule().first_memory() == DampedMemory() == (0, 0, 0)


@pytest.mark.parametrize(
    "arguments",
    [
        {"low": 0.0},
        {"low": 0.01},  # as high as `high`
        {"low": math.nan},
        {"high": 0.003},
        {"high": 1.0},
        {"high": math.nan},
        {"patience": 0},
        {"patience": 2.0},
        {"patience": True},
        {"memory": 3},  # less than the patience
        {"memory": 40.0},
        {"shrink": 0.0},
        {"shrink": 1.0},
        {"growth": 1.0},
        {"growth": math.inf},
        {"min_step_size": 0.0},
        {"min_step_size": 2.0},
        {"max_step_size": math.inf},
        {"max_step_size": math.nan},
    ],
    ids=str,
)
def test_a_rule_outside_its_range_is_refused(arguments):
    with pytest.raises(ValueError, match="Received: "):
        DampedRule(**arguments)


# === Failures ===
@pytest.mark.parametrize(
    "solver, num_steps, change, expected",
    [
        # Factors (target / change)^(1 / p), cut at 1/4; the steps are rounded up.
        (Euler, 8, ABOVE, 17),  # one ulp below a half
        (Euler, 8, 5 / 16, 20),
        (Euler, 8, 1 / 2, 32),  # 1/4, the floor of the factor
        (Euler, 8, 1.0, 32),  # 1/8 is cut
        (Euler, 1, 1.0, 4),
        (Euler, 3, 5 / 16, 8),  # 7.5
        (Midpoint, 8, 1 / 2, 16),
        (Heun, 8, 1 / 2, 16),
        (Midpoint, 8, 1.0, 23),  # 8 sqrt(8) = 22.6
        (ORDER_3, 8, 1.0, 16),
        (RK4, 8, 1 / 2, 12),  # 8 sqrt(2) = 11.3
        (RK4, 8, 1.0, 14),  # 8 * 8^(1/4) = 13.5
        (RK38, 8, 1.0, 14),
        # A change that is not there gives no factor.
        (Euler, 8, math.nan, 32),
        (RK4, 8, math.nan, 32),
        (RK4, 8, math.inf, 32),
        # The floor, of 64 steps.
        (Euler, 16, 1.0, 64),
        (Euler, 17, 1.0, 64),
        (RK4, 63, 1.0, 64),
    ],
)
def test_the_first_failure_shrinks_by_the_order(solver, num_steps, change, expected):
    solver = (solver if isinstance(solver, RungeKutta) else solver()).with_step_size(1 / num_steps)
    probe = Probe()
    decision = after(solver, change, probe=probe, calm=1)
    finer = solver.with_step_size(1 / expected)
    assert decision == Decision(finer, DampedMemory(1, 0, failed_num_steps=num_steps), "shrink")
    assert probe.asked == []


@pytest.mark.parametrize("num_steps", [64, 100])
def test_a_failure_at_the_floor_or_below_keeps_the_step_and_is_remembered(num_steps):
    for solver in (Euler(1 / num_steps), RK4(1 / num_steps)):
        expected = DampedMemory(failures=1, failed_num_steps=num_steps)
        assert after(solver, TOO_MUCH) == Decision(solver, expected, "keep")


@pytest.mark.parametrize(
    "solver, num_steps, better, expected",
    [
        # At equal evaluations, rounded up to a whole step.
        (Euler(), 8, Midpoint, 4),
        (Euler(), 9, Midpoint, 5),
        (Euler(), 2, Midpoint, 1),
        (Euler(), 1, Midpoint, 1),
        (Euler(), 64, Midpoint, 32),  # at the floor, too
        (RungeKutta(1.0, tableaus.EULER), 8, Midpoint, 4),
        (Midpoint(), 8, RK4, 4),
        (Midpoint(), 5, RK4, 3),
        (Midpoint(), 1, RK4, 1),
        (Heun(), 8, RK4, 4),
        (RungeKutta(1.0, tableaus.FEHLBERG21), 8, RK4, 6),  # of three stages
        (ORDER_3, 8, RK4, 8),  # of four
    ],
)
@pytest.mark.parametrize("change", [ABOVE, TOO_MUCH, math.nan])
def test_the_second_failure_climbs_and_forgets(solver, num_steps, better, expected, change):
    decision = after(
        solver.with_step_size(1 / num_steps), change, failures=1, calm=1, failed_num_steps=50
    )
    assert decision == Decision(better(1 / expected), DampedMemory(), "climb")


def test_a_climb_from_many_stages_stays_above_the_floor():
    zeros = tuple((0,) * k for k in range(5))
    wasteful = tableaus.ButcherTableau("wasteful", zeros, (1, 0, 0, 0, 0), (0,) * 5, order=1)
    for num_steps, expected in ((8, 20), (64, 64), (100, 100)):
        solver = RungeKutta(1 / num_steps, wasteful)
        decision = after(solver, TOO_MUCH, failures=1)
        assert decision == Decision(Midpoint(1 / expected), DampedMemory(), "climb")


def test_a_failing_euler_climbs_to_rk4_and_then_only_shrinks():
    decision, seen = begin(Euler(1 / 4)), []
    for _ in range(9):
        decision = going_on(decision, TOO_MUCH)
        solver = decision.solver
        seen.append((type(solver), round(1 / solver.step_size), decision.action))
    assert seen == [
        (Euler, 16, "shrink"),
        (Midpoint, 8, "climb"),
        (Midpoint, 23, "shrink"),
        (RK4, 12, "climb"),
        (RK4, 21, "shrink"),  # 12 * 8^(1/4) = 20.2
        (RK4, 36, "shrink"),
        (RK4, 61, "shrink"),
        (RK4, 64, "shrink"),
        (RK4, 64, "keep"),
    ]
    memory = DampedMemory(failures=5, calm=0, failed_num_steps=64)
    assert decision == Decision(RK4(1 / 64), memory, "keep")


@pytest.mark.parametrize("method", [RK38, RK4])
@pytest.mark.parametrize("failures", [1, 7])
def test_what_has_no_better_method_only_shrinks(method, failures):
    decision = after(method(1 / 8), 1 / 2, failures=failures, failed_num_steps=10)
    memory = DampedMemory(failures + 1, 0, failed_num_steps=10)
    assert decision == Decision(method(1 / 12), memory, "shrink")


# === The band ===
@pytest.mark.parametrize("change", [1 / 16, RIGHT, 1 / 4])
@pytest.mark.parametrize("method", [Euler, RK4])
def test_within_the_band_nothing_moves_but_the_calm_ends(change, method):
    probe = Probe()
    decision = after(method(1 / 8), change, probe=probe, failures=1, calm=3)
    assert decision == Decision(method(1 / 8), DampedMemory(1, 0, 0), "keep")
    assert probe.asked == []


# === Growth ===
@pytest.mark.parametrize(
    "method, num_steps, change, expected",
    [
        # By 1.5 at most, the steps rounded up; but by a step at least.
        (Euler, 12, CALM, 8),
        (Euler, 13, CALM, 9),
        (Euler, 12, BELOW, 8),  # the target is a factor 2 away
        (Euler, 5, CALM, 4),
        (Euler, 4, CALM, 3),
        (Euler, 3, CALM, 2),
        (Euler, 2, CALM, 1),
        (RK4, 2, BELOW, 1),
        # By no more than to where theory expects the target.
        (Midpoint, 12, BELOW, 9),  # 12 / sqrt(2) = 8.5
        (Midpoint, 12, 1 / 32, 8),
        (RK4, 12, BELOW, 11),  # 12 / 2^(1/4) = 10.1
        (RK4, 12, 1 / 32, 9),  # 12 / 4^(1/4) = 8.5
        (RK4, 12, 1 / 128, 8),
        (RK4, 3, BELOW, 2),  # 2.5 is rounded up to 3, which would be no growth
    ],
)
def test_growth(method, num_steps, change, expected):
    probe, solver = Probe(change=1 / 8), method(1 / num_steps)
    decision = after(solver, change, probe=probe, failures=1, calm=1)
    assert decision == Decision(method(1 / expected), DampedMemory(1, 0, 0), "grow")
    assert probe.asked == [method(1 / expected)]


def test_the_step_never_grows_beyond_the_interval():
    probe = Probe()
    for calm in (1, 3, 100):
        decision = after(Euler(1.0), CALM, probe=probe, calm=calm)
        assert decision == Decision(Euler(1.0), DampedMemory(calm=calm + 1), "keep")
    assert probe.asked == []


def test_patience_before_a_growth():
    rule = dataclasses.replace(RULE, patience=3)
    decision, actions, probe = begin(Euler(1 / 12)), [], Probe()
    # The third calm check in a row grows; the band between starts the count anew.
    for change in (CALM, CALM, RIGHT, CALM, BELOW, CALM, CALM, CALM, CALM):
        decision = going_on(decision, change, rule, probe)
        actions.append((decision.action, decision.memory.calm))
    keep = [("keep", 1), ("keep", 2), ("keep", 0), ("keep", 1), ("keep", 2)]
    assert actions == [*keep, ("grow", 0), ("keep", 1), ("keep", 2), ("grow", 0)]
    assert probe.asked == [Euler(1 / 8), Euler(1 / 6)]


@pytest.mark.parametrize("at_longer", [math.nextafter(1 / 8, 1), 1.0, math.nan, math.inf])
def test_a_failed_probe_keeps_the_step_and_is_remembered(at_longer):
    probe = Probe(change=at_longer)
    decision = after(Euler(1 / 12), CALM, probe=probe, calm=1)
    # It is not a failure of the method, which has not trained with this step.
    memory = DampedMemory(0, 0, failed_num_steps=8)
    assert decision == Decision(Euler(1 / 12), memory, "keep")
    assert probe.asked == [Euler(1 / 8)]
    # What failed at more steps is not forgotten for it.
    probe = Probe(change=1.0)
    decision = after(Euler(1 / 12), CALM, probe=probe, calm=3, failed_num_steps=10)
    assert decision == Decision(Euler(1 / 12), DampedMemory(failed_num_steps=10), "keep")


@pytest.mark.parametrize("failed, needed", [(0, 2), (7, 2), (8, 4), (12, 4)])
def test_going_back_to_where_it_failed_takes_the_memory(failed, needed):
    # From 12 steps the next are 8.
    memory = DampedMemory(failures=1, failed_num_steps=failed)
    probe, decision = Probe(), Decision(Euler(1 / 12), memory, "keep")
    for _ in range(needed - 1):
        decision = going_on(decision, CALM, probe=probe)
        assert (decision.action, probe.asked) == ("keep", [])
    decision = going_on(decision, CALM, probe=probe)
    # A success there does not make it forget either.
    assert decision == Decision(Euler(1 / 8), DampedMemory(1, 0, failed), "grow")
    assert probe.asked == [Euler(1 / 8)]


def test_a_failure_is_remembered_at_the_steps_that_failed():
    # Fails with 4 steps and goes to 8; there it is calm, and the way back is long.
    decision = after(Euler(1 / 4), ABOVE, rule=dataclasses.replace(RULE, shrink=0.5))
    assert (round(1 / decision.solver.step_size), decision.action) == (8, "shrink")
    checks = []
    for check in range(1, 20):
        decision = going_on(decision, CALM)
        if decision.action != "keep":
            checks.append((check, round(1 / decision.solver.step_size)))
    # 6 steps after the patience of 2, and from there on the memory of 4 each.
    assert checks == [(2, 6), (6, 4), (10, 3), (14, 2), (18, 1)]


def test_the_rule_leaves_what_it_was_given():
    # A memory that could be changed.
    memory, solver = [1.0, 1.0, 8.0], Euler(1 / 12)
    for change in (CALM, RIGHT, TOO_MUCH):
        first, second = (
            RULE.decide(solver, memory, Probe().measurement(change=change)) for _ in range(2)
        )
        assert first == second
    assert (memory, solver) == ([1, 1, 8], Euler(1 / 12))
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.action = "keep"
    with pytest.raises(AttributeError):
        first.memory.calm = 0


@pytest.mark.parametrize("memory", [(), (1, 2), (1, 2, 3, 4), (0, math.nan, 0), (math.inf, 0, 0)])
def test_a_memory_of_something_else_is_refused(memory):
    with pytest.raises(ValueError, match="Received: memory="):
        RULE.decide(Euler(1 / 8), memory, Probe().measurement())


# === Whole steps ===
@pytest.mark.parametrize(
    "step_size, length, expected",
    [
        (1.0, 1.0, 1),
        (2.0, 1.0, 1),  # longer than the interval
        (0.3, 1.0, 4),
        (1 / 3, 1.0, 3),
        (math.nextafter(1 / 3, 0), 1.0, 3),
        (0.25 - 1e-5, 1.0, 5),
        (0.3, 0.75, 3),
        (3.0, 10.0, 4),
        (1 / 64, 1.0, 64),
        (1 / 100, 1.0, 100),  # below the floor, where the user asks for it
    ],
)
def test_snapping(step_size, length, expected):
    rule = dataclasses.replace(RULE, max_step_size=length)
    assert rule.num_steps(step_size) == expected
    assert rule.snapped(step_size) == length / expected


def test_snapping_stays_above_the_floor():
    rule = DampedRule(min_step_size=2 / 500, max_step_size=0.011)
    # 2.75 steps: three would be too fine.
    assert rule.snapped(2 / 500) == 0.011 / 2
    assert rule.finer(Euler(0.011 / 2), 1.0) == 2


@pytest.mark.parametrize("length", [1.0, 0.7, 0.1, 1 / 3, 3.7])
def test_single_precision_adds_no_step(length):
    """Steps and caps come from weights, which round them."""
    single = lambda value: float(np.float32(value))
    length = single(length)
    rule = DampedRule(min_step_size=single(length / 500), max_step_size=length)
    for num_steps in range(1, 501):
        step_size = single(length / num_steps)
        assert rule.num_steps(step_size) == num_steps
        assert rule.snapped(step_size) == length / num_steps
    assert rule.snapped(rule.min_step_size) == length / 500
    assert rule.finer(Euler(length / 499), 1.0) == 500


def test_a_step_that_is_not_a_whole_number_of_steps_counts_its_last_short_one():
    # As after an assignment between two trainings: 0.3 takes four steps.
    decision = after(Euler(0.3), TOO_MUCH)
    memory = DampedMemory(failures=1, failed_num_steps=4)
    assert decision == Decision(Euler(1 / 16), memory, "shrink")
    decision = after(Euler(0.3), TOO_MUCH, failures=1)
    assert decision == Decision(Midpoint(1 / 2), DampedMemory(), "climb")
    decision = after(Euler(0.3), CALM, calm=1)
    assert decision == Decision(Euler(1 / 3), DampedMemory(), "grow")


# === How it settles ===
class Plant:
    """A model whose change is `constant h^p`, with the noise of a batch, seeded."""

    def __init__(self, constant, noise, seed):
        self._constant = constant
        self._noise = noise
        self._rng = np.random.default_rng(seed)
        self.draw()

    def draw(self):
        """The next batch."""
        self._batch = math.exp(self._noise * self._rng.normal())

    def change(self, solver):
        return self._constant * solver.step_size**solver.order * self._batch


def damped_run(plant, solver, checks):
    """The solvers after the checks, and the actions."""
    decision, found, actions = begin(solver), [], []
    for _ in range(checks):
        plant.draw()
        asked = []

        def measure(solver, asked=asked):
            asked.append(solver)
            return Measurement(1.0, 1.0, plant.change(solver), measure=None)

        change = plant.change(decision.solver)
        measurement = Measurement(1.0, 1.0, change, measure)
        decision = DampedRule().decide(decision.solver, decision.memory, measurement)
        assert len(asked) <= 1 and (not asked or decision.action in ("grow", "keep"))
        assert decision.action != "grow" or asked == [decision.solver]
        found.append(decision.solver)
        actions.append(decision.action)
    return found, actions


@pytest.mark.parametrize("noise, seeds", [(0.0, [0]), (0.2, range(5))])
@pytest.mark.parametrize(
    "constant, start, last",
    [
        (0.05, Euler(1 / 8), Euler),  # in the band from the start
        (0.05, Euler(1 / 64), Euler),  # grows into it
        (0.05, Euler(1.0), RK4),
        (0.2, Euler(1 / 8), Midpoint),
        (1.0, Midpoint(1.0), RK4),
        (30.0, Euler(1 / 8), RK4),
        (30.0, RK4(1 / 64), RK4),
        (3e3, RK4(1.0), RK4),
    ],
    ids=str,
)
def test_the_rule_settles(constant, start, last, noise, seeds):
    for seed in seeds:
        found, actions = damped_run(Plant(constant, noise, seed), start, 600)
        assert isinstance(found[-1], last)
        # Few changes, none late, and the change without the noise is in the band.
        assert sum(action != "keep" for action in actions) <= 10
        assert set(actions[300:]) == {"keep"}
        assert 0.003 <= constant * found[-1].step_size ** found[-1].order <= 0.01


def test_the_papers_rule_oscillates_on_the_same_plant():
    # Its gap is the change, its threshold that of the damped rule.
    rule, plant = StepRule(threshold=0.01), Plant(0.05, 0.2, seed=0)
    solver, steps, actions = Euler(1 / 8), [], []

    def measure(solver):
        return Measurement(1 - plant.change(solver), 1.0, plant.change(solver), measure)

    for _ in range(600):
        plant.draw()
        decision = rule.decide(solver, (), measure(solver))
        solver = decision.solver
        steps.append(solver.step_size)
        actions.append(decision.action)
    # Nine checks of ten move the step, to the end, and over more than a factor of two.
    assert (actions.count("shrink"), actions.count("grow")) == (66, 485)
    assert actions[300:].count("keep") < 30
    assert max(steps[300:]) / min(steps[300:]) > 2
