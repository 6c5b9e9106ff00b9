"""The report of a verdict on residual layers as a page for people."""

import math
from typing import TYPE_CHECKING

from tfnode import charts, markup
from tfnode.charts import Axis, Mark
from tfnode.markup import Element, element
from tfnode.validity import frame, pages
from tfnode.validity.frame import Frame, counted
from tfnode.validity.pages import Page

if TYPE_CHECKING:
    from tfnode.validity.resnet_report import ResNetReport

_DEPTHS = {1.0: "as it is", 2.0: "at half the depth", 0.5: "at twice the depth"}


def framed(report: "ResNetReport", title: str | None = None) -> Frame:
    """The page of a report."""
    page = Page(report.verdict)
    return Frame(
        frame.heading(title, ("Are the residual layers of ", page.name, " steps of an ODE?")),
        (_verdict(report, page), _numbers(page)),
        (_depths(page), _changes(report), pages.table(page), pages.origin(page)),
    )


def _verdict(report: "ResNetReport", page: Page) -> Element:
    better = sum(row.is_better for row in page.report.rows[1:])
    return frame.verdict(
        report.is_ode,
        "Yes, they are steps of an ODE." if report.is_ode else "No, they are layers on their own.",
        f" With the ODE between its layers, solved in {counted(better, 'other way')} of equal or "
        f"smaller error, {pages.change(page)} of the model as it is. An ODE may change by "
        f"{page.gap(report.threshold)}.",
        pages.doubt(page.report),
    )


def _numbers(page: Page) -> Element:
    report = page.report
    what = "change" if report.measure == "outputs" else report.measure
    found = {
        f"{what} {_DEPTHS[row.factor]}": page.value(report.value_of(row))
        for row in report.rows
        if row.solver == "Euler" and row.factor in _DEPTHS
    }
    found[f"{what} under {page.solver(report.rows[-1])}"] = page.value(
        report.value_of(report.rows[-1])
    )
    return frame.numbers({**found, "samples": f"{report.num_samples}"})


def _depths(page: Page) -> Element:
    text = (
        "The model as it is takes steps of Euler's method, one evaluation for each residual layer. "
        "With another number of steps it has another depth, its weights interpolated between the "
        "layers; other solvers come nearer to the ODE itself."
    )
    return element(
        "section",
        element("h2", "At other depths, and under other solvers"),
        element("p", text),
        pages.measured(page),
    )


def _changes(report: "ResNetReport") -> Element:
    rows = []
    for stage in report.stages:
        names = (element("bdi", stage.start), " → ", element("bdi", stage.end))
        values = (stage.weight_rate, stage.residual_rate, stage.distances[-1])
        rows.append((names, str(stage.depth), *map(frame.number, values)))
    header = ("from → to", "layers", "rate of the weights", "of the outputs", "distance to the ODE")
    text = (
        "A rate is the number of layers times the mean change from a layer to the next. It stays "
        "bounded where layers come from an ODE, however many they are. The distance is that of the "
        "states behind the last layer, over the way from the first state to the last."
    )
    return element(
        "section",
        element("h2", "How its layers change"),
        element("p", text),
        _chart(report),
        markup.table(header, rows, "changes of the layers"),
    )


def _chart(report: "ResNetReport") -> list[Element] | None:
    marks = [
        Mark(float(layer), change, i, f"{what}, layer {layer}: {change:.3g}", what == "weights")
        for i, stage in enumerate(report.stages)
        for what, changes in (
            ("weights", stage.weight_changes),
            ("outputs", stage.residual_changes),
        )
        for layer, change in enumerate(changes, start=1)
        if math.isfinite(change)
    ]
    if not marks:
        return None
    x = Axis("layer", lambda v: f"{v:g}")
    y = Axis("change to the next layer", lambda v: f"{v:g}", limits=(-0.02, math.inf))
    chart = charts.scatter(marks, x, y, "change over the layers", level=math.sqrt(2))
    note = (
        "Filled marks are weights, hollow ones outputs. On the dotted line are layers that have "
        "nothing to do with each other."
    )
    return [
        element("figure", chart, charts.legend([stage.start for stage in report.stages])),
        element("p", note, class_="note"),
    ]
