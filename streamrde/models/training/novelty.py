"""The distribution of the training windows, fitted: what `inference.novelty` measures windows against."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from streamrde.arrays import Floats, Indices
from streamrde.errors import ConfigError, ParameterError
from streamrde.inference.bundle import Bundle, Header
from streamrde.inference.drift import highest_capital
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
from streamrde.models.training.config import ConfigSource, resolve_config
from streamrde.models.training.segments import Say
from streamrde.models.training.splits import Split
from streamrde.models.training.streams import read_parts
from streamrde.signature.words import lyndon_words
from streamrde.windowing.policies import Every
from streamrde.windowing.recorded import window_recordings

FEWEST = 200
"""Windows without which p-values down to half a percent cannot be told."""
FOLDS = 10
APART = 1e-9
"""By which equal scores are set apart, relative to them."""
CLIP = 3.0
"""Spreads from the centre to which a feature's values are drawn before covariances are taken, so that the tails of
training do not widen them."""
CAPITAL = 1e4
"""The drift test's threshold: mean number of windows between false alarms, of independent windows."""
STREAMS_ALARMED = 0.05
"""Share of streams like those of training that may raise an alarm while they are as long as these."""
LEAST_VARIANCE = 1e-4
"""Of a direction, relative to the mean: features that were the same but for rounding must not decide everything."""
ROUNDING = 1e-9
"""Size of a coefficient, relative to the product of its channels' sizes, below which it is rounding, or all but."""
LEAST_SPREAD = 1e-6
"""Of a feature, which all are of order 1: those that move less are rounding errors."""
STEEPEST = 100.0
"""Power of a tail's decay beyond training; that of a normal distribution's is less where tails are told apart."""
AT_ONCE = 4096
"""Windows that are measured together, which bounds the memory."""
MOST_WINDOWS = 10_000
"""Windows that moments are taken of; of more, evenly spaced ones."""


def fit_novelty(
    header: Header, logsigs: Sequence[Floats], groups: Sequence[str]
) -> tuple[TrainingWindows, dict[str, Floats]]:
    """The distribution of windows, calibrated by leaving out group after group (see inference.novelty).

    Windows that their stream's end cut short are left out: of models with `Every` those that are shorter, of others the
    last of each stream. So are those with a value that is not finite.

    Args:
        header: the model's.
        logsigs: each stream's log-signatures, (K, B), unscaled, in order of time.
        groups: what each stream belongs to; a group is left out whole. Of one group its streams are left out, of one
            stream its parts.
    Returns:
        what the header takes, and the tensors.
    Raises:
        ParameterError: there are fewer than 200 whole windows.
    """
    whole = [_whole(header, stream) for stream in logsigs]
    lengths = np.array([len(own) for own in whole], dtype=np.intp)
    if lengths.sum() < FEWEST:
        raise ParameterError(
            f"the training streams have {lengths.sum()} whole windows, and novelty needs {FEWEST}: give more data or "
            "shorter windows, or set novelty = false"
        )
    windows, known = np.concatenate(whole), features(header.path_channels, header.depth)
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
    """What measures windows; where tables are still missing, distances only."""
    shapes = novelty_shapes(header.path_channels, header.depth)
    missing = {name: np.zeros(shape) for name, shape in shapes.items()}
    return ReferenceNovelty(missing | tensors, channels=header.path_channels, depth=header.depth, windows=windows)


def _whole(header: Header, logsigs: Floats) -> Floats:
    """The windows of a stream that its end did not cut short, and whose numbers did not overflow."""
    if isinstance(header.windows, Every):
        own = logsigs[logsigs[:, 0] >= header.windows.seconds * (1 - CUT_SHORT)]
    else:
        own = logsigs[:-1]
    return own[np.isfinite(own).all(axis=1)]


def _folds(lengths: Indices, groups: Sequence[str]) -> Indices:
    """The fold in which each window is left out, (windows,): folds of about the same number of windows."""
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
    """Sizes, centres, spreads and covariances of windows, (n, B)."""
    windows = windows[:: -(-len(windows) // MOST_WINDOWS)]
    g = np.abs(rooted(windows, known.level))
    size = np.array([np.median(column[column > 0]) if column.any() else 0.0 for column in g.T])
    # What is rounding error beside the channels of its word is left out with what is always 0.
    kept = size > (ROUNDING * _of_channels(size, known.level)) ** (1 / known.level)
    scale = np.where(kept, 1 / np.where(kept, size, 1.0), 0.0)
    found = described(windows, scale, known)
    center = np.median(found, axis=0)
    width = np.subtract(*np.quantile(found, [0.75, 0.25], axis=0)) / 1.349
    # A feature that seldom moves has no quartiles to speak of.
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


def _of_channels(size: Floats, level: Indices) -> Floats:
    """The product of the sizes of each word's channels, (B,), from the sizes of lengths, (B,), as `rooted` makes them.

    A channel's size is that of its increment, or, where it swings forth and back, of its mean distance from a straight
    line: the area between it and time, divided by the duration.
    """
    channels, depth = int((level == 1).sum()), int(level[-1])
    moved = size[:channels].copy()
    if depth > 1 and moved[0] > 0:
        # Words of two letters come in the order of the upper triangle's rows: the first are those with time.
        moved[1:] = np.maximum(moved[1:], size[channels : 2 * channels - 1] ** 2 / moved[0])
    return np.array([np.prod(moved[list(word)]) for word in lyndon_words(channels, depth)])


def _covariance(u: Floats) -> tuple[Floats, float]:
    """Directions, scaled, and the inverse variance of the rest, of centred features (n, m).

    The covariance is shrunk towards a multiple of the identity (Ledoit & Wolf 2004), so that few windows will do; of
    its eigenvectors v with the largest eigenvalues e the columns ``v sqrt(1 - rest / e)`` are returned, such that
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
    """How rare distances (n, blocks) are; the last row of the tails, the score's, is yet to be filled."""
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
    """Ranks from the top, 1 to n, that are kept of n scores: every one in the tail, then ever fewer. (RANKS,)"""
    if n <= RANKS:
        return np.append(np.arange(1, n + 1), np.full(RANKS - n, n))
    dense = RANKS // 2
    sparse = np.geomspace(dense + 1, n, RANKS - dense)
    return np.append(np.arange(1, dense + 1), np.rint(sparse)).astype(np.intp)


def _ranked(scores: Floats) -> Floats:
    """The scores that have these ranks, strictly ascending, (RANKS,).

    Equal ones are set apart by less than matters: read off between them, as many as are at least as large count, so
    that a window like most others is as ordinary as can be.
    """
    ranked = np.sort(scores)[::-1][_ranks(len(scores)) - 1][::-1].copy()
    for i in range(1, len(ranked)):
        ranked[i] = max(ranked[i], ranked[i - 1] + max(APART * abs(ranked[i - 1]), APART))
    return np.asarray(ranked)


def _reached_by_few(highest: Sequence[float]) -> float:
    """What at most a share of streams like these exceeds: a conformal quantile; of too few streams, the maximum."""
    rank = math.ceil((1 - STREAMS_ALARMED) * (len(highest) + 1))
    return sorted(highest)[min(rank, len(highest)) - 1]


def learn_windows(bundle: Bundle, parts: Split, *, say: Say) -> Bundle:
    """The model with the distribution of its training and validation windows, where they are enough.

    Nothing of the weights goes into it, so that validation streams are as good as any.
    """
    try:
        return bundle.with_novelty(*_fit(bundle.header, parts))
    except ParameterError as error:
        say(f"novelty is left out: {error}")
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
    """A trained model with the distribution of its training windows, which changes neither weights nor predictions.

    For models that were trained without, or elsewhere. The fingerprint stays, and snapshots of streams remain good.

    Args:
        bundle: the model.
        config: a training configuration, as of `train`, whose training and validation streams are taken.
    Raises:
        ConfigError: the configuration has other channels than the model.
        DataError: as `train`.
        ParameterError: there are too few windows.
    """
    config = resolve_config(config)
    names = [channel.name for channel in config.data.channels]
    own = [channel.name for channel in bundle.header.channels]
    if names != own:
        raise ConfigError(f"data.channels {names} are not the model's, {own}: give the configuration it was trained by")
    return bundle.with_novelty(*_fit(bundle.header, read_parts(config)))
