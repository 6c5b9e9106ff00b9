"""The tableaus check themselves, and have the orders they claim."""

import dataclasses
import json
import math

import numpy as np
import pytest

from tfnode import tableaus
from tfnode.tableaus import ButcherTableau

NAMES = (
    "EULER",
    "MIDPOINT",
    "HEUN",
    "RK4",
    "RK38",
    "FEHLBERG21",
    "BOGACKI_SHAMPINE32",
    "DORMAND_PRINCE54",
)
TABLEAUS = [getattr(tableaus, name) for name in NAMES]
# name: (order, stages, order of the embedded method)
FACTS = {
    "euler": (1, 1, None),
    "midpoint": (2, 2, None),
    "heun": (2, 2, None),
    "rk4": (4, 4, None),
    "rk38": (4, 4, None),
    "fehlberg21": (2, 3, 1),
    "bogacki_shampine32": (3, 4, 2),
    "dormand_prince54": (5, 7, 4),
}

all_tableaus = pytest.mark.parametrize("tableau", TABLEAUS, ids=lambda tableau: tableau.name)


def matrix(tableau):
    """`a` as a square matrix."""
    stages = tableau.num_stages
    return np.array([row + (0.0,) * (stages - len(row)) for row in tableau.a]).reshape(stages, -1)


def order_residuals(tableau, weights, order):
    """`weights . phi(tree) - 1 / density(tree)` for the rooted trees of up to 4 nodes."""
    a, c = matrix(tableau), np.array(tableau.c)
    trees = {
        1: [(c**0, 1)],
        2: [(c, 2)],
        3: [(c**2, 3), (a @ c, 6)],
        4: [(c**3, 4), (c * (a @ c), 8), (a @ c**2, 12), (a @ a @ c, 24)],
    }
    return [
        weights @ phi - 1 / density
        for nodes in range(1, min(order, 4) + 1)
        for phi, density in trees[nodes]
    ]


def coefficients(tableau):
    """Every single coefficient, as `(field, path)`."""
    for i, row in enumerate(tableau.a):
        yield from (("a", (i, j)) for j in range(len(row)))
    for field in ("b", "c", "b_error"):
        yield from ((field, (i,)) for i in range(len(getattr(tableau, field) or ())))


def with_typo(tableau, field, path):
    """The keyword of a tableau with one coefficient off by 1e-6."""
    value = [list(row) for row in tableau.a] if field == "a" else list(getattr(tableau, field))
    row = value
    for index in path[:-1]:
        row = row[index]
    row[path[-1]] += 1e-6
    return {field: value}


def test_facts():
    assert {t.name for t in TABLEAUS} == FACTS.keys()
    assert {t.name: (t.order, t.num_stages) for t in TABLEAUS} == {
        name: facts[:2] for name, facts in FACTS.items()
    }


@all_tableaus
def test_order_conditions(tableau):
    order = FACTS[tableau.name][0]
    residuals = order_residuals(tableau, np.array(tableau.b), order)
    assert len(residuals) == {1: 1, 2: 2, 3: 4, 4: 8, 5: 8}[order]
    np.testing.assert_allclose(residuals, 0, atol=1e-15)
    np.testing.assert_allclose(matrix(tableau).sum(1), tableau.c, rtol=0, atol=2e-15)


@pytest.mark.parametrize("tableau", TABLEAUS[:7], ids=lambda tableau: tableau.name)
def test_order_is_not_higher_than_stated(tableau):
    """Some condition of the next order is missed, so `order` is not understated."""
    c, b, order = np.array(tableau.c), np.array(tableau.b), tableau.order
    residuals = [*order_residuals(tableau, b, order + 1), b @ c**order - 1 / (order + 1)]
    assert max(map(abs, residuals)) > 1e-3


@all_tableaus
def test_embedded_order_conditions(tableau):
    embedded = FACTS[tableau.name][2]
    if embedded is None:
        assert tableau.b_error is None
        return
    weights = np.array(tableau.b) - np.array(tableau.b_error)
    np.testing.assert_allclose(order_residuals(tableau, weights, embedded), 0, atol=1e-15)
    # One order lower than the solution, or the difference would estimate nothing.
    c = np.array(tableau.c)
    assert abs(weights @ c**embedded - 1 / (embedded + 1)) > 1e-4


def test_dormand_prince_meets_order_5():
    """The nine trees of 5 nodes; Hairer et al., table II.2.2."""
    tableau = tableaus.DORMAND_PRINCE54
    a, b, c = matrix(tableau), np.array(tableau.b), np.array(tableau.c)
    trees = [
        (c**4, 5),
        (c**2 * (a @ c), 10),
        (c * (a @ c**2), 15),
        (c * (a @ a @ c), 30),
        ((a @ c) ** 2, 20),
        (a @ c**3, 20),
        (a @ (c * (a @ c)), 40),
        (a @ a @ c**2, 60),
        (a @ a @ a @ c, 120),
    ]
    np.testing.assert_allclose([b @ phi - 1 / density for phi, density in trees], 0, atol=1e-15)


@all_tableaus
def test_typo_in_any_coefficient_raises(tableau):
    found = list(coefficients(tableau))
    stages = tableau.num_stages
    vectors = 2 if tableau.b_error is None else 3
    assert len(found) == stages * (stages - 1) // 2 + vectors * stages
    for field, path in found:
        with pytest.raises(ValueError, match=f"Received: name='{tableau.name}'"):
            dataclasses.replace(tableau, **with_typo(tableau, field, path))


@pytest.mark.parametrize(
    "change",
    [
        {"a": ((), (1,), (0, 1))},
        {"a": ((0,), (1,))},
        {"b": (1,)},
        {"c": (0, 1, 1)},
        {"b_error": (0,)},
        {"order": 0},
        {"order": 2.0},
        {"order": True},
        {"name": 3},
        {"name": None},
        {"b_error": (0, 0)},
        {"order": 3},
        {"b": (float("nan"), 0.5)},
    ],
    ids=str,
)
def test_malformed_tableau_raises(change):
    with pytest.raises(ValueError, match="Received: "):
        dataclasses.replace(tableaus.HEUN, **change)


@all_tableaus
def test_config_round_trip(tableau):
    config = json.loads(json.dumps(tableau.get_config()))
    copy = ButcherTableau(**config)
    assert copy == tableau
    assert hash(copy) == hash(tableau)


def test_the_name_of_a_known_method_means_it_alone():
    assert tableaus.ButcherTableau(**tableaus.RK4.get_config()) == tableaus.RK4
    with pytest.raises(ValueError, match=r"Received: name='rk4'.*Choose another name"):
        tableaus.ButcherTableau(**{**tableaus.RK38.get_config(), "name": "rk4"})


def test_tableau_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        tableaus.RK4.order = 5


# === The order that a tableau claims ===
def with_order(tableau, order):
    return dataclasses.replace(tableau, name="claim", order=order)


@all_tableaus
def test_a_claim_of_an_order_too_much_is_refused(tableau):
    """By a quadrature condition or by another tree: some need the latter."""
    with pytest.raises(ValueError, match=f"condition of order {tableau.order + 1}|order 6"):
        with_order(tableau, tableau.order + 1)
    assert with_order(tableau, 1).order == 1


def test_a_method_with_the_quadrature_of_order_4_and_the_order_2_is_refused():
    """Simpson's weights with c of RK4, and stages that all start from the first one."""
    simpson = dict(
        name="simpson", a=((), (1 / 2,), (1 / 2, 0), (1, 0, 0)), b=(1 / 6, 1 / 3, 1 / 3, 1 / 6)
    )
    c = np.array((0, 1 / 2, 1 / 2, 1))
    assert [np.dot(simpson["b"], c ** (q - 1)) for q in (3, 4)] == pytest.approx([1 / 3, 1 / 4])
    assert ButcherTableau(**simpson, c=c, order=2).order == 2
    with pytest.raises(ValueError, match=r"1/6, the condition of order 3 .* \(\(\(\),\),\)"):
        ButcherTableau(**simpson, c=c, order=3)


@pytest.mark.parametrize("order", range(1, 6))
def test_the_trees_are_all_there(order):
    """Their numbers, and those of their monotonic labellings, which sum to (order - 1)!."""
    trees = {()}
    for _ in range(order - 1):
        trees = {grown for tree in trees for grown in tableaus._grown(tree)}
    assert len(trees) == {1: 1, 2: 1, 3: 2, 4: 4, 5: 9}[order]
    assert {tableaus._size(tree) for tree in trees} == {order}
    labellings = (
        math.factorial(order) / (symmetry(tree) * tableaus._density(tree)) for tree in trees
    )
    assert sum(labellings) == pytest.approx(math.factorial(order - 1))


def symmetry(tree):
    repeated = math.prod(math.factorial(tree.count(subtree)) for subtree in set(tree))
    return repeated * math.prod(map(symmetry, tree))
