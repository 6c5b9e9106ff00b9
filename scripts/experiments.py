"""One training run of the paper, from a seed to a dictionary of results."""

import dataclasses
import importlib.metadata
import logging
import os
import platform
import time

import checkpoints
import keras
import tensorflow as tf

import tfnode
import tfnode.adaption
import tfnode.callbacks
import zoo

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
        start_steps: Integer, the steps that step adaption starts with; None for Hairer's rule.
        check_every: Integer, the iterations between its checks.
        check_samples: Integer, the samples of a check; None for those of a batch.
        average: Float, the momentum of the moving average of the weights that ends the training, or
            None for the last weights.
        optimizer: String in place of the recipe's, or None; likewise `learning_rate` and
            `batch_size`.
        test_samples: Integer, the first test samples to measure accuracies on; None for all.
        rk4_steps: Integer, the steps of the RK4 that stands for the exact flow.
        paths: Boolean, whether some trajectories are kept.
        gradient: String, that of the ODE block; results agree up to rounding.
    """

    model: str
    num_steps: int | None
    seed: int
    iterations: int
    solver: str = "euler"
    tolerance: float | None = None
    policy: str = "paper"
    start_steps: int | None = None
    check_every: int = 50
    check_samples: int | None = None
    average: float | None = None
    optimizer: str | None = None
    learning_rate: float | None = None
    batch_size: int | None = None
    test_samples: int | None = None
    rk4_steps: int = 256
    paths: bool = False
    gradient: str = "discrete_adjoint"

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
        parts += [f"start{self.start_steps}"] * (self.start_steps is not None)
        parts += [f"every{self.check_every}"] * (self.check_every != Run.check_every)
        parts += [f"check{self.check_samples}"] * (self.check_samples is not None)
        parts += [f"average{self.average}"] * (self.average is not None)
        parts += [self.optimizer] * (self.optimizer is not None)
        parts += [f"rate{self.learning_rate}"] * (self.learning_rate is not None)
        parts += [f"batch{self.batch_size}"] * (self.batch_size is not None)
        parts += [f"test{self.test_samples}"] * (self.test_samples is not None)
        parts += [f"rk4{self.rk4_steps:03d}"] * (self.rk4_steps != Run.rk4_steps)
        parts += [f"seed{self.seed}"] + ["paths"] * self.paths
        return f"{self.model}/{'_'.join(parts)}.json"

    @property
    def cost(self):
        """About the evaluations of the field, with the fixed cost of an iteration as 16 of them."""
        solver = tfnode.solvers.get(self.solver)
        evaluations = self.num_steps * solver.tableau.num_stages if self.num_steps else 64
        return self.iterations * (16 + evaluations)

    def start_solver(self):
        """The solver of the model before training; Hairer's rule may replace its step."""
        if self.tolerance is not None:
            return tfnode.solvers.get(self.solver).with_tolerance(self.tolerance)
        return tfnode.solvers.get(self.solver, 1 / (self.num_steps or self.start_steps or 32))

    def recipe(self):
        """The `zoo.Recipe` of the model, with what the run has in its place."""
        changes = {
            name: getattr(self, name)
            for name in ("optimizer", "learning_rate", "batch_size")
            if getattr(self, name) is not None
        }
        recipe = zoo.get_recipe(self.model)
        return dataclasses.replace(recipe, iterations=self.iterations, **changes)


def train(run, report):
    """Trains one run and returns its results as plain values.

    Args:
        run: `Run`.
        report: Callable that is told the finished fraction of the training.
    """
    return fit(run, report)[1]


def fit(run, report, directory=None):
    """Trains one run; returns the model and its results as plain values.

    Args:
        run: `Run`.
        report: Callable that is told the finished fraction of the training.
        directory: Optional `pathlib.Path` of checkpoints. A training that was interrupted is taken
            up from the last of them, to the same model and results; only the rounding of `loss` may
            differ, and `seconds`, which leaves out what was lost.

    Raises:
        ValueError: If the checkpoint is of another run, or of other versions.
    """
    start = time.perf_counter()
    # Each run compiles models of its own, which TensorFlow takes for needless retracing.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    keras.backend.clear_session()
    keras.utils.set_random_seed(run.seed)
    result = {"run": dataclasses.asdict(run), "versions": versions()}
    found = checkpoints.load(directory, result) if directory else None
    model, states = found or (_compiled(run), {})
    test = _test_data(run)
    callbacks = {"curve": TestCurve(test, run.iterations, report)}
    if run.adapts:
        callbacks = {"step_adaption": _step_adaption(run), **callbacks}
    for name, state in states.items():
        callbacks[name].set_state(state)
    every = list(callbacks.values())
    if directory:
        every.append(checkpoints.Checkpoint(directory, result.copy(), callbacks))
    try:
        _train(model, run, every)
    except (FloatingPointError, tf.errors.InvalidArgumentError) as error:
        return model, {**result, "error": str(error)}
    step_adaption, curve = callbacks.get("step_adaption"), callbacks["curve"]
    result["loss"] = curve.loss
    result |= final_accuracies(model, test, run.rk4_steps)
    result["sweep"] = sweep(model, test)
    result["test_curve"] = _columns(curve.records)
    if run.paths:
        result["paths"] = paths(model, test[0])
    if step_adaption is not None:
        result["nfe_per_iteration"] = step_adaption.nfe_per_iteration
        result["nfe_per_iteration_with_checks"] = step_adaption.nfe_per_iteration_with_checks
        result["history"] = _columns(step_adaption.history)
    result["seconds"] = round(curve.before["seconds"] + time.perf_counter() - start, 1)
    return model, result


def _train(model, run, callbacks):
    done = int(model.optimizer.iterations)
    if done < run.iterations:
        data = _train_data(run, run.seed).repeat().skip(done).take(run.iterations - done)
        model.fit(data, shuffle=False, callbacks=callbacks, verbose=0)


def _step_adaption(run):
    # A dataset of its own: two iterators over one shuffled dataset race for random numbers.
    data = _train_data(run, run.seed + 1000, run.check_samples)
    start = 1 / run.start_steps if run.start_steps else "auto"
    return tfnode.StepAdaption(data, run.check_every, run.policy, initial_step_size=start)


def _compiled(run):
    recipe = run.recipe()
    optimizer = recipe.build_optimizer()
    if run.average is not None:
        optimizer.use_ema, optimizer.ema_momentum = True, run.average
    model = zoo.get_model(run.model, solver=run.start_solver())
    model.get_layer("ode_block").gradient = run.gradient
    model.compile(
        optimizer,
        recipe.build_loss(),
        metrics=["accuracy"],
        jit_compile=run.model in _COMPILED and run.tolerance is None,
        steps_per_execution=50,
    )
    return model


def _train_data(run, seed, batch_size=None):
    recipe = run.recipe()
    batch_size = batch_size or recipe.batch_size
    return tfnode.datasets.load(recipe.dataset, "train", batch_size, seed=seed)


def _test_data(run):
    x, y = tfnode.datasets.load(zoo.get_recipe(run.model).dataset, "test", as_numpy=True)
    return x[: run.test_samples], y[: run.test_samples]


class TestCurve(keras.callbacks.Callback):
    """Test accuracy at about 100 times of a training, and at each tenth also with better solvers.

    It keeps the mean loss of the whole training, and stops one whose loss is no longer finite, as
    `StepAdaption` does.
    """

    def __init__(self, test, iterations, report):
        super().__init__()
        self._test = test
        self._iterations = iterations
        self._report = report
        # In whole executions of 50 iterations.
        self._every = 50 * max(1, iterations // 5000)
        self._solvers_every = 10 * self._every
        # What was there when the training was taken up.
        self.before = {"iteration": 0, "loss": 0.0, "seconds": 0.0}
        self.loss = 0.0
        self.records = []

    def get_state(self):
        """Returns plain values that `set_state` takes, as those of `tfnode.StepAdaption`."""
        return {
            "iteration": int(self.model.optimizer.iterations),
            "loss": self.loss,
            "seconds": self.before["seconds"] + time.perf_counter() - self._start,
            "records": self.records,
        }

    def set_state(self, state):
        self.before, self.loss, self.records = state, state["loss"], state["records"]

    def on_train_begin(self, logs=None):
        self._twins = {}
        self._start = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        iteration = int(self.model.optimizer.iterations)
        solver = self.model.get_layer("ode_block").solver
        tfnode.callbacks.check_loss(logs, iteration, f"solver={solver}")
        self._report(iteration / self._iterations)
        # Keras's mean, which begins anew where a training is taken up.
        part = (iteration - self.before["iteration"]) / iteration
        self.loss = self.before["loss"] + part * (logs["loss"] - self.before["loss"])
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


def final_accuracies(model, test, rk4_steps):
    """The test accuracies of a trained model under its own solver and under better ones."""
    fine = tfnode.solvers.RK4(1 / rk4_steps)
    block = model.get_layer("ode_block")
    if isinstance(block.solver, tfnode.solvers.FixedStepSolver):
        reference, num_steps = tfnode.adaption.reference_solver(block.solver), block.num_steps
    else:
        reference, num_steps = tfnode.adaption.tighter_solver(block.solver), None
    solvers = {"train_solver": block.solver, "reference": reference, "rk4_fine": fine}
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
