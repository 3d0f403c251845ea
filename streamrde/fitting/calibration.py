"""Turn scores into probabilities: one factor before softmax, fitted to scores of what was left out."""

from __future__ import annotations

import numpy as np

from streamrde.arrays import Floats, Indices
from streamrde.inference.quality import softmax

SHARPEST = 1e6
"""Largest factor, times the spread of the scores."""


def fit_sharpness(scores: Floats, codes: Indices, *, weights: Floats | None = None) -> float:
    """Return the factor s >= 0 with the least log loss of ``softmax(s scores)``.

    One row more, with all classes equally right, is counted: scores that are all right say nothing of errors to come,
    and no factor would be large enough for them. The loss is convex in s, and its minimum is found by bisection.

    Args:
        scores: of rows that were left out, (n, classes), finite.
        codes: numbers of the right classes, (n,).
        weights: of the rows, (n,), with mean 1. None: all the same.
    Reference: Guo et al. 2017, "On calibration of modern neural networks", section 4.2.
    """
    n, classes = scores.shape
    weight = np.ones(n) if weights is None else weights
    centred = scores - scores.mean(axis=1, keepdims=True)
    spread = float(np.sqrt((centred**2).mean()))
    if not spread:
        return 1.0
    centred = centred / spread
    right = (n * np.eye(classes)[codes] + 1 / classes) / (n + 1)

    def slope(s: float) -> float:
        return float((weight * ((softmax(s * centred) - right) * centred).sum(axis=1)).sum())

    low, high = 0.0, 1.0
    if slope(low) >= 0:  # the scores are no better than none
        return 0.0
    while slope(high) < 0 and high < SHARPEST:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return (low + high) / 2 / spread
