"""Look up the truth for a model that predicts ahead: a stream's rows so many seconds after each window."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamrde.arrays import Bools, Floats, Ints
from streamrde.connectors.files.record_batches import schema_of
from streamrde.connectors.files.recordings import Recording
from streamrde.connectors.samples import HORIZON, Samples

MOST_ROWS = 50_000_000
"""Most rows of a part whose times and truth are held at once, some 20 bytes each."""


def stated_horizon(recording: Recording, truth: tuple[str, ...]) -> float | None:
    """Return the seconds by which a file says that its truth lies ahead of its rows, or None.

    A file says so as `output.test` does.
    """
    schema = schema_of(recording)
    for name in truth:
        metadata = schema.field(name).metadata if name in schema.names else None
        if metadata and HORIZON.encode() in metadata:
            return float(metadata[HORIZON.encode()])
    return None


class TruthAhead:
    """Look up the truth of some streams by time.

    Args:
        samples: all rows of the streams, with the columns of truth as `extra`.
        horizon: seconds from a window to its target.
    """

    def __init__(self, samples: Iterable[Samples], *, horizon: float) -> None:
        self._horizon = horizon
        numbers: dict[str, int] = {}
        codes: list[Ints] = []
        times: list[Floats] = []
        columns: list[list[pa.Array]] = []
        for batch in samples:
            batch_codes, names = batch.by_code()
            own = np.array([numbers.setdefault(name, len(numbers)) for name in names.to_pylist()], np.int64)
            codes.append(own[batch_codes])
            times.append(batch.t)
            columns.append([] if batch.extra is None else batch.extra.columns)
        self._names = pa.array(list(numbers), pa.string())
        code, t = (np.concatenate(parts) if parts else np.zeros(0) for parts in (codes, times))
        order = np.lexsort((t, code))
        code, self._t = code[order], t[order]
        self._stops = np.searchsorted(code, np.arange(len(numbers) + 1))
        self._columns = [pa.concat_arrays(parts).take(pa.array(order)) for parts in zip(*columns, strict=True)]
        # Of each column the places of the rows that have a value.
        self._known = [np.flatnonzero(_has_value(column)) for column in self._columns]

    def lookup(self, batch: pa.RecordBatch) -> list[pa.Array]:
        """Return the truth of predictions, a column each.

        It is the last value known in (start + horizon, end + horizon]. It is null if there is none, or if the window
        has no sample.
        """
        start, end = batch["t_start"].to_numpy(), batch["t_end"].to_numpy()
        own = pc.index_in(batch["stream"].cast(pa.string()), self._names).fill_null(-1).to_numpy()
        first, last, empty = (np.zeros(batch.num_rows, np.int64) for _ in range(3))
        for code in np.unique(own[own >= 0]).tolist():
            here = np.flatnonzero(own == code)
            t = self._t[self._stops[code] : self._stops[code + 1]]
            first[here], last[here] = (
                self._stops[code] + np.searchsorted(t, edge[here] + self._horizon, side="right")
                for edge in (start, end)
            )
            empty[here] = np.searchsorted(t, start[here], side="right") == np.searchsorted(t, end[here], side="right")
        result = []
        for column, known in zip(self._columns, self._known, strict=True):
            place = np.searchsorted(known, last) - 1
            row = known[np.maximum(place, 0)] if len(known) else np.zeros(batch.num_rows, np.int64)
            none = (own < 0) | (place < 0) | (row < first) | empty.astype(bool)
            taken = column.take(pa.array(row, mask=none)) if len(column) else pa.nulls(batch.num_rows, column.type)
            result.append(taken)
        return result


def with_truth(batch: pa.RecordBatch, columns: list[pa.Array]) -> pa.RecordBatch:
    """Return predictions with other columns of truth in place of their last ones."""
    arrays: list[Any] = [*batch.columns[: batch.num_columns - len(columns)], *columns]
    return pa.RecordBatch.from_arrays(arrays, schema=batch.schema)


def _has_value(column: pa.Array) -> Bools:
    if pa.types.is_floating(column.type):
        return np.asarray(np.isfinite(column.to_numpy(zero_copy_only=False)), np.bool_)
    return np.asarray(column.is_valid().to_numpy(zero_copy_only=False), np.bool_)
