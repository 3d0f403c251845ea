"""The simple predictions that a correction has to beat, and the errors of all on a stream's labels so far."""

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
# Labels that the errors in training count for.
_BEFORE = 2.0


class Baselines:
    """The columns of labels and errors, from `start` on.

        last | latest | count | mean | weight | recent | total

    last: latest label, (outputs,), and the time it is for. count, mean: of the labels. recent: squared errors of the
    methods, the older the less, (5, outputs), and the weight of all. total: their plain sums.

    Args:
        targets: the model's outputs.
        start: first column.
        blend: weight of the last label in the blend, (outputs,).
        shrink: labels that the mean of training counts for, (outputs,).
        errors: mean squared errors of the methods in training, (5, outputs).
    """

    def __init__(self, targets: Targets, start: int, *, blend: Floats, shrink: Floats, errors: Floats) -> None:
        self._targets, self._mix, self._shrink, self._errors = targets, blend, shrink, errors
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

    def choose(self, rows: Floats, slots: Indices) -> Ints:
        """Return the method with the smallest error so far, per output (n, outputs), one for all outputs of a head."""
        recent = rows[slots, self._recent].reshape(-1, *self._errors.shape)
        weight = rows[slots, self._weight][:, None]
        error = (recent + _BEFORE * self._errors) / (weight + _BEFORE)
        for kind, place in self._targets.parts:
            if kind == "classes":
                own = error[:, :, place]
                total = own[:, :, 0].copy()
                for column in range(1, own.shape[2]):
                    total += own[:, :, column]
                error[:, :, place] = total[:, :, None]
        return np.asarray(error.argmin(axis=1), dtype=np.int64)

    def judge(self, rows: Floats, slots: Indices, predicted: Floats, labels: Floats) -> None:
        """Add the squared errors of predictions, (n, 5, outputs), to their streams' sums."""
        known = np.isfinite(labels)
        squares = np.stack([self._targets.squares(predicted[:, m], labels) for m in Method], axis=1)
        keep = np.where(known, _KEEP, 1.0)
        recent = rows[slots, self._recent].reshape(squares.shape) * keep[:, None] + squares
        rows[slots, self._recent] = recent.reshape(len(slots), -1)
        rows[slots, self._weight] = rows[slots, self._weight] * keep + known
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
