"""Read data wherever it is: recorded files, or anything that speaks Arrow."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol, TypeAlias

import pyarrow as pa
import pyarrow.dataset as ds

from streamrde.connectors.files.reading import SampleReader
from streamrde.connectors.files.record_batches import read_batches, schema_of
from streamrde.connectors.files.recordings import find_recordings
from streamrde.connectors.samples import Samples
from streamrde.errors import DataError, ParameterError

Data: TypeAlias = Any
"""A file, folder or glob, or several. Or a pyarrow Table, RecordBatch, RecordBatchReader or Dataset, any object with
``__arrow_c_stream__``, such as a data frame of pandas, polars or duckdb, or a mapping of names to columns."""
_MOST_BATCHES = 20  # batches of a file whose target column says what kind it is


class Source(Protocol):
    """Names, types and first values of the columns of data."""

    @property
    def where(self) -> str:
        """Return the data's name for messages."""

    @property
    def whole(self) -> str:
        """Say what one stream is where no column names it."""

    @property
    def names(self) -> list[str]:
        """Return the names of the columns."""

    @property
    def types(self) -> pa.Schema:
        """Return the types of the columns in the first rows."""

    def column(self, name: str) -> pa.ChunkedArray:
        """Return a column of the first rows, at least."""


class Files:
    """Recorded files."""

    whole = "each file is one"

    def __init__(self, files: str | tuple[str, ...]) -> None:
        self.files = files
        self._recordings = find_recordings(files if isinstance(files, str) else list(files))
        self._first = self._recordings[0]
        self.where = str(self._first.path)

    @cached_property
    def names(self) -> list[str]:
        """See Source."""
        return [*schema_of(self._first).names, *self._first.partitions]

    @cached_property
    def types(self) -> pa.Schema:
        """See Source."""
        return next(read_batches(self._first, self.names))[1].schema

    def column(self, name: str) -> pa.ChunkedArray:
        """See Source."""
        parts = []
        for recording in self._recordings:
            for _, batch in read_batches(recording, [name]):
                parts.append(batch.column(0))
                if len(parts) >= _MOST_BATCHES:
                    break
            if len(parts) >= _MOST_BATCHES:
                break
        kinds = {part.type for part in parts}
        if len(kinds) > 1:  # as CSV files where one has whole numbers and another text
            return pa.chunked_array([part.cast(pa.string()) for part in parts])
        return pa.chunked_array(parts)


class Rows:
    """Rows in memory."""

    where = "the data"
    whole = "all rows are one"

    def __init__(self, table: pa.Table) -> None:
        if not table.num_rows or not table.num_columns:
            raise DataError(f"the data has {table.num_rows} rows and {table.num_columns} columns; give some", path="")
        self.table = table

    @property
    def names(self) -> list[str]:
        """See Source."""
        return list(self.table.column_names)

    @property
    def types(self) -> pa.Schema:
        """See Source."""
        return self.table.schema

    def column(self, name: str) -> pa.ChunkedArray:
        """See Source."""
        return self.table.column(name)

    def samples(self, reader: SampleReader) -> Iterator[Samples]:
        """Yield the rows as a reader takes them."""
        return reader.read_arrow(self.table.to_reader())


def as_source(data: Data) -> Files | Rows:
    """Return data as a source.

    Raises:
        DataError: there is no such file, or there are no rows.
        ParameterError: data is none of `Data`, or its columns have different lengths.
    """
    if isinstance(data, str | os.PathLike):
        return Files(os.fspath(data))
    if isinstance(data, Mapping):
        try:
            return Rows(pa.table(dict(data)))
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise ParameterError(f"data: {error}; give columns of one length, each of one type") from None
    if isinstance(data, pa.Table):
        return Rows(data)
    if isinstance(data, pa.RecordBatch):
        return Rows(pa.Table.from_batches([data]))
    if isinstance(data, pa.RecordBatchReader):
        return Rows(data.read_all())
    if isinstance(data, ds.Dataset):
        return Rows(data.to_table())
    if hasattr(data, "__arrow_c_stream__"):
        return Rows(pa.RecordBatchReader.from_stream(data).read_all())
    if isinstance(data, Sequence) and data and all(isinstance(one, str | os.PathLike) for one in data):
        return Files(tuple(os.fspath(one) for one in data))
    raise ParameterError(
        f"data is {type(data).__name__}: give a path or several, a pyarrow table or dataset, a data frame of pandas, "
        "polars or duckdb, or a dict of columns"
    )
