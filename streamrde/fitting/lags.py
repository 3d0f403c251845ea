"""Fit plain models to targets along streams: the plainest answer, the last known value, linear in lagged values."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from streamrde.arrays import Floats
from streamrde.fitting.baselines import Fit, fit_plainest, fit_summaries, held_out
from streamrde.fitting.examples import Examples
from streamrde.fitting.measuring import measures
from streamrde.fitting.recordings import Recording

LAGS = (0, 1, 2, 3, 6, 12, 24)
"""Windows before the end of a row's window at which the linear model sees each channel."""


def measure_along(examples: Examples) -> dict[str, dict[str, float]]:
    """Measure plain models of targets along streams, on folds that are left out in turn.

    Returns:
        by name, `measures`: "plainest", the majority or the mean; "persistence", with a horizon the value last known
        when a window ends; "summaries", linear in lagged values and their means.
    """
    return {name: _measures(examples, answers) for name, answers in answers_along(examples).items()}


def answers_along(examples: Examples) -> dict[str, Floats]:
    """Return the plain models' answers out of fold by name, (n, classes) or (n, outputs) each. NaN: none."""
    truth, classes = examples.truth, len(examples.labels)
    found = {
        name: held_out(fit, rows_of(name, examples), truth, classes, examples.groups, examples.folds)
        for name, fit in FITS.items()
    }
    if examples.horizon:
        found["persistence"] = persisting(examples, found["plainest"])
    return found


FITS: dict[str, Fit] = {"plainest": fit_plainest, "summaries": fit_summaries}
"""Plain models that are fitted to rows of numbers, see `rows_of`."""


def rows_of(name: str, examples: Examples) -> Floats:
    """Return the rows of numbers that a plain model sees, (n, size)."""
    return np.zeros((len(examples.truth), 0)) if name == "plainest" else _in_turn(examples, _lagged)


def persisting(examples: Examples, plainest: Floats) -> Floats:
    """Return answers that nothing changes, (n, classes) or (n, outputs). Without a known value it is `plainest`."""
    last = last_known(examples)
    known = np.isfinite(last)
    if not examples.labels:
        return np.where(known, last, plainest)
    classes = len(examples.labels)
    doubt = 0.05 / classes
    answers, own = plainest.copy(), known[:, 0]
    answers[own] = doubt
    answers[own, last[own, 0].astype(np.intp)] = 1 - doubt * (classes - 1)
    return answers


def last_known(examples: Examples) -> Floats:
    """Return each target's last known value up to the end of each row's window, (n, outputs). NaN: there is none."""
    return _in_turn(examples, lambda r, ends, _: r.target.at(np.full(len(ends), -np.inf), ends))


def _in_turn(examples: Examples, of: Callable[[Recording, Floats, float], Floats]) -> Floats:
    seconds = examples.windows.length if examples.windows is not None else 0.0
    parts = []
    for i, recording in enumerate(examples.recordings):
        first, last = np.searchsorted(examples.stream, (i, i + 1))
        if last > first:
            parts.append(of(recording, examples.ends[first:last], seconds))
    return np.concatenate(parts)


def _lagged(recording: Recording, ends: Floats, seconds: float) -> Floats:
    """Return each channel's last observed values at `LAGS`, and its means since then, NaN where there are none."""
    columns = []
    for values in recording.x.T:
        known = np.flatnonzero(np.isfinite(values))
        if not len(known):
            columns.append(np.full((len(ends), 2 * len(LAGS) - 1), np.nan))
            continue
        t, own = recording.t[known], values[known]
        total = np.r_[0.0, np.cumsum(own - own.mean())]
        stop = np.searchsorted(t, ends, side="right")
        for lag in LAGS:
            at = np.searchsorted(t, ends - lag * seconds, side="right")
            columns.append(np.where(at > 0, own[np.maximum(at - 1, 0)], np.nan)[:, None])
            if lag:
                mean = (total[stop] - total[at]) / np.maximum(1, stop - at) + own.mean()
                columns.append(np.where(stop > at, mean, np.nan)[:, None])
    return np.concatenate(columns, axis=1)


def _measures(examples: Examples, answers: Floats) -> dict[str, float]:
    return measures(examples.truth, answers, len(examples.labels), targets=examples.targets)
