"""Convert a recorded file's columns to streams, times and numbers, or say where they cannot be."""

from __future__ import annotations

import contextlib
import math

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamrde.arrays import Bools, Floats, Ints, Reals
from streamrde.connectors.dialect import PLAIN, Dialect
from streamrde.connectors.files.cells import (
    as_plain_numbers,
    explain_text,
    mask_of_no_numbers,
    mask_of_no_text,
    numbers_of,
    without_blanks,
)
from streamrde.connectors.files.formats import reading_format
from streamrde.connectors.files.places import AnyPath
from streamrde.connectors.files.recogniser import dialect_of
from streamrde.connectors.samples import Samples
from streamrde.connectors.units import Conversion
from streamrde.connectors.values import PLAIN_NUMBERS, USUAL, Spellings
from streamrde.errors import DataError
from streamrde.times import NotATimeError, TimeForm


class RowError(DataError):
    """Some rows of a recorded file cannot be used, and the others can.

    Attributes:
        reason: what is wrong with all of them, without a row or a value.
        bad: marks them in their batch.
    """

    def __init__(self, message: str, *, path: str, column: str, row: int, reason: str, bad: Bools) -> None:
        super().__init__(message, path=path, column=column, row=row, setting="faults")
        self.reason = reason
        self.bad = bad


class SampleFile:
    """Convert the columns of one file, and locate the rows that cannot be converted.

    Args:
        path: the file, or the name of rows that come from none.
    """

    def __init__(self, path: AnyPath | str, dialect: Dialect = PLAIN) -> None:
        self.path = str(path)
        self._file = path
        self.dialect = dialect
        self.rows = 0
        """Row of the file where the batch begins."""
        self.numbers_of_rows: Ints | None = None
        """Rows of the file that are left of the batch, where some were filtered out."""
        self.taken: Ints = np.empty(0, np.int64)
        """Rows of the file that the last batch's samples are of."""
        self._format = reading_format(path, dialect)
        self._is_text = self._format is not None and self._format.is_text
        self.conversion: Conversion | None = None
        """Brings the channels from the units that the file tells of to those of the model."""
        self.is_sparse = self._format is not None and self._format.is_sparse

    def filter(self, own: Bools, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the marked rows of the batch."""
        numbers = self.numbers_of_rows
        self.numbers_of_rows = np.flatnonzero(own) + self.rows if numbers is None else numbers[own]
        return batch.filter(pa.array(own))

    def row_numbers(self, count: int) -> Ints:
        """Return the number in the file of each of the batch's `count` rows."""
        return np.arange(self.rows, self.rows + count) if self.numbers_of_rows is None else self.numbers_of_rows

    def finish(self, samples: Samples | None) -> Samples | None:
        """Return the samples of a batch, after it is done."""
        self.taken = self.row_numbers(0 if samples is None else len(samples.t))
        self.numbers_of_rows = None
        return samples

    def error(
        self, column: str, message: str, bad: pa.Array | Bools | None = None, *, text: str | None = None
    ) -> DataError:
        """Return a DataError at `column` and, if `bad` marks rows of the batch, at the first of these.

        Args:
            message: what is wrong, and after a semicolon the remedy.
            bad: marks rows of the batch that cannot be used; None: the whole column cannot.
            text: what was found in the first of them, in place of a number.
        """
        if bad is None:
            return DataError(f"{self.path}: column {column!r}: {message}", path=self.path, column=column)
        bad = np.asarray(bad)
        row = self._row(int(np.argmax(bad)))
        line = (
            self._format.line(self._file, row) if self._format is not None and not isinstance(self._file, str) else None
        )
        where = f"row {row} (the first is 0)" + (f", line {line}" if line is not None else "")
        found = "" if text is None else f"{text!r} "
        reason = f"column {column!r}: " + (message.split(";")[0] if text is None else "a text that is not a number")
        return RowError(
            f"{self.path}: column {column!r}, {where}: {found}{message}",
            path=self.path, column=column, row=row, reason=reason, bad=bad,
        )  # fmt: skip

    def _row(self, place: int) -> int:
        return self.rows + place if self.numbers_of_rows is None else int(self.numbers_of_rows[place])

    def streams(self, batch: pa.RecordBatch, column: str) -> pa.Array:
        """Return the name of each row's stream."""
        names = batch.column(column)
        if pa.types.is_dictionary(names.type):
            names = pa.DictionaryArray.from_arrays(names.indices, self._strings(column, names.dictionary))
            # The dictionary itself may hold a null or an empty name that no row uses: look at the rows.
            missing = pc.fill_null(pc.take(pc.equal(names.dictionary, ""), names.indices), True)
        else:
            names = self._strings(column, names)
            missing = pc.fill_null(pc.equal(names, ""), True)
        if pc.any(missing).as_py():
            raise self.error(column, "the stream has no name; fill it in or drop the row", missing)
        return names

    def _strings(self, column: str, names: pa.Array) -> pa.Array:
        kind = names.type
        if self._is_text and pa.types.is_binary(kind):
            return self.decoded(column, names)
        if not (_is_text(kind) or pa.types.is_integer(kind)):
            raise self.error(column, f"a stream's name cannot be {kind}; store it as string or integer")
        return names.cast(pa.string())

    def _explain(self, text: str, row: int) -> str:
        """Say why a text is not a number."""
        if row == 0 and self._is_text and not self.dialect.units_row:
            with contextlib.suppress(DataError, OSError):
                if dialect_of(self._file).dialect.units_row:
                    return "is not a number but stands in a row of units; set csv.units_row = true, or drop the row"
        return explain_text(text, self.dialect)

    def decoded(self, column: str, values: pa.Array) -> pa.Array:
        """Return texts that a file of text has as bytes. Raise RowError where they are not UTF-8."""
        bad = mask_of_no_text(values)
        if bad.any():
            raise self.error(column, "the text is not UTF-8; save the file as UTF-8", bad)
        return values.cast(pa.string())

    def times(self, batch: pa.RecordBatch, column: str, form: TimeForm, date: str = "") -> Floats:
        """Return the time of each row, seconds. With the column of a date, `column` has the time of day."""
        times = self._dated(batch, column, date) if date else _plain(batch.column(column))
        if self._is_text and pa.types.is_binary(times.type):
            times = self.decoded(column, times)
        if self._is_text and pa.types.is_string(times.type):
            times = without_blanks(times)
        if times.null_count:
            raise self.error(column, "the time is null; fill it in or drop the row", times.is_null())
        if self._is_text and pa.types.is_string(times.type) and not form.reads_text:
            bad = mask_of_no_numbers(as_plain_numbers(times, self.dialect))
            if 2 * bad.sum() < len(bad):  # a column of numbers that has a text
                times = pa.array(self.as_numbers(column, times, PLAIN_NUMBERS))
        try:
            t = form.column(times)
        except NotATimeError as error:
            raise self.error(column, str(error), np.arange(len(times)) == error.place) from None
        except TypeError:
            raise self.error(
                column, f"a time cannot be {times.type}; store a timestamp, ISO 8601 text, or numbers and set time_unit"
            ) from None
        if not math.isfinite(t.sum()) and not (finite := np.isfinite(t)).all():
            raise self.error(column, "the time is not finite; correct it or drop the row", ~finite)
        return t

    def _dated(self, batch: pa.RecordBatch, column: str, date: str) -> pa.Array:
        """Return dates joined with times of day, as timestamps where both have such a type, else as text."""
        days, hours = _plain(batch.column(date)), _plain(batch.column(column))
        if pa.types.is_date(days.type) and pa.types.is_time(hours.type):
            ticks = days.cast(pa.timestamp("ns")).cast(pa.int64())
            return pc.add(ticks, hours.cast(pa.time64("ns")).cast(pa.int64())).cast(pa.timestamp("ns"))
        texts = []
        for name, values in ((date, days), (column, hours)):
            if self._is_text and pa.types.is_binary(values.type):
                values = self.decoded(name, values)
            if not (_is_text(values.type) or pa.types.is_date(values.type) or pa.types.is_time(values.type)):
                raise self.error(name, f"a date or a time of day cannot be {values.type}; store text, or one timestamp")
            text = without_blanks(values.cast(pa.string()))
            if text.null_count:
                raise self.error(name, "the time is null; fill it in or drop the row", text.is_null())
            texts.append(text)
        return pc.binary_join_element_wise(*texts, " ")

    def numbers(self, batch: pa.RecordBatch, column: str, own: Spellings = USUAL) -> Reals:
        """Return a column of numbers, with NaN for missing ones. Numbers that stand for no value are the caller's."""
        return self.as_numbers(column, batch.column(column), own)

    def as_numbers(self, column: str, values: pa.Array, own: Spellings = USUAL) -> Reals:
        """Return values of a column as numbers. See `numbers`."""
        numbers: Floats
        kind = values.type
        if pa.types.is_dictionary(kind):
            if not _is_text(kind.value_type):
                return self.as_numbers(column, values.dictionary_decode(), own)
            numbers, bad = numbers_of(values.dictionary.cast(pa.string()), own)
            if not bad.any():
                places = values.indices.fill_null(len(numbers)).to_numpy(zero_copy_only=False)
                taken: Floats = np.append(numbers, np.nan)[places]
                return taken
            values = values.dictionary_decode()
        if self._is_text and pa.types.is_binary(values.type):
            values = self.decoded(column, values)
        kind = values.type
        if _is_text(kind):
            numbers, bad = numbers_of(values.cast(pa.string()), own, self.dialect)
            if bad.any():
                place = int(np.argmax(bad))
                text = values[place].as_py()
                reason = own.explain(text) if own.classes else self._explain(text, self._row(place))
                raise self.error(column, reason, bad, text=text)
            return numbers
        numeric = pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind)
        if not (numeric or pa.types.is_boolean(kind) or pa.types.is_null(kind)):
            raise self.error(column, f"a channel cannot be {kind}; store numbers, or choose another column")
        if pa.types.is_floating(kind) and not values.null_count and not pa.types.is_float16(kind):
            plain: Reals = values.to_numpy()  # the caller's array converts it
            return plain
        numbers = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        return numbers

    def others(self, batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
        """Return further columns, with these types."""
        arrays = []
        for field in schema:
            values = batch.column(field.name)
            if self._is_text and pa.types.is_floating(field.type) and not pa.types.is_floating(values.type):
                values = pa.array(self.numbers(batch, field.name), from_pandas=True)
            try:
                arrays.append(values if values.type == field.type else values.cast(field.type))
            except pa.ArrowException:
                raise self.error(
                    field.name,
                    f"holds {values.type} that is no {field.type}, the first file's type; store one type in all files",
                ) from None
        return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _plain(values: pa.Array) -> pa.Array:
    return values.dictionary_decode() if pa.types.is_dictionary(values.type) else values
