"""The decisions of step adaption as tables: numbers in, numbers out."""

import math

import numpy as np
import pytest
from probes import Probe

from tfnode import solvers, tableaus
from tfnode.adaption import (
    Decision,
    StepRule,
    ToleranceRule,
    initial_step_size,
    reference_solver,
)

RULE = StepRule()
# Binary fractions, so that products are exact and a boundary is a boundary.
EXACT = StepRule(threshold=0.25, shrink=0.5, growth=1.5, min_step_size=1 / 64, max_step_size=0.75)
# Less than a sample of any batch below 3/4, and more than the rounding of an accuracy.
BELOW = 0.75 - 1e-6


@pytest.fixture(autouse=True)
def _fresh_keras():
    """No Keras here: its clean-up between tests would take longer than the tests."""


def test_the_defaults_are_the_constants_of_the_paper():
    constants = (RULE.threshold, RULE.shrink, RULE.growth)
    assert constants == (0.1, 0.5, 1.1)
    assert (RULE.min_step_size, RULE.max_step_size) == (1 / 500, 1.0)


@pytest.mark.parametrize(
    "step_size, train, reference, expected",
    [
        (0.25, 1.0, 1.0, 0.375),  # no gap
        (0.25, 1.0, 0.75, 0.375),  # a gap of exactly the threshold is accepted
        (0.25, 0.75, 1.0, 0.375),  # so it is with the signs exchanged
        (0.25, 1.0, BELOW, 0.125),  # anything more is not
        (0.25, BELOW, 1.0, 0.125),  # a better reference is a gap, too
        (0.25, 1.0, 0.0, 0.125),
        (0.5, 1.0, 1.0, 0.75),  # lands on the cap
        (0.625, 1.0, 1.0, 0.75),  # is cut at the cap
        (0.75, 1.0, 1.0, 0.75),  # stays at the cap
        (0.75, 1.0, 0.0, 0.375),  # the cap does not hinder shrinking
        (1 / 32, 1.0, 0.0, 1 / 64),  # lands on the floor
        (3 / 128, 1.0, 0.0, 1 / 64),  # is cut at the floor
        (1 / 64, 1.0, 0.0, 1 / 64),  # stays at the floor
        (1 / 128, 1.0, 0.0, 1 / 128),  # a step below the floor is never raised by a gap
        (1 / 128, 1.0, 1.0, 3 / 256),  # and grows by the same factor
    ],
)
def test_propose(step_size, train, reference, expected):
    assert EXACT.propose(step_size, train, reference) == expected


@pytest.mark.parametrize(
    "step_size, train, reference, at_proposed, expected, asked",
    [
        (0.25, 1.0, 1.0, 1.0, (0.375, "grow"), [0.375]),
        (0.25, 1.0, 1.0, 0.75, (0.375, "grow"), [0.375]),  # the boundary agrees
        (0.25, 1.0, 1.0, BELOW, (0.25, "keep"), [0.375]),
        # Measured against the reference, not against the present step.
        (0.25, 1.0, 0.75, 0.5, (0.375, "grow"), [0.375]),
        (0.25, 1.0, 0.75, 0.25, (0.25, "keep"), [0.375]),
        (0.25, 0.5, 0.75, 1.0, (0.375, "grow"), [0.375]),
        (0.625, 1.0, 1.0, 1.0, (0.75, "grow"), [0.75]),
        (0.625, 1.0, 1.0, 0.0, (0.625, "keep"), [0.75]),
        (0.75, 1.0, 1.0, 0.0, (0.75, "keep"), []),  # nothing to try at the cap
        (0.25, 1.0, 0.0, 0.0, (0.125, "shrink"), []),  # shrinking asks no one
        (3 / 128, 1.0, 0.0, 0.0, (1 / 64, "shrink"), []),
        (1 / 64, 1.0, 0.0, 0.0, (1 / 64, "keep"), []),
        (1 / 128, 1.0, 0.0, 0.0, (1 / 128, "keep"), []),
    ],
)
@pytest.mark.parametrize("method", [solvers.Euler, solvers.RK4])
def test_decide(method, step_size, train, reference, at_proposed, expected, asked):
    probe, solver = Probe(at_proposed, reference), method(step_size)
    decision = EXACT.decide(solver, EXACT.first_memory(), probe.measurement(train))
    assert decision == Decision(method(expected[0]), (), expected[1])
    assert probe.asked == [method(step_size) for step_size in asked]


@pytest.mark.parametrize("batch_size", [10, 100, 250])
@pytest.mark.parametrize("number", [float, lambda value: float(np.float32(value))])
def test_the_rounding_of_accuracies_makes_no_gap(batch_size, number):
    # A tenth of the batch is accepted wherever it lies; one sample more is not.
    tenth = batch_size // 10
    for right in range(batch_size - tenth):
        found = [number((right + more) / batch_size) for more in (0, tenth, tenth + 1)]
        for rule in (StepRule(), ToleranceRule()):
            assert not rule.exceeded(found[0], found[1])
            assert rule.exceeded(found[0], found[2]) and rule.exceeded(found[2], found[0])


def decide(rule, step_size, train_accuracy, probe):
    """The next step size of Euler's method and the action."""
    decision = rule.decide(solvers.Euler(step_size), (), probe.measurement(train_accuracy))
    return decision.solver.step_size, decision.action


def test_an_accuracy_that_is_not_a_number_is_a_gap():
    assert decide(EXACT, 0.25, math.nan, Probe()) == (0.125, "shrink")
    assert decide(EXACT, 0.25, 1.0, Probe(reference_accuracy=math.nan)) == (0.125, "shrink")
    assert decide(EXACT, 0.25, 1.0, Probe(math.nan)) == (0.25, "keep")


def test_halving_never_goes_below_the_floor_and_growth_never_above_the_cap():
    step_size, steps = 1.0, []
    for gap in [1.0] * 10 + [0.0] * 66:
        step_size, _ = decide(RULE, step_size, 1.0, Probe(1.0, 1.0 - gap))
        steps.append(step_size)
    assert steps[:10] == [2.0**-k for k in range(1, 9)] + [1 / 500, 1 / 500]
    # 1.1^65 < 500 < 1.1^66
    assert steps[-2] < 1.0 and steps[-1] == 1.0


@pytest.mark.parametrize(
    "arguments",
    [
        {"threshold": -0.1},
        {"threshold": 1.0},
        {"threshold": math.nan},
        {"shrink": 0.0},
        {"shrink": 1.0},
        {"shrink": math.nan},
        {"growth": 1.0},
        {"growth": math.inf},
        {"growth": math.nan},
        {"min_step_size": 0.0},
        {"min_step_size": 2.0},
        {"min_step_size": math.nan},
        {"max_step_size": math.inf},
        {"max_step_size": math.nan},
    ],
)
def test_a_rule_outside_its_range_is_refused(arguments):
    with pytest.raises(ValueError, match="Received: "):
        StepRule(**arguments)


@pytest.mark.parametrize("threshold", [0.0, math.nextafter(1, 0)])
def test_the_ends_of_the_range_of_the_threshold(threshold):
    assert StepRule(threshold=threshold).exceeded(0.5, 0.5) is False


THIRD_ORDER = tableaus.BOGACKI_SHAMPINE32
RALSTON = tableaus.ButcherTableau(
    "ralston", a=((), (2 / 3,)), b=(1 / 4, 3 / 4), c=(0, 2 / 3), order=2
)


@pytest.mark.parametrize(
    "solver, expected",
    [
        (solvers.Euler(1 / 64), solvers.Midpoint(1 / 64)),
        (solvers.Euler(1 / 51), solvers.Midpoint(1 / 51)),
        (solvers.Euler(1 / 50), solvers.Midpoint((1 / 50 / 50) ** 0.5)),
        (solvers.Euler(1 / 8), solvers.Midpoint((1 / 8 / 50) ** 0.5)),
        (solvers.Euler(1.0), solvers.Midpoint(0.02**0.5)),
        (solvers.Midpoint(1 / 8), solvers.RK4(1 / 8)),  # 64 > 50
        (solvers.Midpoint(1 / 7), solvers.RK4((1 / 49 / 50) ** 0.25)),
        (solvers.Midpoint(1.0), solvers.RK4(0.02**0.25)),
        (solvers.Heun(1 / 8), solvers.RK4(1 / 8)),
        (solvers.Heun(1 / 4), solvers.RK4((1 / 16 / 50) ** 0.25)),
        (solvers.RK4(1 / 4), solvers.RK4(1 / 8)),
        (solvers.RK38(1 / 4), solvers.RK38(1 / 8)),
        (
            solvers.RungeKutta(tableau=THIRD_ORDER, step_size=1 / 4),
            solvers.RungeKutta(tableau=THIRD_ORDER, step_size=1 / 8),
        ),
        (solvers.RungeKutta(tableau=RALSTON, step_size=1 / 16), solvers.RK4(1 / 16)),
        (solvers.RungeKutta(tableau=tableaus.EULER, step_size=1 / 64), solvers.Midpoint(1 / 64)),
    ],
)
# On another interval the same pairs hold for the steps relative to its length.
@pytest.mark.parametrize("length", [1.0, 0.25, 10.0])
def test_reference_solver(solver, expected, length):
    reference = reference_solver(solver.with_step_size(length * solver.step_size), length)
    assert type(reference) is type(expected)
    assert reference.tableau == expected.tableau
    assert reference.step_size == pytest.approx(length * expected.step_size, rel=1e-14)


@pytest.mark.parametrize("method", [solvers.Euler, solvers.Midpoint, solvers.RK4])
@pytest.mark.parametrize("step_size", [1.0, 0.3, 1 / 8, 1 / 50, 1 / 500])
def test_the_reference_is_never_coarser(method, step_size):
    reference = reference_solver(method(step_size))
    assert reference.step_size <= step_size * (1 + 1e-14)
    assert reference.order >= method.tableau.order


def hairer(field, t0, z0, order, length, direction):
    """Design section 5, line by line; norms per sample in a loop, averaged over the batch."""

    def norm(z):
        return sum(math.sqrt(sum(v * v for v in row.ravel())) for row in z) / len(z)

    f0 = field(t0, z0)
    d0, d1 = norm(z0), norm(f0)
    h0 = 0.01 * d0 / d1 if d0 >= 1e-5 and d1 >= 1e-5 else 1e-6
    z1 = z0 + direction * h0 * f0
    f1 = field(t0 + direction * h0, z1)
    d2 = norm(f1 - f0) / h0
    if max(d1, d2) > 1e-15:
        h1 = (0.01 / max(d1, d2)) ** (1 / (order + 1))
    else:
        h1 = max(1e-6, 1e-3 * h0)
    return min(100 * h0, h1, length)


def _states(shape, scale=1.0):
    return scale * np.random.default_rng(0).normal(size=shape)


FIELDS = {
    "linear": lambda t, z: -2.0 * z,
    "stiff": lambda t, z: -500.0 * z,
    "nonlinear": lambda t, z: np.sin(3 * z) + z**2,
    "time": lambda t, z: np.cos(5 * t) * z,
    "steep in time": lambda t, z: np.full_like(z, 1e3 * (t - 0.5)),
    "zero": lambda t, z: np.zeros_like(z),
    "tiny": lambda t, z: 1e-6 * z,
    "minute": lambda t, z: 1e-17 * z,
    "constant": lambda t, z: np.ones_like(z),
}


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("scale", [1.0, 0.0, 1e-7, 100.0])
@pytest.mark.parametrize("order", [1, 2, 4])
@pytest.mark.parametrize("direction", [1.0, -1.0])
def test_initial_step_size_is_hairers(name, scale, order, direction):
    z0 = _states((5, 3, 2), scale)
    arguments = (FIELDS[name], 0.5, z0, order, 1.0, direction)
    assert initial_step_size(*arguments) == pytest.approx(hairer(*arguments), rel=1e-12)


@pytest.mark.parametrize(
    "field, scale, order, length, expected",
    [
        ("linear", 1.0, 1, 1.0, (0.01 / 4) ** 0.5),  # d0 = 1, d1 = 2, d2 = 4, h0 = 0.005
        ("linear", 1.0, 4, 1.0, (0.01 / 4) ** 0.2),
        ("linear", 1.0, 4, 0.125, 0.125),  # the cap at the length of the interval
        ("linear", 0.0, 1, 1.0, 1e-6),  # nothing moves: max(1e-6, 1e-3 h0)
        ("zero", 1.0, 1, 1.0, 1e-6),
        ("zero", 1.0, 4, 1e-7, 1e-7),
        ("constant", 0.0, 1, 1.0, 1e-4),  # d0 = 0: h0 = 1e-6, and 100 h0 is the smaller
        ("tiny", 1.0, 1, 1.0, 1e-4),  # d1 below 1e-5
        ("stiff", 1.0, 1, 1.0, 0.01 / 500 * 10),  # h1 = (0.01 / 250000)^(1/2)
    ],
)
def test_initial_step_size_by_hand(field, scale, order, length, expected):
    z0 = np.full((4, 1), scale)
    step_size = initial_step_size(FIELDS[field], 0.0, z0, order, length)
    assert step_size == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("first_nan", [0, 1], ids=["at the start", "after it"])
def test_a_field_that_is_not_a_number_gives_no_step(first_nan):
    values = [1.0, 1.0]
    values[first_nan] = math.nan
    left = iter(values)
    step_size = initial_step_size(lambda t, z: next(left) * z, 0.0, np.ones((4, 1)), 1, 1.0)
    assert math.isnan(step_size)


def test_norms_are_averaged_over_the_batch():
    # Norms 1 and 3: the mean is 2, the Euclidean norm of the batch would be sqrt(10).
    z0 = np.array([[1.0, 0.0], [0.0, 3.0]])
    h = initial_step_size(lambda t, z: -z, 0.0, z0, 1, 1.0)
    assert h == pytest.approx((0.01 / 2) ** 0.5, rel=1e-12)


def test_the_field_is_asked_twice_and_in_the_direction_of_integration():
    asked = []

    def field(t, z):
        asked.append((t, float(z[0, 0])))
        return 2.0 * z

    initial_step_size(field, 1.0, np.ones((1, 1)), 1, 1.0, direction=-1.0)
    # h0 = 0.01 * 1 / 2, one Euler step backwards.
    assert asked == [(1.0, 1.0), (1.0 - 0.005, 1.0 - 0.005 * 2.0)]
