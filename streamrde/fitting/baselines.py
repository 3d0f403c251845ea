"""Fit plain models that a good one must beat: the plainest answer, nearest neighbour, linear in summaries.

A baseline first turns streams into rows of numbers, each stream by itself, and then learns from training rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from streamrde.arrays import Floats, Indices
from streamrde.features.drawing import fit_scale
from streamrde.fitting.calibration import fit_sharpness
from streamrde.fitting.examples import Examples
from streamrde.fitting.folds import make_folds
from streamrde.fitting.measuring import measures
from streamrde.fitting.recordings import Recording
from streamrde.fitting.ridge import fit_any_ridge
from streamrde.inference.quality import softmax

POINTS = 32
"""Points that a stream is resampled to for comparing it with others."""
MOST_NEIGHBOURS = 4000
"""Training streams that are compared with, evenly chosen if there are more: time grows with their number."""

Answer: TypeAlias = Callable[[Floats], Floats]
Fit: TypeAlias = Callable[[Floats, Floats, int, Indices], Answer]
"""From rows (n, size), NaN where unknown, truth (n,), the number of classes (0: numbers) and groups (n,) to a function
of new rows: probabilities (n, classes), or numbers (n, 1)."""


class Baseline(NamedTuple):
    """A plain model of one target per stream."""

    name: str
    represent: Callable[[Floats, Floats], Floats]
    """From a stream, t (L,) and x (L, channels) with NaN where not observed, to a row."""
    fit: Fit

    def rows(self, recordings: Sequence[Recording]) -> Floats:
        """Return a row for each stream, (n, size)."""
        return np.stack([self.represent(recording.t, recording.x) for recording in recordings])


def measure_whole(examples: Examples) -> dict[str, dict[str, float]]:
    """Measure all baselines on examples that are whole streams, see `measure_baselines`."""
    own, classes = examples.recordings, len(examples.labels)
    ts, xs = [r.t for r in own], [r.x for r in own]
    return measure_baselines(ts, xs, examples.truth, classes, examples.groups, examples.folds, targets=examples.targets)


def measure_baselines(
    ts: Sequence[Floats],
    xs: Sequence[Floats],
    truth: Floats,
    classes: int,
    groups: Indices,
    folds: Indices,
    *,
    targets: Sequence[str] = (),
) -> dict[str, dict[str, float]]:
    """Measure all baselines on folds that are left out in turn.

    Args:
        ts, xs: times (L,), seconds, and samples (L, channels) of each stream, NaN where not observed, L >= 1.
        truth: numbers of the classes, (n, 1), or targets, (n, outputs), NaN where unknown.
        classes: number of classes; 0 for numbers.
        groups: what must not be divided between training and test, (n,).
        folds: see `folds.make_folds`.
        targets: names of several targets.
    Returns:
        by name of the baseline, `measures`.
    """
    found = {}
    for baseline in BASELINES:
        rows = np.stack([baseline.represent(t, x) for t, x in zip(ts, xs, strict=True)])
        answers = held_out(baseline.fit, rows, truth, classes, groups, folds)
        found[baseline.name] = measures(truth, answers, classes, targets=targets)
    return found


def held_out(fit: Fit, rows: Floats, truth: Floats, classes: int, groups: Indices, folds: Indices) -> Floats:
    """Return answers to rows, (n, size), each fold's from what is fitted to the others."""
    answers = np.full((len(truth), classes or truth.shape[1]), np.nan)
    for fold in np.unique(folds):
        out, rest = folds == fold, folds != fold
        answers[out] = answers_to(rows[out], fit, rows[rest], truth[rest], classes, groups[rest])
    return answers


def answers_to(new: Floats, fit: Fit, rows: Floats, truth: Floats, classes: int, groups: Indices) -> Floats:
    """Return answers to new rows, (m, size), from what is fitted to rows: one target after the other.

    Returns:
        probabilities (m, classes), or numbers (m, outputs), NaN for a target that no row knows.
    """
    answers = np.full((len(new), classes or truth.shape[1]), np.nan)
    for j, column in enumerate(truth.T):
        known, own = np.isfinite(column), slice(None) if classes else slice(j, j + 1)
        if known.any():
            answers[:, own] = fit(rows[known], column[known], classes, groups[known])(new)
    return answers


def _nothing(t: Floats, x: Floats) -> Floats:
    return np.zeros(0)


def fit_plainest(rows: Floats, truth: Floats, classes: int, groups: Indices) -> Answer:
    """Answer with each class's share, one more row of all classes counted, or with the mean."""
    if classes:
        answer = (np.bincount(truth.astype(int), minlength=classes) + 1 / classes) / (len(truth) + 1)
    else:
        answer = np.array([truth.mean()])
    return lambda new: np.tile(answer, (len(new), 1))


def _resample(t: Floats, x: Floats) -> Floats:
    """Return values at evenly spaced times of the stream's life, channel by channel. NaN: never observed."""
    at = np.linspace(t[0], t[-1], POINTS)
    rows = np.full((x.shape[1], POINTS), np.nan)
    for j, values in enumerate(x.T):
        known = np.isfinite(values)
        if known.any():
            rows[j] = np.interp(at, t[known], values[known])
    return rows.ravel()


def _fit_nearest(rows: Floats, truth: Floats, classes: int, groups: Indices) -> Answer:
    """Answer as the nearest training stream does. Its probability is its share of right answers across groups."""
    some = (
        np.unique(np.linspace(0, len(rows) - 1, MOST_NEIGHBOURS).astype(int)) if len(rows) > MOST_NEIGHBOURS else None
    )
    if some is not None:
        rows, truth, groups = rows[some], truth[some], groups[some]
    channels = rows.shape[1] // POINTS
    by_channel = np.moveaxis(rows.reshape(len(rows), channels, POINTS), 1, 0).reshape(channels, -1)
    shift, scale = (np.repeat(part, POINTS) for part in fit_scale(by_channel.T))
    known = _filled(rows, shift, scale)

    def nearest(new: Floats, away: Indices | None = None) -> Indices:
        found = np.empty(len(new), np.intp)
        for i in range(0, len(new), 256):
            part = slice(i, i + 256)
            # |a - b|^2 without |a|^2, which does not change the order.
            distance = (known**2).sum(axis=1) - 2 * new[part] @ known.T
            if away is not None:
                distance[away[part, None] == groups] = np.inf
            found[part] = distance.argmin(axis=1)
        return found

    if not classes:
        return lambda new: truth[nearest(_filled(new, shift, scale))][:, None]
    code = truth.astype(int)
    several = len(np.unique(groups)) > 1
    wrong = float((code[nearest(known, groups)] != code).sum()) if several else 0.0
    # At least as likely as any other class: the probabilities say what the neighbour says.
    doubt = min((wrong + 1 - 1 / classes) / (len(code) + 1), 0.999 * (1 - 1 / classes))

    def answer(new: Floats) -> Floats:
        found = code[nearest(_filled(new, shift, scale))]
        answers = np.full((len(new), classes), doubt / max(1, classes - 1))
        answers[np.arange(len(new)), found] = 1 - doubt
        return answers

    return answer


def _summarise(t: Floats, x: Floats) -> Floats:
    """Return the stream's length and duration, and of each channel: share observed, mean, spread, ends, first, last,
    and slope."""
    parts = [np.array([len(t), t[-1] - t[0]])]
    for values in x.T:
        known = np.isfinite(values)
        own, at = values[known], t[known]
        if not len(own):
            parts.append(np.r_[0.0, np.full(7, np.nan)])
            continue
        middle = at - at.mean()
        slope = (middle @ own) / max(middle @ middle, 1e-300)
        parts.append(np.array([known.mean(), own.mean(), own.std(), own.min(), own.max(), own[0], own[-1], slope]))
    return np.concatenate(parts)


def fit_summaries(rows: Floats, truth: Floats, classes: int, groups: Indices) -> Answer:
    """Fit ridge regression to standardised summaries, with calibrated scores for classes."""
    shift, scale = fit_scale(rows)
    x = _filled(rows, shift, scale)
    wanted = np.eye(classes)[truth.astype(int)] if classes else truth[:, None]
    if len(np.unique(groups)) < 2:
        return fit_plainest(rows, truth, classes, groups)
    ridge = fit_any_ridge(x, wanted, make_folds(groups, truth.astype(np.intp) if classes else None))
    if not classes:
        return lambda new: ridge.linear(_filled(new, shift, scale))
    sharp = fit_sharpness(ridge.held_out, truth.astype(int))
    return lambda new: softmax(sharp * ridge.linear(_filled(new, shift, scale)))


def _filled(rows: Floats, shift: Floats, scale: Floats) -> Floats:
    return np.nan_to_num((rows - shift) * scale, nan=0.0)


BASELINES = (
    Baseline("plainest", _nothing, fit_plainest),
    Baseline("nearest", _resample, _fit_nearest),
    Baseline("summaries", _summarise, fit_summaries),
)
"""Baselines for one target per stream. "plainest" is the majority, or the mean."""
