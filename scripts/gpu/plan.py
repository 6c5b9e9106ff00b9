"""Which runs there are, in the order of their worth, and how long each will take."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import tfnode
import zoo
from scripts.models import IMAGES
from scripts.paper.runs import RK4_STEPS_OF_IMAGES, Run
from scripts.publishing import measuring
from scripts.publishing.recipes import RECIPES

# model -> seeds of the paper's rule, fixed numbers of steps in the order of their worth
_PLANS = {
    "mnist": (5, (4, 8, 16, 32, 64, 1, 2)),
    "cifar10": (3, (8, 16, 32)),
    "cifar10_conv": (0, ()),
}
_PLAN_OF_OTHERS = (1, (8,))
# What step adaption is assumed to take, from the paper's table and a margin.
_EVALUATIONS = {"mnist": 12, "cifar10": 26, "cifar10_conv": 16}
_EVALUATIONS_OF_OTHERS = 64


def runs(models: Sequence[str], iterations: int | None, **options: Any) -> list[Run]:
    """Returns the runs of some models, the most telling first.

    Args:
        models: Names of the zoo.
        iterations: Integer in place of the paper's, or None.
        **options: Further ones of every `Run`.
    """
    found = []
    for model in models:
        seeds, grid = _PLANS.get(model, _PLAN_OF_OTHERS)
        found += [_run(model, None, seed, iterations, options) for seed in range(seeds)]
        found += [_run(model, k, 0, iterations, options) for k in grid]
    for model in models:
        recipe = RECIPES["rk4_damped_from_one" if model == "cifar10_conv" else "rk4_damped"][0]
        found.append(_run(model, None, 0, iterations, {**options, **recipe}))
    return found


def _run(
    model: str, num_steps: int | None, seed: int, iterations: int | None, options: dict
) -> Run:
    steps = RK4_STEPS_OF_IMAGES if model in IMAGES else measuring.extent(model)["rk4_steps"]
    options = {"rk4_steps": steps, **options}
    iterations = iterations or zoo.get_recipe(model).iterations
    return Run(model, num_steps, seed, iterations, **options)


@dataclasses.dataclass
class Estimate:
    """How long the runs of a model take, from a timing of its training step.

    Args:
        seconds_per_iteration: Float, without the evaluations of the field.
        seconds_per_evaluation: Float, of one evaluation in one iteration, forward and backward.
        seconds_per_run: Float, what a run takes beside its iterations.
        correction: Float, by which finished runs were longer.
    """

    seconds_per_iteration: float
    seconds_per_evaluation: float
    seconds_per_run: float
    correction: float = 1.0

    def of(self, run: Run) -> float:
        """The seconds of a run."""
        return self.correction * self._uncorrected(run)

    def learn(self, run: Run, seconds: float) -> None:
        """Takes the time of a finished run into account, which may have begun at a checkpoint."""
        self.correction = min(3.0, max(0.7, seconds / self._uncorrected(run)))

    def _uncorrected(self, run: Run) -> float:
        evaluations = _EVALUATIONS.get(run.model, _EVALUATIONS_OF_OTHERS)
        if run.num_steps:
            stages = tfnode.solvers.get(run.solver).tableau.num_stages
            evaluations = run.num_steps * stages
        # The curve, the sweep and the final accuracies grow with the evaluations as well: together
        # about as many test samples as a fifth of those of the training.
        seconds = self.seconds_per_iteration + 1.2 * evaluations * self.seconds_per_evaluation
        return self.seconds_per_run + run.iterations * seconds


def choose(pending: Sequence[Run], estimates: dict[str, Estimate], seconds: float) -> Run:
    """The first run that ends within the time; if there is none, the first, to be gone on with."""
    fitting = (run for run in pending if estimates[run.model].of(run) <= seconds)
    return next(fitting, pending[0])
