"""`ODEBlock`: a vector field, an interval and a solver as a Keras layer."""

import contextlib
import dataclasses
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from tfnode import arguments, solvers
from tfnode.integrate.failures import is_in_graph
from tfnode.integrate.problems import Statistics
from tfnode.keras_internals import (
    attributes,
    in_symbolic_scope,
    mask_of,
    masked,
    no_autocast,
    set_mask,
)
from tfnode.layers import checks, solver_weights
from tfnode.layers.adaptive_steps import AdaptiveSteps
from tfnode.layers.altered_fields import mean_penalty
from tfnode.layers.fixed_steps import FixedSteps
from tfnode.layers.given import Given, at_times
from tfnode.layers.passes import ForwardPass
from tfnode.layers.regularization import Regularization, check_times, checked, generator_of
from tfnode.layers.shapes import map_shapes, symbolic
from tfnode.layers.solver_weights import FixedStepWeights, SolverWeights, ToleranceWeights
from tfnode.layers.stand_ins import integrating, stand_in_for
from tfnode.layers.vector_field import VectorField

tree = keras.tree

# One that says whether a rule of `tfnode.adaption` has started, and what it may remember.
MEMORY = 8


@keras.saving.register_keras_serializable("tfnode")
class ODEBlock(keras.layers.Layer):
    """Integrates `dz/dt = field(z)` from `t0` to `t1`, with its input as the state at `t0`.

    The step size, or the tolerances of an adaptive solver, are non-trainable weights: assigning
    them changes the next call and training step without retracing. Integration runs in the
    block's variable dtype, also under a mixed precision policy, where only the field computes in
    half precision.

    With an adaptive solver, training finds the steps first, and then takes the accepted ones once
    more with a gradient: that of the discrete solution, its steps held fixed. With `training=False`
    there is no gradient then; where `training` is left out, whoever asks for one gets an error, as
    the `call` of a model must hand it on. TensorFlow asks for it even if only layers behind the
    block are differentiated: pass `training=False` there. An integration that cannot be finished
    is an error.

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

    The solution at several times, which steps land on:

    >>> block = ODEBlock(field, solvers.RK4(step_size=1 / 4), save_at=[0.0, 0.3, 1.0])
    >>> block(np.zeros((3, 2))).shape
    TensorShape([3, 3, 2])

    Args:
        field: Keras layer or model, the vector field. It maps the state to its derivative of the
            same structure and shapes. A field in two blocks is one layer in two places, of which
            Keras reads no model again: call one block twice.
        solver: A solver of `tfnode.solvers`, its name, or its serialized dictionary.
        t0: Float, the time of the input.
        t1: Float, the time of the output; `t1 < t0` integrates backwards.
        time_dependent: Boolean. If true, the field is called as `field(t, z)` with a scalar `t`,
            under a solver with `per_sample=True`, and with times for each sample, with a `t` of
            shape `(batch_size, 1, ...)`. A functional model is called as `field([t, z])`, with a
            time for each sample. A field of one input, such as a `Sequential` of usual layers, is
            given the state with the time as one more feature, in the last axis.
        save_at: Optional sequence of floats, times from `t0` to `t1` in the order in which they
            are reached. The output then has a time axis behind that of the batch.
        gradient: `"discrete_adjoint"` (default) keeps only the states of the solution and
            recomputes each step in the backward pass: the exact gradient of the discrete
            solution, in the memory of the states and of one step. `"backprop"` differentiates the
            loop, keeps every intermediate result, and allows a field with random or updating state
            (on JAX only with `unroll=True`). Both give the same gradient, but the discrete adjoint
            none by what the field reads from elsewhere than its weights, the state, the times and
            `conditions`; a trainable variable that it reads from there is refused. Inference runs
            the plain loop. `"adjoint"`, for `DormandPrince` only, is the continuous adjoint of Chen
            et al. (2018) by TensorFlow Probability, exact up to its tolerance.
        unroll: Boolean. If true, every step is written into the graph: faster for a few steps,
            slow to trace for many, and the step size is then fixed. Needs `gradient="backprop"`.
        regularization: Optional `tfnode.Regularization`, or a dictionary of its values: penalties
            and random end times in training that make the field cheap to solve.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        inputs: Tensor of shape `(batch_size, ...)` and floating-point dtype, or a tuple, list or
            dictionary of such tensors: the state at `t0`. A mask that Keras has attached to it
            goes to every evaluation of the field, on the state, and on to the output. A layer that
            takes more than the state finds it as `z_mask`, if it calls the state `z`.
        conditions: Optional tensor or nested structure of tensors, which every evaluation of the
            field is given as its last argument. It is not integrated and not in the error norm. It
            has a gradient unless it is of integers or Booleans, and keeps its mask.
        t1: Optional scalar tensor, or tensor of shape `(batch_size,)` with an end time for each
            sample, in the place of the block's. It has a gradient, but none at `t0`, where no step
            is taken. `tfnode.validity` and the callbacks of adaption measure by the block's own
            interval, and refuse longer calls.
        save_at: Optional tensor of shape `(num_times,)` or `(batch_size, num_times)`, in the place
            of the block's. It has a gradient.
        training: Boolean, passed on to the field.
        mask: Optional mask of the inputs, in the place of that which Keras has attached to them.

    Returns:
        The state at `t1`, in the inputs' structure and shapes and the block's compute dtype; with
        times to save at tensors of shape `(batch_size, num_times, ...)`.

    Raises:
        ValueError: If an argument is not valid, if the field changes the shape or the dtype of
            the state, if the inputs are not floating-point, or, in training under the discrete
            adjoint, if the field has random or updating state (Dropout, BatchNormalization), or
            reads trainable variables that it does not hold.
        FloatingPointError: If an adaptive integration spends its budget or its step collapses;
            in a TensorFlow graph, such as that of `fit`, an `InvalidArgumentError`; in a compiled
            function of JAX the solution is NaN.
    """

    def __init__(
        self,
        field: keras.Layer,
        solver: solvers.SolverLike = "euler",
        t0: float = 0.0,
        t1: float = 1.0,
        time_dependent: bool = False,
        save_at: Any = None,
        gradient: str = "discrete_adjoint",
        unroll: bool = False,
        regularization: Regularization | dict | None = None,
        **kwargs: Any,
    ) -> None:
        # The block casts by itself: the state and the weights keep their full precision.
        super().__init__(autocast=False, **kwargs)
        solver = solvers.get(solver)
        self.field = checks.check_field(field)
        self._t0, self._t1 = checks.check_interval(t0, t1)
        checks.check_length(self._t0, self._t1, self.time_dtype, self.name)
        self.save_at = checks.check_save_at(save_at, self._t0, self._t1)
        self.time_dependent = arguments.flag("time_dependent", time_dependent)
        if time_dependent:
            checks.check_tells_times(field, self._t0, self._t1, self.name)
        self.unroll = arguments.flag("unroll", unroll)
        self.gradient = checks.check_gradient(gradient, unroll, solver)
        self.regularization = checked(regularization, gradient, save_at)
        self._generator = generator_of(self.regularization)
        self.vector_field = VectorField(field, time_dependent, self.name)
        self.supports_masking = True
        checks.check_precision(self.variable_dtype, self.compute_dtype, solver, self.name)
        times = self.save_at or (self._t1,)
        interval = self._t0, times, self.time_dtype, self.name, time_dependent
        checks.check_length(self._t0, times[-1], self.time_dtype, self.name)
        self._weights: SolverWeights
        if isinstance(solver, solvers.FixedStepSolver):
            self._weights = FixedStepWeights(solver, FixedSteps(*interval), unroll, self._number)
        else:
            # A compiled graph of TensorFlow could not raise where an integration fails.
            self.supports_jit = keras.backend.backend() != "tensorflow"
            self._weights = ToleranceWeights(AdaptiveSteps(solver, *interval), self._number)
        self._dtypes: Any = None
        self._memory = self._number("adaption_memory", (MEMORY,), 0, self.time_dtype)
        # Attributes, so that TensorFlow's checkpoints hold them.
        for name, variable in self._weights.variables.items():
            setattr(self, f"_{name}", variable)

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(vars(ODEBlock).get(name), property):
            # Keras would read the property first, and then look for what to track in its value.
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def _number(self, name: str, shape: tuple, value: float, dtype: str) -> Any:
        """Makes a weight that training or a user changes, and no gradient."""
        return self.add_weight(
            name=name,
            shape=shape,
            dtype=dtype,
            # `initializers.Constant` would round a double to single precision.
            initializer=lambda shape, dtype: ops.convert_to_tensor(np.full(shape, value, dtype)),
            trainable=False,
            aggregation="only_first_replica",
        )

    # === What integrates ===
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self.built:
            # A subclass may have another signature; what does not fit Keras refuses.
            with contextlib.suppress(TypeError):
                given = inspect.signature(self.call).bind_partial(*args, **kwargs).arguments
                self._note_dtypes(given.get("conditions"))
        return super().__call__(*args, **kwargs)

    def _note_dtypes(self, conditions: Any) -> None:
        """Keeps the dtypes of conditions for `build`, which is given shapes alone."""
        if conditions is None:
            return
        checks.check_tensors("conditions", conditions)

        def dtype(c: Any) -> str:
            given = keras.backend.standardize_dtype(c.dtype)
            return self.variable_dtype if keras.backend.is_float_dtype(given) else given

        self._dtypes = tree.map_structure(dtype, conditions)

    def build(self, inputs_shape: Any, conditions_shape: Any = None) -> None:
        time = keras.KerasTensor((), dtype=self.variable_dtype)
        state, conditions = symbolic(inputs_shape, self.variable_dtype), None
        if conditions_shape is not None:
            conditions = symbolic(conditions_shape, self._dtypes or self.variable_dtype)
        derivative = self.vector_field(time, state, Given(conditions))
        self.vector_field.check_derivative(derivative, state, self.compute_dtype)

    def call(
        self,
        inputs: Any,
        conditions: Any = None,
        t1: Any = None,
        save_at: Any = None,
        training: bool | None = None,
        mask: Any = None,
    ) -> Any:
        checks.check_state(inputs, self.name)
        if mask is not None:
            inputs = tree.map_structure(masked, inputs, mask)
        if conditions is not None:
            checks.check_tensors("conditions", conditions)
        block = stand_in_for(self, inputs, conditions, save_at if t1 is None else t1)
        given = Given.of_call(inputs, conditions)
        with no_autocast(), integrating(block):
            state = tree.map_structure(lambda z: ops.cast(z, self.variable_dtype), inputs)
            times = block._times(t1, save_at)
            checks.check_batch(state, times, self.name)
            state = block._integrate(state, given, times, training)
            if training and block.regularization.has_penalty:
                state, penalties = state
                end = block._t1 if times is None else times[-1]
                self.add_loss(mean_penalty(penalties, block._t0, end))
            has_times = self._has_times(t1, save_at)
            behind_batch = (lambda z: ops.moveaxis(z, 0, 1)) if has_times else (lambda z: z[0])
            state = tree.map_structure(behind_batch, state)
        state = tree.map_structure(lambda z: ops.cast(z, self.compute_dtype), state)
        return self._masked(state, map(mask_of, tree.flatten(inputs)), t1, save_at)

    def _has_times(self, t1: Any, save_at: Any) -> bool:
        """Whether the output of a call has an axis of times."""
        return save_at is not None or (self.save_at is not None and t1 is None)

    def _times(self, t1: Any, save_at: Any) -> Any:
        """The times of a call, `(num_times, ...)`, if it has its own."""
        if t1 is None and save_at is None:
            return None
        checks.check_choice_of_times(t1, save_at, self.unroll, self.name)
        name, times = ("save_at", save_at) if t1 is None else ("t1", t1)
        if any(ops.is_tensor(t) or isinstance(t, keras.Variable) for t in tree.flatten(times)):
            times = ops.convert_to_tensor(times, dtype=self.time_dtype)
        else:
            # Not rounded, so that steps are not told from rounded times.
            times = arguments.reals(name, times, is_finite=False, advice="Pass times, or None.")
        checks.check_times_of_call(name, times, self.methods[0], self.name)
        if t1 is not None:
            return times[None]
        return times.T if isinstance(times, np.ndarray) else ops.transpose(times)

    def _integrate(self, z0: Any, given: Given, times: Any, training: bool | None) -> Any:
        """The states at the times, with a first axis of times."""
        forward, weights = self._forward(given, training), self._weights
        if training:
            check_times(self.regularization, times, self.name)
            forward = forward.regularized(self.regularization, z0, self._t0, self._generator)
        if isinstance(weights, ToleranceWeights):
            problem = weights.problem(None, times)
            states, statistics = forward.adaptive(weights.steps, problem, z0, weights.watch)
            weights.note(statistics, training)
            return states
        if self.unroll:
            return forward.unrolled(weights.static_grid, z0, *weights.tableaus)
        if is_in_graph(tree.flatten(z0)[0]) and not in_symbolic_scope():
            weights.note_trace()
        return forward.along(weights.grid(times), z0, tuple(weights.tableaus), weights.chosen)

    def _forward(self, given: Given, training: bool | None) -> ForwardPass:
        return ForwardPass(self.vector_field.with_given(given), self.gradient, training)

    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        if self.save_at is None:
            return previous_mask
        every = ops.ones((1, len(self.save_at)), dtype="bool")
        at_all = lambda mask: None if mask is None else at_times(mask, every)
        return tree.map_structure(at_all, previous_mask)

    def _masked(self, states: Any, masks: Iterable, t1: Any, save_at: Any) -> Any:
        """The outputs of a call, with masks where `compute_mask` does not know its times."""
        if save_at is None and (t1 is None or self.save_at is None):
            return states
        for z, mask in zip(tree.flatten(states), masks):
            if mask is not None and save_at is not None:
                # Their number may not be known.
                first = (slice(None), slice(None), *(0 for _ in z.shape[2:]))
                mask = at_times(mask, ops.ones_like(z[first], dtype="bool"))
            set_mask(z, mask)
        return states

    def compute_output_shape(self, inputs_shape: Any) -> Any:
        if self.save_at is None:
            return inputs_shape
        num_times = len(self.save_at)
        return map_shapes(lambda s: (s[0], num_times, *s[1:]), inputs_shape)

    def compute_output_spec(
        self,
        inputs: Any,
        conditions: Any = None,
        t1: Any = None,
        save_at: Any = None,
        training: bool | None = None,
        mask: Any = None,
    ) -> Any:
        checks.check_state(inputs, self.name)
        for name, times in (("t1", t1), ("save_at", save_at)):
            if times is not None:
                checks.check_times_of_call(name, times, self.methods[0], self.name)
        has_times = self._has_times(t1, save_at)
        own_times = self.save_at or ()
        axis = np.shape(own_times if save_at is None else save_at)[-1:] if has_times else ()

        def spec(z: Any) -> keras.KerasTensor:
            return keras.KerasTensor((z.shape[0], *axis, *z.shape[1:]), dtype=self.compute_dtype)

        masks = map(mask_of, tree.flatten(inputs)) if mask is None else tree.flatten(mask)
        return self._masked(tree.map_structure(spec, inputs), masks, t1, save_at)

    def trajectory(self, z: Any, conditions: Any = None) -> tuple:
        """Integrates eagerly and returns every state on the way.

        Args:
            z: Tensor of shape `(batch_size, ...)`, or nested structure: the state at `t0`.
            conditions: As in a call.

        Returns:
            Tuple of the times, of shape `(num_steps + 1,)`, and the states, of shape
            `(num_steps + 1, batch_size, ...)`, both in the block's variable dtype. With adaptive
            steps these are the accepted ones.

        Raises:
            ValueError: If every sample has adaptive steps of its own, or in a graph.
        """
        solver = self.solver
        z = arguments.tensors("z", z, advice="Pass states of the shape (batch_size, ...).")
        checks.check_state(z, self.name)
        if conditions is not None:
            conditions = arguments.tensors("conditions", conditions, advice="Pass tensors.")
        if not self.built:
            self._note_dtypes(conditions)
            shape = lambda z: tuple(z.shape)
            of_conditions = None if conditions is None else tree.map_structure(shape, conditions)
            self.build(tree.map_structure(shape, z), of_conditions)
        given = Given.of_call(z, conditions)
        z = tree.map_structure(lambda z: ops.cast(z, self.variable_dtype), z)
        weights, forward = self._weights, self._forward(given, training=False)
        if isinstance(weights, FixedStepWeights):
            return forward.trajectory(weights.static_grid, z, solver.tableau, weights.steps)
        problem = weights.problem(None)
        return forward.adaptive_trajectory(weights.steps, problem, z, weights.watch)

    def with_solver(self, solver: solvers.SolverLike, save_at: Any = None) -> "ODEBlock":
        """Returns a block with another solver, never unrolled, that shares this block's field.

        It is of the same class. A subclass's constructor is not called, as it may make a field of
        its own: what it set besides is shared too.

        Args:
            solver: A solver of `tfnode.solvers`, its name, or its serialized dictionary.
            save_at: Optional sequence of floats, other times to save at, which may lie behind
                `t1`.
        """
        solver = solvers.get(solver)
        config = {**self._config(), "solver": solver, "unroll": False}
        if save_at is not None:
            times = arguments.reals("save_at", save_at, advice="Pass times, or None.")
            furthest = max if self.t1 > self.t0 else min
            config.update(save_at=times, t1=furthest([self.t1, *times.ravel()]))
        if self.gradient == "adjoint" and not isinstance(solver, solvers.DormandPrince):
            config["gradient"] = "discrete_adjoint"
        block = type(self).__new__(type(self))
        ODEBlock.__init__(block, self.field, **config)
        block.built = self.built
        own = attributes(self)
        for name in own.keys() - attributes(block):
            setattr(block, name, own[name])
        return block

    # === What a user reads and sets ===
    @property
    def t0(self) -> float:
        """Float, the time of the input. It is fixed: a graph that was traced would keep it."""
        return self._t0

    @t0.setter
    def t0(self, value: float) -> None:
        self._refuse_time("t0", value, "Build another block with the same field.")

    @property
    def t1(self) -> float:
        """Float, the time of the output, fixed as `t0`; a call may be given another one."""
        return self._t1

    @t1.setter
    def t1(self, value: float) -> None:
        self._refuse_time("t1", value, "Call the block with another end: `block(z, t1=...)`.")

    def _refuse_time(self, name: str, value: Any, advice: str) -> None:
        raise AttributeError(
            "The interval of a block is fixed: a graph that was traced would keep the old one. "
            f"Received: {name}={value} for {self.name!r}. {advice}"
        )

    @property
    def length(self) -> float:
        """Float, the length of the interval of integration."""
        return abs(self._t1 - self._t0)

    @property
    def time_dtype(self) -> str:
        """String, the dtype of times: they need more than half precision."""
        return "float64" if self.variable_dtype == "float64" else "float32"

    @property
    def solver(self) -> Any:
        """The solver at the present step size or tolerances.

        A solver can be assigned: another fixed-step method with its step size, or the same
        adaptive method with other tolerances. A graph that was traced before takes the new step
        size or tolerances; it takes the new method if that was one of `methods`, else it keeps the
        old one, of which there is a warning.

        Raises:
            ValueError: On assignment, between fixed and adaptive steps; `tfnode.with_solver`
                makes a new model.
        """
        return self._weights.solver

    @solver.setter
    def solver(self, solver: solvers.SolverLike) -> None:
        self._weights.assign(solvers.get(solver))

    @property
    def methods(self) -> tuple[solvers.Solver, ...]:
        """The methods between which a graph can change without retracing.

        One, unless others are assigned, for fixed steps; the present one must be among them. Each
        step then asks a weight which of them it takes.
        """
        return self._weights.methods

    @methods.setter
    def methods(self, methods: Sequence[solvers.FixedStepSolver]) -> None:
        advice = "Pass solvers with fixed steps, the present one among them."
        methods = arguments.items("methods", methods, "solvers", advice=advice)
        checked = (solvers.check_solver(method, solvers.FixedStepSolver) for method in methods)
        self._fixed("methods").allow(tuple(checked))

    @property
    def is_stale(self) -> bool:
        """Whether a graph that was traced before has other methods than these, and keeps them.

        `model.compile` drops those of a model.
        """
        return isinstance(self._weights, FixedStepWeights) and self._weights.is_stale

    @property
    def step_size(self) -> Any:
        """Scalar non-trainable weight, the step size. Assign a float to change it.

        Raises:
            ValueError: On assignment, if the step size is not positive and finite, longer than
                the interval, too small for the compiled loop, or if the block is unrolled. Always,
                if the block has adaptive steps.
        """
        return self._fixed("step_size").step_size

    @step_size.setter
    def step_size(self, value: float) -> None:
        self._fixed("step_size").assign_number("step_size", value)

    @property
    def min_step_size(self) -> float:
        """Float, the finest step that the compiled loop takes; for fixed steps.

        The loop is as long as the solver needs that the block is built with, and takes 512 steps at
        least. A block with a finer solver has a longer one.
        """
        return self._fixed("min_step_size").steps.min_step_size

    @property
    def num_steps(self) -> int:
        """Integer, the steps of one forward pass at the present step size; for fixed steps."""
        return self._fixed("num_steps").counts()[0]

    @property
    def rtol(self) -> Any:
        """Scalar non-trainable weight, the relative tolerance. Assign a float to change it.

        Raises:
            ValueError: On assignment, if the tolerance is not finite or below `min_tolerance`.
                Always, if the block has fixed steps.
        """
        return self._adaptive("rtol").rtol

    @rtol.setter
    def rtol(self, value: float) -> None:
        self._adaptive("rtol").assign_number("rtol", value)

    @property
    def atol(self) -> Any:
        """Scalar non-trainable weight, the absolute tolerance; as `rtol`."""
        return self._adaptive("atol").atol

    @atol.setter
    def atol(self, value: float) -> None:
        self._adaptive("atol").assign_number("atol", value)

    @property
    def min_tolerance(self) -> float:
        """Float, the least tolerance that the block's dtype can meet; for adaptive steps."""
        return self._adaptive("min_tolerance").steps.min_tolerance

    @property
    def nfe(self) -> int:
        """Integer, the evaluations of the field in one forward pass.

        With fixed steps these are steps times stages, at the present step size; with adaptive
        steps those of the latest call.
        """
        return self._weights.nfe

    @property
    def statistics(self) -> Statistics:
        """`Statistics` of the latest call: evaluations, accepted, rejected; for adaptive steps."""
        return self._adaptive("statistics").statistics

    @property
    def training_evaluations(self) -> int:
        """Integer, the evaluations of all forward passes in training; for adaptive steps."""
        return self._adaptive("training_evaluations").training_evaluations

    @property
    def adaption_memory(self) -> Any:
        """Non-trainable weight of shape `(8,)`: 1 once a rule has adapted the solver, and what it
        remembers. It lies beside the step size, so that both are saved and restored together."""
        return self._memory

    def _fixed(self, name: str) -> FixedStepWeights:
        if isinstance(self._weights, FixedStepWeights):
            return self._weights
        raise ValueError(
            "A block with adaptive steps has tolerances, and no step size. "
            f"Received: {name} of {self.name!r} with {self.solver}. Use `rtol` and `atol`, "
            "and `statistics` for the steps that were taken."
        )

    def _adaptive(self, name: str) -> ToleranceWeights:
        if isinstance(self._weights, ToleranceWeights):
            return self._weights
        raise ValueError(
            "A block with fixed steps has a step size, and no tolerances. "
            f"Received: {name} of {self.name!r} with {self.solver}. Use `step_size`, "
            "`num_steps` and `nfe`."
        )

    def summary(self, print_fn: Callable[[str], Any] = print) -> None:
        """Prints the solver with its steps and evaluations, what integrates, and the field.

        `model.summary()` names layers and counts only; this names what the block does.

        Args:
            print_fn: Callable that takes a string, called once a line.
        """
        arguments.function("print_fn", print_fn, advice="Leave it out to print.")
        given = "t, z" if self.time_dependent else "z"
        print_fn(f"{self.name}: dz/dt = {self.field.name}({given}), t = {self.t0} .. {self.t1}")
        print_fn(f"solver: {self.solver}, {self._weights.describe()}")
        print_fn(f"gradient: {self.gradient}{', unrolled' if self.unroll else ''}")
        if self.regularization != Regularization():
            print_fn(f"in training: {self.regularization}")
        if isinstance(self.field, keras.Model):
            self.field.summary(print_fn=print_fn)
        else:
            print_fn(f"field: {type(self.field).__name__}, {self.field.count_params()} parameters")

    # === How it is saved ===
    def get_config(self) -> dict:
        return {"field": keras.saving.serialize_keras_object(self.field), **self._config()}

    def _config(self) -> dict:
        """The configuration without the field, which a new block may share."""
        return {
            **super().get_config(),
            "solver": solvers.serialize(self.solver),
            "t0": self.t0,
            "t1": self.t1,
            "time_dependent": self.time_dependent,
            "save_at": self.save_at,
            "gradient": self.gradient,
            "unroll": self.unroll,
            "regularization": dataclasses.asdict(self.regularization),
        }

    def get_build_config(self) -> dict | None:
        config = super().get_build_config()
        return config and {**config, "conditions_dtypes": self._dtypes}

    def build_from_config(self, config: dict) -> None:
        self._dtypes = config.get("conditions_dtypes")
        super().build_from_config(config)

    @classmethod
    def from_config(cls, config: dict) -> "ODEBlock":
        config = dict(config)
        config["field"] = keras.saving.deserialize_keras_object(config["field"])
        return cls(**config)

    def save_own_variables(self, store: Any) -> None:
        solver_weights.save(self._weights, self._memory, store)
        if self._generator is not None:
            # Keras saves no generator, and a training that is taken up would draw again.
            store[solver_weights.RANDOM_STATE] = solver_weights.read(self._generator.state)

    def load_own_variables(self, store: Any) -> None:
        solver_weights.load(self._weights, self._memory, store)
        if self._generator is not None and solver_weights.RANDOM_STATE in store:
            state = self._generator.state
            state.assign(np.asarray(store[solver_weights.RANDOM_STATE]).astype(state.dtype))
