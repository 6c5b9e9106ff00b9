"""Times and steps at the edges: far from 0, in any unit, too many, too short, or without a number.

Nothing is told from rounded times, nothing depends on the unit of time, and what a dtype does not
hold is an error.
"""

import itertools

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

import tfnode
from tfnode import adaption, solvers, validity
from tfnode.integrate.grids import fixed_grid
from tfnode.solvers import RK4, BogackiShampine32, DormandPrince, Euler, Fehlberg21

TOLERANCES = (1e-4, 1e-4)
ADAPTIVE = {
    "tfp": DormandPrince(*TOLERANCES),
    "dp54_per_sample": DormandPrince(*TOLERANCES, per_sample=True),
    "bs32": BogackiShampine32(*TOLERANCES),
    "f21_per_sample": Fehlberg21(*TOLERANCES, per_sample=True),
}
SOLVERS = {"rk4": RK4(1 / 16), **ADAPTIVE}
every_solver = pytest.mark.parametrize("name", SOLVERS)
every_adaptive = pytest.mark.parametrize("solver", ADAPTIVE.values(), ids=ADAPTIVE)


class Cosine(keras.layers.Layer):
    """`dz/dt = z cos(t - origin)`, in the dtype of the time."""

    def __init__(self, origin, **kwargs):
        super().__init__(**kwargs)
        self.origin = origin

    def call(self, t, z):
        return z * ops.cos(t - self.origin)


def decay(solver, length=1.0, t0=0.0, dtype="float32", **options):
    """`dz/dt = -z / length`, from `t0` on for that length."""
    field = keras.layers.Rescaling(-float(np.dtype(dtype).type(1 / length)), dtype=dtype)
    return tfnode.ODEBlock(field, solver, t0, t0 + length, dtype=dtype, **options)


def ones(dtype="float32"):
    return tf.ones((2, 1), dtype)


# === Far from 0 ===
@every_solver
def test_a_field_that_is_not_told_the_time_loses_nothing_far_from_0(name):
    def states(t0):
        saved = decay(SOLVERS[name], t0=t0, save_at=[t0 + t for t in (0.0, 0.25, 0.75, 1.0)])
        block = decay(SOLVERS[name], t0=t0)
        yield saved(ones())
        # By an end of the call's own, and backwards.
        for t1 in (0.75, -0.5):
            yield block(ones(), t1=t0 + t1)
        if not getattr(SOLVERS[name], "per_sample", False):
            yield block.trajectory(ones())[1]

    near = list(states(0.0))
    for t0 in (1e5, 1e8, -1e8):
        for ours, theirs in zip(states(t0), near, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_times_of_a_call_are_not_rounded_before_a_start_is_taken_off():
    """A start that single precision has not, and times in double precision."""
    block = decay(RK4(1 / 16), t0=2.0**24 + 1)
    z1 = block(ones(), t1=tf.constant(2.0**24 + 2, "float32"))
    np.testing.assert_array_equal(z1, decay(RK4(1 / 16))(ones()))
    times = tf.constant([1e4 + 1 / 3, 1e4 + 5 / 6, 1e4 + 4 / 3], "float64")
    late = tfnode.odeint(lambda t, z: -z, ones(), times, RK4(1 / 16))
    near = tfnode.odeint(lambda t, z: -z, ones(), times - times[0], RK4(1 / 16))
    np.testing.assert_array_equal(late, near)


@every_solver
@pytest.mark.parametrize(("dtype", "t0"), [("float32", 100.0), ("float64", 1e8)])
def test_a_field_of_time_is_as_right_as_its_dtype_allows(name, dtype, t0):
    solver, options = SOLVERS[name], {"time_dependent": True, "dtype": dtype}
    block = tfnode.ODEBlock(Cosine(t0, dtype=dtype), solver, t0, t0 + 2, **options)
    near = tfnode.ODEBlock(Cosine(0.0, dtype=dtype), solver, 0.0, 2.0, **options)
    rounding = float(np.spacing(np.dtype(dtype).type(t0)))
    # A time that is off by its rounding moves the derivative by no more than that.
    exact = np.full((2, 1), np.exp(np.sin(2.0)))
    own_error = np.abs(near(ones(dtype)) - exact).max()
    np.testing.assert_allclose(block(ones(dtype)), exact, atol=2 * own_error + 8 * rounding)


@every_solver
def test_a_step_that_does_not_move_the_time_of_a_field_is_refused(name):
    given = {"t0": 1e8, "t1": 1e8 + 1, "time_dependent": True}
    with pytest.raises(ValueError, match=r"Received: a step of .* with dtype float32, where the"):
        tfnode.ODEBlock(Cosine(0.0), SOLVERS[name], **given)
    with pytest.raises(ValueError, match="Received: a step of"):
        tfnode.odeint(lambda t, z: -z, ones(), [1e8, 1e8 + 1], SOLVERS[name])


def test_a_weight_takes_no_step_that_does_not_move_the_time():
    block = tfnode.ODEBlock(Cosine(0.0), RK4(1.0), 1e5, 1e5 + 10, time_dependent=True)
    with pytest.raises(ValueError, match=r"Received: a step of 0\.01"):
        block.step_size = 0.01
    block.build((None, 1))
    # Ten spacings are 0.119; the loop ends with 83 steps, and not with 512 that are lost.
    block._step_size.assign(1e-6)
    assert block.num_steps == 83
    decay(RK4(1 / 4), t0=1e5).step_size = 1 / 512


# === In any unit of time ===
@every_adaptive
@pytest.mark.parametrize("length", [2.0**-20, 2.0**-100, 2.0**100])
def test_the_unit_of_time_makes_no_difference(solver, length):
    """To the last bit: a power of two rounds nothing."""
    solver, dtype = solver, "float64"
    unit, other = decay(solver, 1.0, dtype=dtype), decay(solver, length, dtype=dtype)
    np.testing.assert_array_equal(other(ones(dtype)), unit(ones(dtype)))
    assert other.statistics == unit.statistics


@pytest.mark.parametrize("rate", [1.0, 1e3, 3e3, 1e4])
@pytest.mark.parametrize("name", ["bs32", "tfp", "dp54_per_sample"])
def test_no_first_step_is_accepted_unseen(name, rate):
    """Where the step is 1 over the rate, Bogacki and Shampine's estimate is 0 and the error 3 %."""
    solver = SOLVERS[name].with_tolerance(1e-5)
    field = keras.layers.Rescaling(-rate, dtype="float64")
    block = tfnode.ODEBlock(field, solver, t1=1 / rate, dtype="float64")
    np.testing.assert_allclose(block(ones("float64")), np.full((2, 1), np.exp(-1)), atol=3e-5)
    assert block.statistics.accepted > 2


@pytest.mark.parametrize("length", [1e-6, 1.0, 1e6])
def test_a_state_at_rest_starts_in_any_unit_of_time(length):
    block = decay(BogackiShampine32(1e-5, 1e-5), length, dtype="float64")
    np.testing.assert_array_equal(block(0 * ones("float64")), np.zeros((2, 1)))
    # From a millionth of the way on, every step is ten times the one before.
    assert (block.statistics.accepted, block.statistics.rejected) == (7, 0)


# === Intervals ===
@every_solver
@pytest.mark.parametrize(
    ("t0", "t1", "dtype"),
    [
        (0.0, 1e-39, "float32"),
        (0.0, 1e-45, "float32"),
        (0.0, 1e-60, "float32"),
        (0.0, 3.5e38, "float32"),
        (-2e38, 2e38, "float32"),
        (1e39, 2e39, "float32"),
        (0.0, 1e-310, "float64"),
        (-1.7e308, 1.7e308, "float64"),
    ],
)
def test_an_interval_that_is_no_number_is_refused(name, t0, t1, dtype):
    field = keras.layers.Rescaling(-1.0, dtype=dtype)
    solver = RK4(1e-40) if name == "rk4" else SOLVERS[name]
    with pytest.raises(ValueError, match=r"The length of an interval must be .* Received: t0="):
        tfnode.ODEBlock(field, solver, t0, t1, dtype=dtype)
    with pytest.raises(ValueError, match=r"The length of an interval must be .* Received: t0="):
        tfnode.odeint(lambda t, z: -z, ones(dtype), [t0, t1], solver)


@every_solver
@pytest.mark.parametrize("length", [1e-31, 4e31])
def test_at_the_edges_of_what_is_accepted_the_answer_is_right(name, length):
    solver = RK4(length / 16) if name == "rk4" else SOLVERS[name]
    unit = np.asarray(decay(SOLVERS[name])(ones()))
    np.testing.assert_allclose(decay(solver, length)(ones()), unit, rtol=1e-4)


# === Too many steps ===
TOO_FINE = 0.99 / solvers.MAX_NUM_STEPS
TOO_MANY = f"at most {solvers.MAX_NUM_STEPS} steps"


@pytest.mark.parametrize("step_size", [TOO_FINE, 1 / 2**31, 1e-12, 1e-300])
def test_more_steps_than_there_may_be_are_refused(step_size):
    block = decay(Euler(1 / 4))
    model = keras.Sequential([keras.Input((1,)), block])
    for run in (
        lambda: decay(Euler(step_size)),
        lambda: tfnode.with_solver(block, RK4(step_size)),
        lambda: tfnode.with_solver(model, RK4(step_size)),
        lambda: tfnode.odeint(lambda t, z: -z, ones(), [0.0, 1.0], Euler(step_size)),
        lambda: validity.sweep(model, (ones(), ones()), factors=[step_size], task="regression"),
        lambda: validity.check(model, (ones(), ones()), solvers=[Euler(step_size)]),
        lambda: validity.convergence_test(model, (ones(), ones()), factors=[step_size]),
        lambda: adaption.StepRule(min_step_size=step_size),
        lambda: adaption.DampedRule(min_step_size=step_size),
        lambda: setattr(block, "step_size", step_size),
        lambda: setattr(block, "solver", Euler(step_size)),
    ):
        with pytest.raises(ValueError, match=TOO_MANY):
            run()
    assert float(block.step_size) == 1 / 4


def test_as_many_steps_as_there_may_be_are_taken():
    block = decay(Euler(1 / solvers.MAX_NUM_STEPS))
    assert block.num_steps == solvers.MAX_NUM_STEPS
    step_size = tf.constant(1e-6, "float64")
    grid = fixed_grid(0.0, (1.0,), step_size, solvers.MAX_NUM_STEPS)
    assert float(tf.reduce_sum(grid.steps)) == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize("t1", [100.0, float("nan")])
@pytest.mark.parametrize("as_given", [float, tf.constant], ids=["number", "tensor"])
def test_an_end_of_a_call_that_asks_for_too_many_steps_has_no_answer(t1, as_given):
    assert np.isnan(decay(Euler(1 / 8))(ones(), t1=as_given(t1))).all()


def test_a_file_with_too_fine_a_step_is_refused(tmp_path):
    path = tmp_path / "model.weights.h5"
    model = lambda: keras.Sequential([keras.Input((1,)), decay(Euler(1 / 4), name="ode")])
    saved = model()
    saved.get_layer("ode")._step_size.assign(1e-10)
    saved.save_weights(path)
    with pytest.raises(ValueError, match=TOO_MANY):
        model().load_weights(path)


# === What a table of steps would hold ===
@every_adaptive
def test_a_budget_beyond_all_memory_is_refused(solver):
    for budget in (10**12, solvers.MAX_NUM_STEPS + 1, True):
        with pytest.raises(ValueError, match=f"Received: max_num_steps={budget}"):
            type(solver)(max_num_steps=budget)


def test_a_table_for_too_many_samples_is_refused():
    solver = DormandPrince(max_num_steps=solvers.MAX_NUM_STEPS, per_sample=True)
    block = decay(solver)
    with pytest.raises(ValueError, match="Received: max_num_steps=1000000 for 1000 samples"):
        block(tf.ones((1000, 1)), training=True)
    # Where nothing is differentiated there is no table.
    assert block(tf.ones((1000, 1))).shape == (1000, 1)


# === Tolerances and states without a number ===
@every_adaptive
def test_a_weight_that_is_no_tolerance_is_an_error(solver):
    block = decay(solver)
    block.build((None, 1))
    graph = tf.function(lambda z, training: block(z, training=training))
    some = [("rtol",), ("atol",), ("rtol", "atol")]
    for names, bad in itertools.product(some, [0.0, -1e-3, float("nan"), float("inf")]):
        block.solver = solver
        for name in names:
            getattr(block, name).assign(bad)
        with pytest.raises(FloatingPointError, match=rf"positive and finite.*{names[0]}={bad:g}"):
            block(ones())
        for training in (False, True):
            with pytest.raises(tf.errors.InvalidArgumentError, match="positive and finite"):
                graph(ones(), training)


def test_a_file_that_holds_no_tolerance_is_refused(tmp_path):
    path = tmp_path / "model.weights.h5"
    model = lambda: keras.Sequential([keras.Input((1,)), decay(ADAPTIVE["bs32"], name="ode")])
    model().save_weights(path)
    for bad in (0.0, -1.0, float("nan"), float("inf")):
        with h5py.File(path, "r+") as file:
            file["layers/ode_block/vars/1"][...] = bad
        with pytest.raises(ValueError, match="Received: atol="):
            model().load_weights(path)


@every_adaptive
@pytest.mark.parametrize("shape", [(), (3, 0), (3, 0, 2)])
def test_a_state_without_numbers_is_refused(solver, shape):
    block = decay(solver)
    with pytest.raises(ValueError, match=r"at least one number each\. Received: states of"):
        block(tf.ones(shape))
    with pytest.raises(ValueError, match=r"at least one number each\. Received: states of"):
        tfnode.odeint(lambda t, z: -z, tf.ones(shape), [0.0, 1.0], solver)


@every_adaptive
def test_a_state_of_one_number_for_each_sample_has_an_answer(solver):
    z1 = decay(solver)(tf.constant([1.0, 2.0]))
    np.testing.assert_allclose(z1, np.exp(-1) * np.array([1.0, 2.0]), rtol=200 * solver.rtol)


@every_solver
@pytest.mark.parametrize("t0", [0.0, 3.0])
@pytest.mark.parametrize("time_dependent", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_an_end_of_a_call_may_be_its_start(name, t0, time_dependent, training):
    field = Cosine(0.0) if time_dependent else keras.layers.Rescaling(-1.0)
    given = {"time_dependent": time_dependent}
    blocks = [tfnode.ODEBlock(field, SOLVERS[name], t0, t0 + 1, **given)]
    if name == "tfp":
        blocks.append(
            tfnode.ODEBlock(field, SOLVERS[name], t0, t0 + 1, gradient="adjoint", **given)
        )
    for block in blocks:
        z = tf.constant([[1.0], [2.0]])
        for times in ({"t1": t0}, {"t1": tf.constant(t0)}, {"save_at": [t0]}):
            with tf.GradientTape() as tape:
                tape.watch(z)
                end = block(z, training=training, **times)
            np.testing.assert_array_equal(tf.reshape(end, z.shape), z)
            if training:
                np.testing.assert_array_equal(tape.gradient(end, z), np.ones((2, 1)))
            if block.methods[0] in ADAPTIVE.values():
                assert block.statistics.rejected == 0


@every_adaptive
def test_conditions_may_be_for_all_samples(solver):
    class Paced(keras.layers.Layer):
        def build(self, *shapes):
            self.rate = self.add_weight(name="rate", shape=(), initializer="ones")

        def call(self, z, pace):
            return -self.rate * pace * z

    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.block = tfnode.ODEBlock(Paced(), solver)

        def call(self, x, training=None):
            return self.block(x, tf.constant(2.0), training=training)

    model, x = Model(), np.ones((3, 1), "float32")
    model.compile(keras.optimizers.SGD(0.0), "mse")
    loss = model.fit(x, np.zeros_like(x), verbose=0).history["loss"][0]
    expected = model.block(x, tf.fill((3, 1), 2.0), training=True)
    assert loss == pytest.approx(float(tf.reduce_mean(expected**2)), rel=1e-5)
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, rtol=1e-5)


def test_other_times_to_save_at():
    block = tfnode.ODEBlock(keras.layers.Rescaling(-1.0), tfnode.solvers.RK4(1 / 8), save_at=[1.0])
    z = np.ones((2, 1), "float32")
    assert block(z).shape == (2, 1, 1)
    # They may lie behind the end of the block.
    other = block.with_solver(tfnode.solvers.RK4(1 / 16), save_at=[0.5, 2.0])
    np.testing.assert_allclose(other(z)[0, :, 0], np.exp([-0.5, -2.0]), rtol=1e-5)
    assert (other.t1, other.field is block.field, block.save_at) == (2.0, True, (1.0,))
    assert block.with_solver("rk4", save_at=[0.5]).t1 == 1.0
