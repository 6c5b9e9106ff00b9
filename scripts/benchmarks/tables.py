"""The measurements of `benchmark.py` as ratios, targets and Markdown tables."""

import itertools
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from scripts.benchmarks.peers import GPU, ON_GPU, PEERS
from scripts.machine import short_commit
from tfnode import tables, versions

# What a process measured, and what it was told.
Result = Mapping[str, Any]
# A measured number by round.
Rounds = Mapping[int, Any]

COMPARISONS = ("energy", "spheres", "mnist", "cifar10", "gpu_mnist", "gpu_cifar10")
PEAKS = ("peak_bytes", "peak_increase_bytes")
# A measure, its value and its target; None where there is none.
_Row = tuple[str, float | None, float | None]


def targets(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Rows of a measure, its value and the target that it must not exceed."""
    return [
        {
            "measure": measure,
            "value": value,
            "target": target,
            "met": None if target is None else value <= target,
        }
        for rows_of in (_of_steps, _of_memory_and_traces, _of_checks, _of_answers)
        for measure, value, target in rows_of(results)
        if value is not None
    ]


def _of_steps(results: Sequence[Result]) -> Iterator[_Row]:
    for case, k in {(r["case"], r["num_steps"]): None for r in results if r["case"] in COMPARISONS}:
        of = lambda contestant, case=case, k=k: values(results, case, k, contestant)
        goals = {"convolutions": 1.45}
        if case == "energy" and k >= 64:
            goals |= {"torchdiffeq": 1 / 4, "diffrax": 2 / 3, "bare": 1.25}
        yield f"{case} K={k}: fit / the commit before", ratio(of("fit"), of("fit_before")), 1.03
        goal = 0.9 if case == "energy" and k >= 64 else None
        yield f"{case} K={k}: fit on JAX / on TensorFlow", ratio(of("fit_jax"), of("fit")), goal
        yield f"{case} K={k}: fit on JAX / diffrax", ratio(of("fit_jax"), of("diffrax")), goal
        # On a processor with AMX; without, half precision is there for its memory.
        half = of("fit_bfloat16")
        yield f"{case} K={k}: fit in bfloat16 / in float32", ratio(half, of("fit")), 0.25
        floor = of("convolutions_bfloat16")
        yield f"{case} K={k}: fit / convolutions, both in bfloat16", ratio(half, floor), 1.3
        for half in ("", "_bfloat16"):
            ours, theirs = (of(f"{name}{half}") for name in ON_GPU)
            name = f"{case} K={k}: JAX / torchdiffeq{half.replace('_', ', ')}"
            yield name, ratio(ours, theirs), None
        for other in ("bare", "convolutions", *PEERS):
            yield f"{case} K={k}: fit / {other}", ratio(of("fit"), of(other)), goals.get(other)


def _of_memory_and_traces(results: Sequence[Result]) -> Iterator[_Row]:
    for contestant, field in itertools.product(("fit", "fit_jax", "fit_torch"), PEAKS):
        fine, coarse = (values(results, "memory", k, contestant, field) for k in (64, 4))
        yield f"MNIST {contestant} {field}: K=64 / K=4", ratio(fine, coarse), 1.1
    for k in (8, 64, 256):
        first = values(results, "first_step", k, "fit", "first_seconds")
        yield f"first step K={k}: s", median(first), 2.0
    for contestant, where in (("traces", "TensorFlow"), ("traces_jax", "JAX")):
        traced = values(results, "traces", 8, contestant, "traces").values()
        name = f"traces while the step size changes 20 times, {where}"
        yield name, max(traced, default=None), 1


def _of_checks(results: Sequence[Result]) -> Iterator[_Row]:
    fields = ("seconds", "steady_seconds")
    for case, field in itertools.product(("checks_energy", "checks_spheres"), fields):
        of = lambda name, case=case: values(results, case, 32, "adaption", name)
        checks, whole = of(field.replace("seconds", "checks_seconds")), of(field)
        share = ratio(checks, {number: whole[number] - checks[number] for number in checks})
        yield f"{case}, {field}: %", None if share is None else 100 * share, 3.0


def _of_answers(results: Sequence[Result]) -> Iterator[_Row]:
    for field in ("p50_seconds", "p99_seconds"):
        contestants = ("served", "torchdiffeq")
        measured = {c: values(results, "latency", 8, c, field) for c in contestants}
        name = f"latency K=8, batch 1, {field.removesuffix('_seconds')}"
        yield f"{name}: served / torchdiffeq", ratio(*measured.values()), 1.0
        for contestant, seconds in measured.items():
            yield f"{name}: {contestant}, s", median(seconds), None


def values(
    results: Sequence[Result],
    case: str,
    num_steps: int,
    contestant: str,
    field: str = "seconds_per_step",
) -> Rounds:
    """A field of the measurements of a contestant, by round."""
    key = (case, num_steps, contestant)
    same = [r for r in results if (r["case"], r["num_steps"], r["contestant"]) == key]
    return {r["round"]: r[field] for r in same if field in r}


def median(measured: Rounds) -> float | None:
    return statistics.median(measured.values()) if measured else None


def ratio(a: Rounds, b: Rounds) -> float | None:
    """The median over the rounds of the ratios within a round; None without measurements."""
    return median({number: a[number] / b[number] for number in a if number in b})


def steps_table(results: Sequence[Result]) -> str:
    """Every contestant's training step, as Markdown."""
    header = ("case", "K", "contestant", "ms a step", "min - max", "peak MB", "increase MB")
    lines = []
    for case, k, contestant in {(r["case"], r["num_steps"], r["contestant"]): 0 for r in results}:
        of = lambda field, key=(case, k, contestant): values(results, *key, field)
        if seconds := of("seconds_per_step").values():
            ms = [f"{1e3 * f(seconds):.2f}" for f in (statistics.median, min, max)]
            between = f"{ms[1]} - {ms[2]}" if len(seconds) > 1 else ""
            # That of the host, which says nothing of what a GPU needs.
            is_on_gpu = case.startswith(GPU)
            mb = ["" if is_on_gpu else f"{median(of(f)) / 1e6:.0f}" for f in PEAKS]
            cells = (ms[0], between, *mb)
        elif errors := of("error"):
            cells = (next(iter(errors.values())), "", "", "")
        else:
            continue
        lines.append((case, k, contestant, *cells))
    return tables.markdown(header, lines, right=(1, 3, 4, 5, 6)) if lines else ""


def answers_table(results: Sequence[Result]) -> str:
    """How long each pretrained model takes to answer, as Markdown."""
    fields = ("p50_seconds", "p99_seconds", "batch_p50_seconds", "batch_p99_seconds")
    lines = []
    for name, batch in {(r["contestant"], r["batch"]): 0 for r in results if r["case"] == "zoo"}:
        measured = [median(values(results, "zoo", 0, name, field)) for field in fields]
        cells = ["" if value is None else f"{1e3 * value:.2f}" for value in measured]
        lines.append((name, *cells[:2], batch, *cells[2:]))
    header = ("weights", "one sample, ms", "99 of 100", "samples", "at once, ms", "99 of 100")
    return tables.markdown(header, lines, right=range(1, 6)) if lines else ""


def targets_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The measures and their targets, as Markdown; empty without one."""
    if not rows:
        return ""
    lines = []
    for r in rows:
        target = "" if r["target"] is None else f"<= {r['target']:.3g}"
        met = {None: "", True: "yes", False: "no"}[r["met"]]
        lines.append((r["measure"], f"{r['value']:.3g}", target, met))
    table = tables.markdown(("measure", "value", "target", "met"), lines, right=(1, 2))
    return (
        "A ratio is the median over the rounds of the ratios within a round, in which the "
        f"contestants take turns. A target is what we would have a value be at most.\n\n{table}"
    )


def page(report: Mapping[str, Any]) -> str:
    """The tables as a Markdown page with their provenance."""
    machine = report["machine"]
    gpu = f", {machine['gpu']}" if machine.get("gpu") else ""
    count = len({result["round"] for result in report["results"]})
    rounds = "one round" if count == 1 else f"{count} rounds"
    cases = dict.fromkeys(result["case"] for result in report["results"])
    parts = [
        f"# Benchmark: {', '.join(cases)}",
        f"Made by `{report['command']}` on {report['date']} in {rounds}, of commit "
        f"{short_commit(report['commit'])} with {versions.in_words(report['versions'])}; "
        f"{machine['processor']} ({', '.join(machine['flags'])}), {machine['cores']} cores, "
        f"{machine['memory_gb']} GB{gpu}.",
        steps_table(report["results"]),
        answers_table(report["results"]),
        targets_table(report["targets"]),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"
