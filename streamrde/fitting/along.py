"""Make examples of targets along streams: base windows that suit them, rows, and folds of groups or time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streamrde.arrays import Floats, Indices
from streamrde.errors import DataError, ParameterError
from streamrde.fitting.examples import Examples, used_classes
from streamrde.fitting.folds import make_blocks, make_folds
from streamrde.fitting.recordings import Recording
from streamrde.inference.statistics import bridge_of
from streamrde.windowing.partition import Partition
from streamrde.windowing.policies import Every
from streamrde.windowing.recorded import window_recordings

MOST_ROWS = 20_000
"""Rows that are learned from, evenly spaced along the streams if there are more: neighbours say nearly the same."""
MOST_WINDOWS = 500_000
"""Base windows of all streams, about. Where targets are denser, windows are longer."""
LONGEST = 32
"""Base windows of the longest scale."""
_DENSE = 8  # samples of a window where each sample has a target and nothing says how long one lasts
_PARTS = 10  # parts of a block of time whose errors count as one


def base_windows(recordings: Sequence[Recording], horizon: float) -> Every:
    """Return base windows that suit the spacing of the targets and the rate of the samples.

    Targets that are farther apart than samples have a window each. Dense ones have the time of a sample with a
    horizon, and without one of several samples.
    """
    step = _median([np.diff(recording.t) for recording in recordings])
    known = [np.isfinite(recording.target.values).any(axis=1) for recording in recordings]
    spacing = _median(
        [np.diff(r.target.t[own]) for r, own in zip(recordings, known, strict=True) if r.target.t is not None]
    )
    span = sum(float(recording.t[-1] - recording.t[0]) for recording in recordings)
    seconds = max(spacing, step)
    if seconds < 2 * step and not horizon:
        seconds = min(_DENSE * step, max(step, span / len(recordings) / (2 * LONGEST)))
    return Every(seconds * max(1.0, np.ceil(span / seconds / MOST_WINDOWS)))


def examples_along(
    recordings: Sequence[Recording],
    channels: Sequence[str],
    *,
    classify: bool,
    seed: int,
    targets: Sequence[str],
    horizon: float = 0.0,
    grouped: bool = False,
    folds: Indices | None = None,
    windows: Every | None = None,
) -> Examples:
    """Return one row for each window with a known target, the last one in (start + horizon, end + horizon].

    Args:
        horizon: seconds by which targets lie ahead.
        grouped: groups were named. They are then left out in turn. Without a horizon, streams are too; else blocks of
            time are, see `folds.make_blocks`.
        folds: number of each recording's fold, (recordings,). None: they are made.
        windows: base windows. None: those that suit the targets, see `base_windows`.
    Raises:
        DataError: too few windows have a target, or they are all the same.
    """
    place = [i for i, r in enumerate(recordings) if len(r.t) > 1 and np.isfinite(r.target.values).any()]
    own = [recordings[i] for i in place]
    if not own:
        raise DataError("no stream has two samples and a target; give longer streams", path="")
    windows = windows or base_windows(own, horizon)
    bridge = bridge_of([recording.t for recording in own], windows)
    rows = [_rows(recording, windows, bridge, horizon) for recording in own]
    ends, truth = (np.concatenate(part) for part in zip(*rows, strict=True))
    stream = np.repeat(np.arange(len(own)), [len(end) for end, _ in rows])
    labels = own[0].target.classes if classify else ()
    group = np.unique([recording.group for recording in own], return_inverse=True)[1][stream]
    by_group = len(np.unique(group)) > 1 and (grouped or not horizon)
    if not len(ends) or not all(len(np.unique(column[np.isfinite(column)])) > 1 for column in truth.T):
        raise DataError(
            f"fitting needs windows with different targets: {len(ends):,} windows of {windows.seconds:g} s have one"
            + (f" {horizon:g} s ahead; is the horizon longer than the streams?" if horizon else ""),
            path="",
        )
    if classify:
        labels, truth = used_classes(labels, truth)
    kept = np.arange(len(ends))
    if folds is not None and len(np.unique(folds[place])) > 1:
        fold, groups = np.unique(folds[place], return_inverse=True)[1][stream], group
    elif by_group:
        fold, groups = make_folds(group, truth[:, 0].astype(np.intp) if classify else None, seed=seed), group
    else:
        try:
            fold = make_blocks(ends, horizon + LONGEST * windows.seconds)
        except ParameterError as error:
            raise DataError(f"{error}", path="") from None
        groups = _parts(ends, fold)
        kept = np.flatnonzero(fold >= 0)
    kept = kept[:: max(1, -(-len(kept) // MOST_ROWS))]
    return Examples(
        own,
        tuple(channels),
        truth[kept],
        labels,
        groups[kept],
        fold[kept],
        seed,
        tuple(targets),
        stream[kept],
        ends[kept],
        windows,
        horizon,
    )


def rows_along(recordings: Sequence[Recording], examples: Examples) -> Examples:
    """Return the rows of other streams, with the windows and horizon of examples, and without folds."""
    windows = examples.windows
    assert isinstance(windows, Every)  # noqa: S101 (rows along streams have them)
    bridge = bridge_of([r.t for r in examples.recordings], windows)
    rows = [_rows(recording, windows, bridge, examples.horizon) for recording in recordings]
    none = np.zeros(0), np.zeros((0, examples.truth.shape[1]))
    ends, truth = (np.concatenate(part) for part in zip(none, *rows, strict=True))
    stream = np.repeat(np.arange(len(rows)), [len(end) for end, _ in rows])
    kept = slice(None, None, max(1, -(-len(ends) // MOST_ROWS)))
    return examples._replace(recordings=recordings, truth=truth[kept], stream=stream[kept], ends=ends[kept])


def _rows(recording: Recording, windows: Every, bridge: int, horizon: float) -> tuple[Floats, Floats]:
    """Return ends and targets of the windows that have a sample and a target."""
    # What a window holds does not depend on the channels' values: time alone makes the same windows.
    partition = Partition((0.0,), 1, windows, "linear", bridge=bridge)
    parts = window_recordings([recording.t], [np.zeros((len(recording.t), 1))], partition)
    start, end, sampled = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("start", "end", "sampled")
    )
    truth = recording.target.at(start + horizon, end + horizon)
    known = sampled & np.isfinite(truth).any(axis=1)
    return end[known], truth[known]


def _parts(ends: Floats, folds: Indices) -> Indices:
    """Return a number for each row's part of its block."""
    part = np.zeros(len(ends), np.intp)
    for fold in np.unique(folds):
        own = folds == fold
        low, high = ends[own].min(), ends[own].max()
        part[own] = np.minimum((ends[own] - low) * _PARTS / max(high - low, 1e-300), _PARTS - 1)
    return np.asarray(folds * _PARTS + part)


def _median(parts: Sequence[Floats]) -> float:
    values = np.concatenate([np.zeros(0), *parts])
    return float(np.median(values)) if len(values) else 0.0
