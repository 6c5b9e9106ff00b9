"""Half precision for the field alone: as a choice of the zoo and of the commands."""

import random
import warnings

import keras
import numpy as np
import pytest
from linear_models import X

import tfnode
import zoo
from scripts import machine, reproduce_table1
from scripts.paper import reproducing
from scripts.publishing import training
from tfnode import solvers, validity

MIXED = "mixed_bfloat16"
# Numbers of bfloat16 have 8 binary digits: the spacing at 1.
ROUNDING = 2.0**-7


@pytest.fixture(scope="module")
def landscape():
    x, y = tfnode.datasets.load("energy_landscape/three_minima", "test", as_numpy=True)
    return x[:500], y[:500]


@pytest.mark.parametrize("name", ["energy_landscape", "concentric_spheres_2d", "mnist", "cifar10"])
def test_only_the_field_computes_in_half_precision(name):
    model = zoo.get_model(name, dtype=MIXED)
    assert {weight.dtype for weight in model.trainable_weights} == {"float32"}
    block = model.get_layer("ode_block")
    assert (block.variable_dtype, block.compute_dtype) == ("float32", "bfloat16")
    assert {layer.compute_dtype for layer in block.field.layers} == {"bfloat16"}
    others = [layer for layer in model.layers if layer not in (block, block.field)]
    assert {layer.compute_dtype for layer in others} == {"float32"}
    assert model.output.dtype == "float32"
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.parametrize("weights", ["rk4_damped", "euler_adapted", "euler_coarse"])
def test_outputs_and_verdict_are_those_of_single_precision(landscape, weights):
    weights = f"energy_landscape_{weights}_v1"
    single, half = (
        zoo.get_model("energy_landscape", weights, dtype=dtype) for dtype in ("float32", MIXED)
    )
    ours, theirs = (model.predict(landscape[0], verbose=0) for model in (half, single))
    difference = np.linalg.norm(ours - theirs, axis=1) / np.linalg.norm(theirs, axis=1)
    # Each of the field's three layers rounds.
    assert 1e-5 < np.median(difference) < 3 * ROUNDING
    reports = [
        validity.check(model, landscape, reference_steps=64, verbose=0) for model in (half, single)
    ]
    assert reports[0].is_ode == reports[1].is_ode == (weights == "energy_landscape_rk4_damped_v1")
    assert abs(reports[0].gap - reports[1].gap) <= 0.02


def test_a_short_training_ends_within_the_spread_of_its_seeds():
    def losses(seeds, dtype):
        """Of one model, that it is compiled once, from the same start."""
        model = zoo.get_model(
            "energy_landscape", solver="rk4", step_size=1 / 4, dtype=dtype, seed=0
        )
        recipe = zoo.get_recipe("energy_landscape")
        model.compile(recipe.build_optimizer(), recipe.build_loss(), steps_per_execution=50)
        model.optimizer.build(model.trainable_variables)
        variables = [*model.variables, *model.optimizer.variables]
        start = [keras.ops.convert_to_numpy(v) for v in variables]
        found = []
        for seed in seeds:
            for variable, value in zip(variables, start):
                variable.assign(value)
            data = tfnode.datasets.load(recipe.dataset, "train", 128, seed=seed).repeat().take(500)
            history = model.fit(data, epochs=1, shuffle=False, verbose=0)
            found += history.history["loss"]
        return found

    single, (half,) = losses(range(3), "float32"), losses([0], MIXED)
    spread = max(single) - min(single)
    # None goes on where another has ended.
    assert 0 < spread < 0.1 * min(single)
    assert min(single) - spread < half < max(single) + spread


def test_a_seed_gives_the_weights_that_a_global_one_gives():
    keras.utils.set_random_seed(7)
    expected = zoo.get_model("concentric_spheres_2d").get_weights()
    random.seed(1)
    found = zoo.get_model("concentric_spheres_2d", seed=7).get_weights()
    state = random.getstate()
    other = zoo.get_model("concentric_spheres_2d", seed=8).get_weights()
    assert random.getstate() == state
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert any((a != b).any() for a, b in zip(found, other))


# === What asks for more than the dtype has ===
def linear(solver, dtype):
    """The field `-z`, which bfloat16 rounds."""
    inputs = keras.Input((1,))
    field = keras.layers.Rescaling(-1.0, dtype=dtype)
    z = tfnode.ODEBlock(field, solver, dtype=dtype, name="ode")(inputs)
    return keras.Model(inputs, keras.layers.Activation("linear", dtype="float32")(z))


@pytest.mark.parametrize("tolerance, warns", [(1e-3, True), (1e-2, False)])
def test_a_tolerance_below_the_rounding_of_the_field_is_warned_of(tolerance, warns):
    solver = solvers.BogackiShampine32(tolerance / 2, tolerance / 2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        linear(solver, MIXED)
        linear(solver, "float32")
    messages = [str(w.message) for w in caught if "rounding" in str(w.message)]
    assert len(messages) == warns
    if warns:
        assert "Received: rtol=0.0005, atol=0.0005 for 'ode'" in messages[0]


@pytest.mark.parametrize("threshold, dtype", [(1e-3, MIXED), (0.02, MIXED), (1e-3, "float32")])
def test_a_threshold_below_the_rounding_of_the_field_is_warned_of(threshold, dtype):
    x = X.astype("float32")
    model = linear(solvers.RK4(1 / 4), dtype)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        report = validity.check(
            model, (x, x), threshold, task="regression", reference_steps=16, verbose=0
        )
    assert report.measure == "outputs"
    messages = [str(w.message) for w in caught if "rounding" in str(w.message)]
    assert len(messages) == (threshold == 1e-3 and dtype == MIXED)


class Time(keras.layers.Layer):
    def call(self, t, z):
        return t * keras.ops.ones_like(z)


@pytest.mark.parametrize(
    "dtype, t0, t1, is_refused",
    [
        *((MIXED, 0.0, 1.0, False), (MIXED, 1.0, 0.0, False), (MIXED, 3.0, 4.0, False)),
        *((MIXED, 9.0, 10.0, True), (MIXED, -10.0, -9.0, True), (MIXED, 100.0, 200.0, False)),
        *(("mixed_float16", 9.0, 10.0, False), ("mixed_float16", 100.0, 101.0, True)),
        *(("float32", 100.0, 101.0, False), ("bfloat16", 100.0, 101.0, True)),
    ],
)
def test_a_field_must_be_able_to_tell_its_times_apart(dtype, t0, t1, is_refused):
    z, of_block = np.zeros((2, 1), "float32"), dtype if dtype == "mixed_float16" else MIXED

    def block(**arguments):
        return tfnode.ODEBlock(
            Time(dtype=dtype), solvers.RK4(0.25), t0, t1, dtype=of_block, **arguments
        )

    # Without times there is nothing to tell.
    block()
    if is_refused:
        with pytest.raises(ValueError, match=r"tell 32 of its interval apart\. Received: t0="):
            block(time_dependent=True)
        with pytest.raises(ValueError, match="whose times are"):
            tfnode.odeint(Time(dtype=dtype), z, [t0, t1], solvers.RK4(0.25))
        return
    found = np.asarray(keras.ops.convert_to_numpy(block(time_dependent=True)(z)), "float32")
    # Rounding of the times, 1/32 at the most of the interval, and of the answer.
    expected = (t1**2 - t0**2) / 2
    np.testing.assert_allclose(found, expected, atol=abs(t1 - t0) ** 2 / 32 + abs(expected) / 128)


def test_a_functional_field_may_see_times_as_they_are():
    t, z = keras.Input((1,)), keras.Input((1,))
    field = keras.Model([t, z], (t - 9.0) * keras.ops.ones_like(z))
    field.dtype_policy = MIXED
    assert field.compute_dtype == "bfloat16"
    block = tfnode.ODEBlock(field, solvers.RK4(0.25), 9.0, 10.0, time_dependent=True)
    found = keras.ops.convert_to_numpy(block(np.zeros((2, 1), "float32")))
    np.testing.assert_allclose(found, 0.5, rtol=1e-6)


def test_errors_that_are_rounding_have_no_order():
    x = X.astype("float32")
    results = {
        dtype: validity.convergence_test(
            linear(solvers.RK4(1 / 4), dtype), (x, x), task="regression", verbose=0
        )
        for dtype in ("float32", MIXED)
    }
    assert results[MIXED].order is None
    assert results["float32"].order is None or results["float32"].order > 3


# === The commands ===
@pytest.fixture
def amx(monkeypatch):
    return lambda there: monkeypatch.setattr(machine, "has_amx", lambda: there)


def test_a_processor_with_amx_trains_images_in_half_precision(amx, tmp_path):
    def dtypes(*arguments):
        args = reproduce_table1.parse(["--paper", "--runs", str(tmp_path), *arguments])
        return [
            reproducing.run_of(args, name, 4, 0).dtype for name in ("energy_landscape", "mnist")
        ]

    amx(True)
    assert dtypes() == ["float32", MIXED]
    assert dtypes("--dtype", "float32") == ["float32", "float32"]
    amx(False)
    assert dtypes() == ["float32", "float32"]
    assert dtypes("--dtype", MIXED) == [MIXED, MIXED]
    # A result that is there, from another machine, is not trained again.
    done = tmp_path / "mnist" / f"euler_k004_7020_rk4064_{MIXED}_seed0.json"
    done.parent.mkdir()
    done.write_text("{}")
    assert dtypes() == ["float32", MIXED]


def test_a_published_weight_is_repeated_in_its_own_dtype(amx):
    amx(True)
    assert training.dtype_of("mnist_rk4_damped_small_v1", "mnist") == "float32"
    assert training.dtype_of("mnist_rk4_damped_v9", "mnist") == MIXED


def test_what_a_machine_says_of_itself(monkeypatch, tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("model name\t: Some CPU\nflags\t\t: fpu avx2 avx512f amx_bf16 amx_tile\n")
    monkeypatch.setattr(machine.pathlib, "Path", lambda path: cpuinfo)
    assert machine.processor() == "Some CPU"
    assert machine.flags() == ["avx2", "avx512f", "amx_bf16"]
    assert machine.has_amx()
    cpuinfo.unlink()
    assert machine.processor()
    assert machine.flags() == []
