"""Sizes of one stream's scores, beside those of streams that were held out.

Streams differ: a model reads one patient's heart rate to a beat, and another's never. A threshold in scores is then too
wide for most streams and too narrow for some, and a tracker needs many labels to find the right one. So a stream's
threshold is in units of its scale. After its scores s_1, ..., s_k that is r_k,

    r_k^2 = (n0 r^2 + sum over i of a^(k - i) s_i^2) / (n0 + sum over i of a^(k - i)),   n0 = 2, a = .98

where r is the root mean square of the held-out streams' scores, each stream with the same weight. A score counts with
ten scales at most, so that a wild one is forgotten. The factor of r_k in the threshold is the quantile of the ratios of
the next scores to r_k in held-out streams, with the weights of `split.calibrate`, among those with about as many labels
(`STAGES`): after one label a scale says little, and the factor is large. The factor without labels is that of r, whose
threshold is split conformal's.

If streams are exchangeable, the k-th score of a new stream is below its threshold with the probability asked for, as
that is a score of its whole beginning (see `split`), up to the labels that are counted together. n0 and a are those
with the smallest interval score (Gneiting & Raftery 2007) among patients of BIDMC that were left out of the calibration
within the streams of training, of n0 in 1, 2, 4, 8 and a in .9, .95, .98, 1. All of these differ by a tenth at most.

Reference: Lei, G'Sell, Rinaldo, Tibshirani & Wasserman 2018, "Distribution-free predictive inference for regression",
section 5.2 (locally weighted conformal inference).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from streamrde.adapting.split import RANKS, calibrate, thresholds
from streamrde.arrays import Floats, Indices, Ints

STAGES = (1, 2, 4, 8, 16)
"""Least numbers of labels whose ratios are counted together."""
_BEFORE = 2.0
_KEEP = 0.98
_FARTHEST = 10.0
_LEAST = 1e-12  # a scale, at least: models without errors on held-out streams may have some later


class Scaling(NamedTuple):
    """Scales of the units of a model, and factors at a level of coverage."""

    usual: Floats
    """r, (units,). 0: the unit has no scale, and its factors are thresholds."""
    factors: Floats
    """Without labels, and at each of `STAGES`, (units, 1 + stages)."""

    def threshold(self, labels: Floats, total: Floats, weight: Floats) -> Floats:
        """Return the thresholds of streams, (n, units), by their labels and sums so far, (n, units) each."""
        stage = np.searchsorted(STAGES, labels, side="right")
        factors = self.factors[np.arange(len(self.usual)), stage]
        return np.asarray(factors * np.where(self.usual > 0, scale(self.usual, total, weight), 1.0))

    @property
    def least(self) -> Floats:
        """The smallest threshold that any scores lead to, (units,)."""
        forgotten = np.sqrt(_BEFORE / (_BEFORE + 1.0 / (1.0 - _KEEP)))
        return np.asarray(self.factors.min(axis=1) * np.where(self.usual > 0, self.usual * forgotten, 1.0))


def scale(usual: Floats, total: Floats, weight: Floats) -> Floats:
    """Return r_k from r and the two sums over the scores so far."""
    return np.sqrt((_BEFORE * usual * usual + total) / (_BEFORE + weight))


def follow(usual: Floats, total: Floats, weight: Floats, score: Floats) -> tuple[Floats, Floats]:
    """Return the two sums with one more score. NaN: not known, which changes nothing."""
    known = np.isfinite(score)
    own = np.minimum(np.where(known, score, 0.0), _FARTHEST * scale(usual, total, weight))
    return np.where(known, _KEEP * total + own * own, total), np.where(known, _KEEP * weight + 1.0, weight)


def scaling_of(first: Floats, usual: Floats, ratios: Floats, streams: Indices, coverage: float) -> Scaling:
    """Return the scales and factors for a coverage.

    Args:
        first: thresholds before the first label, (units,).
        usual, ratios: from `calibrate_ratios`; (units,) and (stages, units, RANKS).
        streams: number of held-out streams of each unit, (units,).
    """
    scaled = usual > 0
    begin = np.where(scaled, first / np.where(scaled, usual, 1.0), first)
    later = [np.where(scaled, thresholds(table, streams, coverage), first) for table in ratios]
    return Scaling(usual, np.maximum(np.stack([begin, *later], axis=1), _LEAST))


def no_scaling(first: Floats) -> Scaling:
    """Return that of units which have no scale, with thresholds before the first label, (units,)."""
    return Scaling(np.zeros(len(first)), np.tile(first[:, None], (1, 1 + len(STAGES))))


def calibrate_ratios(scores: Floats, streams: Indices, sequences: Indices, *, lag: int = 1) -> tuple[Floats, Floats]:
    """Return the usual scale of scores, and the quantiles of their ratios to the scale of their stream so far.

    Args:
        scores: of held-out windows, (n, units). NaN: not known.
        streams: number of each row's stream, or of whatever is exchangeable with what will come, (n,).
        sequences: rows with the same number and stream are in order of time, (n,).
        lag: rows after which the label of one is known, at least 1.
    Returns:
        (units,), and (stages, units, RANKS), each as of `split.calibrate`. A stage that fewer than half of the streams
        reach has the quantiles of the stage before, and a unit of which they do not reach the first has no scale, 0.
    """
    number, sizes = np.unique(streams, return_inverse=True, return_counts=True)[1:]
    units = scores.shape[1]
    usual, tables = np.zeros(units), np.zeros((1 + len(STAGES), units, RANKS))
    for unit in range(units):
        own = scores[:, unit : unit + 1]
        known = np.isfinite(own[:, 0])
        if not known.any():
            continue
        weight = 1.0 / np.bincount(number[known], minlength=len(sizes))[number[known]]
        usual[unit] = max(float(np.sqrt((weight * own[known, 0] ** 2).sum() / weight.sum())), _LEAST)
        ratio, labels = _ratios(own[:, 0], number, sequences, float(usual[unit]), lag)
        tables[0, unit] = calibrate(own / usual[unit], number)[0][0]
        reached = len(np.unique(number[known]))
        for place, (low, high) in enumerate(zip(STAGES, (*STAGES[1:], np.inf), strict=True), start=1):
            some = known & (labels >= low) & (labels < high)
            if 2 * len(np.unique(number[some])) >= reached:
                tables[place, unit] = calibrate(ratio[some, None], number[some])[0][0]
            elif place > 1:
                tables[place, unit] = tables[place - 1, unit]
            else:
                usual[unit] = 0.0
                break
    return usual, tables[1:]


def _ratios(score: Floats, streams: Indices, sequences: Indices, usual: float, lag: int) -> tuple[Floats, Ints]:
    """Return scores (n,) by the scales of their sequences, and the labels that are known before each."""
    order = np.lexsort((np.arange(len(score)), sequences, streams))
    begins = np.flatnonzero(np.r_[True, (np.diff(streams[order]) != 0) | (np.diff(sequences[order]) != 0)])
    sizes = np.diff(np.r_[begins, len(score)])
    total, weight, seen = np.zeros(len(begins)), np.zeros(len(begins)), np.zeros(len(begins), np.int64)
    ratio, labels = np.empty(len(score)), np.zeros(len(score), np.int64)
    r = np.full(len(begins), usual)
    for k in range(int(sizes.max())):
        there = np.flatnonzero(sizes > k)
        if k >= lag:
            late = score[order[begins[there] + k - lag]]
            total[there], weight[there] = follow(r[there], total[there], weight[there], late)
            seen[there] += np.isfinite(late)
        place = order[begins[there] + k]
        ratio[place] = score[place] / scale(r[there], total[there], weight[there])
        labels[place] = seen[there]
    return ratio, labels
