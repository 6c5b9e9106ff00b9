"""One training run of the paper, from a seed to a dictionary of results."""

import dataclasses
import importlib.metadata
import logging
import os
import platform
import time

import keras

import tfnode
import tfnode.adaption
import tfnode.callbacks
import zoo

# The fine solver that stands for the exact flow.
FINE = tfnode.solvers.RK4(1 / 256)

# XLA pays for dense fields; for convolutions TensorFlow's own kernels are faster.
_COMPILED = ("energy_landscape",)

# oneDNN's dispatch costs more than it gives on the tiny convolutions of the spheres.
ENVIRONMENT = {"TF_ENABLE_ONEDNN_OPTS": "0"}


@dataclasses.dataclass(frozen=True)
class Run:
    """A model trained with step adaption (`num_steps` None) or with a fixed number of steps."""

    model: str
    num_steps: int | None
    seed: int
    iterations: int
    solver: str = "euler"

    @property
    def path(self):
        method = "adaption" if self.num_steps is None else f"k{self.num_steps:03d}"
        return f"{self.model}/{self.solver}_{method}_{self.iterations}_seed{self.seed}.json"

    @property
    def cost(self):
        """About the evaluations of the field, with the fixed cost of an iteration as 16 of them."""
        return self.iterations * (16 + (self.num_steps or 64))


def train(run, report):
    """Trains one run of the paper and returns its results as plain values.

    Args:
        run: `Run`.
        report: Callable that is told the finished fraction of the training.
    """
    start = time.perf_counter()
    # Each run compiles models of its own, which TensorFlow takes for needless retracing.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    keras.backend.clear_session()
    keras.utils.set_random_seed(run.seed)
    recipe = zoo.get_recipe(run.model)
    # With adaption this is only a start: Hairer's rule replaces it.
    model = zoo.get_model(run.model, solver=run.solver, step_size=1 / (run.num_steps or 32))
    model.compile(
        recipe.build_optimizer(),
        recipe.build_loss(),
        metrics=["accuracy"],
        jit_compile=run.model in _COMPILED,
        steps_per_execution=50,
    )
    data = tfnode.datasets.load(recipe.dataset, "train", recipe.batch_size, seed=run.seed)
    test = tfnode.datasets.load(recipe.dataset, "test", as_numpy=True)
    # A dataset of its own: two iterators over one shuffled dataset race for its random numbers.
    checks = tfnode.datasets.load(recipe.dataset, "train", recipe.batch_size, seed=run.seed + 1000)
    step_adaption = tfnode.StepAdaption(checks) if run.num_steps is None else None
    curve = TestCurve(test, run.iterations, report)
    callbacks = [curve] if step_adaption is None else [step_adaption, curve]
    result = {"run": dataclasses.asdict(run), "versions": versions()}
    try:
        data = data.repeat().take(run.iterations)
        history = model.fit(data, shuffle=False, callbacks=callbacks, verbose=0)
        # Keras's mean over the whole training.
        result["loss"] = history.history["loss"][-1]
    except FloatingPointError as error:
        return {**result, "error": str(error)}
    result |= final_accuracies(model, test)
    result["sweep"] = sweep(model, test)
    result["test_curve"] = _columns(curve.records)
    if step_adaption is not None:
        result["nfe_per_iteration"] = step_adaption.nfe_per_iteration
        result["nfe_per_iteration_with_checks"] = step_adaption.nfe_per_iteration_with_checks
        result["history"] = _columns(step_adaption.history)
    result["seconds"] = round(time.perf_counter() - start, 1)
    return result


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
        block = self.model.get_layer("ode_block")
        step_size = block.solver.step_size
        solvers = (block.solver, tfnode.solvers.Midpoint(step_size), tfnode.solvers.RK4(step_size))
        names = ("train_solver", "midpoint", "rk4")
        self._twins = {name: _evaluator(self.model, solver) for name, solver in zip(names, solvers)}

    def on_train_batch_end(self, batch, logs=None):
        iteration = int(self.model.optimizer.iterations)
        block = self.model.get_layer("ode_block")
        step_size = block.solver.step_size
        tfnode.callbacks.check_loss(logs, iteration, f"step_size={step_size}")
        if iteration % self._every:
            return
        record = {"iteration": iteration, "num_steps": block.num_steps}
        for name, twin in self._twins.items():
            if name == "train_solver" or iteration % self._solvers_every == 0:
                twin.get_layer("ode_block").step_size = step_size
                record[name] = _accuracy(twin, self._test)
            else:
                record[name] = None
        self.records.append(record)
        self._report(iteration / self._iterations)


def final_accuracies(model, test):
    """The test accuracies of a trained model under its own solver and under better ones."""
    solver = model.get_layer("ode_block").solver
    solvers = {
        "train_solver": solver,
        "reference": tfnode.adaption.reference_solver(solver),
        "rk4_fine": FINE,
    }
    return {
        "accuracy": {name: _accuracy(_evaluator(model, s), test) for name, s in solvers.items()},
        "solvers": {name: tfnode.solvers.serialize(s) for name, s in solvers.items()},
        "num_steps": model.get_layer("ode_block").num_steps,
    }


def sweep(model, test):
    """The test accuracies under every solver and step size of the paper's section 4.1, as columns.

    The factors apply to the step size; steps longer than the interval are left out.
    """
    names = ("solver", "factor", "step_size")
    return _columns(
        [
            {**{name: getattr(row, name) for name in names}, "accuracy": round(row.accuracy, 6)}
            for row in tfnode.validity.sweep(model, test, verbose=0)
        ]
    )


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
