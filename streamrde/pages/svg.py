"""Draw small charts as SVG. Their colours come from the page's style sheet, and so follow light, dark and print."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

# Room for tick labels and axis titles, in the chart's own pixels.
_LEFT, _RIGHT, _TOP, _BOTTOM = 68, 14, 26, 44
# Largest span of a log axis. Values below are as good as 0.
_DECADES = 12

Anchor: TypeAlias = Literal["start", "middle", "end"]


class Axis(NamedTuple):
    """One axis of a chart."""

    title: str
    """Title, with the unit."""
    low: float
    high: float
    log: bool = False
    percent: bool = False
    """True: tick labels are in per cent."""
    names: tuple[str, ...] = ()
    """Names of the values 1, 2, ..., which become the ticks."""

    def place(self, value: float) -> float:
        """Map a value to its position: 0 at `low`, 1 at `high`, clipped a little outside."""
        if self.log:
            place = math.log(max(value, 1e-300) / self.low) / math.log(self.high / self.low)
        else:
            place = (value - self.low) / (self.high - self.low)
        return min(max(place, -0.02), 1.02)

    def ticks(self) -> list[float]:
        """Choose about five round values. A log axis has 1, 2, 5 over few decades, or else powers of ten."""
        if self.names:
            return [float(i) for i in range(1, len(self.names) + 1)]
        if self.log:
            decades = math.log10(self.high / self.low)
            steps = (1, 2, 5) if decades <= 2.3 else (1,)
            first = math.ceil(math.log10(self.low)) - (len(steps) > 1)
            every = max(1, math.ceil(decades / 6))
            found = [
                s * 10.0**power for power in range(first, math.ceil(math.log10(self.high)) + 1, every) for s in steps
            ]
        else:
            raw = (self.high - self.low) / 5
            unit = 10.0 ** math.floor(math.log10(raw))
            step = unit * next(round_ for round_ in (1, 2, 2.5, 5, 10) if round_ * unit >= 0.8 * raw)
            found = [
                i * step for i in range(math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9) + 1)
            ]
        slack = 1e-9 * abs(self.high - self.low)
        return [value for value in found if self.low - slack <= value <= self.high + slack]

    def label(self, value: float) -> str:
        """Format a tick."""
        if self.names:
            return self.names[round(value) - 1]
        if self.log and not 1e-3 <= value < 1e5:
            return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")
        if self.percent:
            return f"{100 * value:.4g}%"
        return number(0.0 if abs(value) < 1e-12 * max(abs(self.low), abs(self.high)) else value)


def axis(
    title: str,
    values: ArrayLike,
    *,
    log: bool = False,
    percent: bool = False,
    zero: bool = False,
    high: float | None = None,
) -> Axis:
    """Return an axis that fits all finite `values`, with a little room.

    Args:
        log: logarithmic, without values that are not positive.
        zero: begin at 0.
        high: end here.
    """
    found = np.asarray(values, dtype=float).ravel()
    found = found[np.isfinite(found) & (found > 0 if log else True)]
    if not found.size:
        found = np.array([0.1, 1.0] if log else [0.0, 1.0])
    least, most = float(found.min()), float(found.max()) if high is None else high
    if log:
        least = max(least, most * 10.0**-_DECADES)
        least, most = (least / 1.5, most * 1.5) if most < 1.5 * least else (least / 1.1, most * 1.1)
        return Axis(title, least, most, True, percent)
    if zero and most <= 0:
        most = 1.0
    room = (most - least) * 0.04 or max(abs(most), 1e-12) * 0.1
    low = 0.0 if zero else least - room
    return Axis(title, low, max(most if high is not None else most + room, low + 1e-12), False, percent)


class Plot:
    """Collect the marks of a chart. Colours are numbers 1 to 6 of the page's palette. 0 is its muted ink."""

    def __init__(self, x: Axis, y: Axis, *, title: str, width: int = 520, height: int = 300) -> None:
        self.title = title
        self._x, self._y = x, y
        self._size = width, height
        self._marks: list[str] = []
        self._legend: list[tuple[str, str]] = []

    def line(self, x: ArrayLike, y: ArrayLike, *, colour: int = 1, dashed: bool = False, label: str = "") -> None:
        """Draw a line through points, with gaps where y is not finite."""
        runs: list[list[str]] = [[]]
        for a, b in zip(np.asarray(x, float).tolist(), np.asarray(y, float).tolist(), strict=True):
            if math.isfinite(b) and (b > 0 or not self._y.log):
                runs[-1].append(self._at(a, b))
            elif runs[-1]:
                runs.append([])
        kind = f"c{colour} line{' dashed' if dashed else ''}"
        for run in runs:
            if len(run) == 1:
                a, b = run[0].split(",")
                self._marks.append(f'<circle class="c{colour} dot" cx="{a}" cy="{b}" r="2.5"/>')
            elif run:
                self._marks.append(f'<polyline class="{kind}" points="{" ".join(run)}"/>')
        self._name(label, f'<line class="{kind}" x1="0" x2="20" y1="0" y2="0"/>')

    def band(
        self, x: ArrayLike, low: ArrayLike, high: ArrayLike, *, colour: int = 1, inner: bool = False, label: str = ""
    ) -> None:
        """Fill the area between two lines. An inner band lies within another."""
        columns = (np.asarray(values, float).tolist() for values in (x, low, high))
        rows = [row for row in zip(*columns, strict=True) if all(map(math.isfinite, row))]
        edge = [self._at(a, b) for a, b, _ in rows] + [self._at(a, c) for a, _, c in reversed(rows)]
        if edge:
            self._marks.append(f'<polygon class="c{colour} band" points="{" ".join(edge)}"/>')
        mark = f'<rect class="c{colour} band" x="0" y="-5" width="20" height="10"/>'
        self._name(label, mark * (1 + inner))

    def points(
        self,
        x: ArrayLike,
        y: ArrayLike,
        *,
        colour: int = 1,
        size: float = 2.0,
        titles: Sequence[str] | None = None,
        label: str = "",
    ) -> None:
        """Draw a dot per point, with a text that shows under the pointer."""
        for i, (a, b) in enumerate(zip(np.asarray(x, float).tolist(), np.asarray(y, float).tolist(), strict=True)):
            at, up = self._xy(a, b)
            end = "/>" if titles is None else f"><title>{html.escape(titles[i])}</title></circle>"
            self._marks.append(f'<circle class="c{colour} dot" cx="{at:.1f}" cy="{up:.1f}" r="{size:g}"{end}')
        self._name(label, f'<circle class="c{colour} dot" cx="10" cy="0" r="3.5"/>')

    def bars(self, edges: ArrayLike, heights: ArrayLike, *, colour: int = 0) -> None:
        """Draw bars from the axis, with (n + 1,) edges and (n,) heights."""
        at = np.asarray(edges, float).tolist()
        for left, right, height in zip(at[:-1], at[1:], np.asarray(heights, float).tolist(), strict=True):
            (x0, y0), (x1, y1) = self._xy(left, self._y.low), self._xy(right, height)
            if y0 - y1 > 0.05:
                box = f'x="{x0 + 0.5:.1f}" y="{y1:.1f}" width="{max(x1 - x0 - 1, 0.5):.1f}" height="{y0 - y1:.1f}"'
                self._marks.append(f'<rect class="c{colour} bar" {box}/>')

    def rule(self, *, x: float | None = None, y: float | None = None, label: str = "", colour: int = 0) -> None:
        """Draw a thin line across the chart at one value, with a text."""
        level, late = y or 0.0, x is not None and self._x.place(x) > 0.6
        start, end = (self._x.low, level), (self._x.high, level)
        if x is not None:
            start, end = (x, self._y.low), (x, self._y.high)
        self._rule(start, end, colour)
        if label:
            left, top = self._xy(start[0], end[1])
            dx, dy = (4.0, -4.0) if x is None else (-4.0 if late else 4.0, 10.0)
            anchor: Anchor = "end" if late else "start"
            self._marks.append(_text(round(left, 1) + dx, round(top, 1) + dy, label, anchor, "note"))

    def diagonal(self, label: str = "") -> None:
        """Draw the line y = x."""
        low, high = max(self._x.low, self._y.low), min(self._x.high, self._y.high)
        self._rule((low, low), (high, high), 0)
        self._name(label, '<line class="c0 rule" x1="0" x2="20" y1="0" y2="0"/>')

    def svg(self) -> str:
        """Return the chart as an SVG element."""
        width, height = self._size
        axes = html.escape(f"{self._y.title} against {self._x.title}")
        return (
            f'<svg viewBox="0 0 {width} {height}" role="img"><title>{html.escape(self.title)}</title>'
            f"<desc>{axes}</desc>{self._frame()}{''.join(self._marks)}{self._legends()}</svg>"
        )

    def _frame(self) -> str:
        width, height = self._size
        parts = []
        for value in self._y.ticks():
            _, y = self._xy(self._x.low, value)
            parts.append(f'<line class="grid" x1="{_LEFT}" x2="{width - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(_text(_LEFT - 7, y + 3.5, self._y.label(value), "end"))
        for value in self._x.ticks():
            x, y = self._xy(value, self._y.low)
            parts.append(f'<line class="tick" x1="{x:.1f}" x2="{x:.1f}" y1="{y:.1f}" y2="{y + 4:.1f}"/>')
            parts.append(_text(x, y + 16, self._x.label(value), "middle"))
        bottom = height - _BOTTOM
        parts.append(f'<line class="axis" x1="{_LEFT}" x2="{width - _RIGHT}" y1="{bottom}" y2="{bottom}"/>')
        parts.append(_text((_LEFT + width - _RIGHT) / 2, height - 8, self._x.title, "middle", "title"))
        middle = (_TOP + height - _BOTTOM) / 2
        place = f'x="11" y="{middle:.0f}" text-anchor="middle" transform="rotate(-90 11 {middle:.0f})"'
        parts.append(f'<text class="title" {place}>{html.escape(self._y.title)}</text>')
        return "".join(parts)

    def _legends(self) -> str:
        parts, x = [], float(_LEFT)
        for mark, label in self._legend:
            parts.append(f'<g transform="translate({x:.0f} 11)">{mark}{_text(26, 4, label, "start", "legend")}</g>')
            x += 26 + 6.6 * len(label) + 16
        return "".join(parts)

    def _rule(self, start: tuple[float, float], end: tuple[float, float], colour: int) -> None:
        (x0, y0), (x1, y1) = self._xy(*start), self._xy(*end)
        self._marks.append(f'<line class="c{colour} rule" x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}"/>')

    def _name(self, label: str, mark: str) -> None:
        if label:
            self._legend.append((mark, label))

    def _xy(self, x: float, y: float) -> tuple[float, float]:
        width, height = self._size
        across, up = width - _LEFT - _RIGHT, height - _TOP - _BOTTOM
        return _LEFT + self._x.place(x) * across, _TOP + (1 - self._y.place(y)) * up

    def _at(self, x: float, y: float) -> str:
        a, b = self._xy(x, y)
        return f"{a:.1f},{b:.1f}"


def number(value: float) -> str:
    """Format a number with four significant digits and separated thousands."""
    if not math.isfinite(value):
        return "-"
    if abs(value) >= 1e4 and abs(value) < 1e9:
        return f"{value:,.0f}"
    return f"{value:.4g}".replace("e-0", "e-").replace("e+0", "e")


def duration(seconds: float) -> str:
    """Format a duration with three significant digits, in seconds, minutes or hours."""
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"


def _text(x: float, y: float, text: str, anchor: Anchor, kind: str = "label") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{html.escape(text)}</text>'


def thinned(count: int, most: int) -> Iterable[int]:
    """Return at most `most` of `count` indices, evenly spread."""
    return range(count) if count <= most else np.linspace(0, count - 1, most).round().astype(int).tolist()
