"""Measure how good the answers are before a stream ends, on streams that were left out in turn."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from streamrde.arrays import Floats, Indices
from streamrde.fitting.examples import Candidate, Examples
from streamrde.fitting.measuring import measures
from streamrde.fitting.serving import answers_of
from streamrde.fitting.words import divided

SHARES = (0.1, 0.25, 0.5, 1.0)
"""Parts of each stream's duration after which it is asked."""
_MOST_SAMPLES = 1_000_000
"""Samples up to which all streams are asked. Above, as many as have so many, evenly chosen."""


class Early(NamedTuple):
    """Measures of the answers after a part of each stream."""

    share: float
    """Part of its duration."""
    seconds: float
    """Median of the time that is."""
    measures: dict[str, float]
    """As of the whole streams."""
    rows: int
    """Streams, or windows along them, that were asked."""
    silent: int
    """Streams without a closed window by then. The plainest answer stands for them."""


def early_answers(examples: Examples, candidate: Candidate) -> tuple[Early, ...]:
    """Return the measures after each of `SHARES` of the streams, by the model without the fold of each stream.

    Rows along the streams have an answer each. They are measured in the part of a stream up to each share and after the
    one before.

    Returns:
        one entry for each share that has rows. Empty for candidates that keep no model without a fold, and where blocks
        of time are left out: then the other blocks of the same stream were known.
    """
    if examples.along:
        return () if divided(examples) else _along(examples, candidate)
    if candidate.without is None:
        return ()
    asked = _asked(examples)
    outputs = candidate.held_out.shape[1]
    found = np.empty((len(SHARES), len(asked), outputs))
    silent = np.zeros(len(SHARES), np.intp)
    for fold in np.unique(examples.folds[asked]):
        own = np.flatnonzero(examples.folds[asked] == fold)
        plainest = _plainest(examples, examples.folds != fold)
        answers = answers_of(candidate.without(int(fold)), [examples.recordings[i] for i in asked[own]])
        for place, (end, value) in zip(own.tolist(), answers, strict=True):
            t = examples.recordings[asked[place]].t
            for k, share in enumerate(SHARES):
                # At the end the last window counts, whose edge may lie beyond the last sample.
                closed = len(end) if share == 1 else int(np.searchsorted(end, t[0] + share * (t[-1] - t[0]), "right"))
                silent[k] += not closed
                found[k, place] = value[closed - 1] if closed else plainest
    durations = np.array([r.t[-1] - r.t[0] for r in (examples.recordings[i] for i in asked)])
    classes = len(examples.labels)
    return tuple(
        Early(
            share,
            float(np.median(share * durations)),
            measures(examples.truth[asked], found[k], classes, targets=examples.targets),
            len(asked),
            int(silent[k]),
        )
        for k, share in enumerate(SHARES)
    )


def _along(examples: Examples, candidate: Candidate) -> tuple[Early, ...]:
    first = np.array([recording.t[0] for recording in examples.recordings])
    spans = np.array([recording.t[-1] for recording in examples.recordings]) - first
    # The last window may end after the last sample.
    place = np.minimum(1.0, (examples.ends - first[examples.stream]) / spans[examples.stream])
    part = np.searchsorted(SHARES, place)
    found = []
    for k, share in enumerate(SHARES):
        own = part == k
        answers, truth = candidate.held_out[own], examples.truth[own]
        if np.isfinite(answers).all(axis=1).any() and np.isfinite(truth).any():
            known = measures(truth, answers, len(examples.labels), targets=examples.targets)
            found.append(Early(share, float(np.median(share * spans)), known, int(own.sum()), 0))
    return tuple(found)


def _asked(examples: Examples) -> Indices:
    n = len(examples.recordings)
    samples = sum(len(recording.t) for recording in examples.recordings)
    count = max(1, int(n * min(1.0, _MOST_SAMPLES / samples)))
    return np.unique(np.linspace(0, n - 1, count).astype(np.intp))


def _plainest(examples: Examples, rows: Indices) -> Floats:
    """Return the classes' shares or the targets' means of some rows, (outputs,)."""
    if examples.labels:
        counts = np.bincount(examples.codes[rows], minlength=len(examples.labels))
        return np.asarray(counts / counts.sum())
    return np.asarray(np.nanmean(examples.truth[rows], axis=0))
