"""`ODEBlock`: a vector field, an interval and a solver as a Keras layer."""

import math

import keras
from keras import ops
from keras.src.backend import AutocastScope

from tfnode import integrate, solvers
from tfnode.adaptive_steps import AdaptiveSteps
from tfnode.fields import VectorField
from tfnode.fixed_steps import FixedSteps
from tfnode.solver_properties import SolverProperties

GRADIENTS = ("discrete_adjoint", "backprop", "adjoint")


@keras.saving.register_keras_serializable("tfnode")
class ODEBlock(SolverProperties, keras.layers.Layer):
    """Integrates `dz/dt = field(z)` from `t0` to `t1`, with its input as the state at `t0`.

    The step size, or the tolerances of an adaptive solver, are non-trainable weights: assigning
    them changes the next call and training step without retracing. Integration runs in the
    block's variable dtype, also under a mixed precision policy, where only the field computes in
    half precision.

    With an adaptive solver, training finds the steps first, and then takes the accepted ones once
    more with a gradient: that of the discrete solution, its steps held fixed. Inference has no
    gradient then. An integration that cannot be finished is an error.

    Examples:

    >>> field = keras.Sequential([keras.layers.Dense(8, "tanh"), keras.layers.Dense(2)])
    >>> block = ODEBlock(field, solver=solvers.RK4(step_size=1 / 4))
    >>> block(np.zeros((3, 2))).shape
    TensorShape([3, 2])
    >>> block.num_steps, block.nfe
    (4, 16)
    >>> block.step_size = 1 / 10
    >>> block.num_steps
    10

    Args:
        field: Keras layer or model, the vector field. It maps the state to its derivative of the
            same shape.
        solver: A solver of `tfnode.solvers`, its name, or its serialized dictionary.
        t0: Float, the time of the input.
        t1: Float, the time of the output; `t1 < t0` integrates backwards.
        time_dependent: Boolean. If true, the field is called as `field(t, z)` with a scalar `t`,
            under a solver with `per_sample=True` with a `t` of shape `(batch_size, 1, ...)`.
        gradient: `"discrete_adjoint"` (default) keeps only the states of the solution and
            recomputes each step in the backward pass: the exact gradient of the discrete
            solution, at the memory of one step. `"backprop"` differentiates the loop, keeps every
            intermediate result, and allows a field with random or updating state. Both give the
            same gradient. The discrete adjoint serves `training=True` on TensorFlow; inference
            and the other backends run the plain loop. `"adjoint"`, for `DormandPrince` only, is
            the continuous adjoint of Chen et al. (2018) by TensorFlow Probability, exact up to
            its tolerance.
        unroll: Boolean. If true, every step is written into the graph: faster for a few steps,
            slow to trace for many, and the step size is then fixed. Needs `gradient="backprop"`.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        inputs: Tensor of shape `(batch_size, ...)` and floating-point dtype.
        training: Boolean, passed on to the field.

    Returns:
        Tensor in the inputs' shape and the block's compute dtype, the state at `t1`.

    Raises:
        ValueError: If an argument is not valid, if the field changes the shape or the dtype of
            the state, if the inputs are not floating-point, or, in training under the discrete
            adjoint, if the field has random or updating state (Dropout, BatchNormalization).
        FloatingPointError: If an adaptive integration spends its budget or its step collapses;
            in a TensorFlow graph, such as that of `fit`, an `InvalidArgumentError`.
    """

    def __init__(
        self,
        field,
        solver="euler",
        t0=0.0,
        t1=1.0,
        time_dependent=False,
        gradient="discrete_adjoint",
        unroll=False,
        **kwargs,
    ):
        # The block casts by itself: the state and the weights keep their full precision.
        super().__init__(autocast=False, **kwargs)
        if not isinstance(field, keras.layers.Layer):
            raise ValueError(
                "`field` must be a Keras layer or model that maps a state to its derivative. "
                f"Received: field={field!r}. Wrap a function in a `keras.layers.Layer`."
            )
        self.field = field
        self.t0, self.t1 = _check_interval(t0, t1)
        self.time_dependent = time_dependent
        self.gradient = _check_gradient(gradient, unroll)
        self.unroll = unroll
        self.vector_field = VectorField(field, time_dependent, self.name)
        self.supports_masking = True
        self._steps = self._make_steps(solvers.get(solver))

    def _make_steps(self, solver):
        if isinstance(solver, solvers.FixedStepSolver):
            if self.gradient == "adjoint":
                raise ValueError(
                    "Fixed steps have an exact discrete gradient, and no continuous adjoint. "
                    f'Received: gradient="adjoint" with {solver}. Keep the default '
                    'gradient="discrete_adjoint".'
                )
            return FixedSteps(self, solver, self.unroll)
        if self.unroll:
            raise ValueError(
                "The number of adaptive steps is not known when a graph is written. "
                f"Received: unroll=True with {solver}. Leave unroll out, or take fixed steps."
            )
        # A compiled graph could not raise where an integration fails.
        self.supports_jit = False
        return AdaptiveSteps(self, solver)

    @property
    def length(self):
        """Float, the length of the interval of integration."""
        return abs(self.t1 - self.t0)

    @property
    def time_dtype(self):
        """String, the dtype of times: they need more than half precision."""
        return "float64" if self.variable_dtype == "float64" else "float32"

    def build(self, input_shape):
        self._steps.build()
        time = keras.KerasTensor((), dtype=self.variable_dtype)
        state = keras.KerasTensor(input_shape, dtype=self.variable_dtype)
        derivative = self.field(time, state) if self.time_dependent else self.field(state)
        self._check_derivative(derivative, state)

    def save_own_variables(self, store):
        for i, weight in enumerate(self._steps.saved_weights()):
            store[str(i)] = weight

    def load_own_variables(self, store):
        weights = self._steps.saved_weights()
        if len(store.keys()) != len(weights):
            raise ValueError(
                "A file must hold the step size of a block with fixed steps, or the two "
                f"tolerances of one with adaptive steps. Received: {len(store.keys())} values for "
                f"{self.name!r} with {self.solver}. Load it into a model with the solver it was "
                "saved with, and then use `tfnode.with_solver`."
            )
        self._steps.check_loaded(store)
        for i, weight in enumerate(weights):
            weight.assign(store[str(i)])

    def call(self, inputs, training=None):
        self._check_dtype(inputs)
        # For an outermost layer Keras casts weights to the compute dtype even if autocast=False.
        with AutocastScope(None):
            z1 = self._steps.solve(ops.cast(inputs, self.variable_dtype), training)
        return ops.cast(z1, self.compute_dtype)

    def solve_on(self, grid, z0, tableau, training):
        """Integrates on a grid, with the gradient that the block was built with."""
        # Inference keeps no states, and a graph without the custom gradient can be exported.
        on_tensorflow = keras.backend.backend() == "tensorflow"
        if training and on_tensorflow and self.gradient == "discrete_adjoint":
            return integrate.solve_with_discrete_adjoint(
                self.vector_field.pure(),
                z0,
                [v.value for v in self.field.trainable_variables],
                [v.value for v in self.field.non_trainable_variables],
                grid,
                tableau,
            )
        return integrate.solve(self.vector_field.function(training), z0, grid, tableau)

    def compute_output_shape(self, input_shape):
        return input_shape

    def compute_output_spec(self, inputs, training=None):
        self._check_dtype(inputs)
        return keras.KerasTensor(inputs.shape, dtype=self.compute_dtype)

    def trajectory(self, z):
        """Integrates eagerly and returns every state on the way.

        Args:
            z: Tensor of shape `(batch_size, ...)`, the state at `t0`.

        Returns:
            Tuple of the times, of shape `(num_steps + 1,)`, and the states, of shape
            `(num_steps + 1, batch_size, ...)`, both in the block's variable dtype. With adaptive
            steps these are the accepted ones.

        Raises:
            ValueError: If every sample has adaptive steps of its own.
        """
        z = ops.convert_to_tensor(z)
        self._check_dtype(z)
        if not self.built:
            self.build(z.shape)
        return self._steps.trajectory(ops.cast(z, self.variable_dtype))

    def with_solver(self, solver):
        """Returns a block with another solver that shares this block's field."""
        solver = solvers.get(solver)
        config = {**self._config(), "solver": solver}
        if isinstance(solver, solvers.AdaptiveSolver):
            config["unroll"] = False
        if self.gradient == "adjoint" and not isinstance(solver, solvers.DormandPrince):
            config["gradient"] = "discrete_adjoint"
        return type(self)(field=self.field, **config)

    def summary(self, print_fn=print):
        """Prints the solver with its steps and evaluations, and the field.

        `model.summary()` names layers and counts only; this names what the block does.

        Args:
            print_fn: Callable that takes a string, called once a line.
        """
        arguments = "t, z" if self.time_dependent else "z"
        print_fn(f"{self.name}: dz/dt = {self.field.name}({arguments}), t = {self.t0} .. {self.t1}")
        print_fn(f"solver: {self._steps.describe()}")
        print_fn(f"gradient: {self.gradient}{', unrolled' if self.unroll else ''}")
        if isinstance(self.field, keras.Model):
            self.field.summary(print_fn=print_fn)
        else:
            print_fn(f"field: {type(self.field).__name__}, {self.field.count_params()} parameters")

    def get_config(self):
        return {"field": keras.saving.serialize_keras_object(self.field), **self._config()}

    def _config(self):
        """The configuration without the field, which a new block may share."""
        return {
            **super().get_config(),
            "solver": solvers.serialize(self.solver),
            "t0": self.t0,
            "t1": self.t1,
            "time_dependent": self.time_dependent,
            "gradient": self.gradient,
            "unroll": self.unroll,
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        config["field"] = keras.saving.deserialize_keras_object(config["field"])
        return cls(**config)

    def _check_dtype(self, inputs):
        if not keras.backend.is_float_dtype(inputs.dtype):
            raise ValueError(
                "An `ODEBlock` integrates a floating-point state. "
                f"Received: inputs.dtype={keras.backend.standardize_dtype(inputs.dtype)!r} for "
                f"block {self.name!r}. Cast the inputs, for example with `ops.cast(x, 'float32')`."
            )

    def _check_derivative(self, derivative, state):
        allowed = {self.variable_dtype, self.compute_dtype}
        if derivative.shape != state.shape or derivative.dtype not in allowed:
            raise ValueError(
                "The field must map a state to a derivative of the same shape and dtype. "
                f"Received: a state of shape {state.shape} and dtype {state.dtype}, and from "
                f"field={self.field.name!r} a derivative of shape {derivative.shape} and dtype "
                f"{derivative.dtype}. Change the field's last layer, or the dtype of the field "
                "or the block."
            )


def _check_interval(t0, t1):
    t0, t1 = float(t0), float(t1)
    if not (math.isfinite(t0) and math.isfinite(t1) and t0 != t1):
        raise ValueError(
            "The interval of integration must have two different, finite ends. "
            f"Received: t0={t0}, t1={t1}. Choose t1 > t0, or t1 < t0 to integrate backwards."
        )
    return t0, t1


def _check_gradient(gradient, unroll):
    if gradient not in GRADIENTS:
        raise ValueError(
            f"`gradient` must be one of {GRADIENTS}. Received: gradient={gradient!r}. "
            'Keep the default "discrete_adjoint" unless the field has random state.'
        )
    if unroll and gradient != "backprop":
        raise ValueError(
            "An unrolled block keeps every intermediate result, so its gradient is backprop. "
            f'Received: unroll=True, gradient={gradient!r}. Pass gradient="backprop".'
        )
    return gradient
