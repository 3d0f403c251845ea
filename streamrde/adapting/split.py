"""Intervals before the first label: split conformal prediction from streams that a model was not fitted to.

Windows of one stream have errors of one kind, so a hundred windows of ten streams say of a new stream what ten numbers
say, not a thousand. Every stream has the same weight here, however long it is. With s_1, ..., s_n the scores of
stream i's windows and m streams, the threshold at the level 1 - alpha is the quantile of

    1 / (m + 1)  (sum over streams i of  1 / n_i  sum over its windows j of  mass at s_ij  +  mass at infinity)

A window drawn at random from a new stream has a score above it with probability alpha at most, if the streams are
exchangeable (Lee, Barber & Willett 2023, "Distribution-free inference with hierarchical data", section 4; Dunn,
Wasserman & Ramdas 2022, "Distribution-free prediction sets for two-layer hierarchical models"). It is a statement about
many new streams: one of them may be covered always, and another never. With fewer than 1 / alpha - 1 streams no finite
threshold has this guarantee, and the plain quantile stands in for it.
"""

from __future__ import annotations

import math

import numpy as np

from streamrde.adapting.drift import highest_capital
from streamrde.arrays import Floats, Indices

RANKS = 256
"""Scores that are kept of each unit."""
LEVELS = 1.0 - (1.0 - np.arange(RANKS) / (RANKS - 1)) ** 2
"""Levels of the scores that are kept, ascending, (RANKS,). They are a quarter of a percent apart at 90 %, and closer
above."""

CAPITAL = 1e4
"""Mean number of independent labels before a false alarm."""
_ALARMED = 0.05  # share of streams like the held-out ones that may raise one


def calibrate(scores: Floats, streams: Indices) -> tuple[Floats, Indices]:
    """Return the quantiles of scores with equal weight for each stream.

    Args:
        scores: of held-out windows, (n, units). NaN: not known.
        streams: number of each row's stream, or of whatever is exchangeable with what will come, (n,).
    Returns:
        scores at `LEVELS`, (units, RANKS), ascending, each the smallest score that reaches its level, and the number
        of streams with a score, (units,). A unit without any score has zeros.
    """
    units = scores.shape[1]
    table, count = np.zeros((units, RANKS)), np.zeros(units, np.intp)
    for unit in range(units):
        known = np.isfinite(scores[:, unit])
        own, number, sizes = scores[known, unit], *_numbered(streams[known])
        count[unit] = len(sizes)
        if not len(own):
            continue
        order = np.argsort(own, kind="stable")
        reached = np.cumsum((1.0 / (sizes * len(sizes)))[number[order]])
        # The last sum is 1 up to rounding.
        place = np.minimum(np.searchsorted(reached, LEVELS - 1e-12), len(own) - 1)
        table[unit] = own[order][place]
    return table, count


def p_values(table: Floats, streams: Indices, scores: Floats) -> Floats:
    """Return how rare scores as high are in windows of held-out streams, (n, units). NaN: not known.

    With F the share of the held-out scores below a score, by the weights of `calibrate`, and m streams it is
    ``(1 + m (1 - F)) / (m + 1)``, at most `a` with probability `a` for a window drawn from a new stream.

    Args:
        table, streams: from `calibrate`.
        scores: (n, units).
    """
    found = np.full(scores.shape, np.nan)
    levels = np.append(0.0, LEVELS)
    for unit, count in enumerate(streams.tolist()):
        known = np.isfinite(scores[:, unit])
        below = levels[np.searchsorted(table[unit], scores[known, unit], side="left")]
        found[known, unit] = (1.0 + count * (1.0 - below)) / (count + 1.0)
    return found


def alarm_of(table: Floats, streams: Indices, scores: Floats, numbers: Indices) -> float:
    """Return the logarithm of the capital at which a stream's errors have drifted, see `drift`.

    It is 10,000, the mean number of independent labels before a false alarm, or what few of the held-out streams
    themselves reached, if that is more: errors of one stream depend on each other.

    Args:
        table, streams: from `calibrate`.
        scores, numbers: that were given to it, in order of time within each stream.
    """
    p, reached = p_values(table, streams, scores), [0.0]
    for number in np.unique(numbers).tolist():
        own = p[numbers == number]
        reached += [highest_capital(column[np.isfinite(column)]) for column in own.T]
    rank = math.ceil((1.0 - _ALARMED) * (len(reached) + 1))
    return max(math.log(CAPITAL), sorted(reached)[min(rank, len(reached)) - 1])


def _numbered(streams: Indices) -> tuple[Indices, Indices]:
    """Return each row's stream, numbered from 0, and the rows of each stream."""
    number, sizes = np.unique(streams, return_inverse=True, return_counts=True)[1:]
    return np.asarray(number, np.intp), np.asarray(sizes, np.intp)


def fewest_streams(coverage: float) -> int:
    """Return the least number of streams with which a threshold has the guarantee."""
    return int(np.ceil(coverage / (1.0 - coverage) - 1e-9))


def thresholds(table: Floats, streams: Indices, coverage: float) -> Floats:
    """Return the score that a window of a new stream stays below with probability `coverage`, (units,).

    Args:
        table, streams: from `calibrate`.
        coverage: between 0 and 1.
    """
    level = coverage * (streams + 1.0) / np.maximum(streams, 1)
    level = np.where(level > 1.0 + 1e-9, coverage, level)
    place = np.minimum(np.searchsorted(LEVELS, level - 1e-12), RANKS - 1)
    return np.asarray(table[np.arange(len(table)), place])
