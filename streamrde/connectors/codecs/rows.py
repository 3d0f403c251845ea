"""Samples as maps of fields, whatever the bytes look like: the base of JSON, MessagePack and CBOR."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
from numpy.typing import ArrayLike

from streamrde.arrays import Floats
from streamrde.connectors.codecs.checks import check_samples, check_size
from streamrde.connectors.codecs.refusals import described, refusal
from streamrde.connectors.columns import Columns
from streamrde.connectors.ends import MAX_BYTES, Codec
from streamrde.errors import PayloadError, SampleError
from streamrde.times import NotATimeError


class RowCodec(Codec):
    """Convert samples of one stream to and from maps of fields.

    A payload is one sample ``{"t": 12.34, "ax": 0.1}``, a list of such samples, or a batch by columns
    ``{"t": [12.34, 12.36], "ax": [0.1, null]}``. A time is a number of `columns.time_unit`, text (ISO 8601 or
    `columns.time_format`), or a timestamp of MessagePack or CBOR. A channel that is absent or null was not observed
    (NaN). Fields that `columns` does not name are ignored, but a sample without the field of any channel is not one: it
    is refused with the names that it has.

    Args:
        columns: names of the time and channel fields; the stream comes from the topic. Without a time field a payload
            is one sample, whose time is NaN.
        max_bytes: longer payloads are refused before parsing.
    """

    _encode: Callable[[Any], bytes]

    def __init__(self, columns: Columns, *, max_bytes: int = MAX_BYTES) -> None:
        columns.refuse_others("payloads of maps")
        super().__init__(columns, max_bytes=max_bytes)
        form = columns.time_form()
        self._seconds, self._encode_time = form.seconds, form.encode
        # A Struct decodes twice as fast as a dict and skips unknown fields unread; it cannot be built from field names
        # that are no identifiers, hence the renaming.
        self._names, self._channels = columns.values, len(columns.channels)
        names = {"t": columns.time} | {f"x{i}": name for i, name in enumerate(self._names)}
        values: Any = float | list[float | None] | None
        time: Any = ("t", Any) if columns.time else ("t", None, None)
        fields = [time] + [(field, values, None) for field in list(names)[1:]]
        row = msgspec.defstruct("Row", fields, rename=names, gc=False)
        self._rows: Any = row | list[row]  # type: ignore[valid-type]
        self._parse = self._parser(self._rows)

    def _parser(self, rows: Any) -> Callable[[bytes], Any]:
        """Return a function that reads a payload as `rows`, raising one of _UNREADABLE."""
        raise NotImplementedError

    def _read(self, payload: bytes) -> Any:
        """Read a payload as Python's own values, as leniently as the format allows, or raise one of _UNREADABLE."""
        raise NotImplementedError

    def decode(self, payload: bytes) -> tuple[Floats, Floats]:
        """Decode a payload: t in seconds, (n,), and x, (n, channels), n >= 1.

        Raises:
            PayloadError: too long, no JSON, no sample in it, without any channel, a wrong type, unequal lengths, or a
                time that is missing or not finite.
        """
        check_size(payload, self.max_bytes)
        try:
            decoded = self._parse(payload)
        except _UNREADABLE as error:
            decoded = self._second_look(payload, error)
        rows = decoded if isinstance(decoded, list) else [decoded]
        try:
            if len(rows) == 1 and isinstance(rows[0].t, list):
                t, x, empty = self._from_columns(*msgspec.structs.astuple(rows[0]))
            else:
                t, x, empty = self._from_rows([msgspec.structs.astuple(row) for row in rows])
        except OverflowError:
            raise PayloadError("a number is too large for float64") from None
        if not self.columns.time and len(t) != 1:
            raise PayloadError(f"{len(t)} samples without a time: send them one by one, or each with its time")
        check_samples(t, x, self.columns)
        # A channel that is null and one that is absent are the same number; only the payload tells them apart.
        if empty:
            self._require_channels(payload)
        return t, x

    def _require_channels(self, payload: bytes) -> None:
        try:
            found = self._read(payload)
        except _UNREADABLE as error:  # in a field that the strict parser left unread
            raise PayloadError(f"not a sample: {_named(error)}") from None
        if reason := refusal(found, self.columns):
            raise PayloadError(reason)

    def _hint(self, payload: bytes) -> str:
        """Say what an unreadable payload looks like, where that says what is wrong."""
        if (text := readable(payload)).startswith(("{", "[")):
            return '; it looks like JSON: is codec = "json" meant?'
        return f"; it is {described(text)}" if text else ""

    def _second_look(self, payload: bytes, error: Exception) -> Any:
        """Return the rows of a payload that the strict parser refused, as a lenient one reads them.

        Raises:
            PayloadError: the lenient one does not read them either. The message gives the reason.
        """
        try:
            found = self._read(payload)
        except _UNREADABLE:
            raise PayloadError(f"not a sample: {_named(error)}{self._hint(payload)}") from None
        try:
            return msgspec.convert(found, self._rows)
        except (msgspec.ValidationError, RecursionError, OverflowError) as failure:
            reason = refusal(found, self.columns) or f"not a sample: {_named(failure)}"
        raise PayloadError(reason)

    def _from_rows(self, rows: list[tuple[Any, ...]]) -> tuple[Floats, Floats, bool]:
        """Return times, values, and True if some row has no value at all."""
        channels, empty = self._channels, False
        x = np.empty((len(rows), len(self._names)))
        t = np.empty(len(rows))
        for i, row in enumerate(rows):
            if list in map(type, row):
                name = (self.columns.time, *self._names)[list(map(type, row)).index(list)]
                raise PayloadError(f"field {name!r} is a list and others are not; send lists in all fields, or in none")
            t[i] = self._time(row[0]) if self.columns.time else math.nan
            values = row[1:]
            x[i] = values  # None becomes NaN
            # The first comparison is nearly always false, and spares the slice.
            if values.count(None) >= channels and values[:channels].count(None) == channels:
                empty = True
        return t, x, empty

    def _from_columns(self, time: list[Any], *values: Any) -> tuple[Floats, Floats, bool]:
        x = np.full((len(time), len(values)), np.nan)
        for i, (name, column) in enumerate(zip(self._names, values, strict=True)):
            if name == self.columns.sequence and isinstance(column, float):
                x[:, i] = column  # the message's own number
            elif isinstance(column, list) and len(column) == len(time):
                x[:, i] = column
            elif column is not None:
                what = f"{len(column)} values" if isinstance(column, list) else "one number"
                raise PayloadError(
                    f"field {name!r} has {what} and {self.columns.time!r} has {len(time)}; send one per time"
                )
        t = np.array([self._time(one) for one in time], dtype=np.float64)
        return t, x, values[: self._channels].count(None) == self._channels

    def _time(self, value: Any) -> float:
        try:
            return self._seconds(value)
        except NotATimeError as error:
            raise PayloadError(f"field {self.columns.time!r}: {error}") from None

    def encode_samples(self, t: ArrayLike, x: ArrayLike) -> bytes:
        """Encode samples as a payload that `decode` reads back: bit for bit in seconds, else to t's last place.

        Args:
            t: seconds, (n,), finite. One sample becomes an object of numbers, more an object of lists.
            x: (n, channels), finite; NaN becomes null.
        Raises:
            SampleError: a value that JSON cannot carry.
        """
        times, values = np.asarray(t, dtype=np.float64), np.asarray(x, dtype=np.float64)
        if (self.columns.time and not np.isfinite(times).all()) or np.isinf(values).any():
            raise SampleError(
                "a payload carries finite numbers only; drop the sample, or send NaN for a channel not observed"
            )
        fields: dict[str, Any] = {}
        if self.columns.time:
            fields[self.columns.time] = [self._encode_time(time) for time in times.tolist()]
        # null rather than NaN: JSON has no NaN, and what is not observed has one spelling in all formats.
        columns = [[None if math.isnan(v) else v for v in column] for column in values.T.tolist()]
        fields.update(zip(self._names, columns, strict=True))
        if len(times) == 1:
            fields = {name: column[0] for name, column in fields.items()}
        return self._encode(fields)


# msgspec's errors, those of Python's json module (and of integers longer than Python reads), and text that is no UTF-8.
_UNREADABLE = (msgspec.DecodeError, ValueError, RecursionError, OverflowError)


def readable(payload: bytes) -> str:
    """Return the beginning of a payload if it is readable text, else an empty text."""
    try:
        text = payload[:200].rstrip(b"\0").decode("ascii").strip()
    except UnicodeDecodeError:
        return ""
    return text if text.isprintable() else ""


def _named(error: Exception) -> str:
    return f"{error}" or type(error).__name__
