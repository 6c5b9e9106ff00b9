"""The decisions of tolerance adaption as tables: numbers in, numbers out."""

import math

import pytest
from probes import Probe

from tfnode import solvers
from tfnode.adaption import Decision, ToleranceRule, tighter_solver

# Binary fractions, so that products are exact and a boundary is a boundary.
RULE = ToleranceRule(
    threshold=0.25, shrink=0.5, growth=1.5, min_tolerance=2**-10, max_tolerance=2**-4
)
VARYING, CONSTANT = (30.0, 30.0, 36.0, 30.0, 30.0), (30.0,) * 5


@pytest.fixture(autouse=True)
def _fresh_keras():
    """No Keras here: its clean-up between tests would take longer than the tests."""


def test_the_defaults_are_the_constants_of_the_paper():
    rule = ToleranceRule()
    assert (rule.threshold, rule.shrink, rule.growth) == (0.1, 0.5, 1.1)
    assert (rule.min_tolerance, rule.max_tolerance) == (1e-6, 1.0)


@pytest.mark.parametrize(
    "tolerance, train, reference, at_proposed, recent, expected, asked",
    [
        (2**-6, 1.0, 1.0, 1.0, VARYING, (1.5 * 2**-6, "grow"), [1.5 * 2**-6]),
        # A gap of exactly the threshold is accepted, on either side.
        (2**-6, 1.0, 0.75, 1.0, VARYING, (1.5 * 2**-6, "grow"), [1.5 * 2**-6]),
        (2**-6, 0.75, 1.0, 0.75, VARYING, (1.5 * 2**-6, "grow"), [1.5 * 2**-6]),
        (2**-6, 1.0, 0.75 - 1e-6, 1.0, VARYING, (2**-7, "shrink"), []),
        (2**-6, 0.0, 1.0, 1.0, CONSTANT, (2**-7, "shrink"), []),
        # The gap must stay at the looser tolerance, measured against the reference.
        (2**-6, 1.0, 1.0, 0.5, VARYING, (2**-6, "keep"), [1.5 * 2**-6]),
        # Where the evaluations are the same, nothing is tried.
        (2**-6, 1.0, 1.0, 1.0, CONSTANT, (2**-6, "keep"), []),
        (2**-6, 1.0, 1.0, 1.0, (), (2**-6, "keep"), []),
        # The floor and the cap.
        (2**-10, 1.0, 0.0, 1.0, VARYING, (2**-10, "keep"), []),
        (1.5 * 2**-10, 1.0, 0.0, 1.0, VARYING, (2**-10, "shrink"), []),
        (2**-12, 1.0, 0.0, 1.0, VARYING, (2**-12, "keep"), []),
        (3 * 2**-6, 1.0, 1.0, 1.0, VARYING, (2**-4, "grow"), [2**-4]),
        (2**-4, 1.0, 1.0, 1.0, VARYING, (2**-4, "keep"), []),
        # An accuracy that is not there is a gap.
        (2**-6, math.nan, 1.0, 1.0, VARYING, (2**-7, "shrink"), []),
        (2**-6, 1.0, 1.0, math.nan, VARYING, (2**-6, "keep"), [1.5 * 2**-6]),
    ],
)
@pytest.mark.parametrize("method", [solvers.Fehlberg21, solvers.DormandPrince])
def test_decide(method, tolerance, train, reference, at_proposed, recent, expected, asked):
    probe, solver = Probe(at_proposed, reference), method(tolerance, tolerance, per_sample=True)
    measurement = probe.measurement(train, recent_nfe=recent)
    decision = RULE.decide(solver, RULE.first_memory(), measurement)
    assert decision == Decision(solver.with_tolerance(expected[0]), (), expected[1])
    assert probe.asked == [solver.with_tolerance(tolerance) for tolerance in asked]


@pytest.mark.parametrize(
    "arguments",
    [
        {"threshold": -0.1},
        {"threshold": 1.0},
        {"threshold": math.nan},
        {"shrink": 0.0},
        {"shrink": 1.0},
        {"growth": 1.0},
        {"growth": math.inf},
        {"min_tolerance": 0.0},
        {"min_tolerance": 2.0},
        {"max_tolerance": math.inf},
    ],
    ids=str,
)
def test_a_rule_outside_its_range_is_refused(arguments):
    with pytest.raises(ValueError, match="Received: "):
        ToleranceRule(**arguments)


@pytest.mark.parametrize(
    "solver, expected",
    [
        (solvers.Fehlberg21(1e-3, 2e-3, 50, True), solvers.DormandPrince(2e-4, 4e-4, 50, True)),
        (solvers.BogackiShampine32(1e-3, 1e-3), solvers.DormandPrince(2e-4, 2e-4)),
        (solvers.DormandPrince(1e-3, 1e-4), solvers.DormandPrince(1e-4, 1e-5)),
    ],
)
def test_tighter_solver(solver, expected):
    found = tighter_solver(solver)
    assert type(found) is type(expected)
    assert (found.max_num_steps, found.per_sample) == (expected.max_num_steps, expected.per_sample)
    assert (found.rtol, found.atol) == pytest.approx((expected.rtol, expected.atol), rel=1e-15)


@pytest.mark.parametrize("solver", [solvers.Fehlberg21, solvers.DormandPrince])
@pytest.mark.parametrize("rtol, atol", [(2**-4, 2**-5), (2**-9, 2**-9), (2**-10, 2**-6)])
def test_the_reference_is_tighter_but_stays_above_the_floor(solver, rtol, atol):
    expected = tighter_solver(solver(rtol, atol, 50, True))
    found = RULE.reference(solver(rtol, atol, 50, True), 1.0)
    assert type(found) is type(expected)
    assert (found.max_num_steps, found.per_sample) == (50, True)
    assert found.rtol == max(expected.rtol, 2**-10)
    assert found.atol == max(expected.atol, 2**-10)
