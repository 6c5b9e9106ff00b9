"""Keras layers around the solvers: `ODEBlock` and `Augment`."""

import math

import keras
import numpy as np
from keras import ops
from keras.src.backend import AutocastScope

from tfnode import integrate, solvers
from tfnode.integrate import TimeGrid

GRADIENTS = ("discrete_adjoint", "backprop")

# The static bound on the loop. The paper's rule never goes below 1/500 of the interval.
_MAX_NUM_STEPS = 512


@keras.saving.register_keras_serializable("tfnode")
class ODEBlock(keras.layers.Layer):
    """Integrates `dz/dt = field(z)` from `t0` to `t1`, with its input as the state at `t0`.

    The step size is a non-trainable weight: assigning it changes the next call and training
    step without retracing. Integration runs in the block's variable dtype, also under a mixed
    precision policy, where only the field computes in half precision.

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
        time_dependent: Boolean. If true, the field is called as `field(t, z)` with a scalar `t`.
        gradient: `"discrete_adjoint"` (default) keeps only the states of the solution and
            recomputes each step in the backward pass: the exact gradient of the discrete
            solution, at the memory of one step. `"backprop"` differentiates the loop, keeps every
            intermediate result, and allows a field with random or updating state. Both give the
            same gradient. The discrete adjoint serves `training=True` on TensorFlow; inference
            and the other backends run the plain loop.
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
        self._solver = solvers.get(solver)
        self.t0, self.t1 = _check_interval(t0, t1)
        self.time_dependent = time_dependent
        self.gradient = _check_gradient(gradient, unroll)
        self.unroll = unroll
        self.supports_masking = True
        self._tableau = self._solver.tableau
        self._check_length(self._solver.step_size)
        # A margin of one, so that rounding in the weight's dtype never meets the bound.
        self._max_num_steps = max(
            _MAX_NUM_STEPS, math.ceil(self.length / self._solver.step_size) + 1
        )

    @property
    def length(self):
        """Float, the length of the interval of integration."""
        return abs(self.t1 - self.t0)

    @property
    def _time_dtype(self):
        # Times need more than half precision.
        return "float64" if self.variable_dtype == "float64" else "float32"

    @property
    def solver(self):
        """The solver at the present step size."""
        if self.unroll or not self.built:
            return self._solver
        return self._solver.with_step_size(float(self._step_size))

    @solver.setter
    def solver(self, solver):
        """Changes method and step size. A graph traced before keeps the old method."""
        solver = solvers.get(solver)
        self.step_size = solver.step_size
        self._solver, self._tableau = solver, solver.tableau

    @property
    def step_size(self):
        """Scalar non-trainable weight, the step size. Assign a float to change it.

        Raises:
            ValueError: On assignment, if the step size is not positive and finite, longer than
                the interval, too small for the compiled loop, or if the block is unrolled.
        """
        if not self.built:
            raise ValueError(
                "The step size of an `ODEBlock` is a weight and exists once the block is built. "
                f"Received: built=False for {self.name!r}. Call the block or `build` it first."
            )
        return self._step_size

    @step_size.setter
    def step_size(self, value):
        if self.unroll:
            raise ValueError(
                "An unrolled block has its number of steps written into the graph. "
                f"Received: step_size={value} for {self.name!r}, which has unroll=True. "
                "Build the block with unroll=False to change its step size."
            )
        self.step_size.assign(self._check_step_size(value))

    @property
    def num_steps(self):
        """Integer, the steps of one forward pass at the present step size."""
        return self._static_grid().num_steps

    @property
    def nfe(self):
        """Integer, the evaluations of the field in one forward pass: steps times stages."""
        return self.num_steps * self._tableau.num_stages

    def build(self, input_shape):
        step_size = self._solver.step_size
        self._step_size = self.add_weight(
            name="step_size",
            shape=(),
            dtype=self._time_dtype,
            # `initializers.Constant` would round a double to single precision.
            initializer=lambda shape, dtype: ops.convert_to_tensor(np.asarray(step_size, dtype)),
            trainable=False,
        )
        time = keras.KerasTensor((), dtype=self.variable_dtype)
        state = keras.KerasTensor(input_shape, dtype=self.variable_dtype)
        derivative = self.field(time, state) if self.time_dependent else self.field(state)
        self._check_derivative(derivative, state)

    def load_own_variables(self, store):
        self._check_step_size(float(np.asarray(store["0"])))
        super().load_own_variables(store)

    def call(self, inputs, training=None):
        self._check_dtype(inputs)
        # For an outermost layer Keras casts weights to the compute dtype even if autocast=False.
        with AutocastScope(None):
            z1 = self._solve(ops.cast(inputs, self.variable_dtype), training)
        return ops.cast(z1, self.compute_dtype)

    def _solve(self, z0, training):
        if self.unroll:
            grid = self._static_grid()
            return integrate.solve_unrolled(self._field(training), z0, grid, self._tableau)
        # Inference keeps no states, and a graph without the custom gradient can be exported.
        on_tensorflow = keras.backend.backend() == "tensorflow"
        if training and on_tensorflow and self.gradient == "discrete_adjoint":
            return integrate.solve_with_discrete_adjoint(
                self._pure_field(),
                z0,
                [v.value for v in self.field.trainable_variables],
                [v.value for v in self.field.non_trainable_variables],
                self._grid(),
                self._tableau,
            )
        return integrate.solve(self._field(training), z0, self._grid(), self._tableau)

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
            `(num_steps + 1, batch_size, ...)`, both in the block's variable dtype.
        """
        z = ops.convert_to_tensor(z)
        self._check_dtype(z)
        if not self.built:
            self.build(z.shape)
        z = ops.cast(z, self.variable_dtype)
        return integrate.trajectory(self._field(False), z, self._static_grid(), self._tableau)

    def numpy_field(self):
        """Returns the field as a function of `(t, z)` from NumPy arrays to a NumPy array."""
        field = self._field(training=False)

        def numpy_field(t, z):
            t, z = (ops.convert_to_tensor(v, dtype=self.variable_dtype) for v in (t, z))
            return ops.convert_to_numpy(field(t, z))

        return numpy_field

    def with_solver(self, solver):
        """Returns a block with another solver that shares this block's field."""
        return type(self)(field=self.field, **{**self._config(), "solver": solver})

    def summary(self, print_fn=print):
        """Prints the solver with its steps and evaluations, and the field.

        `model.summary()` names layers and counts only; this names what the block does.

        Args:
            print_fn: Callable that takes a string, called once a line.
        """
        arguments = "t, z" if self.time_dependent else "z"
        print_fn(f"{self.name}: dz/dt = {self.field.name}({arguments}), t = {self.t0} .. {self.t1}")
        print_fn(f"solver: {self.solver}, {self.num_steps} steps, {self.nfe} evaluations a pass")
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

    def _grid(self):
        # A copy: in eager mode TensorFlow would hand out the variable itself.
        step_size = ops.copy(self._step_size.value)
        return TimeGrid.from_step_size(self.t0, self.t1, step_size, self._max_num_steps)

    def _static_grid(self):
        """The grid of the present step size as NumPy numbers, by the arithmetic of the weight."""
        step_size = np.dtype(self._time_dtype).type(self.solver.step_size)
        return TimeGrid.from_step_size(self.t0, self.t1, step_size, self._max_num_steps)

    def _field(self, training):
        """The field as a function of `(t, z)` in the state's dtype."""

        def field(t, z):
            arguments = (t, z) if self.time_dependent else (z,)
            return ops.cast(self.field(*arguments, training=training), z.dtype)

        return field

    def _pure_field(self):
        """The field as a function of `(values, t, z)` that touches no variable."""
        field = self._field(training=True)
        variables = self.field.trainable_variables + self.field.non_trainable_variables

        def pure_field(values, t, z):
            scope = keras.StatelessScope(collect_losses=True)
            # Not by the constructor, which casts to a dtype that depends on the autocast scope.
            for update in zip(variables, values):
                scope.add_update(update)
            before = dict(scope.state_mapping)
            with scope:
                derivative = field(t, z)
            # By identity: values are tensors, and an update puts another one in its place.
            unchanged = all(before.get(key) is v for key, v in scope.state_mapping.items())
            self._check_pure(unchanged, scope.losses)
            return derivative

        return pure_field

    def _check_pure(self, unchanged, losses):
        if not unchanged:
            raise ValueError(
                "The discrete adjoint evaluates the field again in the backward pass and needs "
                "the same values, so the field must have no random or updating state (Dropout, "
                f"BatchNormalization). Received: field={self.field.name!r} in block "
                f'{self.name!r}. Build the block with gradient="backprop".'
            )
        if losses:
            raise ValueError(
                "The loop over the steps cannot hand out losses, so the field must add none "
                f"(activity regularizers). Received: field={self.field.name!r} in block "
                f'{self.name!r}. Build the block with gradient="backprop" and unroll=True.'
            )

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

    def _check_step_size(self, step_size):
        step_size = solvers.check_step_size(step_size)
        self._check_length(step_size)
        if step_size * self._max_num_steps < self.length * (1 - 1e-6):
            raise ValueError(
                f"The loop of {self.name!r} takes at most {self._max_num_steps} steps, a bound "
                f"that XLA needs. Received: step_size={step_size}, on an interval of length "
                f"{self.length}. Build the block with a solver of that step size, or use "
                "`tfnode.with_solver`."
            )
        return step_size

    def _check_length(self, step_size):
        # The weight may be single precision: its rounding is no reason to refuse.
        if step_size > self.length * (1 + 1e-6):
            raise ValueError(
                "A step must not be longer than the interval of integration. "
                f"Received: step_size={step_size} on [{self.t0}, {self.t1}], of length "
                f"{self.length}. Choose a step size up to the length."
            )


@keras.saving.register_keras_serializable("tfnode")
class Augment(keras.layers.Layer):
    """Appends zeros to the last axis, so that trajectories can pass around each other.

    Augmented Neural ODEs, Dupont et al. (2019), section 4.

    Examples:

    >>> Augment(extra_dims=2)(np.ones((3, 2))).shape
    TensorShape([3, 4])

    Args:
        extra_dims: Integer, the number of dimensions to append; 0 appends none.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Tensor of shape `(batch_size, ..., dims)`.

    Returns:
        Tensor of shape `(batch_size, ..., dims + extra_dims)`.

    Raises:
        ValueError: If `extra_dims` is no integer from 0 up.
    """

    def __init__(self, extra_dims, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(extra_dims, int) or extra_dims < 0:
            raise ValueError(
                "`extra_dims` must be an integer from 0 up. "
                f"Received: extra_dims={extra_dims!r}. Give the number of dimensions to append."
            )
        self.extra_dims = extra_dims
        self.built = True

    def call(self, inputs):
        return ops.pad(inputs, [(0, 0)] * (len(inputs.shape) - 1) + [(0, self.extra_dims)])

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], input_shape[-1] + self.extra_dims)

    def get_config(self):
        return {**super().get_config(), "extra_dims": self.extra_dims}


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
