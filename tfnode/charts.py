"""Charts as SVG within a page: their colours are the page's, and no script reads their values."""

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np
from matplotlib import ticker

from tfnode.markup import Element, element

# Of the drawing, whose units are about a pixel on a phone.
_WIDTH, _HEIGHT = 400, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 386, 30, 216
# One for each series: a disc, a diamond, a triangle and a square of about one area.
_SHAPES = (
    "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0 -10 0Z",
    "M0 -6L6 0L0 6L-6 0Z",
    "M0 -6L6 5H-6Z",
    "M-4.5 -4.5H4.5V4.5H-4.5Z",
)


@dataclasses.dataclass(frozen=True)
class Mark:
    """A value in a chart.

    Args:
        x: Float.
        y: Float.
        series: Integer, which gives its shape and colour.
        words: String, the value in words.
        is_full: Boolean, whether its shape is filled.
        is_large: Boolean.
        is_ringed: Boolean.
    """

    x: float
    y: float
    series: int
    words: str
    is_full: bool = True
    is_large: bool = False
    is_ringed: bool = False


@dataclasses.dataclass(frozen=True)
class Axis:
    """An axis, and how its values are placed and written.

    Args:
        title: String.
        write: Function from a value to a string.
        base: Float of a logarithmic axis; None for a linear one.
        least: Float, the smallest range of a linear axis, so that a small difference looks small.
        limits: Pair of floats, beyond which a linear axis does not go.
        is_reversed: Boolean, whether the values fall.
    """

    title: str
    write: Callable[[float], str]
    base: float | None = None
    least: float = 0.0
    limits: tuple[float, float] = (-math.inf, math.inf)
    is_reversed: bool = False

    def place(self, value: float) -> float:
        """The value on a scale that is even."""
        return value if self.base is None else math.log(value, self.base)

    def span(self, values: Sequence[float]) -> tuple[float, float]:
        """The ends of the axis, placed."""
        placed = [self.place(value) for value in values]
        low, high = min(placed), max(placed)
        if self.base is not None:
            return low - 0.4, high + 0.4
        middle, width = (low + high) / 2, max(self.least, 1.2 * (high - low)) or 1.0
        bottom, top = self.limits
        low = min(max(middle - width / 2, bottom), top - width)
        return low, low + width

    def ticks(self, span: tuple[float, float]) -> list[float]:
        """Round values along the axis."""
        if self.base is None:
            found = ticker.MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(*span)
        else:
            ends = (self.base ** span[0], self.base ** span[1])
            found = ticker.LogLocator(self.base, numticks=7).tick_values(*ends)
        return [float(v) for v in found if span[0] <= self.place(v) <= span[1]]


def scatter(
    marks: Sequence[Mark],
    x: Axis,
    y: Axis,
    label: str,
    band: tuple[float, float] | None = None,
    level: float | None = None,
) -> Element:
    """Returns a chart of marks, each of which says its value under the pointer and in focus.

    Args:
        marks: List of `Mark`s, whose values an axis can place.
        x: `Axis`, likewise `y`.
        label: String, what the chart shows.
        band: Optional pair of values of y with the range between them tinted.
        level: Optional value of y with a line through it.
    """
    x_span = x.span([mark.x for mark in marks])
    y_span = y.span([*(m.y for m in marks), *(band or ()), *([] if level is None else [level])])

    def across(value: float) -> float:
        return _between(x.place(value), x_span, (_RIGHT, _LEFT) if x.is_reversed else _SIDES)

    def up(value: float) -> float:
        return _between(y.place(value), y_span, (_BOTTOM, _TOP))

    return element(
        "svg",
        None if band is None else _band(up(band[0]), up(band[1])),
        (_grid_line(up(v), y.write(v)) for v in y.ticks(y_span)),
        None if level is None else _line(_LEFT, up(level), _RIGHT, up(level), "level"),
        (_tick(across(v), x.write(v)) for v in x.ticks(x_span)),
        element("text", x.title, x=_RIGHT, y=_HEIGHT - 8, class_="end title"),
        element("text", y.title, x=4, y=_TOP - 12, class_="title when-none"),
        (_drawn(mark, across(mark.x), up(mark.y)) for mark in marks),
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="group",
        aria_label=label,
        class_="chart",
    )


def legend(names: Sequence[str]) -> Element:
    """Returns the names of the series with their shapes."""
    return element("ul", (_entry(i, name) for i, name in enumerate(names)), class_="legend")


_SIDES = (_LEFT, _RIGHT)


def _between(value: float, span: tuple[float, float], ends: tuple[float, float]) -> float:
    return float(np.interp(value, span, ends))


def _entry(series: int, name: str) -> Element:
    shape = _shape(series, is_full=True)
    swatch = element("svg", shape, viewBox="-8 -8 16 16", aria_hidden="true")
    return element("li", swatch, name)


def _shape(series: int, is_full: bool, scale: float = 1.0) -> Element:
    kind = "full" if is_full else "hollow"
    return element(
        "path",
        d=_SHAPES[series % len(_SHAPES)],
        class_=f"shape series-{series % len(_SHAPES)} {kind}",
        transform=None if scale == 1 else f"scale({scale})",
    )


def _drawn(mark: Mark, x: float, y: float) -> Element:
    inside = element(
        "g",
        element("circle", r=11, class_="target"),
        element("circle", r=9, class_="ring"),
        _shape(mark.series, mark.is_full, 1.35 if mark.is_large else 1.0),
        transform=f"translate({x:.1f} {y:.1f})",
        class_="ringed" if mark.is_ringed else None,
    )
    # What it says stands in one place, where no other mark covers it and no edge cuts it off.
    said = element("text", mark.words, x=4, y=_TOP - 12, class_="said", aria_hidden="true")
    title = element("title", mark.words)
    return element("g", title, inside, said, class_="mark", role="img", tabindex=0)


def _band(low: float, high: float) -> Element:
    low, high = min(low, _BOTTOM), max(high, _TOP)
    height = f"{max(low - high, 1):.1f}"
    return element(
        "rect", x=_LEFT, y=f"{high:.1f}", width=_RIGHT - _LEFT, height=height, class_="band"
    )


def _grid_line(y: float, text: str) -> list[Element]:
    label = element("text", text, x=_LEFT - 6, y=f"{y + 4:.1f}", class_="end")
    return [_line(_LEFT, y, _RIGHT, y, "grid"), label]


def _tick(x: float, text: str) -> list[Element]:
    label = element("text", text, x=f"{x:.1f}", y=_BOTTOM + 18, class_="middle")
    return [_line(x, _BOTTOM, x, _BOTTOM + 4, "axis"), label]


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Element:
    ends = zip(("x1", "y1", "x2", "y2"), (x1, y1, x2, y2))
    return element("line", class_=kind, **{name: f"{value:.1f}" for name, value in ends})
