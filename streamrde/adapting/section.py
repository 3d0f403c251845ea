"""All that a stream learns from its labels, in the last columns of its row."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from streamrde.adapting.bands import Bands
from streamrde.adapting.baselines import METHODS, Baselines, Method
from streamrde.adapting.pending import Outcome, Pending
from streamrde.adapting.readout import Readout
from streamrde.adapting.settings import Adapt, Learned
from streamrde.adapting.targets import Targets
from streamrde.arrays import Floats, Indices, Ints

_PENDING = 32
_WITHIN = 1e-6
_NOISE, _PRIOR, _BLEND, _SHRINK = 0.3, 0.3, 0.5, 1.0
_WINDOWS, _DAY = 1000.0, 86400.0
_STATE = 10.0


class Times(NamedTuple):
    """Times of a model, seconds."""

    horizon: float
    """Time by which the targets lie ahead of their windows."""
    length: float
    """Length of a window. 0: they have none."""


class Labelled(NamedTuple):
    """Fates of labels, one entry each. Values are NaN unless the outcome is JOINED."""

    outcome: Ints
    window: Ints
    t_end: Floats
    predicted: Floats
    """As they were when the window closed, by every method, (n, 5, outputs)."""
    served: Floats
    """(n, outputs)"""
    threshold: Floats
    """Thresholds of the intervals that were issued with it, (n, units). (n, 0): none were."""


class Adapting:
    """The columns of what a stream learns, from `start` on.

        pending | readout | baselines | bands

    Args:
        targets: the model's outputs.
        times: the model's horizon and window length.
        adapt: what is asked for.
        learned: what training found out about streams it had not seen.
        spread: ranges of the components of the hidden state, (hidden,), if the correction's inputs are states.
        start: first column.
        bands: intervals. None: they are not asked for.
    """

    def __init__(
        self,
        targets: Targets,
        times: Times,
        adapt: Adapt,
        learned: Learned,
        spread: Floats,
        start: int,
        bands: Bands | None = None,
    ) -> None:
        self.adapt, self.targets, self._horizon = adapt, targets, times.horizon
        n = targets.outputs
        self._map = _projection(adapt, spread)
        self._extra = 0 if self._map is None else self._map.shape[1]
        capacity = adapt.pending or _PENDING + (int(np.ceil(times.horizon / times.length)) if times.length else 0)
        within = (0.5 * times.length or _WITHIN) if adapt.within is None else adapt.within
        issued = 0 if bands is None else bands.units
        kept = (len(Method) + 1) * n + self._extra + issued
        self._fields = np.cumsum([len(Method) * n, n, issued]).tolist()
        self.pending = Pending(start, capacity=capacity, kept=kept, within=within)
        memory = adapt.memory or learned.memory or _WINDOWS * times.length or _DAY
        prior = _each(learned.prior, _PRIOR, n) if adapt.prior is None else np.full(n, adapt.prior)
        features = 2 + (self._extra or 1)
        variances = np.tile(prior[:, None], (1, features))
        if self._extra:
            variances[:, 1:-1] /= self._extra
        noise = _each(learned.noise, _NOISE, n) if adapt.noise is None else np.full(n, adapt.noise)
        self.readout = Readout(targets, self.pending.stop, prior=variances, noise=noise, memory=memory)
        self.baselines = Baselines(
            targets,
            self.readout.stop,
            blend=_each(learned.blend, _BLEND, n),
            shrink=_each(learned.shrink, _SHRINK, n),
            errors=np.array(learned.errors) if learned.errors else np.ones((len(Method), n)),
        )
        self.bands = None if bands is None else bands.at(self.baselines.stop)
        self.stop = self.baselines.stop if self.bands is None else self.bands.stop
        """The column after the last."""
        blank = [self.pending.blank, self.readout.blank, self.baselines.blank]
        self.blank = np.concatenate(blank if self.bands is None else [*blank, self.bands.blank])
        """Columns of a stream that has learned nothing."""
        self.layout = f"{capacity},{kept},{n},{features}" + ("" if self.bands is None else f",{self.bands.layout}")
        """Text that two sections share if the columns of one mean the same in the other."""

    def serve(self, rows: Floats, slots: Indices, frozen: Floats, state: Floats) -> tuple[Floats, Floats]:
        """Return what is served for model outputs, (n, outputs), and what must be kept of it for a label.

        Of intervals that is their thresholds, (n, units), see `thresholds`.
        """
        last, mean, blend = self.baselines.predict(rows, slots)
        extra = self._inputs(state)
        phi = self.readout.inputs(frozen, last, extra)
        online = self.readout.predict(rows, slots, frozen, phi)
        by_method = np.stack([frozen, online, last, mean, blend], axis=1)
        method = self.serving(rows, slots)
        served = np.take_along_axis(by_method, method[:, None], axis=1)[:, 0]
        kept = [by_method.reshape(len(slots), -1), method, self.thresholds(rows, slots), extra]
        return served, np.concatenate(kept, axis=1)

    def thresholds(self, rows: Floats, slots: Indices) -> Floats:
        """Return the thresholds of streams' intervals now, (n, units). No intervals have none."""
        return np.empty((len(slots), 0)) if self.bands is None else self.bands.threshold(rows, slots)

    def serving(self, rows: Floats, slots: Indices) -> Ints:
        """Return the method that streams are served by now, per output, (n, outputs)."""
        if self.adapt.serve == "best":
            return np.asarray(self.baselines.choose(rows, slots))
        return np.full((len(slots), self.targets.outputs), METHODS.index(self.adapt.serve), dtype=np.int64)

    def issue(self, rows: Floats, slots: Indices, window: Ints, t_end: Floats, frozen: Floats, state: Floats) -> Floats:
        """Return what is served after windows of distinct streams, and let it wait for its labels."""
        served, kept = self.serve(rows, slots, frozen, state)
        self.pending.add(rows, slots, window, t_end, t_end + self._horizon, kept)
        return served

    def label(self, rows: Floats, slots: Indices, labels: Floats, window: Ints | None, t: Floats | None) -> Labelled:
        """Take a label of each of distinct streams, (n, outputs), and learn from it. NaN: that output has none."""
        found = self.pending.find(rows, slots, window, t)
        outcome = np.where(
            np.isfinite(labels).any(axis=1) | (found.outcome != Outcome.JOINED), found.outcome, int(Outcome.SKIPPED)
        )
        self.pending.count(rows, slots, outcome)
        joined = np.flatnonzero(outcome == Outcome.JOINED)
        count, n = labels.shape
        t_end, predicted = np.full(count, np.nan), np.full((count, len(Method), n), np.nan)
        served = np.full((count, n), np.nan)
        threshold = np.full((count, 0 if self.bands is None else self.bands.units), np.nan)
        if len(joined):
            of, own = slots[joined], np.where(np.isfinite(labels[joined]), labels[joined], np.nan)
            t_end[joined], due, kept = self.pending.take(rows, of, found.place[joined])
            flat, method, threshold[joined], extra = np.split(kept, self._fields, axis=1)
            by_method = flat.reshape(len(joined), len(Method), n)
            predicted[joined] = by_method
            served[joined] = np.take_along_axis(by_method, method[:, None].astype(np.int64), axis=1)[:, 0]
            frozen, last = by_method[:, Method.FROZEN], by_method[:, Method.LAST]
            if self.bands is not None:
                self.bands.learn(rows, of, served[joined], own, threshold[joined])
            self.baselines.judge(rows, of, by_method, own)
            self.readout.learn(rows, of, frozen, self.readout.inputs(frozen, last, extra), own, due)
            self.baselines.learn(rows, of, own, due)
        return Labelled(outcome.astype(np.int64), found.window, t_end, predicted, served, threshold)

    def _inputs(self, state: Floats) -> Floats:
        if self._map is None:
            return np.empty((len(state), 0))
        total = state[:, :1] * self._map[0]
        for row in range(1, len(self._map)):
            total += state[:, row : row + 1] * self._map[row]
        return np.asarray(np.clip(total, -_STATE, _STATE))


def _projection(adapt: Adapt, spread: Floats) -> Floats | None:
    """Return the matrix from hidden states to inputs of the correction, or None if states are none."""
    if adapt.inputs == "outputs":
        return None
    own = np.diag(1.0 / np.maximum(spread, 1e-9))
    if not adapt.projection:
        return np.asarray(own)
    # Gaussian: distances survive it (Johnson & Lindenstrauss 1984). The seed makes it a part of the code.
    drawn = np.random.default_rng(0).normal(size=(len(spread), adapt.projection))
    return np.asarray(own @ drawn / np.sqrt(len(spread)))


def _each(values: tuple[float, ...], otherwise: float, count: int) -> Floats:
    return np.array(values, dtype=np.float64) if values else np.full(count, otherwise)
