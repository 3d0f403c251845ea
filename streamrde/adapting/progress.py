"""Progressive evaluation: predictions and labels of recorded streams in the order in which they would have come.

A prediction is made when its window ends. Its label is learned when it is known, `delay` seconds after the time that
it is for. Every error is that of a prediction that was made before its label (prequential: Dawid 1984, "Present
position and potential developments").
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from streamrde.adapting.baselines import METHODS, Method
from streamrde.adapting.section import Adapting
from streamrde.arrays import Bools, Floats, Indices, Ints

WORST = 200
"""Labels in a row whose coverage is looked at."""
MOMENTS = (1, 3, 10, 30, 100, 300, 1000)
"""Numbers of labels after which the errors of later predictions are shown."""
_PARTS = 10


class Windows(NamedTuple):
    """Predictions of a model that learned nothing, and their labels."""

    stream: Indices
    """Number of each window's stream, (n,)."""
    window: Ints
    """(n,), ascending within each stream."""
    t_end: Floats
    """(n,)"""
    frozen: Floats
    """(n, outputs)"""
    label: Floats
    """Targets, or 1 for the right class and 0 for others, (n, outputs). NaN: there is none."""


class Progress(NamedTuple):
    """Predictions as they would have been served."""

    predicted: Floats
    """By every method, (n, 5, outputs)."""
    served: Floats
    """(n, outputs)"""
    threshold: Floats
    """Thresholds of the intervals, (n, units), or (n, 0)."""
    missed: Bools
    """Labels outside of them, (n, units), or (n, 0)."""
    known: Bools
    """Labels that were scored, (n, units), or (n, 0)."""
    labels: Ints
    """Number of the labels that each prediction's stream had learned before it, (n,)."""
    alarms: Ints
    """Alarms of drift, (units,), or (0,)."""


def progress(section: Adapting, windows: Windows, *, horizon: float = 0.0, delay: float = 0.0) -> Progress:
    """Predict and learn in order, every stream by itself.

    Args:
        section: what streams learn in; its columns begin at 0.
        horizon: seconds by which the labels lie ahead of their windows.
        delay: seconds until they are known after that.
    """
    n, outputs = windows.frozen.shape
    units = 0 if section.bands is None else section.bands.units
    names, stream = np.unique(windows.stream, return_inverse=True)
    rows = np.tile(section.blank, (len(names), 1))
    served, threshold = np.full((n, outputs), np.nan), np.full((n, units), np.nan)
    predicted, labels = np.full((n, len(Method), outputs), np.nan), np.zeros(n, np.int64)
    learned = np.zeros(len(names), np.int64)
    for place, is_label in _turns(stream, windows, horizon + delay):
        slots = stream[place]
        issued, joined = place[~is_label], place[is_label]
        if len(issued):
            of, value = slots[~is_label], windows.frozen[issued]
            threshold[issued], labels[issued] = section.thresholds(rows, of), learned[of]
            nothing = np.empty((len(of), 0))
            found, kept = section.serve(rows, of, value, nothing)
            predicted[issued] = kept[:, : len(Method) * outputs].reshape(len(of), len(Method), outputs)
            served[issued] = found
            section.issue(rows, of, windows.window[issued], windows.t_end[issued], value, nothing)
        if len(joined):
            of = slots[is_label]
            fate = section.label(rows, of, windows.label[joined], windows.window[joined], None)
            learned[of] += fate.outcome == 0
    if section.bands is None:
        none = np.zeros((n, 0), dtype=bool)
        return Progress(predicted, served, threshold, none, none, labels, np.zeros(0, np.int64))
    score = section.bands.scores(served, windows.label)
    alarms = section.bands.alarms(rows, np.arange(len(names))).sum(axis=0)
    return Progress(predicted, served, threshold, score > threshold, np.isfinite(score), labels, alarms)


def _turns(stream: Indices, windows: Windows, delay: float) -> list[tuple[Indices, Bools]]:
    """Return windows to predict and to learn, each stream's in order of time, at most one of a stream in a turn."""
    n, t_end = len(stream), windows.t_end
    has = np.flatnonzero(np.isfinite(windows.label).any(axis=1))
    place = np.concatenate([np.arange(n), has])
    is_label = np.arange(len(place)) >= n
    time = np.concatenate([t_end, np.maximum(t_end[has] + delay, t_end[has])])
    # A label that is known just when a window ends counts for it, but for its own.
    rank = np.where(is_label, np.where(delay > 0, 0, 2), 1)
    of = stream[place]
    order = np.lexsort((rank, time, of))
    turn = np.arange(len(order)) - np.searchsorted(of[order], of[order])
    by_turn = order[np.argsort(turn, kind="stable")]
    stops = np.cumsum(np.bincount(turn))[:-1]
    return [(place[own], is_label[own]) for own in np.split(by_turn, stops)]


def summary(windows: Windows, found: Progress, names: list[str], *, scale: Floats) -> dict[str, Any]:
    """Return errors and coverage as plain numbers.

    Args:
        names: of the streams, by their numbers.
        scale: spread of each target, (outputs,): the error of several outputs is the mean over them in these units.
    Returns:
        labels; rmse by method and as served, for each output; after: the same of predictions that were made after 1, 3,
        10, ... labels of their stream, relative to the targets' spread; over_time: in tenths of the recorded time;
        streams: the same of each; and coverage, see `coverage_of`, if there are intervals.
    """
    error = found.predicted - windows.label[:, None]
    squares = np.concatenate([error, (found.served - windows.label)[:, None]], axis=1) ** 2
    relative = squares / scale**2

    def roots(some: Bools) -> dict[str, float | None]:
        values = _means(relative[some].mean(axis=2) if some.any() else np.empty((0, len(Method) + 1)))
        return dict(zip((*METHODS, "served"), values, strict=True))

    known = np.isfinite(windows.label).all(axis=1)
    result: dict[str, Any] = {
        "labels": int(known.sum()),
        "rmse": {name: _means(squares[known, i]) for i, name in enumerate((*METHODS, "served"))},
        "after": {str(k): roots(known & (found.labels >= k)) for k in (0, *MOMENTS) if (found.labels >= k).any()},
    }
    if known.any():
        t = windows.t_end
        part = np.minimum((t - t.min()) * _PARTS / max(float(np.ptp(t)), 1e-300), _PARTS - 1).astype(np.intp)
        result["over_time"] = [
            {"until": float(t[part == k].max()), **roots(known & (part == k))} for k in np.unique(part).tolist()
        ]
    result["streams"] = {
        names[k]: {"labels": int((known & (windows.stream == k)).sum()), **roots(known & (windows.stream == k))}
        for k in np.unique(windows.stream).tolist()
    }
    if found.missed.shape[1]:
        result["coverage"] = coverage_of(windows, found, names)
    return result


def coverage_of(windows: Windows, found: Progress, names: list[str]) -> list[dict[str, Any]]:
    """Return for each threshold the share of labels within: of all, of the worst stream, and of its worst 200 in a row.

    Width is the mean width of the intervals of labels, twice the threshold.
    """
    result = []
    for unit in range(found.missed.shape[1]):
        known = found.known[:, unit]
        by_stream: dict[str, float] = {}
        worst = None
        for k in np.unique(windows.stream[known]).tolist():
            own = known & (windows.stream == k)
            inside = ~found.missed[own, unit]
            by_stream[names[k]] = float(inside.mean())
            if len(inside) >= WORST:
                sums = np.cumsum(np.r_[0, inside])
                low = float((sums[WORST:] - sums[:-WORST]).min()) / WORST
                worst = low if worst is None else min(worst, low)
        low_name = min(by_stream, key=by_stream.__getitem__, default=None)
        result.append(
            {
                "labels": int(known.sum()),
                "coverage": float((~found.missed[known, unit]).mean()) if known.any() else None,
                "worst_stream": low_name,
                "worst_stream_coverage": None if low_name is None else by_stream[low_name],
                f"worst_{WORST}": worst,
                "width": float(2 * np.maximum(found.threshold[known, unit], 0).mean()) if known.any() else None,
                "drifts": int(found.alarms[unit]),
                "streams": by_stream,
            }
        )
    return result


def _means(squares: Floats) -> list[float | None]:
    """Return root mean squares of the columns, without those that are not known."""
    with np.errstate(invalid="ignore", divide="ignore"):
        count = np.isfinite(squares).sum(axis=0)
        root = np.sqrt(np.where(np.isfinite(squares), squares, 0.0).sum(axis=0) / count)
    return [float(value) if np.isfinite(value) else None for value in root]
