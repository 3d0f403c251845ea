"""CSV: columns found by place, read with the types that are needed."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from streamrde.connectors.dialect import PLAIN, Dialect
from streamrde.connectors.files.cells import as_plain_numbers, without_blanks
from streamrde.connectors.files.csv_dialect import explain_columns
from streamrde.connectors.files.formats import Format, Kind, Query, Writer, without_dictionaries
from streamrde.connectors.files.places import AnyPath
from streamrde.connectors.files.text_files import (
    COMPRESSIONS,
    TEXT_SUFFIXES,
    Header,
    is_rewritten,
    line_of,
    open_rows,
    read_header,
)
from streamrde.errors import DataError

# What the text of a time may be, the most exact first; other text is for the caller.
_TIMES = (pa.int64(), pa.float64(), pa.timestamp("ns"), pa.timestamp("ns", "UTC"))
LINES = "lines with another number of fields than the header"
"""The reason under which such lines are counted."""


class Csv(Format):
    """Read CSV in blocks of 1 MiB, by the use of its columns.

    Numbers are float64 and texts are string, whatever they look like. A time has the type that holds it exactly, which
    may differ between batches. A column that has a value of no such type is text in that batch: it is for the caller
    to say where. Columns that are not asked for are not converted: they may hold anything.
    """

    reads = tuple(suffix + packed for suffix in TEXT_SUFFIXES for packed in ("", *(one.suffix for one in COMPRESSIONS)))
    reads_if_alone = tuple(suffix for suffix in reads if suffix.startswith((".txt", ".dat")))
    writes = (".csv",)
    keeps_metadata = False
    is_text = True

    def __init__(self, dialect: Dialect = PLAIN) -> None:
        self.dialect = dialect

    def of(self, dialect: Dialect) -> Csv:
        """See Format."""
        return self if dialect == self.dialect else Csv(dialect)

    def schema(self, path: AnyPath) -> pa.Schema:
        """Return the names in the header, as columns of text: a CSV file does not say what type a column has."""
        return pa.schema([pa.field(name, pa.string()) for name in read_header(path, self.dialect).names])

    def batches(self, path: AnyPath, query: Query) -> Iterator[tuple[int, pa.RecordBatch]]:
        """See Format.

        Raises:
            DataError: a line has another number of fields, or is too long.
        """
        header = read_header(path, self.dialect)
        table = _CsvTable(path, header, query, self.dialect)
        first = 0
        try:
            # The quick way: converted while parsed. What does not convert is read again, from that block on, as text.
            for batch in table.batches(table.types()):
                yield first, batch
                first += batch.num_rows
        except pa.ArrowInvalid as error:
            if "conversion error" not in str(error):  # pyarrow has one type for all that a CSV file can have wrong
                raise table.line_error(str(error)) from None
            yield from table.texts(after=first)

    def explain_missing(self, path: AnyPath, columns: Sequence[str]) -> str | None:
        """See Format."""
        return explain_columns(path, read_header(path, self.dialect), columns, self.dialect)

    def line(self, path: AnyPath, row: int) -> int | None:
        """See Format."""
        return line_of(path, row, self.dialect)

    def converted(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the batch with a column per output in place of a list of outputs, and with plain text.

        A list of another kind, a set of classes, becomes their names with " | " between them.

        A list's columns have the names in the JSON list under ``b"outputs"`` in its metadata, else ``value_0``, ...
        """
        fields: list[pa.Field] = []
        arrays: list[pa.Array] = []
        for field, column in zip(batch.schema, batch.columns, strict=True):
            if pa.types.is_list(field.type):
                fields.append(field.with_type(pa.string()))
                arrays.append(pc.binary_join(column, " | "))
                continue
            if not pa.types.is_fixed_size_list(field.type):
                fields.append(field)
                arrays.append(column)
                continue
            outputs, values = field.type.list_size, column.flatten()
            names = json.loads((field.metadata or {}).get(b"outputs", b"[]"))
            names = names or [f"{field.name}_{i}" for i in range(outputs)]
            fields += [pa.field(str(name), field.type.value_type) for name in names]
            arrays += [values[i::outputs] for i in range(outputs)]
        schema = pa.schema(fields, metadata=batch.schema.metadata)
        return without_dictionaries(pa.RecordBatch.from_arrays(arrays, schema=schema))

    def open(self, file: IO[bytes], schema: pa.Schema) -> Writer:
        """See Format."""
        writer: Writer = pa.csv.CSVWriter(file, schema)
        return writer


FORMATS = (Csv(),)


class _CsvTable:
    def __init__(self, path: AnyPath, header: Header, query: Query, dialect: Dialect) -> None:
        self.path = path
        self.dialect = dialect
        self.header = header
        self.columns = list(query.columns)
        self.kinds: dict[str, Kind] = {name: query.kinds.get(name, "any") for name in query.columns}
        self._delimiter = dialect.between(path.name)
        self._skipped = query.skipped
        self._counted = 0
        # Names may be there twice, or not be text at all: the columns are numbered.
        self._names = [str(i) for i in range(len(header.names))]
        self._wanted = [str(header.names.index(name)) for name in query.columns]
        self._looks = {name: pa.string() for name in query.columns}

    def types(self) -> dict[str, pa.DataType]:
        """Return the types of the columns. The file's first block decides them unless the use does."""
        if not self.dialect.thousands:  # else numbers look like texts
            with contextlib.closing(self._open({}, count=False)) as probe:
                self._looks = dict(zip(self.columns, probe.schema.types, strict=True))
        elif any(kind in ("number", "time") for kind in self.kinds.values()):
            return dict.fromkeys(self.columns, pa.string())
        return {name: _type(self.kinds[name], look) for name, look in self._looks.items()}

    def batches(self, types: Mapping[str, pa.DataType]) -> Iterator[pa.RecordBatch]:
        with contextlib.closing(self._open(types)) as reader:
            for batch in reader:
                yield batch.rename_columns(self.columns)

    def texts(self, *, after: int) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yield the batches from a row on, read as text and converted if a whole column of the batch can be."""
        first = 0
        try:
            for batch in self.batches(dict.fromkeys(self.columns, pa.binary())):
                rows = first + batch.num_rows
                if rows > after:
                    own = batch.slice(max(0, after - first))
                    arrays = [
                        _converted(own.column(c), self.kinds[c], self._looks[c], self.dialect) for c in self.columns
                    ]
                    yield max(first, after), pa.RecordBatch.from_arrays(arrays, names=self.columns)
                first = rows
        except pa.ArrowInvalid as error:
            raise self.line_error(str(error)) from None

    def _open(self, types: Mapping[str, pa.DataType], *, count: bool = True) -> pa.csv.CSVStreamingReader:
        def skip(row: pa.csv.InvalidRow) -> str:
            # One thread: rows have numbers. A second pass over the file does not count the same line again.
            if count and row.number > self._counted and self._skipped is not None:
                self._counted = row.number
                self._skipped[LINES] += 1
            return "skip"

        file, before = open_rows(self.path, self.header, self.dialect)
        return pa.csv.open_csv(
            file,
            read_options=pa.csv.ReadOptions(use_threads=False, column_names=self._names, skip_rows=before),
            parse_options=pa.csv.ParseOptions(
                delimiter="\t" if self._delimiter == " " else self._delimiter,
                quote_char=self.dialect.quote or False,
                newlines_in_values=True,
                invalid_row_handler=None if self._skipped is None else skip,
            ),
            convert_options=pa.csv.ConvertOptions(
                decimal_point=self.dialect.decimal,
                include_columns=self._wanted,
                column_types={name: types[c] for name, c in zip(self._wanted, self.columns, strict=True) if c in types},
            ),
        )

    def line_error(self, reason: str) -> DataError:
        """Return the error for what pyarrow says of the file's lines."""
        path = self.path
        reason = reason.split("\n")[0].removeprefix("CSV parse error: ")
        if "straddling" in reason:
            reason = "a line is longer than 1 MiB: look for an open quote"
        elif "Empty CSV" in reason or "Could not skip" in reason:
            return DataError(f"{path}: has no rows; leave it out or record it again", path=str(path))
        number, found, rest = reason.partition(": Expected ")
        before = 0 if is_rewritten(path, self.dialect) else self.header.lines
        row = int(number.removeprefix("Row #")) - before - 1 if found else None
        if row is not None:
            line = line_of(path, row, self.dialect)
            columns, _, got = rest.partition(" columns, got ")
            fields, _, text = got.partition(": ")
            reason = f"line {line or number}: Expected {columns} columns, got {fields}: {text[:80]}"
            if fields.isdigit() and columns.isdigit() and int(fields) >= 2 * int(columns) - 1 > 1:
                reason += (
                    " (have its numbers decimal commas? then write them with decimal points, or part columns by ';')"
                )
        return DataError(
            f"{path}: {reason.rstrip(':')}; correct the line or leave the file out",
            path=str(path),
            row=row,
            setting="" if row is None else "faults",
        )


def _type(kind: Kind, look: pa.DataType) -> pa.DataType:
    """Return the type for a whole column whose first block looked like `look`."""
    if kind in ("name", "text"):
        return pa.string()
    if kind == "number":
        return pa.float64()
    if pa.types.is_timestamp(look):
        return pa.timestamp("ns", look.tz)
    if kind == "label" and not pa.types.is_date(look):
        return pa.string()
    usable = pa.types.is_integer(look) or pa.types.is_floating(look) or pa.types.is_date(look)
    return look if usable or (kind == "any" and pa.types.is_boolean(look)) else pa.string()


def _converted(values: pa.Array, kind: Kind, look: pa.DataType, dialect: Dialect) -> pa.Array:
    """Return text as the type that its use calls for if all of it can be, else as it is."""
    try:
        text = values.cast(pa.string())
    except pa.ArrowInvalid:
        return values  # not UTF-8
    if kind in ("name", "text"):
        return text
    if kind == "number":
        types: tuple[pa.DataType, ...] = (pa.float64(),)
    elif kind == "time":
        types = _TIMES
    else:
        types = () if (wanted := _type(kind, look)) == pa.string() else (wanted, pa.float64())
    plain = as_plain_numbers(without_blanks(text), dialect) if types else text
    for kind_of in types:
        try:
            return plain.cast(kind_of)
        except pa.ArrowInvalid:
            continue
    return text
