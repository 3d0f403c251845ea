"""The simple predictions that a correction has to beat, the errors of all on a stream's labels so far, and their mix.

The mix is what a stream is served with `adapt = "best"`. Before its first label that is the method which was best on
held-out streams before theirs. After k labels the weight of a method m is, with S_m the sum of its squared errors on
the predictions that were made after the first label,

    w_m ~ c_m (4 v_m + S_m)^(-(4 + k) / 2),    c_m = 32 for the last label, 1 for all others

where v_m is its mean squared error after the first label on held-out streams. Up to the constants it is the likelihood
of the errors if they are normal, with a variance that v_m is worth four labels of. A mix is never worse than the same
mix of the squared errors. The last label comes first, as it is hard to beat where labels are close and is never far off
where they stand still: others gain more weight than it after log(32) nats of evidence.

4 and 32 were the best of 1, 2, 4, 8 and 1, 4, 8, 16, 32 on BIDMC, in three of five folds by the patients of the other
four, among those with which no such patient was served 5 % worse than by the last label. In the other two folds it was
2 and 32.

Labels that lie so far ahead that `overlap` predictions are under way at a time have errors that depend on each other.
Each counts as 1 / overlap of a label, and 1 / overlap of its squared errors.

Reference: Vovk, "Aggregating strategies", COLT 1990.
"""

from __future__ import annotations

from enum import IntEnum
from itertools import pairwise

import numpy as np

from streamrde.adapting.targets import Targets
from streamrde.arrays import Floats, Indices, Ints


class Method(IntEnum):
    """Ways to predict a label."""

    FROZEN = 0
    """The model as it is."""
    ONLINE = 1
    """The model with the stream's correction."""
    LAST = 2
    """The stream's last label."""
    MEAN = 3
    """The mean of the stream's labels, which begins at that of training."""
    BLEND = 4
    """A mix of the two."""


METHODS = ("frozen", "online", "last", "mean", "blend")
"""The methods as users read them."""

# Errors count half after some 140 labels: a stream that changes may change its method, and chance seldom does.
_KEEP = 0.995
# Labels that the errors on held-out streams count for.
_BEFORE = 4.0
_LEAN = 32.0
_LEAST = 1e-30  # a mean squared error, in spreads, so that a method without errors has a weight


class Baselines:
    """The columns of labels and errors, from `start` on.

        last | latest | count | mean | weight | recent | total

    last: latest label, (outputs,), and the time it is for. count, mean: of the labels. recent: squared errors of the
    methods, the older the less, (5, outputs), and the weight of all, of predictions after the first label. total: their
    plain sums, of all predictions.

    Args:
        targets: the model's outputs.
        start: first column.
        blend: weight of the last label in the blend, (outputs,).
        shrink: labels that the mean of training counts for, (outputs,).
        errors: mean squared errors of the methods on held-out streams after the first label, (5, outputs).
        errors_before: the same before it. None: they are not known, and the model is served.
        overlap: predictions of a stream that are under way at a time, at least 1.
    """

    def __init__(
        self,
        targets: Targets,
        start: int,
        *,
        blend: Floats,
        shrink: Floats,
        errors: Floats,
        errors_before: Floats | None = None,
        overlap: float = 1.0,
    ) -> None:
        self._share, self._keep = 1.0 / overlap, _KEEP ** (1.0 / overlap)
        self._targets, self._mix, self._shrink, self._errors = targets, blend, shrink, errors
        first = np.zeros((len(Method), targets.outputs))
        begun = first[:1] if errors_before is None else self._of_heads(errors_before[None])[0]
        first[begun.argmin(axis=0), np.arange(targets.outputs)] = 1.0
        self._begin = first
        """Weights before the first label, (5, outputs)."""
        n, methods = targets.outputs, len(Method)
        stops = np.cumsum([start, n, n, n, n, n, methods * n, methods * n]).tolist()
        columns = [slice(a, b) for a, b in pairwise(stops)]
        self._last, self._latest, self._count, self._mean, self._weight, self._recent, self._total = columns
        self.stop: int = stops[-1]
        """The column after the last."""
        self.blank = np.zeros(self.stop - start)
        self.blank[: 2 * n] = np.nan

    def predict(self, rows: Floats, slots: Indices) -> tuple[Floats, Floats, Floats]:
        """Return the last label, the mean and the blend, (n, outputs) each. They begin at training's mean."""
        shift, last, count = self._targets.shift, rows[slots, self._last], rows[slots, self._count]
        seen = count > 0
        last = np.where(seen, self._targets.smoothed(last), shift)
        weight = count / np.maximum(count + self._shrink, 1e-9)
        mean = shift + weight * np.where(seen, rows[slots, self._mean] - shift, 0.0)
        return last, mean, self._mix * last + (1.0 - self._mix) * mean

    def seen(self, rows: Floats, slots: Indices) -> Floats:
        """Return 1 where an output has had a label, else 0, (n, outputs)."""
        return (rows[slots, self._count] > 0).astype(np.float64)

    def weights(self, rows: Floats, slots: Indices) -> Floats:
        """Return the weights of the methods in the mix, (n, 5, outputs), the same for all outputs of a head."""
        recent = rows[slots, self._recent].reshape(-1, *self._errors.shape)
        weight = rows[slots, self._weight][:, None]
        error = self._of_heads((recent + _BEFORE * self._errors) / (weight + _BEFORE))
        error = np.maximum(error, _LEAST)
        weights = (error.min(axis=1, keepdims=True) / error) ** (0.5 * (weight + _BEFORE))
        weights[:, Method.LAST] *= _LEAN
        seen = self.seen(rows, slots) > 0
        return np.where(seen[:, None], weights / _summed(weights)[:, None], self._begin)

    def mixed(self, weights: Floats, predicted: Floats) -> Floats:
        """Return the mix of predictions, (n, 5, outputs) to (n, outputs), without those that are not finite."""
        kept = np.where(np.isfinite(predicted), weights, 0.0)
        total = _summed(kept)
        mix = _summed(np.where(kept > 0, predicted, 0.0) * kept) / np.maximum(total, 1e-300)
        return np.where(total > 0, mix, predicted[:, Method.FROZEN])

    def _of_heads(self, errors: Floats) -> Floats:
        """Return errors (n, 5, outputs) with the sum over a head's classes in the place of each."""
        errors = errors.copy()
        for kind, place in self._targets.parts:
            if kind == "classes":
                own = errors[:, :, place]
                total = own[:, :, 0].copy()
                for column in range(1, own.shape[2]):
                    total += own[:, :, column]
                errors[:, :, place] = total[:, :, None]
        return errors

    def judge(self, rows: Floats, slots: Indices, predicted: Floats, labels: Floats, seen: Floats) -> None:
        """Add the squared errors of predictions, (n, 5, outputs), to their streams' sums.

        Args:
            seen: 1 where the stream had a label when they were made, (n, outputs).
        """
        known = np.isfinite(labels) & (seen > 0)
        squares = np.stack([self._targets.squares(predicted[:, m], labels) for m in Method], axis=1)
        keep = np.where(known, self._keep, 1.0)
        after = np.where(known[:, None], self._share * squares, 0.0)
        recent = rows[slots, self._recent].reshape(squares.shape) * keep[:, None] + after
        rows[slots, self._recent] = recent.reshape(len(slots), -1)
        rows[slots, self._weight] = rows[slots, self._weight] * keep + self._share * known
        rows[slots, self._total] += squares.reshape(len(slots), -1)

    def learn(self, rows: Floats, slots: Indices, labels: Floats, t: Floats) -> None:
        """Take labels of distinct streams, of predictions for times t."""
        known = np.isfinite(labels)
        labels = np.where(self._targets.numeric, self._targets.within(labels), labels)
        count = rows[slots, self._count] + known
        mean = rows[slots, self._mean]
        rows[slots, self._mean] = np.where(known, mean + (labels - mean) / np.maximum(count, 1.0), mean)
        rows[slots, self._count] = count
        newer = known & ~(rows[slots, self._latest] > t[:, None])
        rows[slots, self._last] = np.where(newer, labels, rows[slots, self._last])
        rows[slots, self._latest] = np.where(newer, t[:, None], rows[slots, self._latest])

    def errors(self, rows: Floats, slots: Indices) -> tuple[Floats, Ints]:
        """Return root mean squared errors over streams, (5, outputs), in the targets' units, and numbers of labels."""
        count = rows[slots, self._count].sum(axis=0)
        total = rows[slots, self._total].sum(axis=0).reshape(self._errors.shape)
        with np.errstate(invalid="ignore"):
            return np.sqrt(total / count) * self._targets.scale, count.astype(np.int64)


def _summed(values: Floats) -> Floats:
    """Sum (n, 5, outputs) over the methods, in a fixed order, so that a row's sum does not depend on the other rows."""
    total = values[:, 0].copy()
    for method in range(1, values.shape[1]):
        total += values[:, method]
    return total
