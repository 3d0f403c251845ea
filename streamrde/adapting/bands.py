"""Intervals and sets of a model's outputs: thresholds that its file brings along, and that a stream's labels move.

Labels also tell whether errors are larger than on held-out streams: each threshold has a sequential test (see `drift`).

Without labels the thresholds are constants, from streams that were held out in training (see `split`). With labels they
lie in the stream's row and follow it (see `trackers`). Each output that is a number has a threshold of its own, and so
has each head of classes: the coverage is that of each alone, not of all at once.
"""

from __future__ import annotations

import copy
import math
from typing import Annotated

import msgspec
import numpy as np

from streamrde.adapting.drift import COLUMNS, watch
from streamrde.adapting.scale import STAGES
from streamrde.adapting.scores import Sets, Unit, scores_of
from streamrde.adapting.split import CAPITAL, RANKS, p_values
from streamrde.adapting.trackers import LEAST, Tracker, Tracking, make_tracker
from streamrde.arrays import Bools, Floats, Indices, Ints, Reals
from streamrde.errors import ParameterError


class Calibration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Facts about the held-out streams whose scores a model's file has, beside them in its tensors."""

    streams: tuple[Annotated[int, msgspec.Meta(ge=0)], ...]
    """Held-out streams with a known target, or groups of them, or blocks of time of the same streams, of each unit.
    Fewer than nine do not guarantee 90 %."""
    labels: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Windows with a known target."""
    scales: tuple[Annotated[float, msgspec.Meta(ge=0)], ...] = ()
    """Root mean square of the scores of each unit, 0 for classes, which the ratios in the tensors are of. Empty: the
    file has none, and the thresholds of all streams begin with the same steps. See `scale`."""
    alarm: Annotated[float, msgspec.Meta(gt=0, lt=1e6)] = math.log(CAPITAL)
    """Logarithm of the betting capital at which a stream's errors have drifted. See `drift`."""


_LEAST_MASS = 0.1  # of likelier classes: a second class comes into a set for less only if none has a tenth
_RARE = 0.01  # errors with a smaller p-value are counted
SETS: tuple[Sets, Sets] = ("lac", "aps")
"""Kinds of scores that a file has. They are the same for numbers."""


def calibration_shapes(units: int, *, scaled: bool) -> dict[str, tuple[int, ...]]:
    """Return name and shape of the tensors with the scores of held-out streams, and their ratios, float64."""
    ratios = {"calibration.ratios": (len(STAGES), units, RANKS)} if scaled else {}
    return {"calibration.scores": (len(SETS), units, RANKS), **ratios}


class Bands:
    """Thresholds of the units of a model, and how they move in streams' rows.

    Args:
        units: of the model.
        tracking: what is asked for.
        calibration: facts about the held-out streams.
        scores: their scores, `calibration.scores`.
        ratios: `calibration.ratios`. None: there are none.
    """

    def __init__(
        self,
        units: tuple[Unit, ...],
        tracking: Tracking,
        calibration: Calibration,
        scores: Floats,
        ratios: Floats | None = None,
    ) -> None:
        self.tracking, self._units = tracking, units
        streams = np.array(calibration.streams, np.intp)
        scaled = None if ratios is None else (np.array(calibration.scales), ratios)
        # Where nine of ten answers are right, the threshold of aps is 0, and steps of it would lead nowhere.
        least = np.array([_LEAST_MASS if unit.classes and tracking.sets == "aps" else LEAST for unit in units])
        self._tracker: Tracker = make_tracker(tracking, scores[SETS.index(tracking.sets)], streams, scaled, least)
        self._columns = slice(0, len(units) * self._tracker.width)
        self._table, self._streams, self._alarm = scores[SETS.index(tracking.sets)], streams, calibration.alarm
        watched = np.zeros(len(units) * (COLUMNS + 2))
        self.blank = np.concatenate([self._tracker.blank().ravel(), watched])
        """Columns of a stream without labels."""
        self.layout = f"{tracking.method},{self._tracker.width},{len(units)}"
        """Text that two share if the columns of one mean the same in the other."""
        self.first = self._tracker.threshold(self._tracker.blank()[None])[0]
        """Thresholds before the first label, (units,)."""

    def at(self, start: int) -> Bands:
        """Return the same with its columns from `start` on."""
        found = copy.copy(self)
        found._columns = slice(start, start + len(self._units) * self._tracker.width)
        return found

    @property
    def stop(self) -> int:
        """The column after the last."""
        return self._columns.stop + len(self._units) * (COLUMNS + 2)

    @property
    def units(self) -> int:
        """Number of thresholds."""
        return len(self._units)

    def threshold(self, rows: Floats, slots: Indices) -> Floats:
        """Return the thresholds to issue now to streams, (n, units)."""
        return self._tracker.threshold(self._state(rows, slots))

    def scores(self, served: Reals, labels: Floats) -> Floats:
        """Return how far predictions were from their labels, (n, units). Arguments as of `learn`."""
        return scores_of(self._units, served, truths(self._units, labels), self.tracking.sets)

    def learn(self, rows: Floats, slots: Indices, served: Reals, labels: Floats, issued: Floats) -> Bools:
        """Learn from a label of each of distinct streams, and return which lay outside, (n, units).

        Args:
            served: predictions, (n, outputs).
            labels: as numbers, (n, outputs): targets, 1 for the right class and 0 for others. NaN: not known.
            issued: thresholds that were issued with the predictions, (n, units).
        """
        state = self._state(rows, slots)
        scores = self.scores(served, labels)
        missed = self._tracker.learn(state, scores, issued)
        rows[slots, self._columns] = state.reshape(len(slots), -1)
        rows[slots[:, None], self._counted] += np.isfinite(scores)
        rows[slots[:, None], self._counted + 1] += missed
        p = p_values(self._table, self._streams, scores)
        for unit in range(len(self._units)):
            column = self._columns.stop + unit * COLUMNS
            watch(rows, column, slots, p[:, unit], novel=_RARE, alarm=self._alarm)
        return missed

    def coverage(self, rows: Floats, slots: Indices) -> Floats:
        """Return the share of all labels of streams that were within, (units,). NaN without any."""
        labels, missed = (rows[slots[:, None], self._counted + i].sum(axis=0) for i in range(2))
        return np.where(labels > 0, 1.0 - missed / np.maximum(labels, 1.0), np.nan)

    @property
    def _counted(self) -> Indices:
        """The columns with the numbers of labels. Those of misses follow each."""
        return self._columns.stop + len(self._units) * COLUMNS + 2 * np.arange(len(self._units))

    def alarms(self, rows: Floats, slots: Indices) -> Ints:
        """Return how often the errors of streams were found to be larger than those of held-out ones, (n, units)."""
        columns = self._columns.stop + np.arange(len(self._units)) * COLUMNS + 1
        return np.asarray(rows[slots[:, None], columns], dtype=np.int64)

    def _state(self, rows: Floats, slots: Indices) -> Floats:
        own = np.ascontiguousarray(rows[slots, self._columns])
        return own.reshape(len(slots), len(self._units), self._tracker.width)


def truths(units: tuple[Unit, ...], labels: Floats) -> Floats:
    """Return labels (n, outputs) as `scores_of` takes them, (n, units): classes by their numbers."""
    found = np.empty((len(labels), len(units)))
    for i, unit in enumerate(units):
        own = labels[:, unit.outputs]
        if own.shape[1] == 1:
            found[:, i] = own[:, 0]
        else:
            known = np.asarray(np.isfinite(own).all(axis=1))
            found[:, i] = np.where(known, np.where(known[:, None], own, 0.0).argmax(axis=1), np.nan)
    return found


def as_tracking(asked: Tracking | float | None) -> Tracking | None:
    """Return the settings of intervals that a coverage stands for.

    Raises:
        ParameterError: it is no number.
    """
    if asked is None or isinstance(asked, Tracking):
        return asked
    if isinstance(asked, bool) or not isinstance(asked, int | float):
        raise ParameterError(f"intervals={asked!r}: give the coverage, such as 0.9, or None")
    return Tracking(coverage=float(asked))
