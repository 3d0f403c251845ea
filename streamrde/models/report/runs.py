"""Draw several runs or trials beside each other: scores by cost and by setting, and curves over time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from streamrde.pages.page import figure
from streamrde.pages.svg import Plot, axis
from streamrde.toml import value

# Values of a setting whose charts are still read.
_MOST_VALUES = 12
# Lines with a colour of their own.
COLOURED = 6


class Scored(NamedTuple):
    """A run or trial with a score."""

    title: str
    """Text that shows under the pointer."""
    settings: Mapping[str, Any]
    score: float
    cost: float
    """Microseconds to serve a second of one stream. NaN: not known."""
    front: bool
    """No other is both better and cheaper."""
    longest: bool = True
    """Trained as long as any."""


class Line(NamedTuple):
    """A curve of one run."""

    name: str
    """Name in the legend. "": none."""
    x: Sequence[float]
    y: Sequence[float | None]
    colour: int
    """Colour of the palette. 0: muted ink."""
    dashed: bool = False


def costs(runs: Sequence[Scored], score: str, *, percent: bool = False) -> str:
    """Draw the scores by the cost of serving, of runs that were trained as long as any."""
    shown = [run for run in runs if run.longest and math.isfinite(run.cost)]
    if not shown:
        return ""
    plot = Plot(
        axis("microseconds to serve a second of a stream", [run.cost for run in shown], log=True),
        axis(score, [run.score for run in shown], percent=percent),
        title=f"{score} by the cost of serving",
    )
    for front in (False, True):
        own = [run for run in shown if run.front == front]
        if own:
            plot.points(
                [run.cost for run in own],
                [run.score for run in own],
                colour=2 if front else 1,
                size=4.0,
                titles=[run.title for run in own],
                label="no other is both better and cheaper" if front else "others",
            )
    return figure("Score by the cost of serving", plot.svg())


def by_setting(runs: Sequence[Scored], key: str, name: str, score: str, *, percent: bool = False) -> str:
    """Draw the scores by the values of a setting: along an axis for numbers, else side by side.

    Returns "" for a setting with one value, or with too many texts.
    """
    runs = [run for run in runs if key in run.settings]
    found = [run.settings[key] for run in runs]
    texts = [value(one).strip('"') for one in found]
    different = [*dict.fromkeys(texts)]
    if len(different) < 2:
        return ""
    if all(isinstance(one, int | float) and not isinstance(one, bool) for one in found):
        at = [float(one) for one in found]
        x = axis(name, at, log=min(at) > 0 and max(at) > 20 * min(at))
        caption = ""
    elif len(different) <= _MOST_VALUES:
        at = [float(different.index(text) + 1) for text in texts]
        x = axis(name, [0.5, len(different) + 0.5])
        caption = ", ".join(f"{i}: {text}" for i, text in enumerate(different, start=1))
    else:
        return ""
    scores = np.array([run.score for run in runs], np.float64)
    plot = Plot(x, axis(score, scores, percent=percent), title=f"{score} by {name}", height=240)
    all_longest = all(run.longest for run in runs)
    for longest in (False, True):
        own = [i for i, run in enumerate(runs) if run.longest == longest]
        label = "trained longest" if longest else "given up"
        plot.points(
            [at[i] for i in own],
            scores[own],
            colour=1 if longest else 0,
            size=3.5,
            titles=[runs[i].title for i in own],
            label="" if all_longest else label,
        )
    return figure(name, plot.svg(), caption)


def curves(title: str, x: str, y: str, lines: Sequence[Line], caption: str = "") -> str:
    """Draw curves. The scale is logarithmic where values differ by large factors. Returns "" without any value."""
    seen = [value for line in lines for value in line.y if value is not None and math.isfinite(value)]
    if not seen:
        return ""
    log = min(seen) > 0 and max(seen) > 20 * min(seen)
    plot = Plot(axis(x, [at for line in lines for at in line.x]), axis(y, seen, log=log), title=title)
    # Muted lines first, so that they lie below.
    for line in sorted(lines, key=lambda line: line.colour > 0):
        values = [math.nan if value is None else value for value in line.y]
        plot.line(line.x, values, colour=line.colour, dashed=line.dashed, label=line.name)
    return figure(title, plot.svg(), caption)
