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


def model(solver=None, save_at=TIMES[1:5], rate=LEARNED):
    inputs = keras.Input((1,))
    field = keras.layers.Rescaling(rate)
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
    """It is a step of their distance, so that wider and nearer times have wider and nearer ones."""
    report = check_model(model(Euler(1.0)))
    assert [row.num_steps for row in report.rows] == [4, 8, 16]
    assert [row.step_size for row in report.rows] == [1 / 2, 1 / 4, 1 / 8]
    assert report == check_model(model())


def test_backwards_at_uneven_times():
    times = -np.array([0.0, 0.1, 0.4, 0.5, 0.9])
    states = Z0[:, None] * np.exp(-times)[:, None]
    report = checked(-1.0, RK4(0.05), times, (Z0, states))
    assert report.is_flow
    assert report.flow.error < 1e-5


def test_adaptive_steps_keep_their_tolerances():
    report = checked(-1.0, BogackiShampine32(1e-3, 1e-3))
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


@pytest.mark.parametrize(
    "times, every",
    [
        # Every time, and not every second one, would cut the steps of a quarter.
        (TIMES, 1),
        (TIMES, 3),
        (TIMES + TIMES / 9, 2),
        (TIMES[[0, 1, 3, 4]], 2),
    ],
)
def test_times_that_are_not_those_of_the_model_are_refused(times, every):
    asked = model(save_at=[0.5, 1.0])
    states = np.zeros((3, len(times), 1))
    with pytest.raises(ValueError, match=r"(?s)those that its block saves at. Received: every="):
        check_model(asked, data=(Z0, states), times=times, every=every)


@pytest.mark.parametrize("count, until, steps", [(9, None, 4), (9, 0.5, 4), (4, None, 2)])
def test_times_that_are_those_of_the_model_are_taken(count, until, steps):
    data = Z0, 2 * STATES[:, :count]
    options = {"times": TIMES[:count], "every": 2, "trained_until": until}
    report = check_model(model(save_at=[0.5, 1.0]), data=data, **options)
    (training,) = (row for row in report.rows if row.factor == 1)
    # Behind the times of the training too, where there are others.
    assert (training.num_steps, training.time_step) == (8 if count == 9 else steps, 1 / 2)


def test_a_kink_is_seen_from_both_sides():
    """Of a single time nothing can be left out."""
    alone = model(Euler(1.0), rate=math.exp(-1) - 1, save_at=[1.0])
    report = check_model(alone, data=(Z0, 2 * STATES[:, [4]]), times=None)
    assert [row.factor for row in report.rows] == [1, 0.5]
    assert report.rows[0].error < 1e-6 < report.rows[1].error
    assert not report.has_kink


class Untracked(keras.Model):
    """A model that does not hold its block."""

    def __init__(self, block):
        super().__init__()
        object.__setattr__(self, "hidden", {"block": block}.get)

    def call(self, x):
        return self.hidden("block")(x)


def test_a_block_that_is_called_need_not_be_held():
    block = tfnode.ODEBlock(keras.layers.Rescaling(-1.0), Euler(DT), save_at=TIMES[1:5])
    asked = Untracked(block)
    asked(Z0)
    found = check_model(asked, data=STACK, times=None, factors=[2, 4])
    assert found == judged(asked).series == judged(block).series


def test_models_that_are_refused():
    with pytest.raises(ValueError, match=r"with `save_at`, .* it has 0. Received: model"):
        check_model(model(save_at=None))
    with pytest.raises(ValueError, match=r"has its own solver. Received: model"):
        check_model(model(), solver="euler")


# === As a part of `check` ===
STACK = Z0, 2 * STATES[:, 1:5]


def judged(asked, data=STACK, **options):
    return validity.check(asked, data, **{"reference_steps": 16, "verbose": 0, **options})


@pytest.fixture(scope="module")
def whole():
    """The report on the model with the steps of its times."""
    return judged(model())


def test_check_has_the_verdict_on_a_series_too(whole):
    report = whole
    found = check_model(model(), data=STACK, times=None, factors=[2, 4])
    assert (report.is_ode, report.measure, report.threshold) == (False, "outputs", 0.02)
    assert report.series == found
    assert [row.factor for row in found.rows] == [4, 2, 1, 0.5, 0.25]
    # What it says of its own solver stays as it is.
    assert [row.num_steps for row in report.rows] == [4, *[8] * 4, 4, *[8] * 2, 4, 16]
    again = validity.ValidityReport.from_json(report.to_json())
    assert again.series == found
    assert "series=<SeriesReport>" in repr(report)


def test_check_of_a_flow_has_its_own_threshold_in_place_of_a_metrics():
    report = judged(model(), metric="mse", threshold=9.0)
    assert (report.is_ode, report.series.is_flow) == (True, False)
    assert report.series.threshold == 0.02


def test_check_that_stops_early_has_no_verdict_on_the_series():
    assert judged(model(), stop_early=True).series is None
    fine = model(RK4(1 / 8))
    assert judged(fine, stop_early=True).series == judged(fine).series is not None


def test_labels_of_one_number_may_lack_its_axis(whole):
    flat = Z0, STACK[1][..., 0]
    assert judged(model(), flat).series == whole.series
    assert check_model(model(), data=flat, times=None, factors=[2, 4]) == whole.series


def behind(*layers):
    """A model with layers behind its block."""
    inputs = keras.Input((1,))
    keras.utils.set_random_seed(0)
    outputs = tfnode.ODEBlock(keras.layers.Rescaling(-1.0), Euler(DT), save_at=TIMES[1:5])(inputs)
    for layer in layers:
        outputs = layer(outputs)
    return keras.Model(inputs, outputs)


class Backwards(keras.layers.Layer):
    def call(self, z):
        return keras.ops.flip(z, axis=1)


class Since(keras.layers.Layer):
    """The states less one of them, as displacements are."""

    def __init__(self, place):
        super().__init__()
        self._place = place

    def call(self, z):
        return z - z[:, self._place, None]


class OverAll(keras.layers.Layer):
    """What is taken of all times, such as a mean or a largest value, goes into every answer."""

    def __init__(self, reduce, combine):
        super().__init__()
        self._reduce, self._combine = reduce, combine

    def call(self, z):
        return self._combine(z, self._reduce(z, axis=1, keepdims=True))


OF_ALL = [
    OverAll(keras.ops.mean, keras.ops.subtract),
    OverAll(keras.ops.max, keras.ops.subtract),
    OverAll(keras.ops.min, keras.ops.add),
    OverAll(lambda z, **axes: keras.ops.max(keras.ops.abs(z), **axes), keras.ops.divide),
]


@pytest.mark.parametrize("layer", OF_ALL)
@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_answers_that_depend_on_the_set_of_the_times_are_no_series(layer, count):
    inputs = keras.Input((1,))
    times = np.arange(1, count + 1) / count
    block = tfnode.ODEBlock(keras.layers.Rescaling(-1.0), RK4(1 / 8), save_at=times)
    asked = keras.Model(inputs, layer(block(inputs)))
    states = np.asarray(asked(Z0))
    with pytest.raises(ValueError, match=r"(?s)at that time alone. Received: .* only some"):
        check_model(asked, data=(Z0, states), times=None)
    if count == 4:
        assert judged(asked, (Z0, states)).series is None


@pytest.mark.parametrize(
    "layers, answer",
    [
        ([keras.layers.GRU(1, return_sequences=True)], r"outputs that change by \d"),
        ([Backwards()], r"outputs that change by \d"),
        ([Since(0)], r"outputs that change by \d"),
        ([Since(-1)], r"outputs that change by \d"),
        ([keras.layers.Flatten(), keras.layers.Dense(4)], "an error: "),
        ([keras.layers.GRU(4)], r"outputs of the shape \(3, 4\)"),
        ([keras.layers.Reshape((4, 1))], "an error: "),
    ],
)
def test_answers_that_depend_on_each_other_are_no_series(layers, answer):
    mixing = behind(*layers)
    states = np.arange(12, dtype="float32").reshape(3, *mixing.output_shape[1:])
    with pytest.raises(ValueError, match=f"(?s)at that time alone. Received: .* gave {answer}"):
        check_model(mixing, data=(Z0, states), times=None)
    assert judged(mixing, (Z0, states)).series is None


class OfItsOwn(keras.Model):
    """A model that calls its block with times of its own."""

    def __init__(self, save_at, times_of_call):
        super().__init__()
        self._block = tfnode.ODEBlock(keras.layers.Rescaling(-1.0), Euler(1 / 2), save_at=save_at)
        self._times_of_call = times_of_call

    def call(self, x):
        return self._block(x, **self._times_of_call)


@pytest.mark.parametrize("times", [{"t1": 1.0}, {"save_at": [0.5, 1.0]}])
def test_times_of_a_call_cut_no_step_of_the_block(times):
    """Two steps of a half, though the block itself would take a hundred steps."""
    found = {}
    for save_at in (tuple(k / 100 for k in range(1, 101)), None):
        asked = OfItsOwn(save_at, times)
        data = Z0, np.asarray(asked(Z0))
        assert data[1].ravel()[-1] == -1 / 4
        found[save_at] = judged(asked, data, task="regression")
        assert found[save_at].rows[0].step_size == 1 / 2
    (of_block, of_call) = found.values()
    assert of_block.gap == of_call.gap > 0.1
    asked = OfItsOwn((0.5, 1.0), times)
    asked(Z0)
    with pytest.raises(ValueError, match=r"must leave the times to its block.* Received: "):
        check_model(asked, data=STACK, times=None)


def test_layers_that_treat_every_time_alike_are_a_series():
    layers = [keras.layers.Dense(8, "tanh"), keras.layers.LayerNormalization()]
    asked = behind(*layers, keras.layers.TimeDistributed(keras.layers.Dense(1)))
    assert judged(asked).series == check_model(asked, data=STACK, times=None, factors=[2, 4])


def test_what_is_no_states_is_no_series():
    pooled = behind(keras.layers.GlobalAveragePooling1D())
    assert judged(pooled, (Z0, STATES[:, 4])).series is None
    assert judged(model(save_at=None), (Z0, STATES[:, 4])).series is None
    # A class at each time.
    classes = behind(keras.layers.Dense(2))
    labels = np.eye(2)[np.arange(12).reshape(3, 4) % 2]
    assert judged(classes, (Z0, labels)).task == "classification"
    assert judged(classes, (Z0, labels)).series is None


def test_samples_with_weights_are_no_series():
    """Those that do not count would count there."""
    report = judged(model(), (*STACK, np.array([1.0, 1.0, 0.0])))
    assert (report.num_samples, report.series) == (3, None)


class Masked(keras.layers.Layer):
    def call(self, z):
        return z

    def compute_mask(self, z, mask=None):
        return keras.ops.ones_like(z[..., 0], "bool")


def test_a_masked_series_is_not_judged_at_times_that_do_not_count():
    with pytest.raises(ValueError, match=r"compared at all its times. Received: .* a mask"):
        check_model(behind(Masked()), data=STACK, times=None)
    assert judged(behind(Masked()), STACK).series is None


def test_check_names_what_judges_a_field():
    with pytest.raises(ValueError, match=r"(?s)Received: model=.*`check_series` judges"):
        judged(lambda t, z: -z)


@pytest.mark.parametrize("solver", [RK4(0.01), Euler(0.006)])
def test_steps_that_no_float_can_take_are_no_reason_to_refuse_a_check(solver):
    class Field(keras.layers.Layer):
        def call(self, t, z):
            return -z + 0 * t

    late = tuple(2000 + t for t in TIMES[1:5])
    options = {"t0": 2000.0, "t1": late[-1], "save_at": late, "time_dependent": True}
    asked = keras.Sequential([keras.Input((1,)), tfnode.ODEBlock(Field(), solver, **options)])
    data = Z0, STATES[:, 1:5]
    report = judged(asked, data)
    assert (report.is_ode, report.series) == (True, None)
    with pytest.raises(ValueError, match="A step must move the times"):
        check_model(asked, data=data, times=None, factors=[4])


def test_a_chaotic_solution_is_none_of_its_layers():
    """A field whose coarse steps would be chaotic, at uneven times, and whose own are exact."""

    class Logistic(keras.layers.Layer):
        def call(self, z):
            return rate * z * (1 - z)

    rate, times = 2.95 / 0.35, np.cumsum(np.random.default_rng(1).uniform(0.53, 0.7, 60))
    block = tfnode.ODEBlock(Logistic(), RK4(0.1), t1=times[-1], save_at=times)
    asked = keras.Sequential([keras.Input((1,)), block])
    z0 = np.array([[0.1], [0.2], [0.03]])
    states = 1 / (1 + (1 / z0[..., None] - 1) * np.exp(-rate * times)[:, None])
    assert check_model(asked, data=(z0, states), times=None).is_flow


def test_states_that_are_not_finite_are_refused_wherever_they_come():
    states = np.tile(STACK[1], (700, 1, 1))
    states[2000, 1] = math.nan
    with pytest.raises(ValueError, match="observed states must be finite"):
        check_model(model(), data=(np.tile(Z0, (700, 1)), states), times=None)


def test_a_reference_has_its_steps_where_the_times_end_early():
    class Steep(keras.layers.Layer):
        def call(self, z):
            return -10 * z

    reports = []
    for t1 in (1.0, 100.0):
        block = tfnode.ODEBlock(Steep(), BogackiShampine32(1e-2, 1e-2), t1=t1, save_at=TIMES[1:5])
        data = Z0, Z0[:, None] * np.exp(-10 * TIMES[1:5])[:, None]
        reports.append(judged(keras.Sequential([keras.Input((1,)), block]), data))
    early, late = reports
    assert early.rows == late.rows
    assert early.series == late.series
    assert early.rows[-1].num_steps == 16


# === Steps that the times cut ===
def test_rows_have_the_steps_that_are_taken(whole):
    """A step of 3/8 is cut to 1/4, and so are its multiples."""
    report = judged(model(Euler(3 / 8)))
    steps = [(row.solver, row.step_size) for row in report.rows if row.solver != "RK4"]
    below = [(m, h) for m in ("Euler", "Midpoint") for h in (1 / 8, 3 / 16, 1 / 4)]
    assert steps == [("Euler", 1 / 4), *(row for row in below if row != ("Euler", 1 / 4))]
    assert report.rows == whole.rows
    rows = validity.sweep(model(Euler(1.0)), STACK, metric="mse", factors=(1, 2))
    assert [row.step_size for row in rows] == [1 / 4] * 3
    assert [row.is_training for row in rows] == [True, False, False]
    asked = model(Euler(1.0))
    (row,) = validity.sweep(asked, STACK, [asked.layers[1].solver], metric="mse")
    assert (row.step_size, row.num_steps, row.is_training) == (1 / 4, 4, True)
    # With weights it is no series, which would be judged each time.
    weighted = *STACK, np.ones(3)
    assert judged(asked, weighted, solvers=[RK4(1.0)]).rows == judged(asked, weighted).rows


def test_the_reference_is_known_by_steps_that_differ():
    """Saved at more times than it has steps, RK4 would be cut to the same steps at half of them."""
    asked = model(BogackiShampine32(1e-3, 1e-3))
    # With weights it is no series, whose steps would be searched too.
    report = judged(asked, (*STACK, np.ones(3)), reference_steps=2)
    assert [(row.solver, row.num_steps) for row in report.rows[-2:]] == [("RK4", 4), ("RK4", 8)]
    known = rms(rk4, TIMES[1:5]) - rms(lambda t: rk4(t, h=1 / 4), TIMES[1:5])
    assert report.reference_error > abs(known) / 2 > 0


def test_the_order_is_that_of_the_steps_that_are_taken():
    options = {"data": STACK, "reference_steps": 64, "verbose": 0}
    result = validity.convergence_test(model(Euler(3 / 8)), **options)
    assert [row.factor for row in result.rows] == [1, 0.5, 0.25, 0.125]
    assert result.training_step_size == 1 / 4
    assert result.order == validity.convergence_test(model(Euler(1 / 4)), **options).order
    assert round(result.order, 1) == 1.1


def test_a_certificate_compares_steps_that_differ():
    def lead(solver):
        block = tfnode.ODEBlock(keras.layers.Rescaling(-1.0), solver, save_at=TIMES[1:5])
        return keras.Sequential([keras.Input((2,)), block, keras.layers.GlobalMaxPooling1D()])

    data = np.array([[1.0, 0.0], [0.2, 0.9]]), np.array([0, 1])
    cut = validity.certify(lead(RK4(1 / 2)), data, verbose=0)
    assert cut.errors == validity.certify(lead(RK4(1 / 4)), data, verbose=0).errors
    assert min(cut.errors) > 0


def test_the_python_of_the_page_runs(capsys):
    (code,) = fences.of("docs/is-it-an-ode.md", "python", -1)
    exec(code, {})
    assert capsys.readouterr().out == "False True True False\n"
