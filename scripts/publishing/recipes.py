"""The recipes by which the zoo's weights are trained."""

from typing import Any

# For large models on a few cores: as many iterations as the paper's, on small batches, and an
# average of the weights against their noise. SGD keeps the field smooth where Adam makes it so
# stiff that the step shrinks and shrinks. The checks come every 200 iterations and not every 50,
# and not on 8 samples, which would be noise. With few steps, backpropagation has
# memory enough, and computes none of them twice. The curve is that of few test samples.
SMALL = {
    "optimizer": "sgd",
    "learning_rate": 1e-2,
    "batch_size": 8,
    "average": 0.99,
    "check_every": 200,
    "check_samples": 32,
    "gradient": "backprop",
    "test_samples": 100,
}
# Against the noise of small batches, which ends a training at a learning rate that does not fall.
TUNED = {"learning_rate": 5e-3, "batch_size": 16, "average": 0.995}
# For the spheres in 900 dimensions: the paper's optimizer and iterations for those in 2, on an
# eighth of its batch; a check has as many samples as the paper's.
BATCH16 = {"batch_size": 16, "check_samples": 128}
# name -> what a run is told, and what the manifest says of it
RECIPES: dict[str, tuple[dict[str, Any], str]] = {
    "euler_coarse": (
        {"solver": "euler", "num_steps": 2},
        "Two steps of Euler's method: bound to its solver, to learn from.",
    ),
    "euler_adapted": (
        {"solver": "euler", "policy": "paper"},
        "Step adaption by the rule of the paper, from Euler's method.",
    ),
    "rk4_damped": (
        {"solver": "rk4", "policy": "damped"},
        "Step adaption by the damped rule, from the classical Runge-Kutta method.",
    ),
    "rk4_damped_from_one": (
        {"solver": "rk4", "policy": "damped", "start_steps": 1},
        "Step adaption by the damped rule, from one step of the classical Runge-Kutta method.",
    ),
    "euler_adapted_batch16": (
        {"solver": "euler", "policy": "paper", **BATCH16},
        "Step adaption by the rule of the paper, from Euler's method, on batches of 16, for a few "
        "cores: the paper's, for 2 dimensions, are of 128.",
    ),
    "rk4_damped_batch16": (
        {"solver": "rk4", "policy": "damped", **BATCH16},
        "Step adaption by the damped rule, from the classical Runge-Kutta method, on batches of "
        "16, for a few cores: the paper's, for 2 dimensions, are of 128.",
    ),
    "euler_adapted_small": (
        {"solver": "euler", "policy": "paper", **SMALL},
        "Step adaption by the rule of the paper, from Euler's method, on small batches: a recipe "
        "for a few cores, not the paper's.",
    ),
    "rk4_damped_small": (
        {"solver": "rk4", "policy": "damped", "start_steps": 1, **SMALL},
        "Step adaption by the damped rule, from one step of the classical Runge-Kutta method, on "
        "small batches: a recipe for a few cores, not the paper's.",
    ),
    "euler_adapted_tuned": (
        {
            "weights": "{model}_euler_adapted_small_v1",
            "solver": "euler",
            "policy": "paper",
            "start_steps": 5,
            **SMALL,
            **TUNED,
        },
        "What `euler_adapted_small` ended with, trained on at a smaller learning rate, with step "
        "adaption by the rule of the paper: a recipe for a few cores, not the paper's.",
    ),
    "rk4_damped_tuned": (
        {
            "weights": "{model}_rk4_damped_small_v1",
            "solver": "rk4",
            "policy": "damped",
            "start_steps": 4,
            **SMALL,
            **TUNED,
        },
        "What `rk4_damped_small` ended with, trained on at a smaller learning rate, with step "
        "adaption by the damped rule: a recipe for a few cores, not the paper's.",
    ),
}
