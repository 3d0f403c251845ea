"""Samples, as they travel between a source, the fleet and a sink."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa

from streamrde.arrays import Floats
from streamrde.connectors.columns import Columns

__all__ = ["HORIZON", "Columns", "Samples", "SourceCounts"]

HORIZON = "streamrde.horizon"
"""Metadata of a column with targets that lie so many seconds ahead of their rows."""


class Samples(NamedTuple):
    """Rows of samples of one or many streams, in the order in which they arrived."""

    streams: pa.Array
    """Stream of each row: a string array, dictionary-encoded or plain, (rows,), without nulls."""
    t: Floats
    """Time of each row in seconds, (rows,)."""
    x: Floats
    """Data channels in the model's order, (rows, channels); NaN = not observed."""
    extra: pa.RecordBatch | None = None
    """Further columns that were asked for (targets, groups), row by row, or None."""

    def by_code(self) -> tuple[Any, pa.Array]:
        """Return each row's code, (rows,), and the names that codes stand for. Two codes may have the same name."""
        streams = self.streams
        streams = streams if pa.types.is_dictionary(streams.type) else streams.dictionary_encode()
        return streams.indices.to_numpy(), streams.dictionary


@dataclass
class SourceCounts:
    """Count what a source has seen."""

    messages: int = 0
    samples: int = 0
    malformed: int = 0
    """Messages whose topic or payload could not be read, or rows of a file without a time, a stream or numbers."""
    dropped: int = 0
    """Messages of QoS 0 that a full queue pushed out."""
    quarantined: int = 0
    """Messages of topics or streams that are set aside."""
    missed: int = 0
    """Messages, or samples, that never came, by the sequence numbers of those that did."""
    merged: int = 0
    """Streams whose samples came from more than one topic."""
    retained: int = 0
    """Messages that the broker had kept from before. They are skipped if the source says so."""
    duplicates: int = 0
    """Messages that the broker marked as sent before."""
    unused: int = 0
    """Values of another kind than those that were asked for."""
