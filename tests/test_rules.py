"""What holds for every rule of adaption: its face, its bounds, and what is not a number."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from probes import Probe, without_a_number

from tfnode import adaption, tableaus
from tfnode.adaption import DampedMemory, DampedRule, Measurement, Rule, StepRule, ToleranceRule
from tfnode.solvers import (
    RK4,
    RK38,
    BogackiShampine32,
    DormandPrince,
    Euler,
    Fehlberg21,
    FixedStepSolver,
    Heun,
    Midpoint,
    RungeKutta,
)

RULES = (StepRule(), DampedRule(), ToleranceRule())
FIXED, ADAPTIVE = (Euler, Midpoint, Heun, RK4, RK38), (Fehlberg21, BogackiShampine32, DormandPrince)
ORDER_3 = RungeKutta(1 / 8, tableaus.BOGACKI_SHAMPINE32)
VARYING = (30.0, 36.0, 30.0)

every_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)


@pytest.fixture(autouse=True)
def _fresh_keras():
    """No Keras here: its clean-up between tests would take longer than the tests."""


def solver_for(rule, setting=1 / 8):
    """A solver that the rule adapts, with this step size or tolerance."""
    return Fehlberg21(setting, setting) if isinstance(rule, ToleranceRule) else Euler(setting)


def setting_of(solver):
    return solver.step_size if isinstance(solver, FixedStepSolver) else solver.rtol


def about_to_grow(rule):
    """A memory from which the next calm check grows."""
    return DampedMemory(calm=rule.memory) if isinstance(rule, DampedRule) else ()


# === The face ===
@every_rule
def test_ours_are_rules(rule):
    assert isinstance(rule, Rule)
    assert hash(rule) == hash(dataclasses.replace(rule))


def test_something_else_is_not_a_rule():
    assert not isinstance(Euler(), Rule)
    assert not isinstance("paper", Rule)


@every_rule
def test_the_first_memory_fits_into_a_weight(rule):
    memory = rule.first_memory()
    assert isinstance(memory, tuple) and len(memory) <= 7
    assert tuple(np.array(memory, "float32").tolist()) == memory


@every_rule
def test_within_changes_the_bounds_only(rule):
    names = [f.name for f in dataclasses.fields(rule) if f.name.startswith(("min_", "max_"))]
    bounded = rule.within(1 / 64, 1 / 2)
    assert [getattr(bounded, name) for name in names] == [1 / 64, 1 / 2]
    assert bounded.within(*(getattr(rule, name) for name in names)) == rule
    with pytest.raises(ValueError, match="Received: min_"):
        rule.within(1.0, 1 / 2)


@pytest.mark.parametrize("rule", [StepRule(), ToleranceRule()], ids=str)
@pytest.mark.parametrize("setting, expected", [(2.0, 1 / 2), (1 / 3, 1 / 3), (1e-5, 1 / 64)])
def test_start_clips(rule, setting, expected):
    start = rule.within(1 / 64, 1 / 2).start(solver_for(rule, setting))
    assert start == solver_for(rule, expected)


def test_start_of_the_tolerance_makes_both_tolerances_one():
    start = ToleranceRule().start(DormandPrince(1e-3, 1e-4, 50, True))
    assert start == DormandPrince(1e-3, 1e-3, 50, True)


@pytest.mark.parametrize("step_size", [2.0, 0.3, 1 / 3, 1 / 64, 1 / 100])
def test_the_damped_rule_starts_with_whole_steps(step_size):
    rule = DampedRule().within(1 / 64, 0.75)
    assert rule.start(RK4(step_size)) == RK4(rule.snapped(step_size))


@pytest.mark.parametrize(
    "solver, expected",
    [
        (Euler(), (Euler, Midpoint, RK4)),
        (Midpoint(), (Midpoint, RK4)),
        (Heun(), (Heun, RK4)),
        (RK4(), (RK4,)),
        (RK38(), (RK38,)),
        (ORDER_3, (RungeKutta, RK4)),
        (RungeKutta(1.0, tableaus.EULER), (RungeKutta, Midpoint, RK4)),
        (RungeKutta(1.0, tableaus.DORMAND_PRINCE54), (RungeKutta,)),
    ],
)
def test_the_methods_are_those_that_a_climb_reaches(solver, expected):
    assert DampedRule().methods(solver) == expected
    assert StepRule().methods(solver) == expected[:1]
    # As it happens where every check fails.
    rule, memory, found = DampedRule(), DampedRule().first_memory(), [type(solver)]
    for _ in range(20):
        decision = rule.decide(solver, memory, Probe().measurement(change=1.0))
        solver, memory = decision.solver, decision.memory
        if decision.action == "climb":
            found.append(type(solver))
    assert tuple(found) == expected


@pytest.mark.parametrize("method", ADAPTIVE)
def test_a_tolerance_has_one_method(method):
    assert ToleranceRule().methods(method()) == (method,)


@pytest.mark.parametrize("rule", [StepRule(), DampedRule()], ids=str)
@pytest.mark.parametrize("method", FIXED)
@pytest.mark.parametrize("step_size, length", [(1.0, 1.0), (1 / 8, 1.0), (0.3, 2.0)])
def test_the_reference_of_a_step(rule, method, step_size, length):
    solver = method(step_size)
    assert rule.reference(solver, length) == adaption.reference_solver(solver, length)


@every_rule
def test_a_solver_of_another_kind_is_refused(rule):
    other = Euler() if isinstance(rule, ToleranceRule) else DormandPrince()
    for ask in (rule.start, rule.methods):
        with pytest.raises(ValueError, match="Received: solver="):
            ask(other)


# === By name ===
def test_get():
    assert adaption.get("paper") == StepRule()
    assert adaption.get("paper", 0.05, 0.25, 2.0) == StepRule(0.05, 0.25, 2.0)
    assert adaption.get("damped") == DampedRule()
    assert adaption.get("tolerance", adaptive=True) == ToleranceRule()
    assert adaption.get("tolerance", 0.05, 0.25, 2.0, True) == ToleranceRule(0.05, 0.25, 2.0)
    for rule in (*RULES, StepRule(threshold=0.2), DampedRule(high=0.02)):
        assert adaption.get(rule) is rule


class Own:
    """A rule of a user."""

    first_memory = within = start = methods = reference = decide = lambda self, *_: None

    def __repr__(self):
        # Without the address: test processes must agree on the names of tests.
        return "Own()"


def test_get_takes_a_rule_of_a_users_own():
    rule = Own()
    assert adaption.get(rule) is rule
    assert adaption.get(rule, adaptive=True) is rule


@pytest.mark.parametrize(
    "policy, arguments",
    [
        ("dampened", {}),
        ("Paper", {}),
        (None, {}),
        (0.1, {}),
        (np.zeros(2), {}),
        (DampedRule, {}),
        (Own, {}),
        ("tolerance", {}),
        ("paper", {"adaptive": True}),
        ("damped", {"adaptive": True}),
        # What nobody reads is not taken.
        ("damped", {"threshold": 0.05}),
        ("damped", {"shrink": 0.25}),
        (DampedRule(), {"growth": 1.5}),
        (StepRule(0.05), {"threshold": 0.05}),
        (Own(), {"growth": 1.5}),
        (StepRule(min_step_size=1 / 50), {}),
        (DampedRule(max_step_size=2.0), {}),
        (ToleranceRule(min_tolerance=1e-4), {"adaptive": True}),
    ],
    ids=str,
)
def test_get_refuses(policy, arguments):
    with pytest.raises(ValueError, match=r"Received: .*policy="):
        adaption.get(policy, **arguments)


@pytest.mark.parametrize("adaptive", [True, False])
@pytest.mark.parametrize(
    "constants", [{"threshold": -0.1}, {"threshold": math.nan}, {"shrink": 1.0}, {"growth": 1.0}]
)
def test_get_refuses_constants_outside_their_range(constants, adaptive):
    policy = "tolerance" if adaptive else "paper"
    with pytest.raises(ValueError, match=f"Received: {next(iter(constants))}="):
        adaption.get(policy, **constants, adaptive=adaptive)


# === What is not a number ===
BROKEN = {
    "accuracy": {"accuracy": math.nan},
    "reference": {"reference_accuracy": math.nan},
    "both": {"accuracy": math.nan, "reference_accuracy": math.nan},
    # Outputs that are not finite have an accuracy, and the same under both solvers.
    "change": {"change": math.nan},
    "infinite change": {"change": math.inf},
    "all": {"accuracy": math.nan, "reference_accuracy": math.nan, "change": math.nan},
}
# Where all is well a measurement is this one.
WELL = {"accuracy": 0.9, "reference_accuracy": 0.9, "change": 0.0}


def measured(recent_nfe=VARYING, asked=None, at_longer=(), **values):
    """A measurement, `values` aside one where all is well; and so with a longer step."""
    tried = Measurement(**{**WELL, **dict(at_longer)}, measure=None)

    def measure(solver):
        assert asked is not None, "nothing is to be tried here"
        asked.append(solver)
        return tried

    return Measurement(**{**WELL, **values}, measure=measure, recent_nfe=recent_nfe)


@every_rule
def test_where_all_is_well_it_grows(rule):
    # So that the tests below say something.
    solver, asked = solver_for(rule), []
    decision = rule.decide(solver, about_to_grow(rule), measured(asked=asked))
    assert decision.action == "grow" and setting_of(decision.solver) > 1 / 8
    assert asked == [decision.solver]


@every_rule
@pytest.mark.parametrize("broken", BROKEN)
def test_what_is_not_a_number_never_grows(rule, broken):
    solver = solver_for(rule)
    decision = rule.decide(solver, about_to_grow(rule), measured(**BROKEN[broken]))
    if isinstance(rule, DampedRule) and "change" not in BROKEN[broken]:
        # It looks at the change, which says that this step is fine; but its calm ends.
        assert (decision.solver, decision.action) == (solver, "keep")
        assert decision.memory == rule.first_memory()
    else:
        assert decision.action == "shrink"
        assert setting_of(decision.solver) == 1 / 16


@every_rule
@pytest.mark.parametrize("broken", BROKEN)
def test_what_is_not_a_number_with_a_longer_step_keeps(rule, broken):
    solver, asked = solver_for(rule), []
    measurement = measured(asked=asked, at_longer=BROKEN[broken])
    decision = rule.decide(solver, about_to_grow(rule), measurement)
    assert (decision.solver, decision.action, len(asked)) == (solver, "keep", 1)


@every_rule
@pytest.mark.parametrize("values", [{}, {"accuracy": 0.0, "change": 1.0}, BROKEN["all"]], ids=str)
def test_a_setting_that_is_not_a_number_is_kept(rule, values):
    for name in ("rtol", "atol") if rule == RULES[2] else ("step_size",):
        solver = without_a_number(solver_for(rule), name)
        memory = about_to_grow(rule)
        decision = rule.decide(solver, memory, measured(**values))
        assert decision.solver is solver
        assert (decision.memory, decision.action) == (memory, "keep")


@pytest.mark.parametrize("recent", [(math.nan, float("nan")), (30.0, math.nan, 30.0)])
def test_evaluations_that_are_not_a_number_do_not_vary(recent):
    solver = Fehlberg21(1e-3, 1e-3)
    decision = ToleranceRule().decide(solver, (), measured(recent_nfe=recent))
    assert (decision.solver, decision.action) == (solver, "keep")


# === Any sequence of checks ===
numbers = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 1.0, math.nan]))
changes = st.one_of(
    st.floats(0, 0.03), st.floats(0, 1), st.sampled_from([0.0, 1e-300, math.nan, math.inf])
)
values = st.fixed_dictionaries(
    {"accuracy": numbers, "reference_accuracy": numbers, "change": changes}
)
checks = st.lists(st.tuples(values, values, st.sampled_from([(), VARYING])), min_size=1)
factors = {"shrink": st.floats(0.01, 0.99), "growth": st.floats(1.01, 10.0)}
bounds = st.tuples(st.floats(1e-4, 10.0), st.floats(1.0, 1e4)).map(
    lambda bounds: (bounds[0], bounds[0] * bounds[1])
)
bands = st.tuples(st.floats(1e-4, 0.5), st.floats(1.01, 1.9))


@st.composite
def rules(draw):
    """A rule with bounds, and a solver to start from."""
    cls = draw(st.sampled_from([StepRule, DampedRule, ToleranceRule]))
    constants = {name: draw(values) for name, values in factors.items()}
    if cls is DampedRule:
        low, ratio = draw(bands)
        patience = draw(st.integers(1, 3))
        memory = patience + draw(st.integers(0, 3))
        constants.update(low=low, high=low * ratio, patience=patience, memory=memory)
    else:
        constants["threshold"] = draw(st.floats(0, 0.5))
    low, high = draw(bounds)
    rule = cls(**constants).within(low, high)
    setting = draw(st.floats(low, 2 * high))
    if cls is ToleranceRule:
        method = draw(st.sampled_from(ADAPTIVE))
        return rule, rule.start(method(setting, setting)), low, high
    method = draw(st.sampled_from([*FIXED, ORDER_3.with_step_size]))
    return rule, rule.start(method(setting)), low, high


def run(rule, solver, checks, read=lambda memory: memory):
    """The decisions of a sequence of checks, and what was tried at each."""
    memory, decisions, tried = rule.first_memory(), [], []
    for now, longer, recent in checks:
        asked = []
        measurement = measured(recent, asked, longer, **now)
        decision = rule.decide(solver, read(memory), measurement)
        solver, memory = decision.solver, decision.memory
        decisions.append(decision)
        tried.append(asked)
    return decisions, tried


def any_rule(test):
    """Runs a test on many rules and sequences: the same ones each time, and none kept on disk."""
    repeatable = settings(derandomize=True, deadline=None, database=None, max_examples=200)
    return repeatable(given(case=rules(), checks=checks)(test))


@any_rule
def test_a_setting_stays_between_the_floor_and_the_cap(case, checks):
    rule, solver, low, high = case
    # Whole steps count as those of a floor in single precision.
    slack = 1 + 2e-6 if isinstance(rule, DampedRule) else 1
    for decision in run(rule, solver, checks)[0]:
        assert low / slack <= setting_of(decision.solver) <= high


@any_rule
def test_a_decision_depends_on_what_goes_in_only(case, checks):
    rule, solver, *_ = case
    again = dataclasses.replace(rule)
    assert run(rule, solver, checks) == run(again, dataclasses.replace(solver), checks)


@any_rule
def test_a_memory_survives_a_weight(case, checks):
    rule, solver, *_ = case

    def read(memory):
        assert len(memory) == len(rule.first_memory())
        return np.array(memory, "float32").tolist()

    decisions, tried = run(rule, solver, checks)
    assert run(rule, solver, checks, read) == (decisions, tried)
    assert run(rule, solver, checks, lambda memory: np.array(memory, "float32"))[0] == decisions
    for decision in run(rule, solver, checks, read)[0]:
        assert type(decision.memory) is type(rule.first_memory())
        assert all(isinstance(number, int) for number in decision.memory)


@any_rule
def test_it_measures_once_at_most_and_before_a_growth_only(case, checks):
    rule, solver, *_ = case
    for decision, asked in zip(*run(rule, solver, checks), strict=True):
        assert len(asked) <= 1
        assert type(decision.solver) in rule.methods(solver)
        for longer in asked:
            assert type(longer) is type(solver)
            assert setting_of(longer) > setting_of(solver)
            assert decision.solver in (solver, longer)
        expected = {"grow": 1, "shrink": 0, "climb": 0}
        assert len(asked) == expected.get(decision.action, len(asked))
        solver = decision.solver


@any_rule
def test_an_action_says_what_happens(case, checks):
    rule, solver, *_ = case
    for decision in run(rule, solver, checks)[0]:
        before, after = setting_of(solver), setting_of(decision.solver)
        if decision.action == "climb":
            assert decision.solver.order > solver.order
        else:
            assert type(decision.solver) is type(solver)
            holds = {"keep": after == before, "grow": after > before, "shrink": after < before}
            assert holds[decision.action]
        solver = decision.solver


@any_rule
def test_nothing_grows_where_a_value_is_not_a_number(case, checks):
    rule, solver, *_ = case
    for (now, longer, _), decision in zip(checks, run(rule, solver, checks)[0]):
        if not all(map(math.isfinite, [*now.values(), *longer.values()])):
            assert decision.action in ("keep", "shrink", "climb")
