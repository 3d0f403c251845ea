"""Rows that a fleet did not use, as dead letters."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pyarrow as pa

from streamrde.connectors.ends import DeadLetter


def letters_of(unused: pa.RecordBatch, channels: Sequence[str], received: float) -> list[DeadLetter]:
    """Return a dead letter for each row of `Fleet.unused`: its stream as topic, and its time and values as JSON.

    Args:
        channels: names of the values.
        received: when they came, seconds since 1970.
    """
    return [
        DeadLetter(
            f"{row['reason']} row",
            row["stream"],
            msgspec.json.encode({"t": row["t"], **dict(zip(channels, row["x"], strict=True))}),
            received,
        )
        for row in unused.to_pylist()
    ]
