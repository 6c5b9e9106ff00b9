"""The report of a verdict as a page for people."""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from tfnode import arguments, charts, markup
from tfnode.charts import Axis, Mark
from tfnode.markup import Child, Element, element
from tfnode.validity import frame, series_page
from tfnode.validity.frame import Frame, counted

if TYPE_CHECKING:
    from tfnode.validity.report import CheckRow, ValidityReport
    from tfnode.validity.series_report import SeriesReport

_MAX_CLASSES = 20


@dataclasses.dataclass(frozen=True)
class Page:
    """A report with what its page calls things.

    Args:
        report: `ValidityReport`.
        class_names: List of strings, the names of the classes from 0 up; None for their numbers.
        title: String, or None for the question with the name of the model.
    """

    report: "ValidityReport"
    class_names: Sequence[str] | None = None
    title: str | None = None

    @classmethod
    def of(
        cls, report: "ValidityReport", class_names: Iterable[str] | None, title: str | None
    ) -> "Page":
        """The page of a report, after a check that every class of it has a name."""
        if class_names is None:
            return cls(report, None, title)
        advice = "Pass a string for each class from 0 up, or leave them out for numbers."
        names = arguments.items("class_names", class_names, "strings", advice=advice)
        for i, name in enumerate(names):
            arguments.text(f"class_names[{i}]", name, advice=advice)
        if len(names) <= max(_classes(report), default=-1):
            rule = f"There must be a name for each class up to {max(_classes(report))}"
            raise arguments.refused(rule, "class_names", names, advice)
        return cls(report, names, title)

    def framed(self) -> Frame:
        """The page itself."""
        sections = (_serving(self), _changes(self), _nearest(self), _convergence(self))
        series = None if self.report.series is None else _series(self.report.series)
        return Frame(
            frame.heading(self.title, ("Is ", self.name, " an ODE?")),
            (_verdict(self), _numbers(self)),
            (sections, table(self, _to_serve(self.report)), series, origin(self)),
        )

    @property
    def name(self) -> Child:
        """The model, which keeps the direction of its name to itself."""
        details = self.report.details
        return "this model" if details is None else element("bdi", f"“{details.model}”")

    # === How values are written ===
    def percent(self, fraction: float) -> str:
        """A fraction, to the digits that the number of samples gives."""
        return f"{100 * fraction:.{self._digits}f} %"

    def value(self, value: float | None) -> str:
        """A value of what the report measures."""
        if value is None or not math.isfinite(value):
            return "not finite"
        return self.percent(value) if self.report.measure == "accuracy" else f"{value:.4g}"

    def gap(self, gap: float) -> str:
        """A difference of such values."""
        if self.report.measure != "accuracy" or not math.isfinite(gap):
            return self.value(gap)
        return self.points(gap)

    def points(self, difference: float) -> str:
        """A difference of two fractions."""
        return f"{100 * difference:.{self._digits}f} points"

    @property
    def _digits(self) -> int:
        return 1 if self.report.num_samples <= 1000 else 2

    def named(self, label: int) -> Element:
        """A class by its name, of which a long one is cut off where it is shown."""
        if label < 0:
            return element("i", "not finite")
        name = str(label) if self.class_names is None else self.class_names[label]
        return element("bdi", name, title=None if self.class_names is None else name)

    def solver(self, row: "CheckRow") -> str:
        """The solver of a row with its step or tolerance."""
        if row.tolerance is not None:
            return f"{row.solver}, tolerance {row.tolerance:.2g}"
        if row.num_steps is None or row.step_size is None:
            return row.solver
        alike = [
            r for r in self.report.rows if (r.solver, r.num_steps) == (row.solver, row.num_steps)
        ]
        # The last step is cut, so that several step sizes can have one number of steps.
        size = f" of {row.step_size:.3g}" if len(alike) > 1 else ""
        return f"{row.solver}, {counted(row.num_steps, 'step')}{size}"


# === Sections ===
def _verdict(page: Page) -> Element:
    report = page.report
    training = report.rows[0]
    better = sum(row.is_better for row in report.rows[1:])
    verdict = "Yes, it is an ODE." if report.is_ode else "No, it is bound to its solver."
    return frame.verdict(
        report.is_ode,
        verdict,
        f" Under {counted(better, 'other solver')} of equal or smaller error {change(page)} "
        f"under the solver of its training, {page.solver(training)}. An ODE may change by "
        f"{page.gap(report.threshold)}.",
        doubt(report),
    )


def change(page: Page) -> str:
    """By how much the better rows differ from the first."""
    report = page.report
    is_one = report.measure != "outputs"
    what, those = (f"{report.measure} changes", "that") if is_one else ("outputs change", "those")
    kept = "at most" if report.is_ode else "up to"
    return f"its {what} by {kept} {page.gap(report.gap)} from {those}"


def doubt(report: "ValidityReport") -> str | None:
    """What is said where the exact flow is hardly known better than the model's own solution."""
    own, reference = report.rows[0].error, report.reference_error
    if own is None or reference is None or not reference > own / 2:
        return None
    return (
        f" The verdict is doubtful: the reference is known to {reference:.2g}, and the training "
        f"solver's error is {own:.2g}. Check again with more `reference_steps`."
    )


def _numbers(page: Page) -> Element:
    report, last = page.report, page.report.rows[-1]
    found = {"largest change under a better solver": page.gap(report.gap)}
    if report.measure != "outputs":
        found = {
            f"{report.measure} under the training solver": page.value(
                report.value_of(report.rows[0])
            ),
            f"under {page.solver(last)}": page.value(report.value_of(last)),
            **found,
        }
    if report.changed is not None:
        found["answers that change at most"] = page.percent(report.changed)
    found["samples"] = f"{report.num_samples}"
    return frame.numbers(found)


def _serving(page: Page) -> Element:
    best = _to_serve(page.report)
    return element(
        "section",
        element("h2", "Which solver to serve it with"),
        element("p", _advice(page, best)),
        measured(page, best),
    )


def measured(page: Page, ringed: "CheckRow | None" = None) -> list[Child]:
    """What the report measures against the evaluations, and what the marks mean."""
    report = page.report
    y = Axis("change of the outputs" if report.measure == "outputs" else report.measure, page.value)
    if report.measure == "accuracy":
        y = Axis("accuracy", lambda v: f"{100 * v:.3g} %", least=0.2, limits=(-0.02, 1.02))
    values = {row: report.value_of(row) for row in report.rows}
    return [
        _chart(page, values, y, ringed, _allowed(report)),
        element(
            "p",
            "Filled marks are solvers of equal or smaller error than that of the training, which "
            "is the large one; hollow marks do not count for the verdict. In the tinted range the "
            f"change is at most {page.gap(report.threshold)}.",
            None if ringed is None else " The ring is the solver to serve.",
            class_="note",
        ),
    ]


def _advice(page: Page, best: "CheckRow | None") -> str:
    if best is None:
        return (
            "With the solver of its training alone, if at all: what it computes belongs to that "
            "step, and another solver, a better one too, answers differently."
        )
    which = ", which is the solver of its training" if best is page.report.rows[0] else ""
    least = "the loosest tolerance"
    if best.nfe is not None:
        least = f"{counted(best.nfe, 'evaluation')} an answer, the fewest"
    return (
        f"With {page.solver(best)}{which}: {least} of all that were tried with a change of at most "
        f"{page.gap(page.report.threshold)}."
    )


def _allowed(report: "ValidityReport") -> tuple[float, float] | None:
    """The range of values that differ from the training solver's by the threshold at most."""
    middle = report.value_of(report.rows[0])
    if middle is None or not math.isfinite(middle):
        return None
    ends = {"accuracy": (0.0, 1.0), "outputs": (0.0, math.inf)}
    low, high = ends.get(report.measure, (-math.inf, math.inf))
    return max(middle - report.threshold, low), min(middle + report.threshold, high)


def _changes(page: Page) -> Element | None:
    report, details = page.report, page.report.details
    if report.task == "regression":
        return None
    parts: list[Child] = [element("h2", "Which classes change")]
    if details is not None and details.changed_row is not None:
        row = report.rows[details.changed_row]
        if details.changes:
            parts += [
                element(
                    "p",
                    f"Most answers change under {page.solver(row)}: "
                    f"{page.percent(row.changed or 0.0)} of them. Each bar has those that were "
                    "right and are not, those that are right now, and those that stay wrong.",
                ),
                _change_table(page),
            ]
        else:
            parts.append(element("p", "No answer changes under any better solver that was tried."))
    gaps = sorted((report.class_gaps or {}).items(), key=lambda item: -item[1])
    shown = [(label, gap) for label, gap in gaps if gap > 0][:_MAX_CLASSES]
    if shown:
        rows = [(page.named(k), page.points(gap), _bar([(gap, "lost")], 1.0)) for k, gap in shown]
        parts += [
            element("p", "The largest change of each class's accuracy under a better solver:"),
            markup.table(("class", "change", ""), rows, "changes of the classes' accuracies"),
        ]
    else:
        parts.append(
            element("p", "No class's accuracy changes under any better solver that was tried.")
        )
    return element("section", parts)


def _change_table(page: Page) -> Element:
    details = page.report.details
    assert details is not None
    most = max(change.count for change in details.changes)
    rows = []
    for change in details.changes:
        wrong = change.count - change.lost - change.gained
        bar = [(change.lost, "lost"), (change.gained, "gained"), (wrong, "wrong")]
        kinds = ", ".join(f"{count} {kind}" for count, kind in bar if count)
        examples = ", ".join(map(str, change.samples))
        examples += ", …" if change.count > len(change.samples) else ""
        names = (page.named(change.before), " → ", page.named(change.after))
        rows.append((names, str(change.count), _bar(bar, most), kinds, examples))
    header = ("from → to", "answers", "", "of them", "samples")
    return markup.table(header, rows, "changes of class")


def _nearest(page: Page) -> Element | None:
    details = page.report.details
    if details is None or not details.nearest:
        return None
    rows = []
    for near in details.nearest:
        share = near.left / near.margin if near.margin > 0 else 0.0
        rows.append(
            (
                str(near.sample),
                (page.named(near.predicted), " before ", page.named(near.rival)),
                f"{near.left:.3g} of {near.margin:.3g}",
                _bar([(min(share, 1.0), "kept")], 1.0),
                page.solver(page.report.rows[near.row]),
            )
        )
    return element(
        "section",
        element("h2", "The samples nearest to a change"),
        element(
            "p",
            "They keep their class under every better solver that was tried. The lead of the class "
            "over the next is given in the outputs of the model, and what the least favourable "
            "solver leaves of it. Samples are numbered from 0 in the order of the data.",
        ),
        markup.table(("sample", "class", "lead left", "", "under"), rows, "nearest samples"),
    )


def _convergence(page: Page) -> Element | None:
    report, details = page.report, page.report.details
    errors = {row: row.error for row in report.rows if row.error is not None and row.error > 0}
    if not any(map(math.isfinite, errors.values())):
        return None
    text = (
        f"The error is the distance of the outputs from those of {page.solver(report.rows[-1])}, "
        "over the spread of the outputs."
    )
    if details is not None and details.order is not None:
        text += (
            f" From the step of the training down, that of {report.rows[0].solver} falls like the "
            f"step to the power of {details.order:.2f}; in theory, for a smooth field and a small "
            f"step, of {details.expected_order}."
        )
    elif details is not None and details.expected_order is not None:
        text += " It is too close to rounding to fit an order to it."
    if report.reference_error is not None and math.isfinite(report.reference_error):
        text += f" The reference itself is known to about {report.reference_error:.2g}."
    y = Axis("relative error of the outputs", lambda v: f"{v:g}", base=10)
    return element(
        "section",
        element("h2", "How its outputs converge"),
        element("p", text),
        _chart(page, errors, y, None, None),
    )


def _series(report: "SeriesReport") -> list[Child]:
    verdict, why = series_page.in_words(report)
    asked = element("h2", "Is it a flow at other times than those of its training?")
    return [
        element("section", asked, element("p", element("strong", verdict), why)),
        *series_page.sections(report),
    ]


def table(page: Page, best: "CheckRow | None" = None) -> Element:
    """Every row of a report."""
    report = page.report
    is_classifier = report.task == "classification"
    header: list[Child] = ["solver", "evaluations"]
    header += [] if report.measure == "outputs" else [report.measure]
    header += ["change", *(["answers changed"] if is_classifier else []), "error", "counts"]
    rows = []
    for row in report.rows:
        tags = [("training", row.is_training), ("serve", row is best)]
        names = (page.solver(row), (element("em", tag) for tag, has in tags if has))
        cells: list[Child] = [names, "" if row.nfe is None else str(row.nfe)]
        cells += [] if report.measure == "outputs" else [page.value(report.value_of(row))]
        cells += [page.gap(row.gap)]
        cells += [page.percent(row.changed or 0.0)] if is_classifier else []
        cells += ["" if row.error is None else f"{row.error:.2g}", "yes" if row.is_better else ""]
        rows.append(cells)
    return element(
        "section",
        element("h2", "Every solver that was tried"),
        markup.table(header, rows, "every solver that was tried"),
    )


def origin(page: Page) -> Element:
    """What a report was made of, and with."""
    report, details = page.report, page.report.details
    found = {"task": report.task, "threshold": f"{report.threshold:g} ({report.measure})"}
    if details is not None:
        found = {"model": details.model, **found}
    if report.digest:
        found["digest of the model"] = report.digest
    return frame.origin(found, None if details is None else details.versions)


# === Parts of sections ===
def _chart(
    page: Page,
    values: "Mapping[CheckRow, float | None]",
    y: Axis,
    ringed: "CheckRow | None",
    band: tuple[float, float] | None,
) -> Child:
    """Values of the rows against their evaluations, or for an adaptive solver its tolerances."""
    is_adaptive = page.report.rows[0].tolerance is not None
    placed = {row: row.tolerance if is_adaptive else row.nfe for row in values}
    solvers = list(dict.fromkeys(row.solver for row, at in placed.items() if at is not None))
    marks = []
    for row, at in placed.items():
        value = values[row]
        if at is None or value is None or not math.isfinite(value):
            continue
        cost = "" if row.nfe is None else f": {counted(row.nfe, 'evaluation')}"
        marks.append(
            Mark(
                x=float(at),
                y=value,
                series=solvers.index(row.solver),
                words=f"{page.solver(row)}{cost}, {_short(page, y, value)}",
                is_full=row.is_better,
                is_large=row.is_training,
                is_ringed=row is ringed,
            )
        )
    if not marks:
        return None
    x = Axis("evaluations of the field", lambda v: f"{v:g}", base=2)
    if is_adaptive:
        x = Axis("tolerance", lambda v: f"{v:g}", base=10, is_reversed=True)
    last = values.get(page.report.rows[-1])
    level = last if is_adaptive and last is not None and math.isfinite(last) else None
    label = f"{y.title} against {x.title}"
    chart = charts.scatter(marks, x, y, label, band, level)
    return element("figure", chart, charts.legend(solvers))


def _short(page: Page, y: Axis, value: float) -> str:
    return f"error {value:.2g}" if y.base is not None else page.value(value)


def _bar(parts: Sequence[tuple[float, str]], whole: float) -> Element:
    """Parts of a whole side by side."""
    pieces = (
        element("i", class_=kind, style=f"width: {100 * part / whole:.1f}%")
        for part, kind in parts
        if part > 0
    )
    return element("span", pieces, class_="bar", aria_hidden="true")


def _to_serve(report: "ValidityReport") -> "CheckRow | None":
    """The cheapest row of an ODE that answers as the training solver does, of its own kind."""
    is_adaptive = report.rows[0].tolerance is not None
    rows = [row for row in report.rows if is_adaptive == (row.tolerance is not None)]
    within = [row for row in rows if row.gap <= report.threshold]
    if not report.is_ode or not within:
        return None
    return min(within, key=lambda row: -(row.tolerance or 0.0) if is_adaptive else row.nfe or 0)


def _classes(report: "ValidityReport") -> set[int]:
    """The classes that the page of a report names."""
    found = set(report.class_gaps or {})
    if report.details is not None:
        for change in report.details.changes:
            found |= {change.before, change.after}
        for near in report.details.nearest:
            found |= {near.predicted, near.rival}
    return found
