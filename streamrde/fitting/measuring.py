"""Measure answers to rows of truth: classes, a number, or several numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streamrde.arrays import Floats
from streamrde.inference.quality import classification_measures, regression_measures


def measures(truth: Floats, answers: Floats, classes: int, *, targets: Sequence[str] = ()) -> dict[str, float]:
    """Measure answers out of fold or to a test part. Rows whose truth or answer is not known do not count.

    Args:
        truth: numbers of the classes, (n, 1), or targets, (n, outputs), NaN where unknown.
        answers: probabilities, (n, classes), or numbers, (n, outputs).
        classes: number of classes; 0 for numbers.
        targets: names of several numbers.
    Returns:
        `classification_measures`, or `regression_measures`. Of several targets it is the mean over them, and each has
        its own, such as "rr_rmse".
    """
    if classes:
        known = np.isfinite(truth[:, 0]) & np.isfinite(answers).all(axis=1)
        return classification_measures(truth[known, 0].astype(np.int64), answers[known])
    each = []
    for own, found in zip(truth.T, answers.T, strict=True):
        known = np.isfinite(found)
        each.append(regression_measures(own[known], found[known]))
    if len(each) == 1:
        return each[0]
    names = ("rmse", "mae", "r2")
    result = {name: float(np.mean([own[name] for own in each])) for name in names if all(name in own for own in each)}
    for target, own in zip(targets, each, strict=True):
        result |= {f"{target}_{name}": value for name, value in own.items()}
    return result
