"""Parquet."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset
import pyarrow.fs
import pyarrow.parquet

from streamrde.arrays import Ints
from streamrde.connectors.files.formats import Format, Query, Writer
from streamrde.connectors.files.places import AnyPath, Place, input_file


class Parquet(Format):
    """Read the row groups and columns that a query needs. Memory holds a row group's pages of these columns."""

    reads = (".parquet", ".pq")
    writes = (".parquet",)

    def schema(self, path: AnyPath) -> pa.Schema:
        """See Format."""
        return _footer(path).schema.to_arrow_schema()

    def batches(self, path: AnyPath, query: Query) -> Iterator[tuple[int, pa.RecordBatch]]:
        """See Format."""
        metadata = _footer(path)
        bounds = _bounds(metadata)
        kept = _kept_row_groups(path, metadata.schema.to_arrow_schema(), query.where)
        wanted = [
            group
            for group in range(metadata.num_row_groups)
            if bounds[group + 1] > query.start and (kept is None or group in kept)
        ]
        # Names repeat in a recording: read as a dictionary, each is held once.
        names = [name for name in query.columns if query.kinds.get(name) == "name"]
        with (
            input_file(path) as file,
            pa.parquet.ParquetFile(file, metadata=metadata, read_dictionary=names, pre_buffer=False) as reader,
        ):
            # Neighbours are read together: a batch may span row groups, which may be small.
            for groups in np.split(wanted, np.flatnonzero(np.diff(wanted) > 1) + 1) if wanted else ():
                first = int(bounds[groups[0]])
                for batch in reader.iter_batches(
                    batch_size=query.batch_rows,
                    row_groups=groups.tolist(),
                    columns=list(query.columns),
                    use_threads=False,
                ):
                    yield first, batch
                    first += batch.num_rows

    def starts(self, path: AnyPath) -> Ints:
        """See Format."""
        bounds = _bounds(_footer(path))
        return bounds[: max(1, len(bounds) - 1)]

    def rows(self, path: AnyPath) -> int:
        """See Format."""
        return int(_footer(path).num_rows)

    def open(self, file: IO[bytes], schema: pa.Schema) -> Writer:
        """See Format."""
        writer: Writer = pa.parquet.ParquetWriter(file, schema, compression="zstd")
        return writer


FORMATS = (Parquet(),)


def _footer(path: AnyPath) -> pa.parquet.FileMetaData:
    stat = path.stat()
    return _read_footer(path, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=4)  # a footer is looked at several times in a row, by those who plan and who read
def _read_footer(path: AnyPath, size: int, modified: int) -> pa.parquet.FileMetaData:
    with input_file(path) as file:
        return pa.parquet.read_metadata(file)


def _bounds(metadata: pa.parquet.FileMetaData) -> Ints:
    """Return the rows at which row groups begin, and the number of rows."""
    rows = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    return np.cumsum([0, *rows], dtype=np.int64)


def _kept_row_groups(path: AnyPath, schema: pa.Schema, where: pc.Expression | None) -> set[int] | None:
    """Return the row groups that may hold rows which meet the condition, or None if their statistics do not tell."""
    if where is None:
        return None
    try:
        source = (input_file(path),) if isinstance(path, Place) else (str(path), pa.fs.LocalFileSystem())
        fragment = pa.dataset.ParquetFileFormat().make_fragment(*source)
        return {group.id for group in fragment.subset(where, schema=schema).row_groups}
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowKeyError):
        return None  # another type than the filter's, or a column of the path: the rows will tell
