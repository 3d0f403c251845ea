"""Sort samples by time, however many there are: a merge sort over runs on disk."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from streamrde.connectors.files.errors import mapped_errors
from streamrde.connectors.samples import Samples

# A merge reads a block of each run; fewer rows than this would be more calls than work.
_BLOCK_ROWS = 4096


def sort_by_time(
    batches: Iterable[Samples], *, folder: Path, memory: int, batch_rows: int = 65536
) -> Iterator[Samples]:
    """Sort samples by time. Those at the same time keep their order.

    Runs that fit into memory are sorted and written to `folder`, then merged block by block: what is below the least
    of the blocks' last times can go out. Reads and writes every row once; a single run stays in memory.

    Args:
        batches: samples in any order.
        folder: exists, and has room for the rows: 8 bytes per number and the stream's name.
        memory: bytes that a run may take.
        batch_rows: rows in a batch that comes out, at most.
    Raises:
        DataError: the folder cannot be written to, or its disk is full.
    """
    with ExitStack() as stack, mapped_errors(folder):
        runs: list[Path] = []
        held: list[pa.RecordBatch] = []
        shape = _Shape()
        temporary, size = "", 0
        for samples in batches:
            held.append(shape.pack(samples))
            size += held[-1].nbytes
            if size >= memory:
                temporary = temporary or stack.enter_context(tempfile.TemporaryDirectory(prefix="sort-", dir=folder))
                runs.append(_spill(held, Path(temporary) / f"{len(runs)}.arrow"))
                held, size = [], 0
        last = _sorted(held) if held else None
        del held
        if not runs:
            if last is not None:
                yield from (shape.unpack(batch) for batch in last.to_batches(max_chunksize=batch_rows))
            return
        readers = [stack.enter_context(pa.ipc.open_file(stack.enter_context(pa.OSFile(str(run))))) for run in runs]
        blocks = [_blocks(reader) for reader in readers]
        if last is not None:
            blocks.append(iter(last.to_batches(max_chunksize=_BLOCK_ROWS)))
        for table in _merge(blocks):
            yield from (shape.unpack(batch) for batch in table.to_batches(max_chunksize=batch_rows))


def _merge(runs: list[Iterator[pa.RecordBatch]]) -> Iterator[pa.Table]:
    """Merge runs in order of time into tables in order of time, earlier runs first at the same time."""
    blocks: list[pa.RecordBatch | None] = [next(run, None) for run in runs]
    while any(block is not None for block in blocks):
        # A run that is exhausted sets no bound. Rows at the bound itself wait in all runs but the first that sets it:
        # their run may have more of them in its next block.
        bound, first = min((block["t"][-1].as_py(), i) for i, block in enumerate(blocks) if block is not None)
        ready: list[pa.RecordBatch] = []
        for i, block in enumerate(blocks):
            if block is None:
                continue
            cut = int(np.searchsorted(block["t"].to_numpy(), bound, side="right" if i <= first else "left"))
            ready.append(block.slice(0, cut))
            rest = block.slice(cut)
            blocks[i] = rest if rest.num_rows else next(runs[i], None)
        yield _sorted(ready)


def _blocks(reader: pa.ipc.RecordBatchFileReader) -> Iterator[pa.RecordBatch]:
    for i in range(reader.num_record_batches):
        yield reader.get_batch(i)


def _spill(batches: list[pa.RecordBatch], path: Path) -> Path:
    table = _sorted(batches)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=_BLOCK_ROWS)
    return path


def _sorted(batches: list[pa.RecordBatch]) -> pa.Table:
    table = pa.Table.from_batches(batches).combine_chunks()
    t = table["t"].to_numpy()
    return table if (t[1:] >= t[:-1]).all() else table.take(pa.array(np.argsort(t, kind="stable")))


class _Shape:
    """Convert samples to record batches, and back."""

    def __init__(self) -> None:
        self._extra: list[str] = []

    def pack(self, samples: Samples) -> pa.RecordBatch:
        streams = samples.streams
        if pa.types.is_dictionary(streams.type):
            streams = streams.dictionary_decode()
        columns: dict[str, Any] = {
            "stream": streams.cast(pa.string()),
            "t": pa.array(samples.t),
            "x": pa.FixedSizeListArray.from_arrays(pa.array(samples.x.ravel()), samples.x.shape[1]),
        }
        if samples.extra is not None:
            self._extra = samples.extra.schema.names
            for i, column in enumerate(samples.extra.columns):
                columns[f"extra {i}"] = column
        return pa.RecordBatch.from_pydict(columns)

    def unpack(self, batch: pa.RecordBatch) -> Samples:
        x = batch["x"].flatten().to_numpy(zero_copy_only=False).reshape(batch.num_rows, -1)
        extra = None
        if self._extra:
            arrays = [batch[f"extra {i}"] for i in range(len(self._extra))]
            extra = pa.RecordBatch.from_arrays(arrays, names=self._extra)
        return Samples(batch["stream"].dictionary_encode(), batch["t"].to_numpy(), x, extra)
