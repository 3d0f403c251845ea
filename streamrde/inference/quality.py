"""Measure predictions exactly: areas under curves by ranks, F1, log loss, calibration, errors of numbers."""

from __future__ import annotations

import math

import numpy as np

from streamrde.arrays import Bools, Floats, Ints

# Of equal width in [0, 1], as usual (Guo et al. 2017, "On calibration of modern neural networks").
_CALIBRATION_BINS = 15


def area_under_roc(positive: Bools, score: Floats) -> float:
    """Return the probability that a positive scores higher than a negative. Ties count half. NaN if either is missing.

    ``(R - p (p + 1) / 2) / (p n)``, R the sum of the ranks of the p positives, ties having their mean rank
    (Mann & Whitney 1947).

    Args:
        positive: (n,).
        score: (n,), higher for positives.
    """
    count = int(positive.sum())
    if not 0 < count < len(positive):
        return math.nan
    _, place, size = np.unique(score, return_inverse=True, return_counts=True)
    rank = (np.cumsum(size) - (size - 1) / 2)[place]
    return float((rank[positive].sum() - count * (count + 1) / 2) / (count * (len(positive) - count)))


def average_precision(positive: Bools, score: Floats) -> float:
    """Return the area under the steps of precision over recall, one step per distinct score. NaN without positives.

    ``sum_i (R_i - R_(i-1)) P_i`` over the thresholds from the highest score down. Arguments as of `area_under_roc`.
    """
    total = int(positive.sum())
    if not total:
        return math.nan
    values, place = np.unique(-score, return_inverse=True)
    hits = np.bincount(place, weights=positive, minlength=len(values))
    found, seen = np.cumsum(hits), np.cumsum(np.bincount(place, minlength=len(values)))
    return float((hits * found / seen).sum() / total)


def classification_measures(true: Ints, probability: Floats) -> dict[str, float]:
    """Measure predicted probabilities. Measures that the data do not define are left out.

    Args:
        true: numbers of the classes, (n,).
        probability: (n, classes), float64, each row summing to 1; with two classes the second is the positive one.
    Returns:
        "accuracy"; "auc": `area_under_roc`, with more than two classes the mean of each against the rest;
        "average_precision" (two classes); "f1": mean over the classes that occur or were predicted; "log_loss";
        "calibration": mean gap between confidence and accuracy in 15 bins of the confidence, by their sizes.
    """
    if not len(true):
        return {}
    classes = probability.shape[1]
    predicted = probability.argmax(axis=1)
    right = predicted == true
    result = {"accuracy": float(right.mean())}
    if classes == 2:
        areas = [area_under_roc(true == 1, probability[:, 1])]
        precision = average_precision(true == 1, probability[:, 1])
        if not math.isnan(precision):
            result["average_precision"] = precision
    else:
        areas = [area_under_roc(true == j, probability[:, j]) for j in range(classes)]
    areas = [area for area in areas if not math.isnan(area)]
    if areas:
        result["auc"] = float(np.mean(areas))
    hits = np.bincount(true[right], minlength=classes)
    either = np.bincount(true, minlength=classes) + np.bincount(predicted, minlength=classes)
    result["f1"] = float((2 * hits[either > 0] / either[either > 0]).mean())
    # A probability that was rounded to 0 counts as the smallest number of its precision.
    own = np.maximum(probability[np.arange(len(true)), true], np.finfo(np.float32).tiny)
    result["log_loss"] = float(0.0 - np.log(own).mean())
    confidence = probability.max(axis=1)
    # A model that diverged says NaN, which is in no bin and makes the result NaN.
    bins = np.clip(np.ceil(np.nan_to_num(confidence) * _CALIBRATION_BINS).astype(int) - 1, 0, _CALIBRATION_BINS - 1)
    gaps = np.bincount(bins, weights=confidence - right, minlength=_CALIBRATION_BINS)
    result["calibration"] = float(np.abs(gaps).sum() / len(true))
    return result


def regression_measures(true: Floats, predicted: Floats) -> dict[str, float]:
    """Return root mean square error, mean absolute error, and share of the variance explained, for one target.

    Args:
        true: (n,), NaN where unknown.
        predicted: (n,), in the same unit.
    Returns:
        "rmse" and "mae" in that unit, "r2" (left out where the target does not vary); nothing where none is known.
    """
    known = np.isfinite(true)
    if not known.any():
        return {}
    error = predicted[known] - true[known]
    result = {"rmse": float(np.sqrt((error**2).mean())), "mae": float(np.abs(error).mean())}
    variance = float(true[known].var())
    if variance > 0:
        result["r2"] = 1 - float((error**2).mean()) / variance
    return result


def softmax(logits: Floats) -> Floats:
    """Turn logits into probabilities along the last axis. NaN counts as 0, which is undecided."""
    logits = np.nan_to_num(logits, nan=0.0, posinf=1e300, neginf=-1e300)
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))
