"""Hold what families of models learn from: streams, the truth about each or along each, and the folds that leave it
out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from streamrde.arrays import Floats, Indices
from streamrde.errors import DataError
from streamrde.fitting.folds import make_folds
from streamrde.fitting.recordings import Recording
from streamrde.inference.bundle import Bundle
from streamrde.windowing.partition import Partition
from streamrde.windowing.policies import Windows
from streamrde.windowing.recorded import Windowed, window_recordings


class Examples(NamedTuple):
    """Streams and n rows of truth, divided into folds: one row per stream, or one per window with a known target.

    Rows are in the order of the streams, and within a stream of time.
    """

    recordings: Sequence[Recording]
    """Streams of two samples or more."""
    channels: tuple[str, ...]
    truth: Floats
    """(n, outputs): numbers of the classes, with one output, or targets, NaN where unknown. No row is all unknown."""
    labels: tuple[str, ...]
    """All classes in order. () for numbers."""
    groups: Indices
    """Group of each row, (n,), which must not be divided between training and test."""
    folds: Indices
    """Number of the fold in which each is left out, (n,)."""
    seed: int
    targets: tuple[str, ...] = ()
    """Names of the target columns, (outputs,)."""
    stream: Indices = np.zeros(0, np.intp)
    """Place among the recordings of each row's stream, (n,), ascending. Without windows, 0, 1, ..., n - 1."""
    ends: Floats = np.zeros(0)
    """Time when each row's window ends, seconds, (n,). Empty without windows."""
    windows: Windows | None = None
    """The base windows that every family has to use, so that all answer the same rows. None: a row is a whole stream,
    and windows are free."""
    horizon: float = 0.0
    """Seconds by which the targets lie ahead of their windows."""
    weights: Floats | None = None
    """Weight of each row in what is fitted and in the choice, (n,), with mean 1. None: all the same."""

    @property
    def along(self) -> bool:
        """Return True if rows are windows along the streams."""
        return self.windows is not None

    @property
    def codes(self) -> Indices:
        """Return the numbers of the classes, (n,)."""
        return self.truth[:, 0].astype(np.intp)

    @property
    def span(self) -> float:
        """Return the median duration of the streams, seconds."""
        return float(np.median([recording.t[-1] - recording.t[0] for recording in self.recordings]))

    @property
    def steps(self) -> Floats:
        """Return the times between samples, seconds, of all streams."""
        return np.concatenate([np.diff(recording.t) for recording in self.recordings])

    @property
    def observed(self) -> tuple[Floats, float]:
        """Return the mean of each channel's observed values, (channels,), 0 if there are none, and the share of all
        values that is observed."""
        count, total = np.zeros(len(self.channels)), np.zeros(len(self.channels))
        for recording in self.recordings:
            known = np.isfinite(recording.x)
            count += known.sum(axis=0)
            total += np.where(known, recording.x, 0.0).sum(axis=0)
        values = len(self.channels) * sum(len(recording.t) for recording in self.recordings)
        return total / np.maximum(1, count), float(count.sum()) / values

    def of_streams(self, streams: Indices) -> Examples:
        """Return some streams, by their places in ascending order, and their rows."""
        own = np.isin(self.stream, streams)
        return self._replace(
            recordings=[self.recordings[i] for i in streams],
            truth=self.truth[own],
            groups=self.groups[own],
            folds=self.folds[own],
            stream=np.searchsorted(streams, self.stream[own]),
            ends=self.ends[own] if self.along else self.ends,
            weights=None if self.weights is None else self.weights[own],
        )


def evenly(count: int, most: int) -> Indices:
    """Return places among `count`, as many as `most`, evenly spread."""
    return np.unique(np.linspace(0, count - 1, most).astype(np.intp))


class Tokens(NamedTuple):
    """The tokens of all streams, as `features.pool_streams` takes them."""

    values: Floats
    """(K, T)"""
    stops: Indices
    """Number of tokens up to the end of each episode of the streams."""
    at: Indices
    """Place of the token that each row of truth belongs to, (n,), ascending."""


class Candidate(NamedTuple):
    """A model that may be chosen, and its answers to rows that were left out in turn."""

    name: str
    held_out: Floats
    """Probabilities (n, classes), or numbers (n, outputs)."""
    losses: Floats
    """Log loss, or mean squared error over the targets' variances, of each row of `held_out`, (n,)."""
    bundle: Callable[[], Bundle]
    """Make the model, fitted to all examples."""
    without: Callable[[int], Bundle] | None = None
    """Make the model that was fitted without a fold, which `held_out` has the answers of. None: it is not kept."""
    kind: str = ""
    """Candidates of one kind are as simple as each other: the best of them stands for all. "": it stands for itself."""


Family: TypeAlias = Callable[[Examples], Iterable[Candidate]]
"""Fit the models of one family, the simplest first, and yield each as soon as it is fitted. A family that does not suit
the examples yields none."""


def tokens_of(examples: Examples, partition: Partition) -> Tokens:
    """Return the tokens of all streams, and where each row of truth stands among them.

    A row of a whole stream stands at its last token: after a long silence the state begins again, and what was before
    is another episode.

    Raises:
        DataError: the partition has no window that ends where a row's does.
    """
    own = examples.recordings
    parts = window_recordings([r.t for r in own], [r.x for r in own], partition)
    stops = np.cumsum([len(part.logsigs) for part in parts])
    return Tokens(np.concatenate([part.logsigs for part in parts]), stops, places_of(examples, parts))


def places_of(examples: Examples, parts: Sequence[Windowed]) -> Indices:
    """Return the place of each row's window among those of all episodes, (n,), see `tokens_of`."""
    stream = np.repeat([part.stream for part in parts], [len(part.logsigs) for part in parts])
    if not examples.along:
        return np.asarray(np.searchsorted(stream, np.arange(len(examples.recordings)), side="right") - 1)
    ends = np.concatenate([part.end for part in parts])
    at = np.empty(len(examples.truth), np.intp)
    for i in np.unique(examples.stream):
        rows, first = examples.stream == i, np.searchsorted(stream, i)
        mine = ends[first : np.searchsorted(stream, i, side="right")]
        at[rows] = first + np.searchsorted(mine, examples.ends[rows])
    if not (ends[np.minimum(at, len(ends) - 1)] == examples.ends).all():
        raise DataError("a family has other windows than the examples; use the windows that they name", path="")
    return at


def squared_losses(truth: Floats, answers: Floats) -> Floats:
    """Return the mean over each row's known targets of the squared error over the target's variance, (n,)."""
    known = np.isfinite(truth)
    variance = np.array([column[np.isfinite(column)].var() for column in truth.T])
    squares = np.where(known, answers - np.where(known, truth, 0.0), 0.0) ** 2 / np.where(variance > 0, variance, 1.0)
    return np.asarray(squares.sum(axis=1) / np.maximum(1, known.sum(axis=1)))


def as_examples(
    recordings: Sequence[Recording],
    channels: Sequence[str],
    *,
    classify: bool,
    seed: int,
    targets: Sequence[str] = (),
    folds: Indices | None = None,
) -> Examples:
    """Return the recordings that have two samples or more and a target, which holds for all of each, as examples.

    Args:
        folds: number of each recording's fold, (recordings,). None: they are made.

    Raises:
        DataError: fewer than two groups, classes or values.
    """
    kept = [i for i, r in enumerate(recordings) if len(r.t) > 1 and np.isfinite(r.target.values[0]).any()]
    own = [recordings[i] for i in kept]
    truth = np.array([recording.target.values[0] for recording in own])
    labels = own[0].target.classes if own and classify else ()
    groups = np.unique([recording.group for recording in own], return_inverse=True)[1]
    if len(own) < 2 or groups.max() < 1 or not _varies(truth):
        kinds = len(np.unique(truth[np.isfinite(truth)]))
        raise DataError(
            "fitting needs two streams at least, of two groups, with two different targets, and found "
            f"{len(own)}, of {len({*groups.tolist()})}, with {kinds}; name the column that tells streams (--stream) or "
            "groups (--group) apart, or give more recordings",
            path="",
        )
    if classify:
        labels, truth = used_classes(labels, truth)
    given = None if folds is None else np.unique(folds[kept], return_inverse=True)[1]
    if given is None or given.max() < 1:
        given = make_folds(groups, truth[:, 0].astype(np.intp) if classify else None, seed=seed)
    return Examples(
        own, tuple(channels), truth, labels, groups, given, seed, tuple(targets), np.arange(len(own), dtype=np.intp)
    )


def used_classes(labels: tuple[str, ...], truth: Floats) -> tuple[tuple[str, ...], Floats]:
    """Return the classes that occur, and truth with their numbers: a test part may have others."""
    used, codes = np.unique(truth[:, 0].astype(np.intp), return_inverse=True)
    return tuple(labels[i] for i in used), codes.astype(float)[:, None]


def _varies(truth: Floats) -> bool:
    return all(len(np.unique(column[np.isfinite(column)])) > 1 for column in truth.T)
