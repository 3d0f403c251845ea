"""Fit the distribution of the training windows, with which `inference.novelty` compares windows."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from streamrde.adapting.drift import highest_capital
from streamrde.arrays import Floats, Indices
from streamrde.errors import ParameterError
from streamrde.inference.bundle import Bundle
from streamrde.inference.header import Header
from streamrde.inference.novelty import (
    CUT_SHORT,
    FLOOR,
    RANK,
    RANKS,
    Features,
    ReferenceNovelty,
    TrainingWindows,
    described,
    features,
    novelty_shapes,
    rooted,
)
from streamrde.models.training.config import ConfigSource
from streamrde.models.training.segments import Say
from streamrde.models.training.splits import Split
from streamrde.models.training.statistics import read_parts_of
from streamrde.signature.words import logsignature_channels, lyndon_words
from streamrde.windowing.recorded import window_recordings

FEWEST = 200
"""Least number of windows, for p-values down to half a percent."""
FOLDS = 10
APART = 1e-9
"""Relative distance that is put between equal scores."""
CLIP = 3.0
"""Spreads from the centre at which a feature's values are clipped for the covariances, which tails would widen."""
CAPITAL = 1e4
"""The drift test's threshold: mean number of independent windows between false alarms."""
STREAMS_ALARMED = 0.05
"""Share of streams like those of training, and as long, that may raise an alarm."""
LEAST_VARIANCE = 1e-4
"""Least variance of a direction, relative to the mean, so that features that only round differently do not dominate."""
ROUNDING = 1e-9
"""Size of a coefficient, relative to the product of its channels' sizes, below which it counts as rounding error."""
LEAST_SPREAD = 1e-6
"""Least spread of a feature, all of which are of order 1. Less is rounding error."""
STEEPEST = 100.0
"""Largest power of a tail's decay beyond training. A normal distribution's is smaller over the tabulated tail."""
AT_ONCE = 4096
"""Windows that are measured together. It bounds the memory."""
MOST_WINDOWS = 10_000
"""Most windows for the moments. Of more, evenly spaced ones are taken."""


def fit_novelty(
    header: Header, logsigs: Sequence[Floats], groups: Sequence[str]
) -> tuple[TrainingWindows, dict[str, Floats]]:
    """Fit the distribution of windows, calibrated by leaving out group after group (see inference.novelty).

    Windows that their stream's end cut short are left out: with `Every` those that are shorter, else the last one of
    each stream. So are those with a value that is not finite.

    Args:
        header: the model's header.
        logsigs: each stream's log-signatures or tokens, (K, B), unscaled, in order of time. Of a token only the
            window's own log-signature counts.
        groups: group of each stream. Groups are left out whole, or if there is only one, its streams, or if there is
            only one stream, its parts.
    Returns:
        entry for the header, and tensors.
    Raises:
        ParameterError: there are fewer than 200 whole windows, or tokens do not begin with the window's own
            log-signature.
    """
    depth = header.token.window_depth(header.depth)
    if not depth:
        raise ParameterError(
            "novelty compares windows by their own log-signatures: begin token.scales with 1, or set novelty = false"
        )
    size = logsignature_channels(header.path_channels, depth)
    whole = [_whole(header, stream[:, :size]) for stream in logsigs]
    lengths = np.array([len(own) for own in whole], dtype=np.intp)
    if lengths.sum() < FEWEST:
        raise ParameterError(
            f"the training streams have {lengths.sum()} whole windows, and novelty needs {FEWEST}: give more data or "
            "shorter windows, or set novelty = false"
        )
    windows, known = np.concatenate(whole), features(header.path_channels, depth)
    fold = _folds(lengths, groups)
    distances = np.empty((len(windows), len(known.blocks)))
    for turn in np.unique(fold).tolist():
        left_out = fold == turn
        judge, places = _judge(header, _moments(windows[~left_out], known)), np.flatnonzero(left_out)
        for some in np.split(places, range(AT_ONCE, len(places), AT_ONCE)):
            distances[some] = judge.distances(windows[some])
    tensors = _moments(windows, known) | _tables(distances)
    judge = _judge(header, tensors, windows=len(windows))
    score = judge.score(distances)
    tensors["novelty.tails"][-1] = _ranked(score)
    stops = np.cumsum(lengths)
    reached = [highest_capital(judge.p_of(score[a:b])) for a, b in zip(stops - lengths, stops, strict=True) if b > a]
    alarm = max(math.log(CAPITAL), _reached_by_few(reached))
    return TrainingWindows(windows=len(windows), streams=len(reached), alarm=alarm), tensors


def _judge(header: Header, tensors: dict[str, Floats], *, windows: int = 1) -> ReferenceNovelty:
    """Build the measure of windows. Without tables it measures distances only."""
    channels, depth = header.path_channels, header.token.window_depth(header.depth)
    shapes = novelty_shapes(channels, depth)
    missing = {name: np.zeros(shape) for name, shape in shapes.items()}
    return ReferenceNovelty(missing | tensors, channels=channels, depth=depth, windows=windows)


def _whole(header: Header, logsigs: Floats) -> Floats:
    """Select the windows of a stream that were not cut short by its end and did not overflow."""
    if header.windows.fixed_length:
        own = logsigs[logsigs[:, 0] >= header.windows.length * (1 - CUT_SHORT)]
    else:
        own = logsigs[:-1]
    return own[np.isfinite(own).all(axis=1)]


def _folds(lengths: Indices, groups: Sequence[str]) -> Indices:
    """Assign each window to the fold that leaves it out, (windows,). Folds have about the same number of windows."""
    unit = np.unique(np.asarray(groups), return_inverse=True)[1]
    if len(np.unique(unit[lengths > 0])) < 2:
        unit = np.arange(len(lengths))
    if len(np.unique(unit[lengths > 0])) < 2:
        return np.asarray(np.arange(lengths.sum()) * FOLDS // lengths.sum())
    sizes = np.bincount(unit, weights=lengths)
    fold, filled = np.zeros(len(sizes), dtype=np.intp), np.zeros(FOLDS)
    for i in np.argsort(-sizes, kind="stable"):
        fold[i] = filled.argmin()
        filled[fold[i]] += sizes[i]
    return np.repeat(fold[unit], lengths)


def _moments(windows: Floats, known: Features) -> dict[str, Floats]:
    """Compute sizes, centres, spreads and covariances of windows, (n, B)."""
    windows = windows[:: -(-len(windows) // MOST_WINDOWS)]
    g = np.abs(rooted(windows, known.level))
    size = np.array([np.median(column[column > 0]) if column.any() else 0.0 for column in g.T])
    # Leave out coefficients that are always 0, or only rounding error beside the channels of their word.
    kept = size > (ROUNDING * _channel_products(size, known.level)) ** (1 / known.level)
    scale = np.where(kept, 1 / np.where(kept, size, 1.0), 0.0)
    found = described(windows, scale, known)
    center = np.median(found, axis=0)
    width = np.subtract(*np.quantile(found, [0.75, 0.25], axis=0)) / 1.349
    # The quartiles of a feature that seldom moves may be equal.
    width = np.where(width > LEAST_SPREAD, width, found.std(axis=0))
    moves = width > LEAST_SPREAD
    spread = np.where(moves, 1 / np.where(moves, width, 1.0), 0.0)
    u = np.clip((found - center) * spread, -CLIP, CLIP)
    mean = u.mean(axis=0)
    tensors = {
        "novelty.scale": scale,
        "novelty.center": center + mean * np.where(moves, width, 0.0),
        "novelty.spread": spread,
        "novelty.rest": np.zeros(len(known.blocks)),
    }
    u -= mean
    begin = 0
    for i, count in enumerate(known.blocks):
        axes, tensors["novelty.rest"][i] = _covariance(u[:, begin : begin + count])
        tensors[f"novelty.axes.{i}"] = axes
        begin += count
    return tensors


def _channel_products(size: Floats, level: Indices) -> Floats:
    """Multiply the sizes of each word's channels, (B,), from the sizes of lengths, (B,), as `rooted` computes them.

    A channel's size is that of its increment or, if it swings back and forth, of its mean distance from a straight
    line: the area between it and time, divided by the duration.
    """
    channels, depth = int((level == 1).sum()), int(level[-1])
    moved = size[:channels].copy()
    if depth > 1 and moved[0] > 0:
        # Words of two letters come in the order of the upper triangle's rows: the first are those with time.
        moved[1:] = np.maximum(moved[1:], size[channels : 2 * channels - 1] ** 2 / moved[0])
    return np.array([np.prod(moved[list(word)]) for word in lyndon_words(channels, depth)])


def _covariance(u: Floats) -> tuple[Floats, float]:
    """Return scaled directions of centred features, (n, m), and the inverse variance of the rest.

    The covariance is shrunk towards a multiple of the identity (Ledoit & Wolf 2004), so that few windows suffice. For
    its eigenvectors v with the largest eigenvalues e, the returned columns are ``v sqrt(1 - rest / e)``, so that
    ``|u|^2 - |axes^T u|^2`` is the squared Mahalanobis distance times the variance of the rest.
    """
    n, m = u.shape
    rank, axes = min(m, RANK), np.zeros((m, min(m, RANK)))
    moving = np.flatnonzero(u.any(axis=0))
    if not len(moving):
        return axes, 0.0
    own = u[:, moving]
    covariance = own.T @ own / n
    mean = np.trace(covariance) / len(moving)
    away = ((covariance - mean * np.eye(len(moving))) ** 2).sum()
    noise = (((own**2).sum(axis=1) ** 2).sum() / n - (covariance**2).sum()) / n
    share = min(1.0, noise / away) if away > 0 else 1.0
    values, vectors = np.linalg.eigh((1 - share) * covariance + share * mean * np.eye(len(moving)))
    values = np.maximum(values[::-1], LEAST_VARIANCE * mean)
    rank = min(rank, len(moving))
    rest = values[rank:].mean() if rank < len(moving) else values[-1]
    axes[moving, :rank] = vectors[:, ::-1][:, :rank] * np.sqrt(np.maximum(1 - rest / values[:rank], 0.0))
    return axes, float(1 / rest)


def _tables(distances: Floats) -> dict[str, Floats]:
    """Tabulate the rarity of distances, (n, blocks). The last row of the tails, the score's, stays empty."""
    n = len(distances)
    tails = np.zeros((distances.shape[1] + 1, RANKS))
    slope = np.zeros(distances.shape[1])
    for i, distance in enumerate(distances.T):
        tails[i] = _ranked(distance)
        # Hill's estimate of the tail's power from its upper 2 %, at least 10 windows.
        top = np.sort(distance)[-max(10, n // 50) :]
        spread = np.log(np.maximum(top, FLOOR) / max(top[0], FLOOR)).mean()
        slope[i] = min(1 / spread, STEEPEST) if spread > 0 else STEEPEST
    return {
        "novelty.tails": tails,
        "novelty.log_p": np.log((_ranks(n)[::-1] + 1) / (n + 1)),
        "novelty.slope": slope,
    }


def _ranks(n: int) -> Indices:
    """Choose RANKS ranks from the top, 1 to n, of n scores: every one in the tail, then ever fewer."""
    if n <= RANKS:
        return np.append(np.arange(1, n + 1), np.full(RANKS - n, n))
    dense = RANKS // 2
    sparse = np.geomspace(dense + 1, n, RANKS - dense)
    return np.append(np.arange(1, dense + 1), np.rint(sparse)).astype(np.intp)


def _ranked(scores: Floats) -> Floats:
    """Return the scores that have these ranks, strictly ascending, (RANKS,).

    Equal scores are set slightly apart. A score between them then counts all that are at least as large, so that a
    window like most others is as ordinary as can be.
    """
    ranked = np.sort(scores)[::-1][_ranks(len(scores)) - 1][::-1].copy()
    for i in range(1, len(ranked)):
        ranked[i] = max(ranked[i], ranked[i - 1] + max(APART * abs(ranked[i - 1]), APART))
    return np.asarray(ranked)


def _reached_by_few(highest: Sequence[float]) -> float:
    """Return the level that few such streams exceed: a conformal quantile, or the maximum if streams are too few."""
    rank = math.ceil((1 - STREAMS_ALARMED) * (len(highest) + 1))
    return sorted(highest)[min(rank, len(highest)) - 1]


def learn_windows(bundle: Bundle, parts: Split, *, say: Say) -> Bundle:
    """Add the distribution of the training and validation windows to a model, if there are enough windows.

    The weights do not affect it, so that validation streams may be used too.
    """
    try:
        return bundle.with_novelty(*_fit(bundle.header, parts))
    except ParameterError as error:
        say(f"skipping novelty: {error}")
        return bundle


def _fit(header: Header, parts: Split) -> tuple[TrainingWindows, dict[str, Floats]]:
    """Call `fit_novelty` with the training and validation streams.

    As in serving, windows without a sample are left out.
    """
    recordings = [*parts.train, *parts.validation]
    windowed = window_recordings([r.t for r in recordings], [r.x for r in recordings], header.partition)
    logsigs = [np.where(found.sampled[:, None], found.logsigs, np.nan) for found in windowed]
    return fit_novelty(header, logsigs, [recordings[found.stream].group for found in windowed])


def add_novelty(bundle: Bundle, config: ConfigSource) -> Bundle:
    """Add the distribution of its training windows to a trained model. Weights and predictions stay the same.

    It is for models that were trained without it, or elsewhere. The fingerprint stays, and snapshots remain valid.

    Args:
        bundle: the model.
        config: the training configuration. Its training and validation streams are used.
    Raises:
        ConfigError, DataError: see `read_parts_of`.
        ParameterError: there are too few windows.
    """
    return bundle.with_novelty(*_fit(bundle.header, read_parts_of(bundle, config)))
