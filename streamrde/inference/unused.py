"""Rows that a fleet did not use, as a record batch: what a dead-letter sink takes."""

from __future__ import annotations

import pyarrow as pa

from streamrde.arrays import Floats, Indices, Ints
from streamrde.windowing.ordering import Fault

UNUSED = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("stream", pa.string(), nullable=False),
        pa.field("t", pa.float64(), nullable=False, metadata={"unit": "s"}),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("x", pa.list_(pa.float64()), nullable=False),
    ]
)
"""Place of the row in the arrays handed in, its stream, time, "late", "duplicate" or "rejected", and its values."""

NOTHING_UNUSED = pa.RecordBatch.from_arrays([pa.nulls(0, field.type) for field in UNUSED], schema=UNUSED)


def unused_rows(
    rows: Indices,
    faults: Ints,
    streams: pa.Array,
    t: Floats,
    x: Floats,
) -> pa.RecordBatch:
    """Return the unused rows at the given places, each with its reason, a `Fault`.

    Args:
        rows, faults, t, x: of the unused rows, (n,), (n,), (n,), (n, channels).
        streams: of all rows handed in.
    """
    reasons = [Fault(fault).name.lower() for fault in faults]
    values = pa.array(list(x), pa.list_(pa.float64()))
    names = streams.take(pa.array(rows)).cast(pa.string())
    return pa.record_batch([pa.array(rows, pa.int64()), names, pa.array(t), pa.array(reasons), values], UNUSED)
