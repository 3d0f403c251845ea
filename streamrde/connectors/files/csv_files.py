"""Record batches of a CSV file: columns found by place, read with the types that are needed."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from streamrde.arrays import Bools
from streamrde.connectors.files.csv_dialect import Header, explain_columns, line_of, read_header
from streamrde.errors import DataError

Kind: TypeAlias = Literal["text", "number", "time", "label", "any"]
"""Use of a column. "label" is compared with text, so it is text unless it looks like a date. "any" is as it looks."""

_NULLS = pa.array(pa.csv.ConvertOptions().null_values)
_NUMBER = r"(?i)^[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|nan|inf|infinity)$"
# What the text of a time may be, the most exact first; other text is for the caller.
_TIMES = (pa.int64(), pa.float64(), pa.timestamp("ns"), pa.timestamp("ns", "UTC"))
LINES = "lines with another number of fields than the header"
"""The reason under which such lines are counted."""


def csv_batches(
    path: Path, columns: Sequence[str], kinds: Mapping[str, Kind], *, skipped: Counter[str] | None = None
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """The file's record batches with these columns, and the row at which each begins.

    Numbers are float64 and texts are string, whatever they look like. A time has the type that holds it exactly, which
    may differ between batches. A column that has a value of no such type is text in that batch: it is for the caller
    to say where. Columns that are not asked for are not converted: they may hold anything.

    Args:
        columns: names in the header, each there once.
        kinds: how a column is used; "any" where it says nothing.
        skipped: lines with another number of fields are skipped and counted here; None: they are an error.
    Raises:
        DataError: a line has another number of fields, or is too long.
    """
    header = read_header(path)
    table = _CsvTable(path, header, columns, {name: kinds.get(name, "any") for name in columns}, skipped)
    first = 0
    try:
        # The quick way: converted while parsed. What does not convert is read again, from that block on, as text.
        for batch in table.batches(table.types()):
            yield first, batch
            first += batch.num_rows
    except pa.ArrowInvalid as error:
        if "conversion error" not in str(error):
            raise _line_error(path, header, str(error)) from None
        yield from table.texts(after=first)


class _CsvTable:
    def __init__(
        self,
        path: Path,
        header: Header,
        columns: Sequence[str],
        kinds: Mapping[str, Kind],
        skipped: Counter[str] | None,
    ) -> None:
        self.path = path
        self.header = header
        self.columns = list(columns)
        self.kinds = kinds
        self._skipped = skipped
        self._counted = 0
        # Names may be there twice, or not be text at all: the columns are numbered.
        self._names = [str(i) for i in range(len(header.names))]
        self._wanted = [str(header.names.index(name)) for name in columns]
        self._looks = {name: pa.string() for name in columns}

    def types(self) -> dict[str, pa.DataType]:
        """The types as which the columns are read, which the file's first block decides where the use does not."""
        with contextlib.closing(self._open({}, count=False)) as probe:
            self._looks = dict(zip(self.columns, probe.schema.types, strict=True))
        return {name: _type(self.kinds[name], look) for name, look in self._looks.items()}

    def batches(self, types: Mapping[str, pa.DataType]) -> Iterator[pa.RecordBatch]:
        with contextlib.closing(self._open(types)) as reader:
            for batch in reader:
                yield batch.rename_columns(self.columns)

    def texts(self, *, after: int) -> Iterator[tuple[int, pa.RecordBatch]]:
        """The batches from a row on, read as text and converted where all of a batch's column can be."""
        first = 0
        try:
            for batch in self.batches(dict.fromkeys(self.columns, pa.binary())):
                rows = first + batch.num_rows
                if rows > after:
                    own = batch.slice(max(0, after - first))
                    arrays = [_converted(own.column(c), self.kinds[c], self._looks[c]) for c in self.columns]
                    yield max(first, after), pa.RecordBatch.from_arrays(arrays, names=self.columns)
                first = rows
        except pa.ArrowInvalid as error:
            raise _line_error(self.path, self.header, str(error)) from None

    def _open(self, types: Mapping[str, pa.DataType], *, count: bool = True) -> pa.csv.CSVStreamingReader:
        def skip(row: pa.csv.InvalidRow) -> str:
            # One thread: rows have numbers. A second pass over the file does not count the same line again.
            if count and row.number > self._counted and self._skipped is not None:
                self._counted = row.number
                self._skipped[LINES] += 1
            return "skip"

        return pa.csv.open_csv(
            self.path,
            read_options=pa.csv.ReadOptions(use_threads=False, column_names=self._names, skip_rows=self.header.lines),
            parse_options=pa.csv.ParseOptions(
                newlines_in_values=True, invalid_row_handler=None if self._skipped is None else skip
            ),
            convert_options=pa.csv.ConvertOptions(
                include_columns=self._wanted,
                column_types={name: types[c] for name, c in zip(self._wanted, self.columns, strict=True) if c in types},
            ),
        )


def _type(kind: Kind, look: pa.DataType) -> pa.DataType:
    """The type for a whole column of which the first block looked like `look`."""
    if kind == "text":
        return pa.string()
    if kind == "number":
        return pa.float64()
    if pa.types.is_timestamp(look):
        return pa.timestamp("ns", look.tz)
    if kind == "label" and not pa.types.is_date(look):
        return pa.string()
    usable = pa.types.is_integer(look) or pa.types.is_floating(look) or pa.types.is_date(look)
    return look if usable or (kind == "any" and pa.types.is_boolean(look)) else pa.string()


def _converted(values: pa.Array, kind: Kind, look: pa.DataType) -> pa.Array:
    """Return text as the type that its use calls for if all of it can be, else as it is."""
    try:
        text = values.cast(pa.string())
    except pa.ArrowInvalid:
        return values  # not UTF-8
    if kind == "text":
        return text
    if kind == "number":
        types: tuple[pa.DataType, ...] = (pa.float64(),)
    elif kind == "time":
        types = _TIMES
    else:
        types = () if (wanted := _type(kind, look)) == pa.string() else (wanted, pa.float64())
    plain = without_blanks(text) if types else text
    for kind_of in types:
        try:
            return plain.cast(kind_of)
        except pa.ArrowInvalid:
            continue
    return text


def without_blanks(text: pa.Array) -> pa.Array:
    """Return texts without spaces around them.

    A text that says that there is no value, as CSV readers understand it, becomes null.
    """
    trimmed = pc.utf8_trim_whitespace(text)
    return pc.if_else(pc.is_in(trimmed, _NULLS), pa.scalar(None, pa.string()), trimmed)


def no_numbers(text: pa.Array) -> Bools:
    """Return a mask of the texts that are there but are not numbers."""
    number = pc.match_substring_regex(without_blanks(text), _NUMBER)
    bad: Bools = pc.invert(pc.fill_null(number, True)).to_numpy(zero_copy_only=False)
    return bad


def no_text(values: pa.Array) -> Bools:
    """Return a mask of the values whose bytes are not UTF-8."""
    return np.array([value.as_py() is not None and not _is_utf8(value.as_py()) for value in values], np.bool_)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def explain_missing(path: Path, columns: Sequence[str]) -> str | None:
    """Return why a CSV file lacks these columns, or None if it simply lacks them."""
    return explain_columns(read_header(path), columns)


def _line_error(path: Path, header: Header, reason: str) -> DataError:
    reason = reason.split("\n")[0].removeprefix("CSV parse error: ")
    if "straddling" in reason:
        reason = "a line is longer than 1 MiB: look for an open quote"
    elif "Empty CSV" in reason or "Could not skip" in reason:
        return DataError(f"{path}: has no rows; leave it out or record it again", path=str(path))
    number, found, rest = reason.partition(": Expected ")
    row = int(number.removeprefix("Row #")) - header.lines - 1 if found else None
    if row is not None:
        line = line_of(path, row)
        columns, _, got = rest.partition(" columns, got ")
        fields, _, text = got.partition(": ")
        reason = f"line {line or number}: Expected {columns} columns, got {fields}: {text[:80]}"
        if fields.isdigit() and columns.isdigit() and int(fields) >= 2 * int(columns) - 1 > 1:
            reason += " (have its numbers decimal commas? then write them with decimal points)"
    return DataError(f"{path}: {reason.rstrip(':')}; correct the line or leave the file out", path=str(path), row=row)
