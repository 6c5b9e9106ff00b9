"""The verdict on time series, on linear fields whose states are known at every time."""

import math

import fences
import keras
import numpy as np
import pytest

import tfnode
from tfnode import validity
from tfnode.solvers import RK4, BogackiShampine32, Euler

TIMES = np.arange(9) / 4
Z0 = np.array([[1.0], [2.0], [-1.0]])
STATES = Z0[:, None] * np.exp(-TIMES)[:, None]
DT = 1 / 4
# One step of Euler's method with this rate is the map from one state to the next.
LEARNED = (math.exp(-DT) - 1) / DT
UNIT = STATES[:, 1:].std()


def rk4(t, rate=LEARNED, h=1 / 8):
    """What RK4 multiplies a state by until t."""
    return sum((rate * h) ** k / math.factorial(k) for k in range(5)) ** (t / h)


def rms(states, times=TIMES):
    """The distance of `z0 * states(t)` from the observed ones, in the unit of the report."""
    times = np.asarray(times)
    change = Z0 * (states(times) - np.exp(-times))
    return math.sqrt((change**2).mean()) / UNIT


def checked(rate, solver, times=TIMES, data=(Z0, STATES), **options):
    options = {"factors": [2], "reference_steps": 16, "verbose": 0, **options}
    return validity.check_series(lambda t, z: rate * z, data, times, solver, **options)


@pytest.fixture(scope="module")
def learned():
    return checked(LEARNED, Euler(DT))


def test_a_map_that_fits_and_whose_flow_does_not_is_found(learned):
    assert (learned.is_flow, learned.has_kink) == (False, True)
    own = next(row for row in learned.rows if row.factor == 1)
    assert own.error == own.training_error == pytest.approx(0, abs=1e-12)
    # The flow of the rate is not the exponential of -1: log(1 + a h) / h is not a.
    assert learned.rise == pytest.approx(rms(rk4, TIMES[1:]), rel=1e-12)
    flow = rms(lambda t: np.exp(LEARNED * t), TIMES[1:])
    assert learned.rise == pytest.approx(flow, rel=1e-4)
    assert [learned.flow.error, learned.flow.gap] == pytest.approx([learned.gap] * 2)
    assert learned.flow.factor is None


def test_every_number_of_the_rows(learned):
    found = [(r.factor, r.time_step, r.step_size, r.num_steps) for r in learned.rows]
    assert found == [(2, 1 / 2, 1 / 2, 4), (1, 1 / 4, 1 / 4, 8), (1 / 2, 1 / 8, 1 / 8, 16)]
    for row in learned.rows:
        h = row.step_size
        times = TIMES[2::2] if row.factor == 2 else TIMES[1:]
        error = rms(lambda t, h=h: (1 + LEARNED * h) ** (t / h), times)
        assert row.error == pytest.approx(error, abs=1e-12)
        assert (row.error_between, row.error_beyond) == (None, None)


def test_an_exact_field_is_a_flow():
    report = checked(-1.0, RK4(DT / 2))
    assert (report.is_flow, report.has_kink) == (True, False)
    assert report.rise == 0
    assert report.gap < 1e-4


def test_an_exact_field_under_a_coarse_solver_comes_nearer_to_the_data():
    report = checked(-1.0, Euler(DT))
    assert (report.is_flow, report.has_kink, report.rise) == (True, False, 0)
    errors = [row.error for row in (*report.rows, report.flow)]
    assert errors == sorted(errors, reverse=True)
    assert report.gap == pytest.approx(report.rows[1].error, rel=1e-3)


def test_a_small_rise_is_within_the_threshold_and_still_a_kink(learned):
    report = checked(LEARNED, Euler(DT), threshold=learned.rise)
    assert (report.is_flow, report.has_kink) == (True, True)


RATE = (math.exp(-2 * DT) - 1) / (2 * DT)


@pytest.fixture(scope="module")
def skipping():
    """Trained with every second time, until half of them."""
    return checked(RATE, Euler(2 * DT), every=2, trained_until=1.0)


def test_times_between_and_behind_those_of_the_training(skipping):
    assert skipping.trained_until == 1
    coarse, own, fine = skipping.rows
    assert [r.time_step for r in skipping.rows] == [1, 1 / 2, 1 / 4]
    assert (coarse.error_between, own.error_between) == (None, None)
    assert [own.error, own.error_beyond] == pytest.approx([0, 0], abs=1e-12)
    unit = STATES[:, 1:5].std() / UNIT
    for row, solution in (
        (fine, lambda t: (1 + RATE * DT) ** (t / DT)),
        (skipping.flow, lambda t: rk4(t, RATE)),
    ):
        assert row.error == pytest.approx(rms(solution, [0.5, 1.0]) / unit, rel=1e-9)
        assert row.error_between == pytest.approx(rms(solution, [0.25, 0.75]) / unit, rel=1e-9)
        assert row.error_beyond == pytest.approx(rms(solution, TIMES[5:]) / unit, rel=1e-9)


def test_a_time_that_is_a_rounding_off_is_the_time_that_is_meant():
    times = np.arange(4) * 0.1
    assert times[3] > 0.3
    data = Z0, Z0[:, None] * np.exp(-times)[:, None]
    report = checked(-1.0, Euler(0.1), times, data, trained_until=0.3, reference_steps=2)
    assert report.trained_until == times[3]


def model(solver=None, save_at=TIMES[1:5]):
    inputs = keras.Input((1,))
    field = keras.layers.Rescaling(LEARNED)
    block = tfnode.ODEBlock(field, solver or Euler(DT), save_at=save_at)
    return keras.Model(inputs, keras.layers.Rescaling(2.0)(block(inputs)))


def check_model(model, **options):
    options = {"factors": [2], "reference_steps": 16, "verbose": 0, **options}
    return validity.check_series(model, **{"data": (Z0, 2 * STATES), "times": TIMES, **options})


def test_a_model_that_saves_at_times():
    asked = model()
    report = check_model(asked)
    # It was trained with the times that it saves at.
    assert report.trained_until == 1
    assert (report.is_flow, report.has_kink) == (False, True)
    expected = rms(lambda t: rk4(t, h=1 / 16), TIMES[5:]) * UNIT / STATES[:, 1:5].std()
    assert report.flow.error_beyond == pytest.approx(expected, rel=1e-4)
    # It is untouched.
    (block,) = [layer for layer in asked.layers if isinstance(layer, tfnode.ODEBlock)]
    assert block.save_at == tuple(TIMES[1:5])
    assert asked(Z0).shape == (3, 4, 1)


def test_its_own_times_and_batches():
    report = check_model(model(), data=[(Z0, 2 * STATES[:, 1:5])] * 2, times=None)
    assert report.num_samples == 6
    expected = rms(lambda t: rk4(t, h=1 / 16), TIMES[1:5]) * UNIT / STATES[:, 1:5].std()
    assert report.rise == pytest.approx(expected, rel=1e-4)
    assert report.rows[0].error_beyond is None


def test_a_step_longer_than_the_times_is_cut_to_them():
    """The block steps to every time, so that nearer times are what makes its steps shorter."""
    report = check_model(model(Euler(1.0)))
    assert [row.num_steps for row in report.rows] == [4, 8, 16]
    assert report.rows[-1].step_size == 1 / 2
    assert (report.is_flow, report.has_kink) == (False, True)


def test_backwards_at_uneven_times():
    times = -np.array([0.0, 0.1, 0.4, 0.5, 0.9])
    states = Z0[:, None] * np.exp(-times)[:, None]
    report = checked(-1.0, RK4(0.05), times, (Z0, states))
    assert report.is_flow
    assert report.flow.error < 1e-5


def test_adaptive_steps_keep_their_tolerances():
    report = checked(-1.0, BogackiShampine32(1e-5, 1e-5))
    assert report.is_flow
    assert {row.step_size for row in report.rows} == {None}
    assert report.flow.step_size == TIMES[-1] / 16


def test_a_layer_as_a_field(learned):
    class Field(keras.Layer):
        def call(self, t, z):
            return LEARNED * z

    options = {"factors": [2], "reference_steps": 16, "verbose": 0}
    report = validity.check_series(Field(), (Z0, STATES), TIMES, Euler(DT), **options)
    assert report.rise == pytest.approx(learned.rise, rel=1e-5)


def test_a_block_by_itself():
    block = tfnode.ODEBlock(keras.layers.Rescaling(-1.0), RK4(DT), t1=2.0, save_at=TIMES[1:])
    block(Z0)
    assert check_model(block, data=(Z0, STATES)).is_flow


def test_states_that_are_not_finite_are_no_flow():
    report = checked(-1e30, Euler(DT))
    assert (report.is_flow, report.has_kink, report.rise) == (False, False, math.inf)
    again = validity.SeriesReport.from_json(report.to_json())
    assert again.rise == again.flow.error == math.inf


def test_json_and_back(learned):
    again = validity.SeriesReport.from_json(learned.to_json())
    assert again == learned
    with pytest.raises(ValueError, match=r"Received: text='{}'"):
        validity.SeriesReport.from_json("{}")


def test_the_figure_holds_the_rows(skipping):
    report = skipping
    (axes,) = report.plot().axes
    assert axes.get_title().startswith("not a flow")
    errors, flow, between, _, beyond, *_ = axes.lines
    assert between.get_ydata().tolist() == [report.rows[-1].error_between]
    assert errors.get_ydata().tolist() == [row.error for row in report.rows]
    assert errors.get_xdata().tolist() == [row.time_step for row in report.rows]
    assert set(flow.get_ydata()) == {report.flow.error}
    assert beyond.get_ydata().tolist() == [row.error_beyond for row in report.rows]
    assert report.plot("a title").axes[0].get_title() == "a title"


@pytest.mark.parametrize(
    "change, words",
    [
        ({"times": None}, "`times` must be"),
        ({"times": TIMES[1:]}, "swap the axes"),
        ({"times": [0.0, 1.0, 0.5]}, "increase or decrease"),
        ({"data": (Z0, STATES.swapaxes(0, 1))}, "must have the same length"),
        ({"data": (Z0, STATES[..., [0, 0]])}, "swap the axes"),
        ({"data": (Z0, STATES * math.nan)}, "finite"),
        ({"trained_until": 0.1}, "trained with"),
        ({"trained_until": 0.249}, "trained with"),
        ({"every": 9}, "trained with"),
        ({"factors": [1]}, "from 2"),
        ({"factors": []}, "at least"),
        ({"solver": None}, "model"),
    ],
)
def test_what_is_refused(change, words):
    options = {"rate": -1.0, "solver": RK4(DT), **change}
    with pytest.raises(ValueError, match=f"(?s){words}.*") as error:
        checked(**options)
    assert "Received: " in str(error.value)


def test_models_that_are_refused():
    with pytest.raises(ValueError, match=r"with `save_at`, .* it has 0. Received: model"):
        check_model(model(save_at=None))
    with pytest.raises(ValueError, match=r"has its own solver. Received: model"):
        check_model(model(), solver="euler")


def test_the_python_of_the_page_runs(capsys):
    (code,) = fences.of("docs/is-it-an-ode.md", "python", -1)
    exec(code, {})
    assert capsys.readouterr().out == "False True True False\n"
