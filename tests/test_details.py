"""What a report records beyond its verdict: changes of class, samples near one, order, versions."""

import dataclasses
import json
import pathlib
import typing

import keras
import numpy as np
import pytest
from linear_models import ORDERS, X, Y, growth, linear, predicted

import zoo
from tfnode import validity, versions
from tfnode.models.judge import Judge
from tfnode.solvers import RK4, Euler
from tfnode.validity.details import class_changes, nearest_samples

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def report():
    """Euler's method at 1/2, of which every better solver multiplies the state by more."""
    return validity.check(linear(Euler(1 / 2)), (X, Y), reference_steps=16, verbose=0)


def test_the_changes_are_those_of_the_row_that_changes_most(report):
    details = report.details
    row = report.rows[details.changed_row]
    assert (row.changed, row.is_better) == (report.changed, True)
    after = predicted(ORDERS[row.solver], row.step_size)
    changed = np.flatnonzero(after != Y)
    # All of them were right, and of class 0.
    first = tuple(changed[:3].tolist())
    expected = validity.ClassChange(0, 1, len(changed), lost=len(changed), gained=0, samples=first)
    assert len(changed) == 4
    assert details.changes == (expected,)


def test_the_nearest_have_least_left_of_their_lead(report):
    def leads(solver, step_size):
        return (2 * Y - 1) * 2 * (growth(ORDERS[solver], step_size) * X[:, 0] - 0.25)

    margins = leads("Euler", 1 / 2)
    rows = [(i, r) for i, r in enumerate(report.rows) if r.is_better and not r.is_training]
    better = {i: leads(row.solver, row.step_size) for i, row in rows}
    least = np.min(list(better.values()), axis=0)
    kept = np.flatnonzero(least > 0)
    expected = kept[np.argsort(least[kept] / margins[kept])]
    nearest = report.details.nearest
    assert [near.sample for near in nearest] == expected[:10].tolist()
    for near in nearest:
        assert (near.predicted, near.rival) == (Y[near.sample], 1 - Y[near.sample])
        assert near.margin == pytest.approx(margins[near.sample], rel=1e-4)
        assert near.left == pytest.approx(least[near.sample], rel=1e-4)
        assert better[near.row][near.sample] == pytest.approx(near.left, rel=1e-4)


def test_the_order_is_fitted_from_the_step_of_the_training_down(report):
    rows = [row for row in report.rows if row.solver == "Euler" and row.factor <= 1]
    points = np.log([(row.step_size, row.error) for row in rows])
    assert len(points) == 3
    details = report.details
    assert (details.order, details.expected_order) == (np.polyfit(*points.T, 1)[0], 1)


def test_the_model_and_the_versions_are_named(report):
    assert report.details.model.startswith("functional")
    packages = ("tfnode", "keras", keras.backend.backend(), "numpy")
    assert report.details.versions == versions.of(*packages)


def test_a_regression_has_no_classes_to_change():
    model = keras.Sequential([keras.Input((1,)), linear(Euler(1 / 2)).get_layer("ode")])
    report = validity.check(model, (X, X), reference_steps=4, verbose=0)
    details = report.details
    assert (details.changed_row, details.changes, details.nearest) == (None, (), ())
    assert details.order == pytest.approx(1, abs=0.3)


# === Of outputs of any kind ===
def judge(y, outputs, loss="sparse_categorical_crossentropy", **options):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(outputs.shape[-1])])
    model.compile(loss=loss)
    return Judge(model, y, outputs, **options)


BASE = np.array([[3.0, 1, 0], [0, 2, 1], [0, 0.5, 4], [1, 0, 0], [1, np.nan, 0]])
OTHER = np.array([[2.0, 1.9, 0], [0, 1, 2], [4, 3.9, 5], [np.inf, 0, 0], [1, 0, 0]])
LABELS = np.array([0, 1, 2, 1, 2])


def test_what_is_not_finite_is_no_class_and_keeps_none():
    found = judge(LABELS, BASE)
    assert class_changes(found, BASE, OTHER) == (
        validity.ClassChange(-1, 0, 1, lost=0, gained=0, samples=(4,)),
        validity.ClassChange(0, -1, 1, lost=0, gained=0, samples=(3,)),
        validity.ClassChange(1, 2, 1, lost=1, gained=0, samples=(1,)),
    )
    nearest = nearest_samples(found, BASE, {7: OTHER})
    assert [(n.sample, n.predicted, n.rival, n.margin, n.row) for n in nearest] == [
        (0, 0, 1, 2.0, 7),
        (2, 2, 0, 3.5, 7),
    ]
    assert [n.left for n in nearest] == pytest.approx([0.1, 1.0])
    assert nearest_samples(found, BASE, {}) == ()


def test_answers_without_weight_do_not_count():
    found = judge(LABELS, BASE, weights=np.array([0, 0, 1, 0, 0]))
    assert class_changes(found, BASE, OTHER) == ()
    assert [n.sample for n in nearest_samples(found, BASE, {1: OTHER})] == [2]


def test_answers_of_one_sample_share_its_number():
    # Two steps of a sequence each, and two labels each.
    base, other = BASE[:4].reshape(2, 2, 3), OTHER[:4].reshape(2, 2, 3)
    found = judge(LABELS[:4].reshape(2, 2), base)
    assert [(c.before, c.after, c.samples) for c in class_changes(found, base, other)] == [
        (0, -1, (1,)),
        (1, 2, (0,)),
    ]
    assert [n.sample for n in nearest_samples(found, base, {1: other})] == [0, 1]
    base, other = np.array([[0.9, 0.2], [0.6, 0.4]]), np.array([[0.8, 0.6], [0.5001, 0.4]])
    found = judge(np.ones((2, 2)), base, "binary_crossentropy")
    assert class_changes(found, base, other) == (
        validity.ClassChange(0, 1, 1, lost=0, gained=1, samples=(0,)),
    )
    nearest = nearest_samples(found, base, {1: other})
    assert [(n.sample, n.predicted, n.rival) for n in nearest] == [(1, 1, 0), (0, 1, 0), (1, 0, 1)]


def test_many_kinds_of_change_stay_few():
    base, other = np.eye(100), np.roll(np.eye(100), 1, axis=1)
    changes = class_changes(judge(np.arange(100), base), base, other)
    assert len(changes) == 50


# === Reports of every version ===
@pytest.mark.parametrize(
    "path", sorted((ROOT / "zoo/reports").glob("*.json")), ids=lambda p: p.stem
)
def test_a_published_report_is_read(path, tmp_path):
    text = path.read_text(encoding="utf-8")
    read, given = validity.ValidityReport.from_json(text), json.loads(text)
    # Those of the first version neither say so nor have details.
    assert (read.version, read.details is None) == ((2, False) if "version" in given else (1, True))
    assert given.items() <= json.loads(read.to_json()).items()
    read.to_html(tmp_path / "report.html")


def test_a_report_is_read_with_its_details(report):
    assert validity.ValidityReport.from_json(report.to_json()) == report
    assert (report.version, json.loads(report.to_json())["version"]) == (3, 3)


def test_a_report_of_a_later_version_is_refused(report):
    text = dataclasses.replace(report, version=4).to_json()
    with pytest.raises(ValueError, match=r"version 4, and this tfnode knows 3: upgrade it"):
        validity.ValidityReport.from_json(text)


def test_a_report_is_small_and_its_repr_a_few_lines(report):
    assert len(report.to_json()) < 10_000
    report = dataclasses.replace(report, loss_gap=1 / 3, reference_error=1e-7, digest="a" * 64)
    assert repr(report) == (
        "ValidityReport(is_ode=False, gap=0.2, threshold=0.02, measure='accuracy', "
        "task='classification', num_samples=20, changed=0.2, class_gaps=<2 values>, "
        "loss_gap=0.333333, reference_error=1e-07, rows=<17 rows>, "
        "digest='aaaaaaaaaaaa...aaaaaaaaaaaaa', version=3, details=<Details>; "
        "plot(), to_html(), to_json(), value_of())"
    )
    # What it does not hold takes no room.
    assert "details" not in repr(zoo.get_report("mnist"))


LARGE = {bool: False, int: 123_456, float: 1.234567e-5, str: "long" * 1000}
RECORDS = [kind for kind in vars(validity).values() if dataclasses.is_dataclass(kind)]


def large(kind):
    """A value of a type that is as large as it comes."""
    if dataclasses.is_dataclass(kind):
        return kind(**{name: large(of) for name, of in typing.get_type_hints(kind).items()})
    if kind is np.ndarray:
        return np.full((1000, 30, 2), np.pi)
    inner = typing.get_args(kind)
    if typing.get_origin(kind) is tuple:
        return (large(inner[0]),) * 1000
    if typing.get_origin(kind) is dict:
        return {inner[0](i): large(inner[1]) for i in range(1000)}
    return large(inner[0]) if inner else LARGE[kind]


@pytest.mark.parametrize("kind", RECORDS)
def test_the_repr_of_every_result_fits_on_a_screen_and_has_its_numbers(kind):
    result = large(kind)
    text = repr(result)
    assert len(text) <= 6 * 100
    assert text.startswith(f"{kind.__name__}(")
    for field in dataclasses.fields(kind):
        value = getattr(result, field.name)
        written = f"{value:.6g}" if isinstance(value, float) else repr(value)
        assert f"{field.name}={written if isinstance(value, (int, float)) else ''}" in text
        assert not isinstance(value, (tuple, dict)) or f"{field.name}=<1000 " in text
    for name in ("plot", "to_html", "to_json", "halved"):
        assert (name in dir(kind)) == (name in text)


def test_a_sweep_fits_on_a_screen():
    rows = validity.sweep(linear(Euler(1 / 4)), (X, Y), verbose=0)
    assert len(rows) == 15
    assert len(repr(rows)) <= 25 * 100
    assert "SweepRow(solver='RK4', factor=2, step_size=0.5, num_steps=2, nfe=8, " in repr(rows)


def test_an_early_end_leaves_what_was_tried():
    model = linear(RK4(1.0), level=0.25, rate=-3.0)
    early = validity.check(model, (X, Y), reference_steps=4, verbose=0, stop_early=True)
    assert (early.is_ode, early.reference_error, early.details.order) == (False, None, None)
    assert sum(c.count for c in early.details.changes) == round(early.changed * 20)
