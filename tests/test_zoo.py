"""The zoo's models and recipes against supplement A of the paper."""

import dataclasses
import itertools
import math

import keras
import numpy as np
import pytest

import tfnode
import zoo
from zoo.recipes import Recipe


@dataclasses.dataclass(frozen=True)
class Facts:
    """What supplement A says of a model."""

    input_name: str
    input_shape: tuple
    # Kernels of the field's three layers, then of the classifier.
    kernels: tuple
    parameters: int
    recipe: Recipe


def _spheres(dim, parameters):
    return Facts(
        "point",
        (dim,),
        ((1, 1, 32), (3, 32, 32), (1, 32, 1), (dim, 2)),
        parameters,
        Recipe(f"concentric_spheres/{dim}d", "adam", 1e-4, 128, 10_000),
    )


MODELS = {
    "concentric_spheres_2d": _spheres(2, 3_207),
    "concentric_spheres_3d": _spheres(3, 3_209),
    "concentric_spheres_10d": _spheres(10, 3_223),
    "concentric_spheres_900d": _spheres(900, 5_003),
    "energy_landscape": Facts(
        "state",
        (2,),
        ((2, 48), (48, 48), (48, 2), (2, 3)),
        2_603,
        Recipe("energy_landscape/three_minima", "adam", 5e-4, 128, 30_000),
    ),
    "mnist": Facts(
        "image",
        (28, 28, 1),
        ((1, 1, 1, 96), (3, 3, 96, 96), (1, 1, 96, 1), (784, 10)),
        91_179,
        Recipe("mnist", "sgd", 1e-2, 256, 7_020),
    ),
    "cifar10": Facts(
        "image",
        (32, 32, 3),
        ((1, 1, 3, 128), (3, 3, 128, 128), (1, 1, 128, 3), (3072, 10)),
        179_213,
        Recipe("cifar10", "adam", 1e-3, 256, 7_800),
    ),
}
all_models = pytest.mark.parametrize("name", MODELS)


def _inputs(name, batch_size=4):
    shape = (batch_size, *MODELS[name].input_shape)
    return np.random.default_rng(0).uniform(size=shape).astype("float32")


def test_list_models():
    assert zoo.list_models() == [*MODELS, "cifar10_conv"]


def test_beyond_the_paper():
    """CIFAR-10 behind a strided stem, with the time as a channel of the field."""
    model = zoo.get_model("cifar10_conv", solver="rk4", step_size=1 / 2, seed=0)
    x = np.random.default_rng(0).random((2, 32, 32, 3), "float32")
    assert (model.input_shape, model.output_shape) == ((None, 32, 32, 3), (None, 10))
    block = model.get_layer("ode_block")
    assert block.output.shape == (None, 16, 16, 128)
    kernels = [tuple(w.shape) for w in block.trainable_weights if len(w.shape) == 4]
    assert kernels == [(3, 3, 129, 128), (3, 3, 128, 128)]
    assert sum(math.prod(w.shape) for w in model.trainable_weights) == 374_154
    # The same model from the same seed; in half precision the state and the logits keep theirs.
    half = zoo.get_model("cifar10_conv", solver="rk4", step_size=1 / 2, dtype="mixed_bfloat16")
    half.set_weights(model.get_weights())
    assert half.get_layer("ode_block").variable_dtype == half.output.dtype == "float32"
    outputs = np.array(model(x))
    np.testing.assert_allclose(half(x), outputs, atol=0.02 * abs(outputs).max())
    again = zoo.get_model("cifar10_conv", solver="rk4", step_size=1 / 2, seed=0)
    np.testing.assert_array_equal(again(x), outputs)


def test_a_schedule_with_weight_decay():
    recipe = Recipe("cifar10", "adamw", 1e-2, 256, 100, schedule="cosine", weight_decay=0.1)
    optimizer = recipe.build_optimizer()
    assert isinstance(optimizer, keras.optimizers.AdamW)
    assert (optimizer.epsilon, optimizer.weight_decay) == (1e-8, 0.1)
    schedule = optimizer.get_config()["learning_rate"]
    schedule = keras.optimizers.schedules.deserialize(schedule)
    rates = [float(schedule(step)) for step in (0, 5, 52.5, 100)]
    # Five iterations to the top; half the way down there is half of it; nothing at the end.
    np.testing.assert_allclose(rates, [0, 1e-2, 5e-3, 0], atol=1e-8)


@pytest.mark.parametrize(
    "change, error",
    [
        ({"schedule": "step"}, "`schedule` must be one of"),
        ({"weight_decay": -0.1}, "`weight_decay` must be"),
        ({"augment": "flip"}, "`augment` must be"),
    ],
)
def test_a_recipe_refuses(change, error):
    with pytest.raises(ValueError, match=error):
        dataclasses.replace(zoo.get_recipe("cifar10_conv"), **change)


@all_models
def test_architecture(name):
    facts, model = MODELS[name], zoo.get_model(name)
    classes = facts.kernels[-1][-1]
    assert model.name == name
    assert [tensor.name for tensor in model.inputs] == [facts.input_name]
    assert model.input_shape == (None, *facts.input_shape)
    assert model.output_shape == (None, classes)

    shapes = [shape for kernel in facts.kernels for shape in (kernel, kernel[-1:])]
    assert [tuple(w.shape) for w in model.trainable_weights] == shapes
    layers = [
        *(f"field/{layer}" for layer in ("field_in", "field_hidden", "field_out")),
        "logits",
    ]
    names = [f"{layer}/{w}" for layer in layers for w in ("kernel", "bias")]
    assert [w.path.removeprefix("ode_block/") for w in model.trainable_weights] == names
    assert sum(math.prod(shape) for shape in shapes) == facts.parameters
    # The step size, the method, and what a rule of adaption remembers.
    of_the_block = {"step_size": (), "method": (), "adaption_memory": (8,)}
    found = {w.path: tuple(w.shape) for w in model.non_trainable_weights}
    assert found == {f"ode_block/{name}": shape for name, shape in of_the_block.items()}
    assert model.count_params() == facts.parameters + 10


@all_models
def test_outputs_are_logits(name):
    model = zoo.get_model(name)
    assert model.get_layer("logits").activation is keras.activations.linear
    field = model.get_layer("ode_block").field
    activations = [layer.activation for layer in field.layers]
    assert activations == [keras.activations.relu, keras.activations.relu, keras.activations.linear]
    block = model.get_layer("ode_block")
    assert (block.t0, block.t1, block.gradient, block.unroll) == (0, 1, "discrete_adjoint", False)


def test_the_field_pads_and_convolves_along_the_coordinates():
    model = zoo.get_model("concentric_spheres_10d", step_size=1.0)
    block = model.get_layer("ode_block")
    z = np.random.default_rng(0).normal(size=(2, 10, 1)).astype("float32")
    # One step of Euler by hand: a kernel of 3, zeros beyond both ends.
    (w1, b1), (w2, b2), (w3, b3) = (layer.get_weights() for layer in block.field.layers)
    hidden = np.maximum(z @ w1[0] + b1, 0)
    padded = np.pad(hidden, [(0, 0), (1, 1), (0, 0)])
    hidden = np.maximum(sum(padded[:, k : k + 10] @ w2[k] for k in range(3)) + b2, 0)
    z1 = z + hidden @ w3[0] + b3
    kernel, bias = model.get_layer("logits").get_weights()
    expected = z1.reshape(2, 10) @ kernel + bias
    np.testing.assert_allclose(model(z[..., 0]), expected, rtol=1e-4, atol=1e-5)


@all_models
def test_initialisation_is_he_normal_and_not_truncated(name):
    weights = [np.array(w) for w in zoo.get_model(name).trainable_weights]
    kernels = [w for w in weights if w.ndim > 1]
    biases = [w for w in weights if w.ndim == 1]
    assert [np.count_nonzero(b) for b in biases] == [0, 0, 0, 0]
    for kernel in kernels:
        fan_in = math.prod(kernel.shape[:-1])
        scaled = kernel.ravel() / math.sqrt(2 / fan_in)
        # Four standard errors of a mean, of a standard deviation and of a share.
        assert abs(scaled.mean()) < 4 / math.sqrt(scaled.size)
        assert abs(scaled.std() - 1) < 4 / math.sqrt(2 * scaled.size)
        if scaled.size > 1000:
            # 4.55 % of a normal sample lie beyond two standard deviations, of a truncated none.
            tolerance = 4 * math.sqrt(0.0455 * 0.9545 / scaled.size)
            assert abs(np.mean(np.abs(scaled) > 2) - 0.0455) < tolerance
            assert np.abs(scaled).max() > 3


@pytest.mark.parametrize("name", ["concentric_spheres_2d", "energy_landscape"])
def test_weights_follow_the_seed(name):
    def weights(seed):
        keras.utils.set_random_seed(seed)
        return zoo.get_model(name).get_weights()

    first, again, other = weights(1), weights(1), weights(2)
    for a, b, c in zip(first, again, other):
        np.testing.assert_array_equal(a, b)
        if a.ndim > 1:
            assert not np.any(a == c)


def test_kernels_are_drawn_independently():
    # An initializer instance that is shared returns the same numbers again.
    weights = zoo.get_model("energy_landscape").get_weights()
    kernels = [w.ravel()[:6] / w.ravel()[0] for w in weights if w.ndim > 1]
    for a, b in itertools.combinations(kernels, 2):
        assert not np.any(np.isclose(a[1:], b[1:]))


@all_models
def test_recipes_are_those_of_the_paper(name):
    recipe = zoo.get_recipe(name)
    assert recipe == MODELS[name].recipe
    assert recipe.dataset in tfnode.datasets.list_datasets()
    loss = recipe.build_loss()
    assert isinstance(loss, keras.losses.SparseCategoricalCrossentropy)
    assert loss.get_config()["from_logits"] is True
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.batch_size = 1


@all_models
def test_optimizers(name):
    recipe = zoo.get_recipe(name)
    optimizer = recipe.build_optimizer()
    classes = {"adam": keras.optimizers.Adam, "sgd": keras.optimizers.SGD}
    assert type(optimizer) is classes[recipe.optimizer]
    config = optimizer.get_config()
    assert config["learning_rate"] == pytest.approx(recipe.learning_rate, rel=1e-7)
    assert (config["weight_decay"], config["clipnorm"], config["use_ema"]) == (None, None, False)
    if recipe.optimizer == "adam":
        moments = (config["beta_1"], config["beta_2"], config["epsilon"], config["amsgrad"])
        assert moments == (0.9, 0.999, 1e-8, False)
    else:
        assert (config["momentum"], config["nesterov"]) == (0.0, False)
    assert recipe.build_optimizer() is not optimizer


@pytest.mark.parametrize(
    "arguments, expected",
    [
        ({}, tfnode.solvers.Euler()),
        ({"solver": "rk4"}, tfnode.solvers.RK4()),
        ({"solver": "midpoint", "step_size": 1 / 8}, tfnode.solvers.Midpoint(1 / 8)),
        ({"step_size": 0.5}, tfnode.solvers.Euler(0.5)),
        ({"solver": tfnode.solvers.RK38(1 / 4)}, tfnode.solvers.RK38(1 / 4)),
        ({"solver": tfnode.solvers.RK38(1 / 4), "step_size": 0.5}, tfnode.solvers.RK38(0.5)),
        (
            {"solver": {"class_name": "Heun", "config": {"step_size": 0.25}}},
            tfnode.solvers.Heun(0.25),
        ),
    ],
)
def test_solver_and_step_size(arguments, expected):
    block = zoo.get_model("energy_landscape", **arguments).get_layer("ode_block")
    assert block.solver == expected
    assert float(block.step_size) == expected.step_size


@all_models
def test_weights_survive_a_file(name, tmp_path):
    path = tmp_path / "model.weights.h5"
    model = zoo.get_model(name, step_size=1 / 4)
    model.save_weights(path)
    for weights in (path, str(path)):
        loaded = zoo.get_model(name, weights=weights)
        for a, b in zip(model.get_weights(), loaded.get_weights()):
            np.testing.assert_array_equal(a, b)
        # The file holds the step size that the model was trained with.
        assert float(loaded.get_layer("ode_block").step_size) == 1 / 4
        assert loaded.get_layer("ode_block").num_steps == 4
    x = _inputs(name, 2)
    np.testing.assert_array_equal(model(x), loaded(x))


def test_an_explicit_step_size_goes_before_that_of_the_file(tmp_path):
    path = tmp_path / "model.weights.h5"
    zoo.get_model("energy_landscape", solver="rk4", step_size=1 / 4).save_weights(path)
    model = zoo.get_model("energy_landscape", weights=path, solver="rk4", step_size=1 / 8)
    assert model.get_layer("ode_block").solver == tfnode.solvers.RK4(1 / 8)


def test_a_file_of_another_method_is_refused_by_name(tmp_path):
    path = tmp_path / "model.weights.h5"
    zoo.get_model("energy_landscape", solver="euler").save_weights(path)
    with pytest.raises(ValueError, match="values of 'euler' for 'ode_block', which has rk4"):
        zoo.get_model("energy_landscape", weights=path, solver="rk4")


@pytest.mark.parametrize("function", [zoo.get_model, zoo.get_recipe])
@pytest.mark.parametrize("name", ["resnet50", "", "MNIST"])
def test_an_unknown_name_is_refused_with_the_list(function, name):
    with pytest.raises(ValueError, match="Received: name=") as error:
        function(name)
    assert all(known in str(error.value) for known in MODELS)


@pytest.mark.parametrize(
    "arguments", [{"solver": "leapfrog"}, {"step_size": 0.0}, {"step_size": 2.0}]
)
def test_a_solver_that_is_not_valid_is_refused(arguments):
    with pytest.raises(ValueError, match="Received: "):
        zoo.get_model("energy_landscape", **arguments)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"weights='.*missing\.weights\.h5'"):
        zoo.get_model("energy_landscape", weights=tmp_path / "missing.weights.h5")


@pytest.mark.parametrize("name", ["concentric_spheres_2d", "energy_landscape"])
def test_a_training_step_moves_every_kernel(name):
    recipe, model = zoo.get_recipe(name), zoo.get_model(name, step_size=1 / 4)
    model.compile(recipe.build_optimizer(), recipe.build_loss(), metrics=["accuracy"])
    x, y = _inputs(name, 16), np.arange(16) % MODELS[name].kernels[-1][-1]
    before = [w.numpy() for w in model.trainable_weights]
    logits = np.array(model(x))
    logs = model.train_on_batch(x, y, return_dict=True)
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    assert logs["loss"] == pytest.approx(-log_p[np.arange(16), y].mean(), rel=1e-5)
    for w, old in zip(model.trainable_weights, before):
        # The first step of Adam is at most the learning rate, and close to it where it moves.
        step = np.max(np.abs(w.numpy() - old))
        assert step == pytest.approx(recipe.learning_rate, rel=1e-2)
