"""What a user reads and sets of a block's solver: step size or tolerances, steps, evaluations."""

from tfnode import solvers
from tfnode.adaptive_steps import AdaptiveSteps
from tfnode.fixed_steps import FixedSteps


class SolverProperties:
    """The properties of an `ODEBlock` that its `_steps`, fixed or adaptive ones, answer for."""

    @property
    def solver(self):
        """The solver at the present step size or tolerances.

        A solver can be assigned: another fixed-step method with its step size, or the same
        adaptive method with other tolerances. A graph that was traced before keeps the old
        method, and takes the new step size or tolerances.

        Raises:
            ValueError: On assignment, between fixed and adaptive steps; `tfnode.with_solver`
                makes a new model.
        """
        return self._steps.solver

    @solver.setter
    def solver(self, solver):
        self._steps.solver = solvers.get(solver)

    @property
    def step_size(self):
        """Scalar non-trainable weight, the step size. Assign a float to change it.

        Raises:
            ValueError: On assignment, if the step size is not positive and finite, longer than
                the interval, too small for the compiled loop, or if the block is unrolled. Always,
                if the block has adaptive steps.
        """
        return self._fixed("step_size").step_size

    @step_size.setter
    def step_size(self, value):
        self._fixed("step_size").assign(value)

    @property
    def num_steps(self):
        """Integer, the steps of one forward pass at the present step size; for fixed steps."""
        return self._fixed("num_steps").num_steps

    @property
    def rtol(self):
        """Scalar non-trainable weight, the relative tolerance. Assign a float to change it.

        Raises:
            ValueError: On assignment, if the tolerance is not finite or below `min_tolerance`.
                Always, if the block has fixed steps.
        """
        return self._adaptive("rtol").tolerance("rtol")

    @rtol.setter
    def rtol(self, value):
        self._adaptive("rtol").assign("rtol", value)

    @property
    def atol(self):
        """Scalar non-trainable weight, the absolute tolerance; as `rtol`."""
        return self._adaptive("atol").tolerance("atol")

    @atol.setter
    def atol(self, value):
        self._adaptive("atol").assign("atol", value)

    @property
    def min_tolerance(self):
        """Float, the least tolerance that the block's dtype can meet; for adaptive steps."""
        return self._adaptive("min_tolerance").min_tolerance

    @property
    def nfe(self):
        """Integer, the evaluations of the field in one forward pass.

        With fixed steps these are steps times stages, at the present step size; with adaptive
        steps those of the latest call.
        """
        return self._steps.nfe

    @property
    def statistics(self):
        """`tfnode.adaptive.Statistics` of the latest call: evaluations, accepted, rejected."""
        return self._adaptive("statistics").statistics

    @property
    def training_evaluations(self):
        """Integer, the evaluations of all forward passes in training; for adaptive steps."""
        return self._adaptive("training_evaluations").training_evaluations

    def _fixed(self, name):
        if not isinstance(self._steps, FixedSteps):
            raise ValueError(
                "A block with adaptive steps has tolerances, and no step size. "
                f"Received: {name} of {self.name!r} with {self.solver}. Use `rtol` and `atol`, "
                "and `statistics` for the steps that were taken."
            )
        return self._steps

    def _adaptive(self, name):
        if not isinstance(self._steps, AdaptiveSteps):
            raise ValueError(
                "A block with fixed steps has a step size, and no tolerances. "
                f"Received: {name} of {self.name!r} with {self.solver}. Use `step_size`, "
                "`num_steps` and `nfe`."
            )
        return self._steps
