"""From finished runs to Table 1: the critical step, means over seeds, and the cells."""

import csv
import io
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from scripts.models import NAMES
from scripts.paper.runs import Result
from scripts.paper.selection import by_num_steps, trained_seeds, usable, validated
from tfnode.validity import critical_step

# A mean and a standard deviation.
Spread = tuple[float, float | None]

# Table 1 of the paper: NFE and accuracy (mean and standard deviation, in percent).
PAPER = {
    "concentric_spheres_2d": ("65-129", (99.2, 0.8), 100.5, (98.9, 0.6)),
    "energy_landscape": ("33-65", (79.0, 2.6), 43.3, (76.5, 1.6)),
    "mnist": ("9-16", (96.5, 0.2), 9.8, (95.6, 0.5)),
    "cifar10": ("17-33", (54.7, 0.3), 21.9, (55.0, 0.8)),
}
SOLVERS = ("train_solver", "reference", "rk4_fine")


def row(model: str, results: Sequence[Result], threshold: float = 0.1) -> dict[str, Any]:
    """Returns one row of the table from the results of a model's runs.

    The critical step is found as a check of step adaption finds it, on all the validation data: a
    number of steps is valid if the accuracies of the training solver and of its reference differ
    by at most `threshold` in the mean over the seeds, and so for every finer step of the grid.
    """
    trained = usable(results)
    of = by_num_steps([r for r in trained if r["run"]["num_steps"]])
    # A number of steps at which every seed failed is not valid either.
    gaps = {r["run"]["num_steps"]: math.inf for r in results if r["run"]["num_steps"]}
    gaps |= {k: statistics.mean(gaps_of(of_count)) for k, of_count in of.items()}
    adapted = [r for r in trained if r["run"]["num_steps"] is None]
    return {
        "model": model,
        "grid": [summary(of_count, k) for k, of_count in of.items()],
        "critical": critical_step(gaps, threshold) if gaps else (None, None),
        "adaption": summary(adapted, None) if adapted else None,
        "failed": [r["run"] | {"error": r["error"]} for r in results if "error" in r],
    }


def summary(results: Sequence[Result], num_steps: int | None) -> dict[str, Any]:
    """Returns means and standard deviations over the seeds, in percent, the gap in points.

    `"gap"` and `"validated"`, by which steps are chosen, are those on the validation data;
    `"trained"` is the summary of those seeds that have trained.
    """
    accuracies = [r["accuracy"] for r in results]
    trained, others = trained_seeds(results)
    nfe = {
        key: statistics.mean(r[key] for r in results)
        for key in ("nfe_per_iteration", "nfe_per_iteration_with_checks")
        if key in results[0]
    }
    return {
        "num_steps": num_steps,
        "seeds": len(results),
        **{name: mean_std([100 * a[name] for a in accuracies]) for name in SOLVERS},
        "gap": mean_std([100 * gap for gap in gaps_of(results)]),
        "validated": statistics.mean(validated(r)["train_solver"] for r in results),
        "trained": summary(trained, num_steps) if others else None,
        **nfe,
    }


def gaps_of(results: Sequence[Result]) -> list[float]:
    """The differences in accuracy between the training solver and its reference, by seed."""
    return [abs(a["train_solver"] - a["reference"]) for a in map(validated, results)]


def mean_std(values: Sequence[float]) -> Spread:
    """Returns the mean and the sample standard deviation, of which a single value has none."""
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else None


HEADER = (
    "Data set",
    "",
    "Grid NFE",
    "accuracy %",
    "under RK4 %",
    "Adaption NFE",
    "with checks",
    "accuracy %",
    "under RK4 %",
)


def lines(rows: Iterable[dict]) -> list[tuple[str, ...]]:
    """Returns the cells of the table, the paper's line and ours for each row."""
    table = []
    for r in rows:
        grid_nfe, grid_accuracy, nfe, accuracy = PAPER[r["model"]]
        name = NAMES[r["model"]]
        paper = (grid_nfe, spread(grid_accuracy), "", f"{nfe}", "", spread(accuracy), "")
        table.append((name, "paper", *paper))
        entries = [entry for entry in (best(r), r["adaption"]) if entry]
        table.append((name, _ours(entries), *_grid_cells(r), *_adaption_cells(r["adaption"])))
        if any(entry["trained"] for entry in entries):
            trained = [entry["trained"] or entry for entry in entries]
            table.append((name, f"{_ours(trained)} near the best", *_of_trained(r)))
    return table


def _ours(entries: Sequence[dict[str, Any]]) -> str:
    """Whose line it is: of how many seeds, first of the grid and then of the adaption."""
    counts = list(dict.fromkeys(entry["seeds"] for entry in entries))
    seeds = "one seed" if counts == [1] else f"{' and '.join(map(str, counts))} seeds"
    return f"ours, {seeds}" if counts else "ours"


def _of_trained(r: dict[str, Any]) -> tuple[str, ...]:
    """The cells of those seeds that have trained, of the adaption or the grid maybe all."""
    entry, adaption = best(r), r["adaption"]
    grid = ("", "", "") if entry is None else ("", *_accuracies(entry["trained"] or entry))
    if adaption is None:
        return (*grid, "", "", "", "")
    return (*grid, *_adaption_cells(adaption["trained"] or adaption))


def _grid_cells(r: dict[str, Any]) -> tuple[str, ...]:
    below, above = r["critical"]
    if not r["grid"]:
        return ("", "", "")
    if above is None:
        return (f"> {below}", "none valid", "none valid")
    nfe = f"{below}-{above}" if below else f"<= {above}"
    return (nfe, *_accuracies(best(r)))


def best(r: dict[str, Any]) -> dict[str, Any] | None:
    """The valid number of steps that classifies best, which is the one that the paper reports."""
    above = r["critical"][1]
    valid = [entry for entry in r["grid"] if above is not None and entry["num_steps"] >= above]
    return max(valid, key=lambda entry: entry["validated"], default=None)


def _accuracies(entry: dict[str, Any]) -> tuple[str, str]:
    """Those of the training solver and of the fine RK4."""
    return spread(entry["train_solver"]), spread(entry["rk4_fine"])


def _adaption_cells(entry: dict[str, Any] | None) -> tuple[str, ...]:
    if entry is None:
        return ("", "", "", "")
    return (
        f"{entry['nfe_per_iteration']:.1f}",
        f"{entry['nfe_per_iteration_with_checks']:.1f}",
        spread(entry["train_solver"]),
        spread(entry["rk4_fine"]),
    )


def spread(mean_and_std: Spread, digits: int = 1) -> str:
    """A mean with its standard deviation, where there is one, with digits behind the point."""
    return " ± ".join(f"{value:.{digits}f}" for value in mean_and_std if value is not None)


def grid_lines(rows: Iterable[dict]) -> list[tuple[str, ...]]:
    """Returns the cells of the whole grid: a line for each model and number of steps."""
    return [
        (
            NAMES[r["model"]],
            str(entry["num_steps"]),
            str(entry["seeds"]),
            *(spread(entry[name]) for name in SOLVERS),
            spread(entry["gap"]),
            *_grid_cells_of_trained(entry),
        )
        for r in rows
        for entry in r["grid"]
    ]


def _grid_cells_of_trained(entry: dict[str, Any]) -> tuple[str, ...]:
    trained = entry["trained"] or entry
    return (str(trained["seeds"]), *_accuracies(trained))


def lines_of_left_out(panels: Mapping[str, Sequence[Result]]) -> list[tuple[str, ...]]:
    """Returns the cells of those settings of which a seed has not trained, by panel and steps."""
    of_all = {
        (title, str(k)): summary(results, k)
        for title, of_panel in panels.items()
        for k, results in by_num_steps(of_panel).items()
    }
    return [
        (*setting, str(entry["seeds"]), *_accuracies(entry), *_grid_cells_of_trained(entry))
        for setting, entry in of_all.items()
        if entry["trained"]
    ]


LEFT_OUT_HEADER = (
    *("Models", "Steps", "Seeds", "accuracy %", "under RK4 %"),
    *("seeds near the best", "their accuracy %", "under RK4 %"),
)
GRID_HEADER = (
    "Data set",
    "Steps",
    "Seeds",
    "accuracy %",
    "under reference %",
    "under RK4 %",
    "gap, points",
    "seeds near the best",
    "their accuracy %",
    "under RK4 %",
)


def comma_separated(header: Sequence[str], cells: Iterable[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows([header, *cells])
    return text.getvalue()
