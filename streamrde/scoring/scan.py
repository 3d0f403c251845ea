"""Which streams a file holds, and where, found out before anything is scored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa

from streamrde.arrays import Ints
from streamrde.connectors.files.errors import mapped_errors
from streamrde.connectors.files.reading import SampleReader
from streamrde.connectors.files.record_batches import rows_of, starts_of
from streamrde.connectors.files.recordings import Recording

Rows: TypeAlias = Ints

_SCAN_ROWS = 1 << 18
# Bytes of a row where a file does not tell its rows; it decides how parts are sized, and nothing else.
_ROW_BYTES = 64
_NEVER = np.iinfo(np.int64).max


class Scan(NamedTuple):
    """Places of the streams' rows in one file. Arrays have an entry per stream."""

    names: list[str]
    first: Rows
    last: Rows
    rows_of: Rows
    starts: Rows
    """Rows at which reading can begin without decoding what comes before."""
    exact: bool = True
    """Rows were counted; else the file is one stream and they are estimated."""
    dropped: Mapping[str, int] = MappingProxyType({})
    """Rows of which no stream is known and that may be left out, by the reason."""

    @property
    def rows(self) -> int:
        """Return the number of rows of the file."""
        return int(self.last.max()) + 1 if len(self.last) else 0


def scan(recording: Recording, reader: SampleReader) -> Scan:
    """Find out which streams a file holds and where, from its column of streams alone.

    Raises:
        DataError: the file cannot be read, lacks a column, or has one of a type that cannot be used.
    """
    schema = reader.check(recording)
    stream = reader.columns.stream
    if stream is None:
        return _one_stream(recording, recording.stream)
    if stream in recording.partitions and stream not in schema.names:
        return _one_stream(recording, recording.partitions[stream] or "")
    names: dict[str, int] = {}
    first, last, count = (np.empty(0, np.int64) for _ in range(3))
    dropped: Counter[str] = Counter()
    for places, chunk in reader.streams(recording, batch_rows=_SCAN_ROWS, dropped=dropped):
        rows, size = chunk.indices.to_numpy(), len(chunk.dictionary)
        # Of several values assigned to one place NumPy keeps the last.
        at, until = np.empty(size, np.int64), np.empty(size, np.int64)
        at[rows[::-1]], until[rows] = places[::-1], places
        times = np.bincount(rows, minlength=size)
        used = np.flatnonzero(times)
        used = used[np.argsort(at[used], kind="stable")]
        slots = [names.setdefault(name, len(names)) for name in chunk.dictionary.take(pa.array(used)).to_pylist()]
        new = len(names) - len(first)
        first = np.concatenate([first, np.full(new, _NEVER)])
        last, count = (np.concatenate([column, np.zeros(new, np.int64)]) for column in (last, count))
        # Two entries of a dictionary may be the same name.
        np.minimum.at(first, slots, at[used])
        np.maximum.at(last, slots, until[used])
        np.add.at(count, slots, times[used])
    return Scan(list(names), first, last, count, starts_of(recording), True, dict(dropped))


def _one_stream(recording: Recording, name: str) -> Scan:
    exact = rows = rows_of(recording)
    if rows is None:
        with mapped_errors(recording.path):
            rows = max(1, recording.size()[0] // _ROW_BYTES)
    row = np.zeros(1, np.int64)
    return Scan([name], row, row + rows - 1, row + rows, row, exact is not None)
