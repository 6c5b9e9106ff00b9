"""The report of a verdict on a time series as a page for people."""

import math
from typing import TYPE_CHECKING

from tfnode import charts, markup
from tfnode.charts import Axis, Mark
from tfnode.markup import Element, element
from tfnode.validity import frame
from tfnode.validity.frame import Frame

if TYPE_CHECKING:
    from tfnode.validity.series_report import SeriesReport, SeriesRow

_ERRORS = {
    "error": "error at times of the training",
    "error_between": "between them",
    "error_beyond": "behind them",
}


def framed(report: "SeriesReport", title: str | None = None) -> Frame:
    """The page of a report."""
    found = {"threshold": f"{report.threshold:g}", "trained until": f"{report.trained_until:g}"}
    return Frame(
        frame.heading(title, "Is this model of a time series a flow?"),
        (frame.verdict(report.is_flow, *in_words(report)), _numbers(report)),
        (*sections(report), frame.origin(found, report.versions)),
    )


def sections(report: "SeriesReport") -> tuple[Element | None, Element]:
    """What a page shows of a report below its verdict."""
    return _errors(report), _table(report)


def in_words(report: "SeriesReport") -> tuple[str, str]:
    """The verdict, and what it follows from."""
    verdict = "Yes, it is a flow."
    if not report.is_flow:
        verdict = "No, it is bound to the times of its training."
    kept = "at most" if report.is_flow else "up to"
    kink = (
        " Its error is smallest at the times of its training, and larger at nearer and at wider "
        "ones: the mark of a model that has learned its solver."
    )
    why = (
        f" Asked at nearer times, and under fine RK4 in place of the flow, its error rises by "
        f"{kept} {frame.number(report.rise)} of the spread of the observed states. That of a flow "
        f"may rise by {frame.number(report.threshold)}."
    )
    return verdict, why + kink * report.has_kink


def _numbers(report: "SeriesReport") -> Element:
    (training,) = (row for row in report.rows if row.factor == 1)
    return frame.numbers(
        {
            "error as in training": frame.number(training.error),
            "error under fine RK4": frame.number(report.flow.error),
            "largest change of the states": frame.number(report.gap),
            "samples": f"{report.num_samples}",
        }
    )


def _errors(report: "SeriesReport") -> Element | None:
    kinds = [kind for kind in _ERRORS if any(_is_shown(row, kind) for row in report.rows)]
    marks = [
        Mark(
            x=row.time_step,
            y=getattr(row, kind),
            series=i,
            words=f"{_name(row)}: {_ERRORS[kind]} {getattr(row, kind):.3g}",
            is_large=row.factor == 1,
        )
        for i, kind in enumerate(kinds)
        for row in report.rows
        if _is_shown(row, kind)
    ]
    if not marks:
        return None
    x = Axis("distance of times", lambda v: f"{v:.3g}", base=2)
    y = Axis("error over the spread of the states", lambda v: f"{v:g}", base=10)
    level = report.flow.error if _is_shown(report.flow, "error") else None
    chart = charts.scatter(marks, x, y, "error over the distance of times", level=level)
    note = "The large marks are the training's. The dotted line is fine RK4 at its times."
    return element(
        "section",
        element("h2", "How its error depends on the times"),
        element("figure", chart, charts.legend([_ERRORS[kind] for kind in kinds])),
        element("p", note, class_="note"),
    )


def _is_shown(row: "SeriesRow", kind: str) -> bool:
    """Whether a logarithmic axis can place the error."""
    error = getattr(row, kind)
    return error is not None and 0 < error < math.inf


def _table(report: "SeriesReport") -> Element:
    header = ("asked", "distance", "step", "steps", "change", "error", "between", "behind")
    rows = []
    for row in (*report.rows, report.flow):
        values = (row.gap, row.error, row.error_between, row.error_beyond)
        step = frame.number(row.step_size), "" if row.num_steps is None else str(row.num_steps)
        rows.append((_name(row), frame.number(row.time_step), *step, *map(frame.number, values)))
    return element(
        "section",
        element("h2", "Every distance that was tried"),
        element(
            "p",
            "Changes and errors are root mean squares over the spread of the observed states: "
            "at the times of the training, and the errors between them and behind them, too.",
        ),
        markup.table(header, rows, "every distance that was tried"),
    )


def _name(row: "SeriesRow") -> str:
    if row.factor is None:
        return "under fine RK4"
    return "as in training" if row.factor == 1 else f"at {row.factor:g} times its distance"
