"""Streams that learn from labels: what a Fleet does with them, beside its table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from streamrde.arrays import Bools, Indices
from streamrde.errors import ParameterError
from streamrde.inference.header import Header
from streamrde.inference.labels import (
    Adaptation,
    adaptation,
    asked,
    find_streams,
    labelled_batch,
    take_labels,
)
from streamrde.inference.names import stream_column
from streamrde.inference.table import StreamTable


class Learner:
    """Streams of a table that learn from labels which come after their predictions."""

    _table: StreamTable
    _strangers: int = 0
    """Labels of streams that there were not."""
    _taught: bool = False
    """True if a label came since the last checkpoint."""

    def label(
        self,
        streams: pa.Array | Sequence[str] | NDArray[Any],
        values: ArrayLike | Mapping[str, Any],
        *,
        t: ArrayLike | None = None,
        window: ArrayLike | None = None,
    ) -> pa.RecordBatch:
        """Learn from labels of earlier predictions, in order of the rows.

        A label is joined to the prediction with the number `window`, or to the one that is for the time nearest to `t`,
        ``t_end + horizon``, at most `Adapt.within` seconds away. Labels may come late, in any order, and more than
        once: the first of a prediction counts, and the others change nothing.

        Args:
            streams: stream of each row, (n,).
            values: the labels. Of a regression (n, outputs), or (n,) for one output, NaN where an output has none. Of a
                classification the names or numbers of the classes, (n,), None for none. Of several heads, a dict by
                head.
            t: times that the labels are for, (n,), in seconds or as datetime64.
            window: numbers of the windows, (n,). Give this or `t`.
        Returns:
            a row per label: what became of it, and what had been predicted (see `inference.labels.label_schema`).
        Raises:
            ParameterError: the fleet does not adapt, both or neither of t and window are given, or a class is unknown.
            ShapeError: the arrays do not fit together.
        Reference: see `adapting.readout`.
        """
        batch, slots = take(self._table, streams, values, t, window)
        self._strangers += int((slots < 0).sum())
        self._table.changed[slots[slots >= 0]] = self._taught = True
        return batch

    def awaits(
        self,
        streams: pa.Array | Sequence[str] | NDArray[Any],
        *,
        t: ArrayLike | None = None,
        window: ArrayLike | None = None,
    ) -> Bools:
        """Mark labels whose predictions have not been made yet, (n,). `label` would hold them, or call them unknown.

        Args:
            streams: stream of each label, (n,). One that is not live may still come.
            t: times that the labels are for, (n,), in seconds.
            window: numbers of the windows, (n,). Give this or `t`.
        """
        section = self._table.adapting
        if section is None:
            raise ParameterError(_OFF)
        slots = np.asarray(find_streams(self._table.names, stream_column(streams)), dtype=np.intp)
        found, live = np.ones(len(slots), np.bool_), slots >= 0
        times = None if t is None else np.asarray(t, dtype=np.float64)[live]
        windows = None if window is None else np.asarray(window)[live]
        found[live] = section.pending.is_ahead(self._table.rows, slots[live], windows, times)
        return found

    @property
    def header(self) -> Header:
        """The model's header."""
        return self._table.header

    @property
    def learns_together(self) -> bool:
        """True if all streams learn one correction, see `Adapt.share`."""
        return self._table.adapting is not None and self._table.adapting.shared is not None

    def label_counts(self) -> tuple[int, list[int]]:
        """Return how many predictions of live streams never had a label, and alarms of drift as in `Adaptation`."""
        table, section = self._table, self._table.adapting
        if section is None:
            raise ParameterError(_OFF)
        slots, bands = table.names.find(None), section.bands
        alarms = [] if bands is None else bands.alarms(table.rows, slots).sum(axis=0).tolist()
        return int(section.pending.counts(table.rows, slots)[-1]), alarms

    def adaptation(self, streams: Sequence[str] | None = None) -> Adaptation:
        """Return what became of the labels of live streams (None: all), and each method's progressive error."""
        table = self._table
        section = table.adapting
        if section is None:
            raise ParameterError(_OFF)
        return adaptation(section, table.rows, table.names.find(streams), 0 if streams else self._strangers)


_OFF = "adapt='off': labels are not used; make the Fleet or Predictor with adapt='best', or with an Adapt"


def take(
    table: StreamTable, streams: Any, values: Any, t: ArrayLike | None, window: ArrayLike | None
) -> tuple[pa.RecordBatch, Indices]:
    """Learn from labels as `Fleet.label`. Return its batch, and the streams' slots, -1 of those that there are not."""
    if table.adapting is None:
        raise ParameterError(_OFF)
    given = asked(table.header, streams, values, t, window)
    slots = np.asarray(find_streams(table.names, given.streams), dtype=np.intp)
    joined = take_labels(table.adapting, table.rows, slots, given)
    return labelled_batch(table.header, given, joined, table.adapting.bands), slots
