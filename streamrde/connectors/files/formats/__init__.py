"""Formats of recorded files and of predictions, found by a file's extension.

One module of this folder is one format: it lists its `Format` objects as FORMATS, and nothing else names it.
"""

from __future__ import annotations

import functools
import importlib
import os
import pkgutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamrde.arrays import Ints
from streamrde.connectors.dialect import PLAIN, Dialect
from streamrde.connectors.files.places import AnyPath, Place

Kind: TypeAlias = Literal["name", "text", "number", "time", "label", "any"]
"""Use of a column. "name" is a stream's, so its values repeat. "label" is compared with text, so it is text unless it
looks like a date. "any" is as it looks."""


class Query(NamedTuple):
    """Part of a file to read."""

    columns: Sequence[str]
    """Columns that the file has, each once."""
    kinds: Mapping[str, Kind]
    """Use of a column; "any" where it is not listed."""
    batch_rows: int
    start: int
    """First row to read; a format may begin before it."""
    where: pc.Expression | None
    """Condition by which a format may leave out rows that do not meet it; None: read all."""
    skipped: Counter[str] | None
    """Counts lines that are skipped because of their number of fields; None: such a line is an error."""


class Writer(Protocol):
    """Write record batches to an open file."""

    def write_batch(self, batch: pa.RecordBatch) -> None:
        """Append a batch."""

    def close(self) -> None:
        """Complete the file, which stays open."""


class Format:
    """A file format that streamrde reads, writes, or both. Methods may be left out with the extensions that need them.

    Foreign errors need no care: those who read and write map them, see `errors`.
    """

    reads: tuple[str, ...] = ()
    """Extensions of the recorded files that it reads."""
    reads_if_alone: tuple[str, ...] = ()
    """Those of them that also other files have. In a folder they count if there are no others."""
    writes: tuple[str, ...] = ()
    """Extensions of the files of predictions that it writes."""
    keeps_metadata = True
    """A written file keeps the metadata of its columns."""
    is_sparse = False
    """Rows may have none of the channels that are read: they are left out then, as no sample."""
    is_text = False
    """Values may arrive as text, to be converted where they are used."""

    def of(self, dialect: Dialect) -> Format:
        """Return the format for text in a dialect."""
        return self

    def schema(self, path: AnyPath) -> pa.Schema:
        """Return the names and types of the file's columns."""
        raise NotImplementedError

    def batches(self, path: AnyPath, query: Query) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yield the file's record batches with at least the queried columns, and the row at which each begins."""
        raise NotImplementedError

    def parts(self, path: AnyPath) -> tuple[str, ...]:
        """Return the names of files beside it that it consists of: in a folder they are no recordings of their own."""
        return ()

    def starts(self, path: AnyPath) -> Ints:
        """Return the rows at which reading can begin without decoding what comes before."""
        return np.zeros(1, np.int64)

    def rows(self, path: AnyPath) -> int | None:
        """Return the number of rows, or None if the file has to be read for it."""
        return None

    def explain_missing(self, path: AnyPath, columns: Sequence[str]) -> str | None:
        """Return why the file lacks these columns, or None if it simply lacks them."""
        return None

    def line(self, path: AnyPath, row: int) -> int | None:
        """Return the line, from 1, at which a row begins, or None if the format has no lines."""
        return None

    def converted(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the batch with columns that the format can hold."""
        return batch

    def open(self, file: IO[bytes], schema: pa.Schema) -> Writer:
        """Return a writer of batches that are `converted` and have this schema."""
        raise NotImplementedError


@functools.cache
def formats() -> tuple[Format, ...]:
    """Return all formats: those of every module in this folder."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    modules = [importlib.import_module(f"{__name__}.{name}") for name in names]
    found: list[Format] = [own for module in modules for own in module.FORMATS]
    # Parquet is the format to choose where there is a choice, so errors name it first.
    return tuple(sorted(found, key=lambda one: ".parquet" not in one.writes))


def readable() -> tuple[str, ...]:
    """Return the extensions of recorded files."""
    return tuple(suffix for one in formats() for suffix in one.reads)


def readable_if_alone() -> frozenset[str]:
    """Return the extensions that recorded files share with others, such as .txt."""
    return frozenset(suffix for one in formats() for suffix in one.reads_if_alone)


def writable() -> tuple[str, ...]:
    """Return the extensions of files of predictions."""
    return tuple(suffix for one in formats() for suffix in one.writes)


def suffix_of(path: str | os.PathLike[str] | Place) -> str | None:
    """Return the extension by which the file can be read, or None if there is no such format."""
    name = (path.name if isinstance(path, Place) else os.fspath(path)).lower()
    return next((suffix for suffix in readable() if name.endswith(suffix)), None)


def reading_format(path: str | os.PathLike[str] | Place, dialect: Dialect = PLAIN) -> Format | None:
    """Return the format by which the file is read, or None if its extension is of none."""
    suffix = suffix_of(path)
    return next((one.of(dialect) for one in formats() if suffix in one.reads), None)


def writing_format(path: str | AnyPath) -> Format | None:
    """Return the format in which a file of this name is written, or None if its extension is of none."""
    suffix = (Path(path) if isinstance(path, str) else path).suffix.lower()
    return next((one for one in formats() if suffix in one.writes), None)


def without_dictionaries(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return the batch with plain columns in place of dictionary-encoded ones."""
    kinds = [field.type.value_type if pa.types.is_dictionary(field.type) else field.type for field in batch.schema]
    arrays = [column.dictionary_decode() if pa.types.is_dictionary(column.type) else column for column in batch.columns]
    fields = [field.with_type(kind) for field, kind in zip(batch.schema, kinds, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields, metadata=batch.schema.metadata))
