"""Table 1 from finished runs: critical step, means, printed cells; no training."""

import pytest

from scripts.paper import table1


def result(num_steps, seed, train_solver, reference, rk4_fine, **more):
    return {
        "run": {"model": "energy_landscape", "num_steps": num_steps, "seed": seed},
        "accuracy": {
            "train_solver": train_solver,
            "reference": reference,
            "rk4_fine": rk4_fine,
        },
        **more,
    }


NFE = {"nfe_per_iteration": 40.0, "nfe_per_iteration_with_checks": 43.0}
RESULTS = [
    result(None, 0, 0.76, 0.75, 0.70, **NFE),
    result(None, 1, 0.78, 0.75, 0.74, **NFE),
    result(4, 0, 0.80, 0.50, 0.45),
    result(4, 1, 0.80, 0.60, 0.55),
    result(8, 0, 0.80, 0.75, 0.71),
    result(8, 1, 0.82, 0.70, 0.73),
    result(16, 0, 0.81, 0.81, 0.80),
    result(16, 1, 0.83, 0.83, 0.82),
]


def test_the_row_of_the_table():
    row = table1.row("energy_landscape", RESULTS)
    assert row["critical"] == (4, 8)
    assert [entry["num_steps"] for entry in row["grid"]] == [4, 8, 16]
    assert row["grid"][0]["gap"][0] == pytest.approx(25)
    assert row["grid"][1]["train_solver"] == pytest.approx((81.0, 2**0.5))
    assert row["adaption"]["rk4_fine"] == pytest.approx((72.0, 8**0.5))
    # Every seed has trained: there is no third line.
    paper, ours = table1.lines([row])
    assert paper == (
        *("Three Minima", "paper", "33-65", "79.0 ± 2.6", ""),
        *("43.3", "", "76.5 ± 1.6", ""),
    )
    assert ours == (
        # The valid number of steps with the highest accuracy, here 16.
        *("Three Minima", "ours, 2 seeds", "4-8", "82.0 ± 1.4", "81.0 ± 1.4"),
        *("40.0", "43.0", "77.0 ± 1.4", "72.0 ± 2.8"),
    )


def test_the_whole_grid_has_the_trained_seeds_beside_all():
    poor = result(16, 2, 0.6, 0.6, 0.6)
    *_, eight, sixteen = table1.grid_lines([table1.row("energy_landscape", [*RESULTS, poor])])
    assert len(sixteen) == len(table1.GRID_HEADER)
    assert eight[3:] == (
        *("81.0 ± 1.4", "72.5 ± 3.5", "72.0 ± 1.4", "8.5 ± 4.9"),
        *("2", "81.0 ± 1.4", "72.0 ± 1.4"),
    )
    assert sixteen[2:4] == ("3", "74.7 ± 12.7")
    assert sixteen[7:] == ("2", "82.0 ± 1.4", "81.0 ± 1.4")


def test_what_is_chosen_is_chosen_by_the_validation_set():
    by = lambda *accuracies: {"validation": dict(zip(table1.SOLVERS, accuracies))}
    results = [
        result(4, 0, 0.8, 0.8, 0.8, **by(0.8, 0.6, 0.6)),
        result(8, 0, 0.9, 0.2, 0.9, **by(0.7, 0.7, 0.7)),
        result(16, 0, 0.6, 0.6, 0.6, **by(0.9, 0.9, 0.9)),
        result(16, 1, 0.9, 0.9, 0.9, **by(0.7, 0.7, 0.7)),
        result(None, 0, 0.5, 0.5, 0.5, **by(0.9, 0.9, 0.9), **NFE),
        result(None, 1, 0.9, 0.9, 0.9, **by(0.8, 0.8, 0.8), **NFE),
        result(None, 2, 0.9, 0.9, 0.9, **by(0.75, 0.8, 0.8), **NFE),
    ]
    row = table1.row("energy_landscape", results)
    # Valid from 8 on; 16 has the highest accuracy there, and of it seed 0 alone has trained.
    assert row["critical"] == (4, 8)
    _, ours, trained = table1.lines([row])
    assert ours[2:5] == ("4-8", "75.0 ± 21.2", "75.0 ± 21.2")
    assert trained[2:5] == ("", "60.0", "60.0")
    assert (ours[7], trained[7]) == ("76.7 ± 23.1", "70.0 ± 28.3")


def test_failed_runs_are_named_and_in_no_mean():
    failed = {"run": {"num_steps": 4, "seed": 2}, "error": "The loss must stay finite."}
    row = table1.row("energy_landscape", [*RESULTS, failed])
    assert row["critical"] == (4, 8)
    assert row["failed"] == [{"num_steps": 4, "seed": 2, "error": "The loss must stay finite."}]
    assert row["grid"][0]["seeds"] == 2


def test_steps_at_which_every_seed_failed_are_not_valid():
    failed = {"run": {"num_steps": 32, "seed": 0}, "error": "The loss must stay finite."}
    assert table1.row("energy_landscape", [*RESULTS, failed])["critical"] == (32, None)


def test_one_seed_has_no_spread():
    row = table1.row("mnist", [result(8, 0, 0.9, 0.9, 0.9), result(None, 0, 0.8, 0.8, 0.8, **NFE)])
    _, ours = table1.lines([row])
    assert ours[1:5] == ("ours, one seed", "<= 8", "90.0", "90.0")
    assert ours[7:] == ("80.0", "80.0")


def test_the_seeds_of_the_grid_and_of_the_adaption_may_differ():
    of_adaption = [result(None, seed, 0.8, 0.8, 0.8, **NFE) for seed in (0, 1, 2)]
    _, ours = table1.lines([table1.row("mnist", [result(8, 0, 0.9, 0.9, 0.9), *of_adaption])])
    assert ours[1] == "ours, 1 and 3 seeds"


def test_commas_separate_the_cells():
    cells = [("a", "1"), ("bb", "22")]
    assert table1.comma_separated(("x", "y"), cells).split() == ["x,y", "a,1", "bb,22"]
