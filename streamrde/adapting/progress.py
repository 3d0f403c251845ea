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
_SMALL, _WORSE = 0.05, 1.05


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
    names, stream = np.unique(windows.stream, return_inverse=True)
    rows = np.tile(section.blank, (len(names), 1))
    served, threshold = np.full((n, outputs), np.nan), np.full((n, section.units), np.nan)
    predicted, labels = np.full((n, len(Method), outputs), np.nan), np.zeros(n, np.int64)
    learned = np.zeros(len(names), np.int64)
    for place, is_label in _turns(stream, windows, horizon + delay):
        slots = stream[place]
        issued, joined = place[~is_label], place[is_label]
        if len(issued):
            of, value = slots[~is_label], windows.frozen[issued]
            nothing = np.empty((len(of), 0))
            labels[issued] = learned[of]
            found = section.issue(rows, of, windows.window[issued], windows.t_end[issued], value, nothing)
            predicted[issued], served[issued], threshold[issued] = found.by_method, found.value, found.threshold
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

    Errors by method and as served are of two kinds: `rmse` of each output, in its units, and beside it one number for
    all outputs, the root of the mean squared error relative to the targets' spread.

    Args:
        names: of the streams, by their numbers.
        scale: spread of each target, (outputs,).
    Returns:
        labels: number of labels with all outputs. rmse. after: errors of predictions that were made after 1, 3, 10, ...
        labels of their stream. begin: time of the first. over_time: errors in tenths of the recorded time, and the
        shares within the intervals.
        streams: the same of each. beside_last: see `beside_last`. coverage: see `coverage_of`, if there are intervals.
    """
    error = np.concatenate([found.predicted, found.served[:, None]], axis=1) - windows.label[:, None]
    known = np.isfinite(windows.label).all(axis=1)
    squares, stream, t = error[known] ** 2, windows.stream[known], windows.t_end[known]
    inside = np.where(found.known, ~found.missed, np.nan)[known]

    def parts(group: Indices, count: int) -> list[dict[str, Any]]:
        """Return the errors and shares of each of the groups that labels are divided into."""
        of_all = np.sqrt(_means((squares / scale**2).mean(axis=2), group, count))
        each, shares = np.sqrt(_means(squares, group, count)), _means(inside, group, count)
        counts = np.bincount(group, minlength=count)
        return [
            {
                "labels": int(counts[k]),
                **_by_method(of_all[k]),
                "rmse": _by_method(each[k]),
                **({"coverage": _plain(shares[k])} if inside.shape[1] else {}),
            }
            for k in range(count)
        ]

    result: dict[str, Any] = {
        "labels": int(known.sum()),
        "rmse": parts(np.zeros(len(t), np.intp), 1)[0]["rmse"],
        "after": {},
    }
    for moment in (0, *MOMENTS):
        if (found.labels >= moment).any():
            later = found.labels[known] >= moment
            result["after"][str(moment)] = parts(np.where(later, 0, 1), 2)[0]
    if len(t):
        part = np.minimum((t - t.min()) * _PARTS / max(float(np.ptp(t)), 1e-300), _PARTS - 1).astype(np.intp)
        result["begin"] = float(t.min())
        result["over_time"] = [
            {"until": float(t[part == k].max()), **own} for k, own in enumerate(parts(part, _PARTS)) if own["labels"]
        ]
    numbers = np.unique(windows.stream)
    of_streams = parts(np.searchsorted(numbers, stream), len(numbers))
    result["streams"] = {names[k]: own for k, own in zip(numbers.tolist(), of_streams, strict=True)}
    after_first = found.labels[known] > 0
    result["beside_last"] = beside_last(squares[after_first], stream[after_first], names, scale)
    if found.missed.shape[1]:
        result["coverage"] = coverage_of(windows, found, names)
    return result


def beside_last(squares: Floats, stream: Indices, names: list[str], scale: Floats) -> list[dict[str, Any]]:
    """Return for each output the stream whose served errors are the largest beside those of its last label.

    Only predictions that were made after a first label count. Errors below a twentieth of the target's spread count as
    that, so that a target which stands still does not make any error infinitely worse.

    Args:
        squares: squared errors by method and as served, (n, 6, outputs).
        stream: (n,).
    """
    numbers, group = np.unique(stream, return_inverse=True)
    if not len(numbers):
        return []
    root = np.maximum(np.sqrt(_means(squares, group, len(numbers))), _SMALL * scale)
    ratio = np.nan_to_num(root[:, -1] / root[:, Method.LAST])
    return [
        {
            "worst_stream": names[int(numbers[k])],
            "ratio": float(own[k]),
            "above_1.05": int((own > _WORSE).sum()),
            "streams": len(numbers),
        }
        for own, k in zip(ratio.T, ratio.argmax(axis=0).tolist(), strict=True)
    ]


def coverage_of(windows: Windows, found: Progress, names: list[str]) -> list[dict[str, Any]]:
    """Return for each threshold the share of labels within: of all, of the worst stream, and of its worst 200 in a row.

    Width is the mean width of the intervals of labels, twice the threshold.
    """
    result = []
    for unit in range(found.missed.shape[1]):
        known = found.known[:, unit]
        by_stream: dict[str, float] = {}
        worst = None
        # Sorting by stream keeps each one's order.
        place = np.flatnonzero(known)[np.argsort(windows.stream[known], kind="stable")]
        starts = np.flatnonzero(np.r_[True, np.diff(windows.stream[place]) != 0]) if len(place) else place
        for own in np.split(place, starts[1:]) if len(place) else ():
            inside = ~found.missed[own, unit]
            by_stream[names[int(windows.stream[own[0]])]] = float(inside.mean())
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


def _means(values: Floats, group: Indices, count: int) -> Floats:
    """Return the means of values, (n, ...), in groups, (count, ...), without those that are not known."""
    flat = values.reshape(len(values), int(np.prod(values.shape[1:])))
    found = np.full((count, flat.shape[1]), np.nan)
    for column, own in enumerate(flat.T):
        there = np.isfinite(own)
        number = np.bincount(group[there], minlength=count)
        total = np.bincount(group[there], weights=own[there], minlength=count)
        found[number > 0, column] = total[number > 0] / number[number > 0]
    return found.reshape(count, *values.shape[1:])


def _by_method(values: Floats) -> dict[str, Any]:
    """Name values by method, (6, ...), and turn NaN into None."""
    return dict(zip((*METHODS, "served"), _plain(values), strict=True))


def _plain(values: Floats) -> list[Any]:
    if values.ndim > 1:
        return [_plain(row) for row in values]
    return [value if np.isfinite(value) else None for value in values.tolist()]
