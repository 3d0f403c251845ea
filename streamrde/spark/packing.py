"""Pack rows of a DataFrame into cells of samples, one cell per shard, and unpack predictions.

Spark hands a stateful processor its rows one by one, in Python. A cell is one row of Spark that holds thousands of
samples in Arrow's format, so that this costs nothing, and no type is converted on the way.
"""

from __future__ import annotations

import itertools
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa

from streamrde.arrays import Ints
from streamrde.connectors.files.sample_file import SampleFile
from streamrde.connectors.samples import Samples
from streamrde.inference.header import Header
from streamrde.scoring.evaluation import truth_schema
from streamrde.scoring.job import Job

CELLS = "shard int, origin int, number int, samples binary, notes binary"
"""Schema of cells, as Spark's DDL. `origin` is the partition that a cell comes from, `number` its place there."""
COUNTS = ("samples", "late", "duplicate", "rejected", "merged", "dropped", "implausible")
"""Counts of rows and values that are observed."""
SCORED = f"predictions binary, {', '.join(f'{name} long' for name in COUNTS)}"
"""Schema of packed predictions, as Spark's DDL."""
SCORED_SCHEMA = pa.schema([("predictions", pa.binary()), *((name, pa.int64()) for name in COUNTS)])
_CELLS = pa.schema(
    [
        ("shard", pa.int32()),
        ("origin", pa.int32()),
        ("number", pa.int32()),
        ("samples", pa.binary()),
        ("notes", pa.binary()),
    ]
)


class Notes(msgspec.Struct, frozen=True):
    """Report on the rows of a partition beside its samples."""

    dropped: dict[str, int] = {}
    """Rows that were left out, by the reason."""
    implausible: int = 0
    latest: float | None = None
    """The latest time, seconds. None: no rows."""


class Packer:
    """Turn a partition's rows into cells.

    Args:
        shards: a stream is in shard ``crc32(name) % shards``.
        told: shards that get the partition's notes. The others only get samples.
    """

    def __init__(self, job: Job, header: Header, *, shards: int, told: int) -> None:
        self._job = job
        self._header = header
        self._shards = shards
        self._told = told

    def pack(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Yield the cells of a partition. A partition without rows has none."""
        from pyspark import TaskContext

        context = TaskContext.get()
        origin = 0 if context is None else context.partitionId()
        reader = self._job.reader(self._header)
        file = SampleFile(f"the DataFrame's partition {origin}")
        numbers = iter(range(1 << 31))
        rows, latest, held, count = 0, None, [], 0
        for batch in batches:
            samples = reader.convert(batch.select(reader.wanted), file, rows, "")
            rows += batch.num_rows
            if samples is None or not len(samples.t):
                continue
            latest = max(float(samples.t.max()), -np.inf if latest is None else latest)
            held.append(samples)
            count += len(samples.t)
            if count >= self._job.batch_rows:
                yield _cells(self._cut(held), origin, numbers)
                held, count = [], 0
        if held:
            yield _cells(self._cut(held), origin, numbers)
        if rows:
            notes = Notes(dict(reader.dropped + reader.nameless), sum(reader.implausible.values()), latest)
            yield _cells([(shard, None, notes) for shard in range(self._told)], origin, numbers)

    def _cut(self, held: list[Samples]) -> Iterator[tuple[int, bytes, None]]:
        """Yield the samples of each shard, in the order in which they came."""
        schema = sample_schema(self._header, self._job)
        batch = pa.Table.from_batches([_as_batch(samples, schema) for samples in held]).combine_chunks().to_batches()[0]
        shards = shards_of(batch["stream"], self._shards)
        order = np.argsort(shards, kind="stable")
        batch = batch.take(pa.array(order))
        edges = np.flatnonzero(np.diff(shards[order], prepend=-1, append=-1))
        for start, stop in itertools.pairwise(edges):
            own = batch.slice(start, stop - start)
            yield int(shards[order[start]]), own.serialize().to_pybytes(), None


def shards_of(streams: pa.Array, shards: int) -> Ints:
    """Return the shard of each stream. It depends on the name and on the number of shards alone."""
    coded = streams.dictionary_encode()
    own = np.array([zlib.crc32(name.encode()) % shards for name in coded.dictionary.to_pylist()], np.int64)
    shards_of_rows: Ints = own[coded.indices.to_numpy()]
    return shards_of_rows


def sample_schema(header: Header, job: Job) -> pa.Schema:
    """Return the schema of the samples in a cell."""
    fields: list[Any] = [("stream", pa.string()), ("t", pa.float64())]
    fields.append(("x", pa.list_(pa.float64(), len(header.channels))))
    fields += [(f"extra {field.name}", field.type) for field in (truth_schema(header, job.truth) if job.truth else ())]
    return pa.schema(fields)


def _as_batch(samples: Samples, schema: pa.Schema) -> pa.RecordBatch:
    streams = samples.streams
    streams = streams.dictionary_decode() if pa.types.is_dictionary(streams.type) else streams
    x = pa.FixedSizeListArray.from_arrays(pa.array(samples.x.ravel()), samples.x.shape[1])
    extra = [] if samples.extra is None else samples.extra.columns
    return pa.RecordBatch.from_arrays([streams.cast(pa.string()), pa.array(samples.t), x, *extra], schema=schema)


def _cells(
    found: Iterable[tuple[int, bytes | None, Notes | None]], origin: int, numbers: Iterator[int]
) -> pa.RecordBatch:
    rows = [
        (shard, origin, next(numbers), samples, None if notes is None else msgspec.msgpack.encode(notes))
        for shard, samples, notes in found
    ]
    return pa.RecordBatch.from_arrays(
        [pa.array(column, field.type) for column, field in zip(zip(*rows, strict=True), _CELLS, strict=True)],
        schema=_CELLS,
    )


class Cell(NamedTuple):
    """A row of Spark with samples, or with notes."""

    samples: bytes | None
    notes: bytes | None

    def read(self, schema: pa.Schema) -> Iterator[Samples]:
        """Yield the samples."""
        if self.samples is not None:
            batch = pa.ipc.read_record_batch(pa.py_buffer(self.samples), schema)
            x = batch["x"].flatten().to_numpy().reshape(batch.num_rows, -1)
            names = [field.name.removeprefix("extra ") for field in list(schema)[3:]]
            extra = pa.RecordBatch.from_arrays(batch.columns[3:], names=names) if names else None
            yield Samples(batch["stream"].dictionary_encode(), batch["t"].to_numpy(), x, extra)


def noted(cells: Iterable[Cell]) -> Notes:
    """Return the notes of all cells as one."""
    dropped: Counter[str] = Counter()
    implausible, times = 0, []
    for cell in cells:
        if cell.notes is not None:
            notes = msgspec.msgpack.decode(cell.notes, type=Notes)
            dropped.update(notes.dropped)
            implausible += notes.implausible
            times += [] if notes.latest is None else [notes.latest]
    return Notes(dict(dropped), implausible, max(times, default=None))


def packed(batch: pa.RecordBatch | None, counts: dict[str, int] | None = None) -> dict[str, Any]:
    """Return a row of `SCORED`: predictions, or counts."""
    data = None if batch is None else batch.serialize().to_pybytes()
    return {"predictions": data} | {name: (counts or {}).get(name, 0) for name in COUNTS}


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """Return the schema of predictions in Spark, which has no lists of a fixed size."""
    fields = []
    for field in schema:
        kind = pa.list_(field.type.value_type) if pa.types.is_fixed_size_list(field.type) else field.type
        fields.append(field.with_type(kind))
    return pa.schema(fields)


def unpacker(schema: pa.Schema) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """Return the function that turns rows of `SCORED` into predictions.

    Args:
        schema: that of the fleet's record batches, with the truth.
    """
    plain = plain_schema(schema)

    def unpack(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for data in batch["predictions"]:
                if data.is_valid:
                    yield pa.ipc.read_record_batch(pa.py_buffer(data.as_buffer()), schema).cast(plain)

    return unpack
