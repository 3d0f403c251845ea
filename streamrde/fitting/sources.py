"""Read data wherever it is: recorded files, or anything that speaks Arrow."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol, TypeAlias

import pyarrow as pa
import pyarrow.dataset as ds

from streamrde.connectors.datasets import as_rows
from streamrde.connectors.dialect import PLAIN, Dialect
from streamrde.connectors.files.formats import reading_format
from streamrde.connectors.files.places import AnyPath, shown
from streamrde.connectors.files.reading import SampleReader
from streamrde.connectors.files.recogniser import Recognised, dialect_of
from streamrde.connectors.files.record_batches import read_batches, schema_of, units_in
from streamrde.connectors.files.recordings import find_recordings
from streamrde.connectors.files.spread import member_of, members_of
from streamrde.connectors.samples import Samples
from streamrde.errors import DataError, ParameterError

Data: TypeAlias = Any
"""A file, folder or glob, or several. Or a pyarrow Table, RecordBatch, RecordBatchReader or Dataset, any object with
``__arrow_c_stream__``, such as a data frame of pandas, polars or duckdb, a Dataset of xarray, or a mapping of names to
columns."""
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
    def single(self) -> bool:
        """Return True for rows of one file, or of none."""

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

    def __init__(self, files: str | tuple[str, ...], csv: Dialect | None = None, channels: Sequence[str] = ()) -> None:
        self.files = files
        members = members_of(channels)
        found = find_recordings(files if isinstance(files, str) else list(files), csv=csv or PLAIN, members=members)
        self.dialect = recognised(found[0].path) if csv is None and not members else None
        """Dialect of the first file, if none was given and it is not the usual one."""
        if self.dialect is not None and not self.dialect.doubts:
            found = [recording._replace(csv=self.dialect.dialect) for recording in found]
        self._recordings = found
        self._first = self._recordings[0]
        self.where = str(self._first.path)
        self.single = len(found) == 1

    @property
    def shown(self) -> str | tuple[str, ...]:
        """Return the files as they were named, without the secrets of URLs."""
        return shown(self.files) if isinstance(self.files, str) else tuple(map(shown, self.files))

    @cached_property
    def units(self) -> dict[str, str]:
        """Return the units of columns that the first file tells of."""
        return units_in(self._first)

    @cached_property
    def names(self) -> list[str]:
        """See Source."""
        return [*self.types.names]

    @cached_property
    def types(self) -> pa.Schema:
        """See Source."""
        schemas = []
        for one in self._first.files:
            names = [*schema_of(one).names, *one.partitions]
            schemas.append(next(read_batches(one, names))[1].schema)
        if not self._first.members:
            return schemas[0]
        common = [field for field in schemas[0] if all(field.name in schema.names for schema in schemas)]
        own = zip(self._first.members, schemas, strict=True)
        return pa.schema(
            [*common, *(field.with_name(f"{file}:{field.name}") for file, schema in own for field in schema)]
        )

    def column(self, name: str) -> pa.ChunkedArray:
        """See Source."""
        parts = []
        file, name = member_of(name) if self._first.members else ("", name)
        for whole in self._recordings:
            recording = next(one for one in whole.files if file in ("", one.path.name))
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
    single = True

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


def recognised(path: AnyPath) -> Recognised | None:
    """Return the dialect of a file of text if it is not the usual one, or None."""
    format = reading_format(path)
    if format is None or not format.is_text:
        return None
    found = dialect_of(path)
    return None if found.dialect == PLAIN else found


def as_source(data: Data, csv: Dialect | None = None, channels: Sequence[str] = ()) -> Files | Rows:
    """Return data as a source.

    Args:
        csv: how files of text are written; None: as the first of them looks, if there is no doubt.
        channels: columns of the channels if they are known. They may name files of a folder.
    Raises:
        DataError: there is no such file, or there are no rows.
        ParameterError: data is none of `Data`, or its columns have different lengths.
    """
    if isinstance(data, str | os.PathLike):
        return Files(os.fspath(data), csv, channels)
    data = as_rows(data)  # a Dataset is a mapping as well
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
        return Files(tuple(os.fspath(one) for one in data), csv, channels)
    raise ParameterError(
        f"data is {type(data).__name__}: give a path or several, a pyarrow table or dataset, a data frame of pandas, "
        "polars or duckdb, a Dataset of xarray, or a dict of columns"
    )
