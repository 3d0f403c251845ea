"""Fit logistic readouts of many features in groups, and penalise groups less that say more by themselves.

Most of what many features say of a class is often said by few of them. A group's relevance is the F statistic of the
classes on its features alone, about 1 where they say nothing. Its penalty is divided by the square root of that. For
each fold it is taken from the other folds, so that answers to the fold left out have not seen it.

Reference: Hastie, Tibshirani & Friedman 2009, "The Elements of Statistical Learning", 3.2.1 and 18.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np

from streamrde.arrays import Floats, Indices
from streamrde.fitting.calibration import fit_sharpness
from streamrde.fitting.logistic_paths import PathProblem, Paths
from streamrde.fitting.readout import Readout
from streamrde.fitting.ridge import Linear
from streamrde.fitting.weights import weighted
from streamrde.inference.quality import softmax

STRENGTHS = ((8.0, 4.0, 2.0), (1.0, 0.5, 0.25), (0.1, 0.03, 0.01))
"""Strengths times the number of rows, for directions of unit mean variance. A bout of them is tried while the one
before ended with its best."""
_LEAST = 0.1
_POWER = 0.25
"""Relevance above 1, at least `_LEAST`, to this power is a group's size."""


class Groups(NamedTuple):
    """Neighbouring features that are penalised together."""

    number: int
    size: int


def relevance(x: Floats, groups: Sequence[Groups], codes: Indices, classes: int, folds: Indices) -> Floats:
    """Return the F statistic of each group without each fold, and in the last row of all rows, (folds + 1, groups).

    Args:
        x: features, (n, P), in groups one after the other.
        groups: their numbers and sizes, in order.
        codes: numbers of the classes, (n,).
        classes: number of classes.
        folds: (n,).
    """
    count, right = int(folds.max()) + 1, np.eye(classes)[codes]
    stops = accumulate((own.number * own.size for own in groups), initial=0)
    return np.concatenate(
        [
            _statistics(x[:, a:b].reshape(len(x), own.number, own.size), right, folds, count)
            for own, (a, b) in zip(groups, pairwise(stops), strict=True)
            if own.number
        ],
        axis=1,
    )


def _statistics(x: Floats, right: Floats, folds: Indices, count: int) -> Floats:
    sums = [_sums(x[folds == k], right[folds == k]) for k in range(count)]
    whole = [np.sum(parts, axis=0) for parts in zip(*sums, strict=True)]
    found = [_statistic(*(a - b for a, b in zip(whole, part, strict=True))) for part in sums]
    return np.stack([*found, _statistic(*whole)])


def _sums(x: Floats, right: Floats) -> tuple[Floats, ...]:
    """Return the number of rows and the sums of x, y, x x' and x y', by group."""
    by_group = np.ascontiguousarray(x.transpose(1, 2, 0))  # (groups, size, n)
    squares = by_group @ by_group.transpose(0, 2, 1)
    return np.array(float(len(x))), x.sum(axis=0), right.sum(axis=0), squares, by_group @ right


def _statistic(rows: Floats, x: Floats, y: Floats, xx: Floats, xy: Floats) -> Floats:
    n, size = max(1.0, float(rows)), xx.shape[1]
    x, y = x / n, y / n
    covariance = xx / n - x[:, :, None] * x[:, None, :]
    # Hats that add up to 1 leave one direction without variance.
    unit = np.trace(covariance, axis1=1, axis2=2)[:, None, None] / size
    covariance = covariance + (1e-4 * unit + 1e-12) * np.eye(size)
    along = xy / n - x[:, :, None] * y
    spread = y * (1 - y)
    explained = (along * np.linalg.solve(covariance, along)).sum(axis=1)[:, spread > 0] / spread[spread > 0]
    return np.asarray(n / size * explained.mean(axis=1) if explained.shape[1] else np.zeros(len(xx)))


def relevant_readout(
    features: Floats,
    groups: Sequence[Groups],
    codes: Indices,
    classes: int,
    folds: Indices,
    *,
    weights: Floats | None = None,
) -> Readout:
    """Fit logistic regression to classes, with calibrated scores.

    Args:
        features: (n, P), finite, in groups one after the other. Each of the parts of `groups` counts the same.
        groups: numbers and sizes of the groups.
        codes: numbers of the classes, (n,).
        classes: number of classes.
        folds: (n,), at least two.
        weights: of the rows, (n,), with mean 1. None: all the same.
    """
    sizes = np.concatenate([np.full(own.number, own.size) for own in groups])
    part = np.repeat(np.arange(len(groups)), [own.number * own.size for own in groups])
    mean = features.mean(axis=0)
    x = (features - mean).astype(np.float32)
    variance = np.bincount(part, weights=(x**2).mean(axis=0, dtype=np.float64), minlength=len(groups))
    scale = np.where(variance > 0, 1 / np.sqrt(np.where(variance > 0, variance, 1.0)), 0.0)[part]
    x *= scale.astype(np.float32)
    size = np.maximum(relevance(features, groups, codes, classes, folds) - 1, _LEAST) ** _POWER
    size /= np.sqrt((size**2).mean(axis=1, keepdims=True))
    penalties = np.repeat(size, sizes, axis=1) ** -2.0
    problem = PathProblem(x, codes, classes, folds, penalties=penalties, weights=weights)
    paths: Paths | None = None
    best: tuple[float, Paths, int] | None = None
    for bout in STRENGTHS:
        strengths = np.array(bout) * len(groups) / len(x)
        paths = problem.fit(strengths, start=paths)
        losses = [_log_loss(scores, codes, weights) for scores in paths.held_out]
        place = int(np.argmin(losses))
        if best is None or losses[place] < best[0]:
            best = (losses[place], paths, place)
        if place < len(bout) - 1 or best[1] is not paths:
            break
    assert best is not None  # noqa: S101 (there are strengths)
    _, paths, place = best
    scores = paths.held_out[place]
    sharp = fit_sharpness(scores, codes, weights=weights)
    held_out = softmax(sharp * scores)
    own = np.maximum(held_out[np.arange(len(codes)), codes], np.finfo(np.float32).tiny)

    def unscaled(fit: Linear) -> Linear:
        weight = sharp * scale[:, None] * fit.weight
        return Linear(weight, sharp * fit.bias - mean @ weight)

    without = paths.without[place]
    return Readout(unscaled(paths.fits[place]), held_out, -np.log(own), lambda fold: unscaled(without[fold]))


def _log_loss(scores: Floats, codes: Indices, weights: Floats | None) -> float:
    top = scores.max(axis=1)
    losses = np.log(np.exp(scores - top[:, None]).sum(axis=1)) + top - scores[np.arange(len(codes)), codes]
    return float(weighted(losses, weights).mean())
