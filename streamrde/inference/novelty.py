"""Measure how far a window lies outside of the training data, as a p-value.

A window is seen through its log-signature l. Each coefficient is brought to the unit of a length (level k grows as the
k-th power of the path's) and divided by its usual size in training: ``g_w = sign(l_w) |l_w|^(1/|w|) / size_w``. Two
kinds of features are watched:

- the direction of each level, ``g^(k) / rms(g^(k))``: how the channels move together, whatever the speed;
- the sizes, ``log sum_{w contains c} g_w^2`` for each channel c and level from 2 on, and the logarithm of the duration:
  how much each channel moves. One that stands still is in the middle of every direction, but far below its size.

Each block of features, the levels and the sizes, has a robust centre and spread, and a covariance of low rank over an
isotropic rest (probabilistic principal components, Tipping & Bishop 1999), which gives a squared distance. How rare a
distance is in training is read off a table; the sum over blocks of ``-log`` of it (Fisher) is the window's score. How
rare that is among windows of streams that the fit had not seen is the p-value (cross-conformal, Vovk 2015):

    p(s) = (1 + number of scores >= s) / (n + 1),   interpolated between the ranks that are kept

For streams that are exchangeable with those of training p is uniform over the windows of many; the windows of one
stream depend on each other. What a log-signature cannot see, a constant added to a channel, is not seen here either.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamrde import kernels
from streamrde.arrays import Floats, Indices
from streamrde.inference.model_part import Positive
from streamrde.signature.words import logsignature_channels, lyndon_words

RANK = 8
"""Directions of a block's covariance that are kept; the rest is taken as isotropic. More would fit a few hundred
windows so closely that the p-values of new ones are off: of 200 windows of 819 coefficients by 0.35 with 32, by 0.26
with 8."""
RANKS = 256
"""Ranks of calibration scores that are kept, densest in the tail."""
FLOOR = 1e-6
"""Added to squared sizes of order 1: what stands still gets a logarithm too."""
CUT_SHORT = 1e-6
"""Share of a window of fixed length that may be missing before it counts as cut short and is not judged."""
NOVEL = 0.01
"""Windows with a smaller p-value are counted as novel."""


class TrainingWindows(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Facts about the training windows that novelty compares with."""

    windows: Annotated[int, msgspec.Meta(ge=1, le=1 << 53)]
    """Windows that the p-values are calibrated on: none can be below ``1 / (windows + 1)``."""
    streams: Positive
    alarm: Annotated[float, msgspec.Meta(gt=0, lt=1e6)]
    """Logarithm of the betting capital at which a stream has drifted; see adapting.drift."""


class Features(NamedTuple):
    """Places of a log-signature's features."""

    level: Indices
    """Length of each word, (B,)."""
    blocks: tuple[int, ...]
    """Number of features in each level, then of the sizes."""
    coefficient: Indices
    size: Indices
    """Pairs: this coefficient counts towards that size."""


@functools.lru_cache(maxsize=16)
def features(channels: int, depth: int) -> Features:
    """Describe the features of log-signatures of `channels` (time included) up to `depth`."""
    words = lyndon_words(channels, depth)
    level = np.array([len(word) for word in words], dtype=np.intp)
    low, letters, count = min(2, depth), channels - 1, _sizes(channels, depth)
    # The duration is a size of its own, and the last.
    pairs = [(0, count - 1)] + [
        (place, (len(word) - low) * letters + letter - 1)
        for place, word in enumerate(words)
        if len(word) >= low
        for letter in sorted(set(word) - {0})
    ]
    coefficient, size = np.array(sorted(pairs), dtype=np.intp).T
    blocks = (*np.bincount(level)[1:].tolist(), count)
    return Features(level, blocks, np.ascontiguousarray(coefficient), np.ascontiguousarray(size))


def _sizes(channels: int, depth: int) -> int:
    """Count the sizes: one per channel in each level from 2 on, or in the only level, and the duration."""
    return (channels - 1) * max(depth - 1, 1) + 1


def novelty_shapes(channels: int, depth: int) -> dict[str, tuple[int, ...]]:
    """Return name and shape of the tensors that describe the training windows, all float64.

    ``novelty.``: scale, 1 / usual size of each coefficient (0: it was always 0); center and spread (inverse, 0: a
    feature that never changed), per feature; axes.i (features, directions) and rest (inverse), the blocks' covariances;
    tails (blocks and score, RANKS), ascending, whose survival probabilities are the exponentials of log_p; slope, by
    which a block's tail goes on beyond them, as a power.
    """
    # Counted, not enumerated: a hostile header may claim more words than there is memory for.
    counts = [logsignature_channels(channels, k) for k in range(1, depth + 1)]
    blocks = [b - a for a, b in pairwise([0, *counts])] + [_sizes(channels, depth)]
    total = sum(blocks)
    shapes: dict[str, tuple[int, ...]] = {
        "novelty.scale": (total - blocks[-1],),
        "novelty.center": (total,),
        "novelty.spread": (total,),
        "novelty.rest": (len(blocks),),
        "novelty.tails": (len(blocks) + 1, RANKS),
        "novelty.log_p": (RANKS,),
        "novelty.slope": (len(blocks),),
    }
    return shapes | {f"novelty.axes.{i}": (size, min(size, RANK)) for i, size in enumerate(blocks)}


def novelty_fault(tensors: Mapping[str, NDArray[Any]]) -> str:
    """Describe the fault in the tensors of `novelty_shapes`, or return ""."""
    for name in ("scale", "spread", "rest", "slope"):
        if (tensors[f"novelty.{name}"] < 0).any():
            return f"tensor 'novelty.{name}' has a negative number"
    if (np.diff(tensors["novelty.tails"], axis=1) < 0).any():
        return "tensor 'novelty.tails' has a row that does not ascend"
    log_p = tensors["novelty.log_p"]
    if (np.diff(log_p) > 0).any() or log_p[0] > 0:
        return "tensor 'novelty.log_p' does not descend from 0"
    return ""


class Novelty:
    """P-values of windows: the compiled twin of `ReferenceNovelty`, or that.

    Args:
        tensors: as `novelty_shapes`.
        training: the header's facts about the training windows.
        channels, depth: channels and depth of the path.
        seconds: length of the model's windows, if it is fixed. Shorter ones get no p-value. 0: it is not fixed.
    """

    def __init__(
        self,
        tensors: Mapping[str, NDArray[Any]],
        training: TrainingWindows,
        *,
        channels: int,
        depth: int,
        seconds: float = 0.0,
    ) -> None:
        self.alarm = training.alarm
        self._shortest = seconds * (1 - CUT_SHORT) if seconds else -np.inf
        self._reference = ReferenceNovelty(tensors, channels=channels, depth=depth, windows=training.windows)
        self._size = logsignature_channels(channels, depth)
        self._native = None
        if kernels.Novelty is not None:
            known = features(channels, depth)
            scale, center, spread, rest, tails, log_p, slope = (
                np.ascontiguousarray(tensors[f"novelty.{name}"]) for name in _NAMES
            )
            axes = [np.ascontiguousarray(tensors[f"novelty.axes.{i}"]) for i in range(len(known.blocks))]
            places = known.level, known.coefficient, known.size
            tables = scale, center, spread, rest, tails, log_p, slope
            self._native = kernels.Novelty(*places, *tables, axes, FLOOR, self._reference.least_p)

    def p(self, logsigs: Floats) -> Floats:
        """Return p-values of windows, (n, B) -> (n,). Each one is independent of the others. NaN: cut short.

        What a token has after the window's own log-signature is not looked at.
        """
        logsigs = logsigs[:, : self._size]
        if self._native is not None:
            p = np.asarray(self._native.p(np.ascontiguousarray(logsigs)))
        else:
            p = np.array([self._reference.p(row[None])[0] for row in logsigs]).reshape(-1)
        p[logsigs[:, 0] < self._shortest] = np.nan
        return p


_NAMES = ("scale", "center", "spread", "rest", "tails", "log_p", "slope")


class ReferenceNovelty:
    """The specification in NumPy. The last bits of several rows at once depend on their number."""

    def __init__(self, tensors: Mapping[str, NDArray[Any]], *, channels: int, depth: int, windows: int) -> None:
        self._features = features(channels, depth)
        self._scale, self._center, self._spread, self._rest, self._tails, self._log_p, self._slope = (
            tensors[f"novelty.{name}"] for name in _NAMES
        )
        blocks = self._features.blocks
        self._axes = [tensors[f"novelty.axes.{i}"] for i in range(len(blocks))]
        self.least_p = 1.0 / (windows + 1)

    def p(self, logsigs: Floats) -> Floats:
        """Return p-values, (n, B) -> (n,). Values that are not finite count as most novel."""
        with np.errstate(all="ignore"):
            return self.p_of(self.score(self.distances(logsigs)))

    def p_of(self, score: Floats) -> Floats:
        """Return p-values of scores, (n,)."""
        p = np.exp(np.interp(score, self._tails[-1], self._log_p))
        return np.where(score <= self._tails[-1, -1], p, self.least_p)

    def distances(self, logsigs: Floats) -> Floats:
        """Return squared distances of windows, (n, B) -> (n, blocks)."""
        u = (described(logsigs, self._scale, self._features) - self._center) * self._spread
        result, begin = [], 0
        for axes, rest in zip(self._axes, self._rest, strict=True):
            own = u[:, begin : begin + len(axes)]
            begin += len(axes)
            inside = ((own @ axes) ** 2).sum(axis=1)
            result.append(rest * np.maximum((own**2).sum(axis=1) - inside, 0.0))
        return np.stack(result, axis=1)

    def score(self, distances: Floats) -> Floats:
        """Sum over blocks of minus the logarithm of how rare a distance is, (n, blocks) -> (n,)."""
        total = np.zeros(len(distances))
        for distance, tail, slope in zip(distances.T, self._tails, self._slope, strict=False):
            total -= np.interp(distance, tail, self._log_p)
            beyond = distance > tail[-1]
            total[beyond] += slope * np.log(distance[beyond] / max(tail[-1], FLOOR))
        return np.where(np.isfinite(distances).all(axis=1), total, np.inf)


def rooted(logsigs: Floats, level: Indices) -> Floats:
    """Return ``sign(l) |l|^(1/k)`` of the coefficients of level k, (n, B)."""
    size = np.abs(logsigs)
    for k in range(2, int(level[-1]) + 1):
        own = size[:, level == k]
        size[:, level == k] = np.sqrt(own) if k == 2 else np.cbrt(own) if k == 3 else own ** (1 / k)
    return np.asarray(np.copysign(size, logsigs))


def described(logsigs: Floats, scale: Floats, known: Features) -> Floats:
    """Return the features of log-signatures, (n, B) -> (n, features), with `scale` as in `novelty_shapes`."""
    g = rooted(logsigs, known.level) * scale
    sizes = np.zeros((len(g), known.blocks[-1]))
    np.add.at(sizes.T, known.size, (g[:, known.coefficient] ** 2).T)
    parts, begin = [], 0
    for size in known.blocks[:-1]:
        own = g[:, begin : begin + size]
        begin += size
        parts.append(own / np.sqrt((own**2).mean(axis=1, keepdims=True) + FLOOR))
    return np.concatenate([*parts, np.log(sizes + FLOOR)], axis=1)
