"""All that a stream learns from its labels, in the last columns of its row."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from streamrde.adapting.bands import Bands
from streamrde.adapting.baselines import METHODS, Baselines, Method
from streamrde.adapting.held import Held
from streamrde.adapting.pending import Outcome, Pending
from streamrde.adapting.readout import Readout
from streamrde.adapting.settings import MOST_INPUTS, Adapt, Learned
from streamrde.adapting.targets import Targets
from streamrde.arrays import Floats, Indices, Ints
from streamrde.errors import ParameterError

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


class Served(NamedTuple):
    """Predictions as they are served, and what a label needs to know of them."""

    by_method: Floats
    """By every method, (n, 5, outputs)."""
    value: Floats
    """(n, outputs)"""
    seen: Floats
    """See `Baselines.seen`, (n, outputs)."""
    threshold: Floats
    """Thresholds of the intervals, (n, units)."""
    extra: Floats
    """Inputs of the correction that come from the state, (n, inputs)."""


class Adapting:
    """The columns of what a stream learns, from `start` on.

        pending | held | readout | baselines | bands

    A readout that streams share has a row of its own.

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
        self._map = _projection(adapt, spread) if adapt.takes_state(learned) else None
        self._extra = 0 if self._map is None else self._map.shape[-1]
        capacity = adapt.pending or _PENDING + (int(np.ceil(times.horizon / times.length)) if times.length else 0)
        within = (0.5 * times.length or _WITHIN) if adapt.within is None else adapt.within
        self.units = 0 if bands is None else bands.units
        """Outputs and heads with a threshold."""
        kept = (len(Method) + 2) * n + self._extra + self.units
        self._fields = np.cumsum([len(Method) * n, n, n, self.units]).tolist()
        self.pending = Pending(start, capacity=capacity, kept=kept, within=within)
        self.held = Held(self.pending.stop, capacity=0 if adapt.share else adapt.early, outputs=n)
        memory = adapt.memory or learned.memory or _WINDOWS * times.length or _DAY
        prior = _each(learned.prior, _PRIOR, n) if adapt.prior is None else np.full(n, adapt.prior)
        features = 2 + (self._extra or 1)
        variances = np.tile(prior[:, None], (1, features))
        if self._extra:
            variances[:, 1:-1] /= self._extra
        noise = _each(learned.noise, _NOISE, n) if adapt.noise is None else np.full(n, adapt.noise)
        start = 0 if adapt.share else self.held.stop
        self.readout = Readout(targets, start, prior=variances, noise=noise, memory=memory)
        self.shared = self.readout.blank[None].copy() if adapt.share else None
        """The columns of the correction that all streams share, one row. None: each stream has them in its own."""
        self.baselines = Baselines(
            targets,
            self.held.stop if adapt.share else self.readout.stop,
            blend=_each(learned.blend, _BLEND, n),
            shrink=_each(learned.shrink, _SHRINK, n),
            errors=np.array(learned.errors) if learned.errors else np.ones((len(Method), n)),
            errors_before=np.array(learned.errors_before) if learned.errors_before else None,
            overlap=max(1.0, times.horizon / times.length) if times.length else 1.0,
        )
        self.bands = None if bands is None else bands.at(self.baselines.stop)
        self.stop = self.baselines.stop if self.bands is None else self.bands.stop
        """The column after the last."""
        blank = [self.pending.blank, self.held.blank, *([] if adapt.share else [self.readout.blank])]
        blank += [self.baselines.blank, *([] if self.bands is None else [self.bands.blank])]
        self.blank = np.concatenate(blank)
        """Columns of a stream that has learned nothing."""
        layout: list[object] = ["mix", capacity, kept, self.held.capacity, n, features, *["shared"] * adapt.share]
        layout += [] if self._map is None else ["state", adapt.seed]
        layout += [] if self.bands is None else [self.bands.layout]
        self.layout = ",".join(map(str, layout))
        """Text that two sections share if the columns of one mean the same in the other."""

    def serve(self, rows: Floats, slots: Indices, frozen: Floats, state: Floats) -> Served:
        """Return what is served for model outputs, (n, outputs)."""
        last, mean, blend = self.baselines.predict(rows, slots)
        extra = self._inputs(state)
        phi = self.readout.inputs(frozen, last, extra)
        table, of = (rows, slots) if self.shared is None else (self.shared, np.zeros(len(slots), np.intp))
        online = self.readout.predict(table, of, frozen, phi)
        by_method = np.stack([frozen, online, last, mean, blend], axis=1)
        if self.adapt.serve == "best":
            served = self.baselines.mixed(self.baselines.weights(rows, slots), by_method)
        else:
            served = by_method[:, METHODS.index(self.adapt.serve)]
        return Served(by_method, served, self.baselines.seen(rows, slots), self.thresholds(rows, slots), extra)

    def thresholds(self, rows: Floats, slots: Indices) -> Floats:
        """Return the thresholds of streams' intervals now, (n, units). No intervals have none."""
        return np.empty((len(slots), 0)) if self.bands is None else self.bands.threshold(rows, slots)

    def serving(self, rows: Floats, slots: Indices) -> Ints:
        """Return the method that has the most weight in what streams are served now, per output, (n, outputs)."""
        if self.adapt.serve == "best":
            return np.asarray(self.baselines.weights(rows, slots).argmax(axis=1), dtype=np.int64)
        return np.full((len(slots), self.targets.outputs), METHODS.index(self.adapt.serve), dtype=np.int64)

    def issue(self, rows: Floats, slots: Indices, window: Ints, t_end: Floats, frozen: Floats, state: Floats) -> Served:
        """Return what is served after windows of distinct streams, and let it wait for its labels.

        Labels that came before it are learned at once.
        """
        served = self.serve(rows, slots, frozen, state)
        kept = [served.by_method.reshape(len(slots), -1), *served[1:]]
        self.pending.add(rows, slots, window, t_end, t_end + self._horizon, np.concatenate(kept, axis=1))
        holds = slots[self.held.number(rows, slots) > 0]
        if len(holds):
            self._recall(rows, holds)
        return served

    def _recall(self, rows: Floats, slots: Indices) -> None:
        """Learn the held labels of streams whose predictions have come, and give up those whose never will."""
        gone = np.zeros((len(slots), self.held.capacity), dtype=bool)
        for place in range(int(self.held.number(rows, slots).max())):
            early = self.held.at(rows, slots, place)
            of_window = early.window >= 0
            for own, by_window in ((of_window, True), (~of_window, False)):
                part = early.slots[own]
                if not len(part):
                    continue
                window, t = (early.window[own], None) if by_window else (None, early.t[own])
                outcome = self.label(rows, part, early.labels[own], window, t, again=True).outcome
                gone[np.isin(slots, part[outcome != Outcome.HELD]), place] = True
        self.held.drop(rows, slots, gone)

    def label(
        self,
        rows: Floats,
        slots: Indices,
        labels: Floats,
        window: Ints | None,
        t: Floats | None,
        *,
        again: bool = False,
    ) -> Labelled:
        """Take a label of each of distinct streams, (n, outputs), and learn from it. NaN: that output has none.

        Args:
            again: the labels are held already.
        """
        found = self.pending.find(rows, slots, window, t)
        labels = np.where(np.isfinite(labels), labels, np.nan)
        learns = (found.outcome == Outcome.JOINED) | (found.outcome == Outcome.HELD)
        outcome = np.where(learns & np.isnan(labels).all(axis=1), int(Outcome.SKIPPED), found.outcome)
        if not again and (outcome == Outcome.HELD).any():
            self._hold(rows, slots, labels, window, t, outcome)
        self.pending.count(rows, slots, outcome)
        whole = self.unlearned(outcome.astype(np.int64), found.window)
        joined = np.flatnonzero(outcome == Outcome.JOINED)
        if len(joined):
            part = self._learn(rows, slots[joined], found.place[joined], labels[joined])
            for all_of_it, own in zip(whole[2:], part, strict=True):
                all_of_it[joined] = own
        return whole

    def unlearned(self, outcome: Ints, window: Ints) -> Labelled:
        """Return the fates of labels from which nothing is learned."""
        count, n = len(outcome), self.targets.outputs
        shapes = (count,), (count, len(Method), n), (count, n), (count, self.units)
        return Labelled(outcome, window, *(np.full(shape, np.nan) for shape in shapes))

    def _hold(
        self, rows: Floats, slots: Indices, labels: Floats, window: Ints | None, t: Floats | None, outcome: Ints
    ) -> None:
        """Hold the labels whose outcome says so. Change the outcome of those that cannot be."""
        if not self.held.capacity:
            outcome[outcome == Outcome.HELD] = Outcome.UNKNOWN
            return
        repeated = self.held.repeated(rows, slots, window, t)
        outcome[(outcome == Outcome.HELD) & repeated] = Outcome.DUPLICATE
        own = np.flatnonzero(outcome == Outcome.HELD)
        of, names = slots[own], (None if window is None else window[own], None if t is None else t[own])
        given_up = of[self.held.add(rows, of, labels[own], *names)]
        self.pending.count(rows, given_up, np.full(len(given_up), int(Outcome.UNKNOWN)))

    def _learn(self, rows: Floats, slots: Indices, place: Indices, labels: Floats) -> tuple[Floats, ...]:
        """Learn from labels of distinct streams. Return the last four of `Labelled`."""
        t_end, due, kept = self.pending.take(rows, slots, place)
        flat, *others = np.split(kept, self._fields, axis=1)
        served = Served(flat.reshape(len(slots), len(Method), -1), *others)
        frozen, last = served.by_method[:, Method.FROZEN], served.by_method[:, Method.LAST]
        if self.bands is not None:
            self.bands.learn(rows, slots, served.value, labels, served.threshold)
        self.baselines.judge(rows, slots, served.by_method, labels, served.seen)
        phi = self.readout.inputs(frozen, last, served.extra)
        if self.shared is None:
            self.readout.learn(rows, slots, frozen, phi, labels, due)
        else:
            self.readout.learn_in_turn(self.shared, frozen, phi, labels, due)
        self.baselines.learn(rows, slots, labels, due)
        return t_end, served.by_method, served.value, served.threshold

    def _inputs(self, state: Floats) -> Floats:
        if self._map is None:
            return np.empty((len(state), 0))
        if self._map.ndim == 1:
            return np.asarray(np.clip(state * self._map, -_STATE, _STATE))
        total = state[:, :1] * self._map[0]
        for row in range(1, len(self._map)):
            total += state[:, row : row + 1] * self._map[row]
        return np.asarray(np.clip(total, -_STATE, _STATE))


def _projection(adapt: Adapt, spread: Floats) -> Floats:
    """Return the matrix from states to inputs of the correction, or their factors, (hidden,), if they are these."""
    own = 1.0 / np.maximum(spread, 1e-9)
    if adapt.projection:
        # Gaussian: distances survive it (Johnson & Lindenstrauss 1984).
        drawn = np.random.Generator(np.random.PCG64(adapt.seed)).normal(size=(len(spread), adapt.projection))
        return np.asarray(own[:, None] * drawn / np.sqrt(len(spread)))
    if len(spread) > MOST_INPUTS:
        raise ParameterError(
            f"inputs='state': this model's state has {len(spread)} numbers, and a correction takes {MOST_INPUTS} at "
            "most; add projection=64, or another number of projections"
        )
    return np.asarray(own)


def _each(values: tuple[float, ...], otherwise: float, count: int) -> Floats:
    return np.array(values, dtype=np.float64) if values else np.full(count, otherwise)
