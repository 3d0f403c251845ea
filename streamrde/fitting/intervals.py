"""Say how sure a measure is: 95 % intervals of measures of answers to what was left out."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from streamrde.arrays import Floats, Indices
from streamrde.inference.quality import area_under_roc

_Z = 1.959964  # the normal distribution's 97.5 % quantile
DRAWS = 1000
"""Draws of the bootstrap. The ends of an interval then move by a few hundredths of its width with the seed."""
_MOST_DRAWN = 5000  # groups up to which the bootstrap is used, above it agrees with the normal distribution
_DRAWS_OF_RANKS = 200  # each draw sorts all scores
_MOST_RANKED = 20_000  # rows up to which an area under the curve gets an interval


class Interval(NamedTuple):
    """Limits between which the true value lies with 95 % confidence."""

    low: float
    high: float


def wilson(right: Floats, groups: Indices) -> Interval:
    """Return Wilson's interval of a share, for as many independent rows as the groups are worth.

    With p the share among n rows, n is divided by the design effect, the variance of p from the groups' sums over the
    p (1 - p) / n of independent rows, where that is above 1. Where all rows are equal, it is taken for 1.

    Args:
        right: 1 or 0, (n,), n >= 1.
        groups: rows of one group may be right or wrong together, (n,).
    References: Wilson 1927; Korn & Graubard 1998, "Confidence intervals for proportions with small expected number of
    positive counts estimated from survey data".
    """
    n, p = float(len(right)), float(right.mean())
    number = np.unique(groups, return_inverse=True)[1]
    count = int(number.max()) + 1
    effect = 1.0
    if 0 < p < 1 and 1 < count < n:
        sums = np.bincount(number, weights=right - p)
        effect = max(1.0, count / (count - 1) * float((sums**2).sum()) / (n * p * (1 - p)))
    n = n / effect
    middle = (p + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * math.sqrt(p * (1 - p) / n + _Z**2 / (4 * n**2))
    return Interval(max(0.0, middle - half), min(1.0, middle + half))


def of_mean(
    values: Floats, groups: Indices, *, of: Callable[[Floats], Floats] = lambda mean: mean, seed: int = 0
) -> Interval:
    """Return the interval of a function of the values' mean, by drawing whole groups again and again.

    Of more than 5,000 groups it is that of a normal distribution with the variance of the groups' sums.

    Args:
        values: (n,), n >= 1.
        groups: rows of one group are drawn together, (n,).
        of: the function, such as a square root, of an array of means. It must not fall.
        seed: the same one gives the same interval.
    Reference: Efron & Tibshirani 1993, "An Introduction to the Bootstrap", 13.3 (percentiles).
    """
    number = np.unique(groups, return_inverse=True)[1]
    sums, sizes = np.bincount(number, weights=values), np.bincount(number).astype(float)
    if len(sums) > _MOST_DRAWN:
        mean = values.mean()
        half = _Z * float(np.sqrt(((sums - mean * sizes) ** 2).sum())) / len(values)
        # Nothing that is averaged here, a loss or an error, can be below 0.
        low, high = of(np.array([max(mean - half, min(0.0, float(values.min()))), mean + half])).tolist()
        return Interval(low, high)
    times = _times(len(sums), DRAWS, seed)
    return _middle(of((times @ sums) / (times @ sizes)))


def of_area(positive: Indices, score: Floats, groups: Indices, *, seed: int = 0) -> Interval | None:
    """Return the interval of the area under the ROC curve, by drawing whole groups again and again.

    Arguments as of `inference.quality.area_under_roc` and `of_mean`. None: there are too many rows.
    """
    if len(score) > _MOST_RANKED:
        return None
    number = np.unique(groups, return_inverse=True)[1]
    count = int(number.max()) + 1
    found = []
    for times in _times(count, _DRAWS_OF_RANKS, seed):
        rows = np.repeat(np.arange(len(score)), times[number].astype(np.intp))
        found.append(area_under_roc(positive[rows] == 1, score[rows]))
    areas = np.array(found)
    areas = areas[np.isfinite(areas)]
    return _middle(areas) if len(areas) else None


def _times(groups: int, draws: int, seed: int) -> Floats:
    """Return how often each group is drawn, (draws, groups)."""
    return np.random.default_rng(seed).multinomial(groups, np.full(groups, 1 / groups), size=draws).astype(float)


def _middle(values: Floats) -> Interval:
    low, high = np.quantile(values, (0.025, 0.975)).tolist()
    return Interval(low, high)
