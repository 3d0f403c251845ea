"""Compute the quality of a model's answers as arrays to draw: by time into the stream, by confidence, by stream."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from streamrde.arrays import Floats, Indices, Ints
from streamrde.inference.quality import area_under_roc, softmax
from streamrde.models.training.history import Predicted

# 95 % of a normal distribution lie within so many deviations.
_Z = 1.959964
# A point of a curve over time rests on a tenth of the streams, but on no fewer than this, and on enough with this many.
_FEWEST, _ENOUGH = 5, 20


class Answers(NamedTuple):
    """The windows of one part of the data, one stream after the other."""

    streams: list[str]
    """Names, one per example."""
    starts: Indices
    """First window of each example, and the number of windows at the end, (examples + 1,)."""
    ends: Floats
    """Seconds from the stream's start to each window's end, (W,)."""
    value: Floats
    """Probabilities of the classes, or values in the targets' units, (W, outputs)."""
    target: Floats
    """Number of the class, (W,), or the targets' values, (W, outputs). NaN if not known."""

    @property
    def example(self) -> Indices:
        """Example of each window, (W,)."""
        return np.repeat(np.arange(len(self.streams)), np.diff(self.starts))

    @property
    def right(self) -> Floats:
        """1 if the most likely class is the true one, 0 if not, NaN if the truth is not known, (W,)."""
        return np.where(np.isfinite(self.target), self.value.argmax(axis=1) == self.target, np.nan)

    @property
    def at_end(self) -> Indices:
        """Last window of each example whose target is known."""
        known = np.flatnonzero(np.isfinite(self.target).reshape(len(self.target), -1).any(axis=1))
        last = {int(example): int(place) for example, place in zip(self.example[known], known, strict=True)}
        return np.array(sorted(last.values()), dtype=np.intp)


def answers(predicted: Predicted, *, classify: bool) -> Answers:
    """Join a part's predictions into rows of windows, logits as probabilities."""
    examples, outputs = predicted
    value = np.concatenate(outputs)
    target = np.concatenate([example.target for example in examples]).astype(float)
    if classify:
        value = softmax(value)
        target[target < 0] = np.nan
    starts = np.concatenate([[0], np.cumsum([len(own) for own in outputs])])
    ends = np.concatenate([example.ends for example in examples])
    return Answers([example.stream for example in examples], starts, ends, value, target)


def confusion(answered: Answers, places: Indices) -> Ints:
    """Count the windows at `places` by true class (rows) and most likely class (columns)."""
    classes = answered.value.shape[1]
    table = np.zeros((classes, classes), dtype=np.int64)
    known = places[np.isfinite(answered.target[places])]
    np.add.at(table, (answered.target[known].astype(int), answered.value[known].argmax(axis=1)), 1)
    return table


class OverTime(NamedTuple):
    """A measure as a function of the time since the streams began."""

    seconds: Floats
    """(G,)"""
    value: Floats
    """(G,), NaN where no stream has a value."""
    low: Floats
    high: Floats
    """Bounds of 95 % confidence, or NaN."""
    streams: Ints
    """Number of streams that still ran and had an answer and a target, (G,)."""


def latest(answered: Answers, *, most: int = 48) -> tuple[Floats, Indices]:
    """Return times, and for each the window of each stream that had closed last.

    Returns:
        seconds (G,), and places (examples, G), which are -1 before a stream's first window and after its end.
    """
    parts = [answered.ends[a:b] for a, b in zip(answered.starts, answered.starts[1:], strict=False)]
    final = np.sort([own[-1] for own in parts])
    enough = min(len(parts), _ENOUGH, max(_FEWEST, len(parts) // 10))
    # The edges of the stream that lasts longest.
    times = max(parts, key=lambda own: (len(own), own[-1]))
    kept = times[times <= final[-enough] + 1e-6]
    times = kept if len(kept) else times[:1]
    if len(times) > most:
        times = np.linspace(times[0], times[-1], most)
    places = np.full((len(parts), len(times)), -1, dtype=np.intp)
    for i, own in enumerate(parts):
        closed = np.searchsorted(own, times + 1e-6, side="right") - 1
        places[i] = np.where((closed >= 0) & (times <= own[-1] + 1e-6), closed + answered.starts[i], -1)
    return times, places


def accuracy_over_time(answered: Answers) -> OverTime:
    """Return the share of streams whose answer at each time is right, with Wilson's interval."""
    times, places = latest(answered)
    right = np.where(places >= 0, answered.right[places], np.nan)
    count = np.isfinite(right).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(count > 0, np.nansum(right, axis=0) / count, np.nan)
        middle = (share + _Z**2 / (2 * count)) / (1 + _Z**2 / count)
        half = _Z / (1 + _Z**2 / count) * np.sqrt(share * (1 - share) / count + _Z**2 / (4 * count**2))
    return OverTime(times, share, middle - half, middle + half, count)


def auc_over_time(answered: Answers) -> OverTime:
    """Return the area under the ROC curve of two classes at each time."""
    times, places = latest(answered)
    nothing = np.full(len(times), np.nan)
    value, count = nothing.copy(), np.zeros(len(times), dtype=np.int64)
    for g, column in enumerate(places.T):
        own = column[column >= 0]
        own = own[np.isfinite(answered.target[own])]
        value[g], count[g] = area_under_roc(answered.target[own] == 1, answered.value[own, 1]), len(own)
    return OverTime(times, value, nothing, nothing, count)


def error_over_time(answered: Answers, output: int) -> OverTime:
    """Return the root mean square error of one output over the streams at each time."""
    times, places = latest(answered)
    error = answered.value[:, output] - answered.target[:, output]
    squares = np.where(places >= 0, error[places] ** 2, np.nan)
    count, nothing = np.isfinite(squares).sum(axis=0), np.full(len(times), np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        value = np.where(count > 0, np.sqrt(np.nansum(squares, axis=0) / count), np.nan)
    return OverTime(times, value, nothing, nothing, count)


def residual_quantiles(value: Floats, residual: Floats, *, quantiles: Floats, bins: int = 12) -> tuple[Floats, Floats]:
    """Return quantiles of residuals by prediction, in bins of equally many windows.

    Returns:
        median prediction of each bin, (bins,), and the quantiles, (len(quantiles), bins).
    """
    order = np.argsort(value, kind="stable")
    parts = [part for part in np.array_split(order, max(1, min(bins, len(order) // 10))) if len(part)]
    middle = np.array([np.median(value[part]) for part in parts])
    return middle, np.array([np.quantile(residual[part], quantiles) for part in parts]).T


class Worst(NamedTuple):
    """A stream that the model does badly on."""

    stream: str
    windows: int
    error: float
    """Mean log loss (classification), else root mean square error in units of the targets' deviations."""
    last: int
    """Place of its last window with a target."""


def worst_streams(answered: Answers, *, classify: bool, most: int = 10) -> list[Worst]:
    """Return the streams with the largest error over their windows, the worst first."""
    if classify:
        true = np.nan_to_num(answered.target).astype(int)
        given = np.maximum(answered.value[np.arange(len(true)), true], 1e-12)
        loss = np.where(np.isfinite(answered.target), -np.log(given), np.nan)
    else:
        scaled = _in_deviations(answered)
        known = np.isfinite(scaled)
        loss = np.where(known, scaled**2, 0).sum(axis=1) / np.where(known.any(axis=1), known.sum(axis=1), np.nan)
    example, found = answered.example, []
    for place in answered.at_end.tolist():
        i = int(example[place])
        own = loss[answered.starts[i] : answered.starts[i + 1]]
        mean = float(np.nanmean(own))
        found.append(Worst(answered.streams[i], int(np.isfinite(own).sum()), mean if classify else mean**0.5, place))
    return sorted(found, key=lambda stream: -stream.error)[:most]


def error_by(answered: Answers, by: Floats, edges: Floats, *, classify: bool) -> tuple[Floats, Ints]:
    """Return the share of wrong answers (or the root mean square error in deviations) by another quantity.

    Args:
        by: the other quantity for each window, (W,). NaN = not known.
        edges: ascending, of bins (a, b], (bins + 1,).
    Returns:
        errors (bins,), NaN in an empty bin, and numbers of windows with a target (bins,).
    """
    wrong = (1 - answered.right)[:, None] if classify else _in_deviations(answered) ** 2
    known = np.isfinite(wrong)
    sums, counts = np.where(known, wrong, 0.0).sum(axis=1), known.sum(axis=1)
    place = np.searchsorted(edges, by, side="left") - 1
    errors, windows = np.full(len(edges) - 1, np.nan), np.zeros(len(edges) - 1, dtype=np.int64)
    for i in range(len(errors)):
        own = (place == i) & (counts > 0) & np.isfinite(by)
        windows[i] = own.sum()
        if windows[i]:
            errors[i] = sums[own].sum() / counts[own].sum()
    return errors if classify else np.sqrt(errors), windows


def _in_deviations(answered: Answers) -> Floats:
    """Return errors in standard deviations of their target, (W, outputs)."""
    known = np.isfinite(answered.target)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, answered.target, 0.0).sum(axis=0) / count
    spread = np.sqrt((np.where(known, answered.target - mean, 0.0) ** 2).sum(axis=0) / count)
    return np.asarray((answered.value - answered.target) / np.where(spread > 0, spread, 1.0))
