"""The latest samples and predictions of a run, in bounded memory, for whoever looks on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamrde.arrays import Floats
from streamrde.connectors.ends import DeadLetter
from streamrde.connectors.samples import Samples
from streamrde.inference.header import Header

P = TypeVar("P", bound=Any)

_BYTES = 16 << 20
"""Memory of the samples that are kept, without their streams' names."""
_MOST_ROWS = 100_000
_FEW = 10_000
_PIECES = 64
"""Pieces that are joined to one, so that a run with one row per batch has no pieces without number to look through."""


class Rows(NamedTuple):
    """Samples as they were pushed, in their order."""

    streams: pa.Array
    t: Floats
    x: Floats

    @property
    def num_rows(self) -> int:
        """The number of rows, as of a record batch."""
        return len(self.t)

    def slice(self, skip: int) -> Rows:
        """Return the rows after the first ones, without a copy."""
        return Rows(self.streams[skip:], self.t[skip:], self.x[skip:])

    def of(self, stream: str) -> Rows:
        """Return the rows of one stream."""
        mask = pc.equal(self.streams, stream).to_numpy(zero_copy_only=False)
        return Rows(self.streams.filter(pa.array(mask)), self.t[mask], self.x[mask])

    @classmethod
    def join(cls, parts: list[Rows]) -> Rows:
        """Join the parts in order."""
        streams = pa.concat_arrays([part.streams.cast(pa.string()) for part in parts])
        return cls(streams, np.concatenate([part.t for part in parts]), np.concatenate([part.x for part in parts]))


class Refused(NamedTuple):
    """A message that could not be used, without its payload."""

    topic: str
    reason: str
    size: int
    """Bytes of the payload."""
    received: float
    """Seconds since 1970."""


def join_batches(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    """Join record batches of one schema."""
    return pa.Table.from_batches(batches).combine_chunks().to_batches()[0]


class Ring(Generic[P]):
    """Keep the latest rows of a sequence. Rows have numbers, from 0, so that a reader knows how far it is.

    Args:
        join: joins pieces of rows.
        rows: most rows that are kept, to a piece.
    """

    def __init__(self, join: Callable[[list[P]], P], rows: int = _MOST_ROWS) -> None:
        self.end = 0
        """Rows that were ever appended."""
        self._join = join
        self._most = rows
        self._joined: deque[tuple[int, P]] = deque()
        self._fresh: list[P] = []
        self._fresh_begin = 0

    def append(self, piece: P) -> None:
        """Append rows: O(1), amortised, and no copy until many small pieces are joined."""
        if not piece.num_rows:
            return
        if self._fresh and isinstance(piece, pa.RecordBatch) and piece.schema != self._fresh[-1].schema:
            self._close()  # another model has taken over
        self._fresh.append(piece)
        self.end += piece.num_rows
        if len(self._fresh) >= _PIECES or self.end - self._fresh_begin >= self._most // 8:
            self._close()
        while len(self._joined) > 1 and self.end - self._joined[1][0] >= self._most:
            self._joined.popleft()

    def _close(self) -> None:
        self._joined.append((self._fresh_begin, self._join(self._fresh)))
        self._fresh, self._fresh_begin = [], self.end

    def since(self, row: int) -> list[P]:
        """Return pieces with all rows from number `row` on, as far as they are kept."""
        found = []
        for begin, piece in [*self._joined, *self._numbered()]:
            if begin + piece.num_rows > row:
                found.append(piece if begin >= row else piece.slice(row - begin))
        return found

    def _numbered(self) -> Iterable[tuple[int, P]]:
        begin = self._fresh_begin
        for piece in self._fresh:
            yield begin, piece
            begin += piece.num_rows


class Recent:
    """Keep the latest of what a run takes and gives. The pipeline appends, and never waits for a reader.

    Args:
        channels: number of data channels of the model.
    """

    def __init__(self, channels: int) -> None:
        self.samples = Ring(Rows.join, min(_MOST_ROWS, _BYTES // (8 * (channels + 1))))
        self.predictions: Ring[Any] = Ring(join_batches)
        """Record batches of predictions as the sink gets them."""
        self.provisional: Ring[Any] = Ring(join_batches, _FEW)
        """The same of windows that were still open."""
        self.unused: Ring[Any] = Ring(join_batches, _FEW)
        """Rows of `Fleet.unused`."""
        self.labels: Ring[Any] = Ring(join_batches, _FEW)
        """Record batches of labels: the columns stream and label (a text, or a list of numbers), and t or window where
        they are known."""
        self.refused: deque[Refused] = deque(maxlen=50)
        """The latest messages that could not be used."""

    def pushed(self, samples: Samples, unused: pa.RecordBatch) -> None:
        """Keep samples, and those of them that the fleet did not use."""
        self.samples.append(Rows(samples.streams, samples.t, samples.x))
        self.unused.append(unused)

    def learned(self, found: pa.RecordBatch, header: Header) -> None:
        """Keep labels that met their predictions. See `inference.labels.label_schema`."""
        joined = found.filter(pc.equal(found["outcome"], "joined"))
        if joined.num_rows:
            labels = [said_label(row, header) for row in joined["label"].to_pylist()]
            due = pc.add(joined["t_end"], header.horizon)
            columns = {"stream": joined["stream"], "window": joined["window"], "t": due, "label": pa.array(labels)}
            self.labels.append(pa.record_batch(columns))

    def refuse(self, letters: Iterable[DeadLetter]) -> None:
        """Keep why messages could not be used."""
        self.refused.extend(Refused(one.topic, one.reason, len(one.payload), one.received) for one in letters)


def said_label(values: list[float], header: Header) -> list[float | None] | str:
    """Return a label for people: its numbers, or the names of its classes."""
    if all(not head.classes for head in header.parts):
        return [value if np.isfinite(value) else None for value in values]
    words, begin = [], 0
    for head in header.parts:
        own = values[begin : begin + head.outputs]
        begin += head.outputs
        if head.classes and np.isfinite(own).all():
            words.append(head.classes[round(own[0]) if head.is_binary else int(np.argmax(own))])
        elif not head.classes:
            words += [f"{value:.4g}" for value in own if np.isfinite(value)]
    return ", ".join(words)
