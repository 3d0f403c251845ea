"""A correction of a model's outputs that each stream learns from its labels.

In links (see targets.py) the corrected output is ``f + theta . phi``: f is the model's, phi the inputs of the
correction, and theta a state of the stream that a Kalman filter with mean reversion estimates. Before a label that
comes dt seconds after the one before,

    a = exp(-dt / tau),   theta <- a theta,   P <- a^2 P + (1 - a^2) P0

and with it, where y is the label, K = P phi / s and s = R + phi' P phi,

    e = clip(y - f - theta . phi, +- 2.5 sqrt(s)),   theta <- theta + K e,
    P <- (I - K phi') P (I - K phi')' + R K K'

The last is Joseph's form (Bucy & Joseph, "Filtering for stochastic processes with applications to guidance", 1968):
an error in K enters it by its square only. The clipped innovation is Huber's M-estimate in one step (Masreliez &
Martin, IEEE TAC 22(3), 1977). The return to P0 keeps the filter alive on inputs that say nothing of some directions,
where recursive least squares with forgetting winds up without bound (Stenlund & Gustafsson, 2002).

Classes have logits for links. Their label's noise is that of the logistic likelihood at the present prediction p,
``R / h`` with ``h = p (1 - p)``, and the innovation is ``(y - p) / h`` (West, Harrison & Migon, "Dynamic generalized
linear models and Bayesian forecasting", JASA 80, 1985).
"""

from __future__ import annotations

import numpy as np

from streamrde.adapting.targets import Targets
from streamrde.arrays import Bools, Floats, Indices
from streamrde.kernels import kalman

CLIP = 2.5
"""Standard deviations at which an innovation is clipped: 99 % of a normal one's stay as they are."""
# A prediction of .01 or .99 that is wrong is as surprising as one gets.
_LEAST_SPREAD = 0.01
_MOST_CORRECTION = 1e3


class Readout:
    """The columns of the correction, from `start` on.

        theta | P | latest

    theta: weights, (outputs, features). P: the lower triangle of their covariance, row by row, (outputs, features
    (features + 1) / 2). latest: time of the latest label, (outputs,), NaN before the first.

    Args:
        targets: the model's outputs.
        start: first column.
        prior: variances P0 of the weights, (outputs, features).
        noise: R, (outputs,).
        memory: tau, seconds.
    """

    def __init__(self, targets: Targets, start: int, *, prior: Floats, noise: Floats, memory: float) -> None:
        self._targets, self._start = targets, start
        self._prior, self._noise, self._memory = np.ascontiguousarray(prior), noise, memory
        outputs, features = prior.shape
        self._theta = slice(start, start + prior.size)
        triangle = features * (features + 1) // 2
        self._latest = slice(self._theta.stop + outputs * triangle, self._theta.stop + outputs * (triangle + 1))
        self.stop = self._latest.stop
        """The column after the last."""
        covariance = np.zeros((outputs, triangle))
        covariance[:, np.cumsum(np.arange(1, features + 1)) - 1] = prior
        self.blank = np.concatenate([np.zeros(prior.size), covariance.ravel(), np.full(outputs, np.nan)])

    def inputs(self, frozen: Floats, last: Floats, extra: Floats) -> Floats:
        """Return phi, (n, outputs, features), for model outputs and last labels, (n, outputs).

        Args:
            extra: what takes the output's place, (n, any), the same for all outputs. (n, 0): nothing.
        """
        targets, count = self._targets, len(frozen)
        phi = np.empty((count, *self._prior.shape))
        phi[:, :, 0] = 1.0
        if extra.shape[1]:
            phi[:, :, 1:-1] = extra[:, None]
        else:
            phi[:, :, 1] = targets.bounded(targets.links(frozen))
        phi[:, :, -1] = targets.features(last)
        return phi

    def predict(self, rows: Floats, slots: Indices, frozen: Floats, phi: Floats) -> Floats:
        """Return the corrected outputs, (n, outputs), for those of the model."""
        targets = self._targets
        return targets.values(targets.links(frozen) + self._correction(rows, slots, phi))

    def learn(self, rows: Floats, slots: Indices, frozen: Floats, phi: Floats, labels: Floats, t: Floats) -> None:
        """Take labels of distinct streams, (n, outputs), of predictions for times t. NaN: that output has none."""
        self._learn(rows, slots, frozen, phi, labels, t, rows[slots, self._latest])

    def learn_in_turn(self, rows: Floats, frozen: Floats, phi: Floats, labels: Floats, t: Floats) -> None:
        """Take labels of one row, the first, in order. Arguments as of `learn`."""
        slots = np.zeros(len(t), np.intp)
        if not self._targets.numeric.all():
            # What a class's label says depends on the prediction with all labels before it.
            for i in range(len(t)):
                one = slice(i, i + 1)
                self.learn(rows, slots[one], frozen[one], phi[one], labels[one], t[one])
            return
        times = np.where(self._present(frozen, phi, labels), t[:, None], np.nan)
        latest = np.fmax.accumulate(np.concatenate([rows[:1, self._latest], times]), axis=0)
        self._learn(rows, slots, frozen, phi, labels, t, latest[:-1])

    def _present(self, frozen: Floats, phi: Floats, labels: Floats) -> Bools:
        return np.asarray(np.isfinite(labels) & np.isfinite(frozen) & np.isfinite(phi).all(axis=2))

    def _learn(
        self, rows: Floats, slots: Indices, frozen: Floats, phi: Floats, labels: Floats, t: Floats, latest: Floats
    ) -> None:
        present = self._present(frozen, phi, labels)
        passed = np.where(np.isnan(latest), 0.0, np.maximum(t[:, None] - latest, 0.0))
        keep = np.exp(-passed / self._memory)
        residual, noise = self._residual(rows, slots, frozen, phi, labels, keep)
        residual[~present] = np.nan
        kalman(rows, slots, self._start, phi, residual, noise, keep, self._prior, CLIP, _MOST_CORRECTION)
        rows[slots, self._latest] = np.where(present, np.fmax(latest, t[:, None]), latest)

    def _residual(
        self, rows: Floats, slots: Indices, frozen: Floats, phi: Floats, labels: Floats, keep: Floats
    ) -> tuple[Floats, Floats]:
        """Return labels less the model's outputs, and the labels' noise, (n, outputs) each, in links."""
        targets = self._targets
        links, numeric = targets.links(frozen), targets.numeric
        numbers = (targets.within(labels) - targets.shift) / targets.scale - links
        noise = np.tile(self._noise, (len(slots), 1))
        if numeric.all():
            return np.asarray(numbers), noise
        correction = keep * self._correction(rows, slots, phi)
        p = targets.values(links + correction)
        spread = np.maximum(p * (1.0 - p), _LEAST_SPREAD)
        classes = (labels - p) / spread + correction
        return np.where(numeric, numbers, classes), np.where(numeric, noise, noise / spread)

    def _correction(self, rows: Floats, slots: Indices, phi: Floats) -> Floats:
        theta = rows[slots, self._theta].reshape(phi.shape)
        total = theta[:, :, 0] * phi[:, :, 0]
        for feature in range(1, phi.shape[2]):
            total += theta[:, :, feature] * phi[:, :, feature]
        return np.clip(total, -_MOST_CORRECTION, _MOST_CORRECTION)
