"""One training run of the paper, from a seed to a dictionary of results."""

import dataclasses
import importlib.metadata
import logging
import os
import platform
import time

import keras
import tensorflow as tf

import tfnode
import tfnode.adaption
import tfnode.callbacks
import zoo

# The fine solver that stands for the exact flow.
FINE = tfnode.solvers.RK4(1 / 256)

# The trajectories of a figure.
_NUM_PATHS = 30

# XLA pays for dense fields; for convolutions TensorFlow's own kernels are faster.
_COMPILED = ("energy_landscape",)

# oneDNN's dispatch costs more than it gives on the tiny convolutions of the spheres.
ENVIRONMENT = {"TF_ENABLE_ONEDNN_OPTS": "0"}


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
        policy: String, the rule of step adaption.
        batch_size: Integer in place of the recipe's, or None.
        test_samples: Integer, the first test samples to measure accuracies on; None for all.
        paths: Boolean, whether some trajectories are kept.
    """

    model: str
    num_steps: int | None
    seed: int
    iterations: int
    solver: str = "euler"
    tolerance: float | None = None
    policy: str = "paper"
    batch_size: int | None = None
    test_samples: int | None = None
    paths: bool = False

    @property
    def adapts(self):
        return self.num_steps is None and self.tolerance is None

    @property
    def path(self):
        if self.adapts:
            method = {"paper": "adaption"}.get(self.policy, self.policy)
        else:
            method = f"k{self.num_steps:03d}" if self.num_steps else f"tol{self.tolerance:g}"
        parts = [self.solver, method, str(self.iterations)]
        parts += [f"batch{self.batch_size}"] * (self.batch_size is not None)
        parts += [f"test{self.test_samples}"] * (self.test_samples is not None)
        parts += [f"seed{self.seed}"] + ["paths"] * self.paths
        return f"{self.model}/{'_'.join(parts)}.json"

    @property
    def cost(self):
        """About the evaluations of the field, with the fixed cost of an iteration as 16 of them."""
        solver = tfnode.solvers.get(self.solver)
        evaluations = self.num_steps * solver.tableau.num_stages if self.num_steps else 64
        return self.iterations * (16 + evaluations)

    def start_solver(self):
        """The solver that training begins with; Hairer's rule replaces the step of adaption."""
        if self.tolerance is not None:
            return tfnode.solvers.get(self.solver).with_tolerance(self.tolerance)
        return tfnode.solvers.get(self.solver, 1 / (self.num_steps or 32))


def train(run, report):
    """Trains one run and returns its results as plain values.

    Args:
        run: `Run`.
        report: Callable that is told the finished fraction of the training.
    """
    return fit(run, report)[1]


def fit(run, report):
    """Trains one run; returns the model and its results as plain values."""
    start = time.perf_counter()
    # Each run compiles models of its own, which TensorFlow takes for needless retracing.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    keras.backend.clear_session()
    keras.utils.set_random_seed(run.seed)
    model = _compiled(run)
    test = _test_data(run)
    step_adaption = None
    if run.adapts:
        # A dataset of its own: two iterators over one shuffled dataset race for random numbers.
        step_adaption = tfnode.StepAdaption(_train_data(run, run.seed + 1000), policy=run.policy)
    curve = TestCurve(test, run.iterations, report)
    callbacks = [curve] if step_adaption is None else [step_adaption, curve]
    result = {"run": dataclasses.asdict(run), "versions": versions()}
    try:
        data = _train_data(run, run.seed).repeat().take(run.iterations)
        history = model.fit(data, shuffle=False, callbacks=callbacks, verbose=0)
    except (FloatingPointError, tf.errors.InvalidArgumentError) as error:
        return model, {**result, "error": str(error)}
    # Keras's mean over the whole training.
    result["loss"] = history.history["loss"][-1]
    result |= final_accuracies(model, test)
    result["sweep"] = sweep(model, test)
    result["test_curve"] = _columns(curve.records)
    if run.paths:
        result["paths"] = paths(model, test[0])
    if step_adaption is not None:
        result["nfe_per_iteration"] = step_adaption.nfe_per_iteration
        result["nfe_per_iteration_with_checks"] = step_adaption.nfe_per_iteration_with_checks
        result["history"] = _columns(step_adaption.history)
    result["seconds"] = round(time.perf_counter() - start, 1)
    return model, result


def _compiled(run):
    recipe = zoo.get_recipe(run.model)
    model = zoo.get_model(run.model, solver=run.start_solver())
    model.compile(
        recipe.build_optimizer(),
        recipe.build_loss(),
        metrics=["accuracy"],
        jit_compile=run.model in _COMPILED and run.tolerance is None,
        steps_per_execution=50,
    )
    return model


def _train_data(run, seed):
    recipe = zoo.get_recipe(run.model)
    batch_size = run.batch_size or recipe.batch_size
    return tfnode.datasets.load(recipe.dataset, "train", batch_size, seed=seed)


def _test_data(run):
    x, y = tfnode.datasets.load(zoo.get_recipe(run.model).dataset, "test", as_numpy=True)
    return x[: run.test_samples], y[: run.test_samples]


class TestCurve(keras.callbacks.Callback):
    """Test accuracy at about 100 times of a training, and at each tenth also with better solvers.

    It stops a training whose loss is no longer finite, as `StepAdaption` does.
    """

    def __init__(self, test, iterations, report):
        super().__init__()
        self._test = test
        self._iterations = iterations
        self._report = report
        # In whole executions of 50 iterations.
        self._every = 50 * max(1, iterations // 5000)
        self._solvers_every = 10 * self._every
        self.records = []

    def on_train_begin(self, logs=None):
        self._twins = {}

    def on_train_batch_end(self, batch, logs=None):
        iteration = int(self.model.optimizer.iterations)
        solver = self.model.get_layer("ode_block").solver
        tfnode.callbacks.check_loss(logs, iteration, f"solver={solver}")
        self._report(iteration / self._iterations)
        if iteration % self._every:
            return
        record = {"iteration": iteration, "num_steps": None, "midpoint": None, "rk4": None}
        record["train_solver"] = self._accuracy_under(solver)
        if isinstance(solver, tfnode.solvers.FixedStepSolver):
            record["num_steps"] = self.model.get_layer("ode_block").num_steps
            if iteration % self._solvers_every == 0:
                for better in (tfnode.solvers.Midpoint, tfnode.solvers.RK4):
                    name = better.tableau.name
                    record[name] = self._accuracy_under(better(solver.step_size))
        self.records.append(record)

    def _accuracy_under(self, solver):
        # One compiled twin a method; it takes another step size without retracing.
        if type(solver) not in self._twins:
            self._twins[type(solver)] = _evaluator(self.model, solver)
        twin = self._twins[type(solver)]
        twin.get_layer("ode_block").solver = solver
        return _accuracy(twin, self._test)


def final_accuracies(model, test):
    """The test accuracies of a trained model under its own solver and under better ones."""
    block = model.get_layer("ode_block")
    if isinstance(block.solver, tfnode.solvers.FixedStepSolver):
        reference, num_steps = tfnode.adaption.reference_solver(block.solver), block.num_steps
    else:
        reference, num_steps = tfnode.adaption.tighter_solver(block.solver), None
    solvers = {"train_solver": block.solver, "reference": reference, "rk4_fine": FINE}
    return {
        "accuracy": {name: _accuracy(_evaluator(model, s), test) for name, s in solvers.items()},
        "solvers": {name: tfnode.solvers.serialize(s) for name, s in solvers.items()},
        "num_steps": num_steps,
    }


def sweep(model, test):
    """The test accuracies under every solver and step size of the paper's section 4.1, as columns.

    The factors apply to the step size, or to the tolerance; steps longer than the interval are
    left out.
    """
    names = ("solver", "factor", "step_size", "tolerance")
    return _columns(
        [
            {**{name: getattr(row, name) for name in names}, "accuracy": round(row.accuracy, 6)}
            for row in tfnode.validity.sweep(model, test, verbose=0)
        ]
    )


def paths(model, x):
    """The trajectories of the first test samples, their classes and crossings."""
    x = x[:_NUM_PATHS]
    found = tfnode.validity.crossings(model, x)
    # About 64 states of each: more would not be seen.
    every = max(1, (len(found.states) - 1) // 64)
    return {
        "states": found.states[::every].round(4).tolist(),
        "classes": model.predict(x, verbose=0).argmax(axis=-1).tolist(),
        "num_steps": len(found.states) - 1,
        "crossings": found.count,
        "points": found.points.round(4).tolist(),
    }


def versions():
    """The versions that a result depends on, and the machine."""
    packages = ("tensorflow", "keras", "numpy")
    return {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in packages},
        "tfnode": tfnode.__version__,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def _evaluator(model, solver):
    twin = tfnode.with_solver(model, solver)
    twin.compile(loss=model.loss, metrics=["accuracy"], jit_compile=False)
    return twin


def _accuracy(model, test):
    logs = model.evaluate(*test, batch_size=1000, verbose=0, return_dict=True)
    return round(logs["accuracy"], 6)


def _columns(records):
    return {name: [record[name] for record in records] for name in records[0]} if records else {}
