"""A row per live stream: how far it is, and what became of its samples."""

from __future__ import annotations

import pyarrow as pa

from streamrde.arrays import Indices
from streamrde.inference.table import StreamTable
from streamrde.windowing.rows import Column

_COUNTS = {
    "window": Column.WINDOW,
    "samples": Column.SAMPLES,
    "late": Column.LATE,
    "duplicate": Column.DUPLICATE,
    "rejected": Column.REJECTED,
    "refused": Column.REFUSED,
}
OVERVIEW = pa.schema(
    [
        pa.field("stream", pa.string(), nullable=False),
        pa.field("t", pa.float64(), nullable=False, metadata={"unit": "s"}),
        pa.field("t_start", pa.float64(), nullable=False, metadata={"unit": "s"}),
        *(pa.field(name, pa.int64(), nullable=False) for name in _COUNTS),
    ]
)
"""Stream, its latest time, the beginning of its open window, that window's number, its rows by what became of them, and
how many in a row were not used up to the latest. A count below 0 stands for rows that may come again."""


def overview(table: StreamTable, slots: Indices) -> pa.RecordBatch:
    """Return the rows of `OVERVIEW` for the streams in these slots."""
    times = [pa.array(table.rows[slots, column]) for column in (Column.TOP, Column.START)]
    counts = [pa.array(table.rows[slots, column].astype("int64")) for column in _COUNTS.values()]
    return pa.record_batch([table.names.names_of(slots), *times, *counts], OVERVIEW)
