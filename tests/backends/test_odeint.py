"""States at given times, and the gradients by all that they depend on."""

import importlib.util

import keras
import numpy as np
import pytest
from autodiff import BACKEND, compiled, eager, grad, has_value, tensors
from keras import ops
from models import SmoothField, randomised
from systems import SYSTEMS, precise

import tfnode
from tfnode import solvers

pytestmark = pytest.mark.usefixtures("double")

TIGHT = solvers.DormandPrince(1e-9, 1e-9, per_sample=True)


def numbers(tensor):
    return ops.convert_to_numpy(tensor)


# === Against SciPy and torchdiffeq ===
@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize("solver", [TIGHT, solvers.RK4(1 / 100)], ids=["adaptive", "fixed"])
def test_thirty_uneven_times(name, solver):
    system = SYSTEMS[name]
    times = system.times()
    found = compiled(lambda z0: tfnode.odeint(system.field, z0, times, solver))(system.z0)
    expected = system.solution(times)
    atol = 1e-6 if solver is TIGHT else 1e-5
    np.testing.assert_allclose(numbers(found), expected, rtol=0, atol=atol)
    np.testing.assert_array_equal(numbers(found)[0], system.z0)


def test_decreasing_times():
    system = SYSTEMS["pendulum"]
    times = system.times(6)
    ends = system.solution(times)
    found = compiled(lambda z: tfnode.odeint(system.field, z, times[::-1], TIGHT))(ends[-1])
    np.testing.assert_allclose(numbers(found), ends[::-1], rtol=0, atol=1e-6)


@pytest.mark.skipif(
    BACKEND != "torch" or importlib.util.find_spec("torchdiffeq") is None,
    reason="torchdiffeq integrates torch's tensors",
)
@pytest.mark.parametrize("name", SYSTEMS)
def test_torchdiffeq_finds_the_same(name):
    import torch
    import torchdiffeq

    system = SYSTEMS[name]
    times = torch.tensor(system.times())
    both = []
    for integrate in (
        lambda z0: torchdiffeq.odeint(system.field, z0, times, rtol=1e-10, atol=1e-10),
        lambda z0: tfnode.odeint(system.field, z0, system.times(), TIGHT),
    ):
        z0 = torch.tensor(system.z0, requires_grad=True)
        states = integrate(z0)
        states[-1].sum().backward()
        both.append((states.detach().numpy(), z0.grad.numpy()))
    for ours, theirs in zip(*both):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_numbers_beyond_single_precision():
    z0 = np.array([[1e200]])
    solver = solvers.DormandPrince(1e-6, 1e-6, per_sample=True)
    found = eager(lambda z: tfnode.odeint(lambda t, z: -5 * z, z, [0.0, 1.0], solver))(z0)
    np.testing.assert_allclose(numbers(found)[1], z0 * np.exp(-5), rtol=1e-4)


# === Times of a block ===
def linear_block(solver, **options):
    """dz/dt = z, whose solution everybody knows."""
    return tfnode.ODEBlock(_Growth(), solver, **options)


def stateless(block, *inputs, **options):
    """A call whose statistics stay inside, as JAX's compiled functions ask."""
    with keras.StatelessScope():
        return block(*inputs, **options)


class _Growth(keras.layers.Layer):
    def call(self, z, conditions=None):
        rate = 1.0 if conditions is None else sum(keras.tree.flatten(conditions))
        return keras.tree.map_structure(lambda z: rate * z, z)


Z = np.array([[1.0], [2.0], [3.0]])
ADAPTIVE = solvers.DormandPrince(1e-10, 1e-10, per_sample=True)


@pytest.mark.parametrize("solver", [solvers.RK4(0.02), ADAPTIVE], ids=["fixed", "adaptive"])
def test_an_end_time_for_each_sample(solver):
    block = linear_block(solver)
    ends = np.array([0.5, 1.0, 1.7])

    def total(xs):
        z, t1 = xs
        return ops.sum(stateless(block, z, t1=t1, training=True))

    found = eager(lambda z: stateless(block, z, t1=ends))(Z)
    np.testing.assert_allclose(numbers(found), Z * np.exp(ends)[:, None], rtol=1e-8)
    by_z, by_t1 = eager(grad(total))(tensors([Z, ends]))
    np.testing.assert_allclose(numbers(by_z), np.exp(ends)[:, None], rtol=1e-8)
    # The end of the last step moves: the derivative there, but for the order of the method.
    np.testing.assert_allclose(numbers(by_t1), Z[:, 0] * np.exp(ends), rtol=1e-6)


@pytest.mark.parametrize("solver", [solvers.RK4(0.02), ADAPTIVE], ids=["fixed", "adaptive"])
def test_times_for_each_sample(solver):
    block = linear_block(solver)
    times = np.array([[0.1, 0.2], [0.5, 1.5], [1.0, 1.1]])
    found = eager(lambda z: stateless(block, z, save_at=times))(Z)
    assert found.shape == (3, 2, 1)
    np.testing.assert_allclose(numbers(found)[..., 0], Z * np.exp(times), rtol=1e-8)


@pytest.mark.parametrize("of_times", ["float32", "float64"])
@pytest.mark.parametrize("of_states", ["float32", "float64"])
@pytest.mark.parametrize(
    "solver",
    [solvers.RK4(0.1), solvers.DormandPrince(1e-5, 1e-5, per_sample=True)],
    ids=["fixed", "adaptive"],
)
def test_times_and_states_have_dtypes_of_their_own(solver, of_states, of_times):
    z0 = np.array([[1.0], [2.0]], of_states)
    # Numbers, no tensors.
    times = np.array([[0, 1], [0.5, 1.25], [1, 3]], of_times)
    states = tfnode.odeint(lambda t, z: z, z0, times, solver)
    assert keras.backend.standardize_dtype(states.dtype) == of_states
    found = keras.ops.convert_to_numpy(states)[..., 0]
    np.testing.assert_allclose(found, z0[:, 0] * np.exp(times - times[0]), rtol=1e-4)


@pytest.mark.parametrize("of_times", ["uint8", "int32", "float32"])
@pytest.mark.parametrize("solver", [solvers.RK4(0.1), ADAPTIVE], ids=["fixed", "adaptive"])
def test_times_that_decrease_may_be_a_tensor_of_integers(solver, of_times):
    times = ops.convert_to_tensor(np.array([3, 2, 0], of_times))
    found = numbers(tfnode.odeint(lambda t, z: z, Z, times, solver))
    np.testing.assert_allclose(found, Z * np.exp([0, -1, -3])[:, None, None], rtol=1e-4)


@pytest.mark.parametrize("times", [1.0, [1.0]])
def test_times_of_a_tensor_are_at_least_two(times):
    with pytest.raises(ValueError, match=r"at least two, .* Received: times of shape"):
        tfnode.odeint(lambda t, z: z, Z, ops.convert_to_tensor(times), "rk4")


def test_save_at_counts_exactly():
    block = linear_block(solvers.RK4(0.25), save_at=[0.0, 0.3, 1.0])
    np.testing.assert_array_equal(numbers(block(Z))[:, 0], Z)
    # Two steps to 0.3, three from there.
    assert (block.num_steps, block.nfe) == (5, 20)
    calls = []

    def field(t, z):
        calls.append(t)
        return z

    if BACKEND != "jax":
        tfnode.odeint(field, Z, [0.0, 0.3, 1.0], solvers.RK4(0.25))
        assert len(calls) == 20


def test_evaluations_of_adaptive_steps_are_those_that_happened():
    calls = []

    class Counted(keras.layers.Layer):
        def call(self, z):
            calls.extend([z] if has_value(z) else [])
            return -z

    block = tfnode.ODEBlock(Counted(), solvers.BogackiShampine32(1e-4, 1e-4), save_at=[0.4, 1.0])
    block.build((3, 1))
    calls.clear()
    if BACKEND == "jax":
        import jax

        with jax.disable_jit():
            block(Z)
    else:
        block(Z)
    seen = block.statistics
    assert len(calls) == block.nfe == seen.evaluations
    # Two for the first step, three an attempt, four where an accepted one is taken once more.
    assert seen.evaluations == 2 + 3 * (seen.accepted + seen.rejected) + 4 * seen.accepted


# === Conditions and structures ===
@pytest.mark.parametrize("in_a_tree", [False, True])
@pytest.mark.parametrize("solver", [solvers.RK4(0.02), ADAPTIVE], ids=["fixed", "adaptive"])
def test_gradients_by_conditions(in_a_tree, solver):
    block = linear_block(solver)

    def total(xs):
        conditions = {"a": xs[0], "b": [xs[1]]} if in_a_tree else xs[0] + xs[1]
        z = ops.convert_to_tensor(Z)
        return ops.sum(stateless(block, z, conditions=conditions, training=True))

    a, b = np.array([[0.3], [-0.2], [0.5]]), np.full((3, 1), 0.1)
    for found in eager(grad(total))(tensors([a, b])):
        np.testing.assert_allclose(numbers(found), Z * np.exp(a + b), rtol=1e-6)


@pytest.mark.parametrize("solver", [solvers.RK4(0.02), ADAPTIVE], ids=["fixed", "adaptive"])
def test_states_in_a_tuple_and_a_dictionary(solver):
    solve = eager(lambda state: stateless(linear_block(solver), state))
    pair, named = solve((Z, 2 * Z)), solve({"a": Z, "b": 2 * Z})
    assert isinstance(pair, tuple)
    for a, b in (pair, (named["a"], named["b"])):
        np.testing.assert_allclose(numbers(a), Z * np.e, rtol=1e-6)
        np.testing.assert_allclose(numbers(b), 2 * Z * np.e, rtol=1e-6)


def test_odeint_of_a_dictionary_with_conditions():
    def solve(z0, rate):
        field = lambda t, z, rate: {name: rate * value for name, value in z.items()}
        return tfnode.odeint(field, z0, [0.0, 0.5, 1.0], ADAPTIVE, conditions=rate)

    states = eager(solve)({"a": Z, "b": 2 * Z}, tensors([np.array(0.7)])[0])
    assert states["b"].shape == (3, 3, 1)
    np.testing.assert_allclose(numbers(states["b"])[2], 2 * Z * np.exp(0.7), rtol=1e-8)


@pytest.mark.parametrize("solver", [solvers.RK4(0.1), ADAPTIVE], ids=["fixed", "adaptive"])
def test_gradients_of_odeint_by_times_in_a_graph(solver):
    def total(xs):
        z0, times = xs
        states = tfnode.odeint(lambda t, z: t * z, z0, times, solver)
        return ops.sum(states[1]) + 2 * ops.sum(states[2])

    z0, times = Z, np.array([0.1, 0.6, 1.3])
    by_z0, by_times = compiled(grad(total))(tensors([z0, times]))
    # The solution is z0 exp((t^2 - t0^2) / 2).
    at = np.exp((times**2 - times[0] ** 2) / 2)
    np.testing.assert_allclose(numbers(by_z0), np.full((3, 1), at[1] + 2 * at[2]), rtol=1e-5)
    sums = Z.sum() * np.array([0, 1, 2]) * at
    expected = times * np.array([-sums.sum(), sums[1], sums[2]])
    np.testing.assert_allclose(numbers(by_times), expected, rtol=1e-4)


# === What it is for ===
def test_the_log_determinant_of_a_continuous_normalizing_flow():
    field = randomised(SmoothField())

    class Flow(keras.layers.Layer):
        """The state and the trace of the field's Jacobian, exactly."""

        def __init__(self):
            super().__init__()
            self.field = field

        def call(self, state):
            z, _ = state
            hidden, out = field.hidden.value, field.out.value
            s = ops.sigmoid(z @ hidden)
            trace = (s * (1 - s)) @ ops.sum(hidden * ops.transpose(out), axis=0)[:, None]
            return field(z), trace

    z0 = np.random.RandomState(1).normal(size=(3, 2))
    for solver in (solvers.RK4(1 / 64), ADAPTIVE):
        block = tfnode.ODEBlock(Flow(), solver)
        solve = eager(lambda z, block=block: stateless(block, z))
        _, logdet = solve((z0, np.zeros((3, 1))))
        np.testing.assert_allclose(numbers(logdet), _trace_by_scipy(field, z0), atol=1e-6)


def _trace_by_scipy(field, z0):
    hidden, out = numbers(field.hidden), numbers(field.out)

    def numpy_field(t, state):
        s = 1 / (1 + np.exp(-state[:2] @ hidden))
        jacobian = (hidden * s * (1 - s)) @ out
        return np.append(s @ out, np.trace(jacobian))

    return [precise(numpy_field, np.append(z, 0), [0.0, 1.0])[-1, 2:] for z in z0]


def test_parameters_are_recovered_from_a_trajectory():
    """A damped oscillator's matrix, by Adam through the solution."""
    true = np.array([[-0.2, -1.3], [1.1, -0.1]])
    times = np.linspace(0, 2, 9)
    z0 = np.array([[1.0, 0.0], [0.5, -1.0]])
    observed = np.stack([precise(lambda t, z: z @ true, z, times) for z in z0], axis=1)

    class Matrix(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.matrix = self.add_weight(shape=(2, 2), initializer="zeros")

        def call(self, t, z):
            return z @ self.matrix.value

    layer = Matrix()

    def loss(xs):
        with keras.StatelessScope([(layer.matrix, xs[0])]):
            states = tfnode.odeint(layer, ops.convert_to_tensor(z0), times, solvers.RK4(0.25))
        return ops.mean((states - ops.convert_to_tensor(observed)) ** 2)

    layer(ops.convert_to_tensor(0.0), ops.convert_to_tensor(z0))
    gradient = compiled(grad(loss))
    optimizer = keras.optimizers.Adam(0.1, beta_2=0.9)
    optimizer.build([layer.matrix])
    for step in range(160):
        optimizer.learning_rate = 0.1 * 0.97**step
        (found,) = gradient([layer.matrix.value])
        optimizer.apply([found])
    np.testing.assert_allclose(numbers(layer.matrix), true, rtol=0, atol=1e-3)
