"""`Run`: what a training is, as frozen data, with the path of its result."""

import dataclasses
import math
from typing import Any

import tfnode
import zoo
from scripts.paper.rules import WithoutLookAhead

Solver = tfnode.solvers.FixedStepSolver | tfnode.solvers.AdaptiveSolver
# What the JSON file of a run holds.
Result = dict[str, Any]

# RK4 that stands for the exact flow of images, whose fields are expensive.
RK4_STEPS_OF_IMAGES = 64

# The iterations that are compiled into one call, unless more checks are asked for.
ITERATIONS_AT_ONCE = 50

# What its files end in, beside that of the result.
WEIGHTS = ".weights.h5"
REPORT = ".report.json"

# What a path says of a run where it is not the default.
_IN_PATHS = {
    "weights": "from_{}",
    "start_steps": "start{}",
    "threshold": "threshold{}",
    "shrink": "shrink{}",
    "growth": "growth{}",
    "check_every": "every{}",
    "check_samples": "check{}",
    "check_split": "on_{}",
    "look_ahead": "lookahead{}",
    "average": "average{}",
    "optimizer": "{}",
    "learning_rate": "rate{}",
    "batch_size": "batch{}",
    "test_samples": "test{}",
    "rk4_steps": "rk4{:03d}",
    "dtype": "{}",
    "scale": "inputs{}",
    "t1": "time{}",
    "kinetic": "kinetic{}",
    "jacobian": "jacobian{}",
    "end_time": "end{}",
}


@dataclasses.dataclass(frozen=True)
class Run:
    """One training: with a fixed number of steps, with a fixed tolerance, or with step adaption.

    Args:
        model: String, a model of the zoo.
        num_steps: Integer, the fixed number of steps; None for a tolerance or for step adaption.
        seed: Integer.
        iterations: Integer, optimizer steps.
        solver: String, the name of the method, with step adaption of the first one.
        tolerance: Float of an adaptive method, else None.
        policy: String, the rule of step adaption, or `"tolerance"` for that of an adaptive method.
        weights: String, the pretrained weights to start from; None for fresh ones.
        start_steps: Integer, the steps that step adaption starts with; None for Hairer's rule.
        threshold: Float in place of that of the paper's rule, or None; likewise `shrink` and
            `growth`.
        check_every: Integer, the iterations between its checks.
        check_samples: Integer, the samples of a check; None for those of a batch.
        check_split: String, the split of the data that they are of.
        look_ahead: Boolean, whether the paper's rule tries a longer step before it takes it.
        average: Float, the momentum of the moving average of the weights that ends the training, or
            None for the last weights.
        optimizer: String in place of the recipe's, or None; likewise `learning_rate` and
            `batch_size`.
        test_samples: Integer, the first test samples to measure accuracies on; None for all.
        rk4_steps: Integer, the steps of the RK4 that stands for the exact flow, in each unit of
            time.
        paths: Boolean, whether some trajectories are kept.
        gradient: String, that of the ODE block; results agree up to rounding.
        dtype: String, Keras's name of the dtype policy of the training; what is measured when it
            has ended is measured in float32.
        scale: Float by which all inputs are multiplied.
        t1: Float, the end of the integration, in place of 1.
        kinetic: Float, as in `tfnode.Regularization`; likewise `jacobian` and `end_time`.
    """

    model: str
    num_steps: int | None
    seed: int
    iterations: int
    solver: str = "euler"
    tolerance: float | None = None
    policy: str = "paper"
    weights: str | None = None
    start_steps: int | None = None
    threshold: float | None = None
    shrink: float | None = None
    growth: float | None = None
    check_every: int = 50
    check_samples: int | None = None
    check_split: str = "train"
    look_ahead: bool = True
    average: float | None = None
    optimizer: str | None = None
    learning_rate: float | None = None
    batch_size: int | None = None
    test_samples: int | None = None
    rk4_steps: int = 256
    paths: bool = False
    gradient: str = "discrete_adjoint"
    dtype: str = "float32"
    scale: float = 1.0
    t1: float = 1.0
    kinetic: float = 0.0
    jacobian: float = 0.0
    end_time: float = 0.0

    def __post_init__(self) -> None:
        changed = [self.threshold, self.shrink, self.growth]
        if self.policy != "paper" and (not self.look_ahead or changed != [None] * 3):
            raise ValueError(
                "The constants and the look-ahead are those of the paper's rule. "
                f"Received: policy={self.policy!r} with threshold={self.threshold}, "
                f"shrink={self.shrink}, growth={self.growth} and look_ahead={self.look_ahead}. "
                "Leave these out."
            )

    @property
    def adapts(self) -> bool:
        return self.num_steps is None and self.tolerance is None

    @property
    def iterations_at_once(self) -> int:
        """The iterations between two looks at the training: no check of step adaption waits."""
        return math.gcd(ITERATIONS_AT_ONCE, self.check_every)

    @property
    def path(self) -> str:
        if self.adapts:
            method = {"paper": "adaption"}.get(self.policy, self.policy)
        else:
            method = f"k{self.num_steps:03d}" if self.num_steps else f"tol{self.tolerance:g}"
        parts = [self.solver, method, str(self.iterations)]
        for name, form in _IN_PATHS.items():
            if (value := getattr(self, name)) != getattr(Run, name):
                parts.append(form.format(value))
        parts += [f"seed{self.seed}"] + ["paths"] * self.paths
        return f"{self.model}/{'_'.join(parts)}.json"

    @property
    def weights_path(self) -> str:
        """Where its weights lie, if they are kept."""
        return self.path.removesuffix(".json") + WEIGHTS

    @property
    def report_path(self) -> str:
        """Where the verdict on its model lies, if it was judged."""
        return self.path.removesuffix(".json") + REPORT

    @property
    def nfe(self) -> int | None:
        """The evaluations of the field in a forward pass with a fixed number of steps."""
        stages = tfnode.solvers.get(self.solver).tableau.num_stages
        return self.num_steps * stages if self.num_steps else None

    @property
    def cost(self) -> int:
        """About the evaluations of the field, with the fixed cost of an iteration as 16 of them."""
        return self.iterations * (16 + (self.nfe or 64))

    def start_solver(self) -> Solver:
        """The solver of the model before training; Hairer's rule may replace its step."""
        if self.tolerance is not None:
            return tfnode.solvers.get(self.solver).with_tolerance(self.tolerance)
        if self.policy == "tolerance":
            return tfnode.solvers.get(self.solver)
        num_steps = self.num_steps or self.start_steps or 32
        return tfnode.solvers.get(self.solver, self.t1 / num_steps)

    def rule(self) -> str | tfnode.adaption.StepRule:
        """The rule of step adaption: that of the name, or the paper's with something changed."""
        names = ("threshold", "shrink", "growth")
        constants = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        if not self.look_ahead:
            return WithoutLookAhead(**constants)
        return tfnode.adaption.StepRule(**constants) if constants else self.policy

    def regularization(self) -> tfnode.Regularization:
        """The regularization of the ODE block, which draws by the seed of the run."""
        return tfnode.Regularization(self.kinetic, self.jacobian, self.end_time, self.seed)

    def recipe(self) -> zoo.Recipe:
        """The `zoo.Recipe` of the model, with what the run has in its place."""
        changes = {
            name: getattr(self, name)
            for name in ("optimizer", "learning_rate", "batch_size")
            if getattr(self, name) is not None
        }
        recipe = zoo.get_recipe(self.model)
        return dataclasses.replace(recipe, iterations=self.iterations, **changes)
