"""Samples as maps of fields, whatever the bytes look like: the base of JSON, MessagePack and CBOR."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import ArrayLike

from streamrde.arrays import Floats
from streamrde.connectors.codecs.checks import check_samples, check_size
from streamrde.connectors.codecs.paths import is_special, placed
from streamrde.connectors.codecs.refusals import described
from streamrde.connectors.codecs.shapes import Shape
from streamrde.connectors.codecs.structs import Layout, layout_of
from streamrde.connectors.columns import Columns
from streamrde.connectors.ends import MAX_BYTES, Codec, Message, Rows
from streamrde.errors import ConfigError, PayloadError, SampleError


class RowCodec(Codec):
    """Convert samples to and from maps of fields.

    A payload is one sample ``{"t": 12.34, "ax": 0.1}``, a list of such samples, or a batch by columns
    ``{"t": [12.34, 12.36], "ax": [0.1, null]}``. `columns` may describe other shapes: fields at paths, records below a
    path, one channel per record, vectors and bare values, see `Shape`. A time is a number of `columns.time_unit`, text
    (ISO 8601 or `columns.time_format`), or a timestamp of MessagePack or CBOR. A channel that is absent or null was not
    observed (NaN). Fields that `columns` does not name are ignored, but a sample without the field of any channel is
    not one: it is refused with the names that it has.

    Args:
        columns: what payloads hold. Without a time field a payload is one sample, whose time is NaN.
        max_bytes: longer payloads are refused before parsing.
    """

    _encode: Callable[[Any], bytes]

    def __init__(self, columns: Columns, *, max_bytes: int = MAX_BYTES) -> None:
        super().__init__(columns, max_bytes=max_bytes)
        if columns.rate != 1.0:
            raise ConfigError("columns: rate is not for payloads; leave it out")
        self.shape = Shape(columns)
        self._encode_time = columns.time_form().encode
        # Plain numbers are read by a struct, which skips unknown fields unread. Anything else, such as numbers in text,
        # is read by the shape.
        self._layout = layout_of(self.shape)
        self._struct_fits = self._layout is not None
        self._single = True
        if self._layout is not None:
            self._parse = self._parser(self._layout.type)

    def _parser(self, rows: Any) -> Callable[[bytes], Any]:
        """Return a function that reads a payload as `rows`, raising one of _UNREADABLE."""
        raise NotImplementedError

    def _read(self, payload: bytes) -> Any:
        """Read a payload as Python's own values, as leniently as the format allows, or raise one of _UNREADABLE."""
        raise NotImplementedError

    def decode(self, payload: bytes) -> tuple[Floats, Floats]:
        """Decode a payload: t in seconds, (n,), and x, (n, channels), n >= 1. `read` also returns the streams of rows.

        Raises:
            PayloadError: too long, no JSON, no sample in it, without any channel, a wrong type, unequal lengths, or a
                time that is missing or not finite.
        """
        rows = self.read(Message(b"", payload, 0.0))
        if not len(rows.t):
            raise PayloadError("no sample in it: send at least one")
        return rows[:2]

    def read(self, message: Message) -> Rows:
        """See `Codec.read`."""
        check_size(message.payload, self.max_bytes)
        if self._struct_fits and self._layout is not None:
            found = self._from_struct(self._layout, message.payload)
            if found is not None:
                return found
        return self._shaped(message)

    def read_together(self, payloads: Sequence[bytes]) -> Rows | None:
        """See `Codec.read_together`."""
        layout = self._layout
        if layout is None or not (self._struct_fits and self._single) or max(map(len, payloads)) > self.max_bytes:
            return None
        try:
            found = layout.read_together([*map(self._parse, payloads)])
        except _UNREADABLE:
            return None
        if found is None:
            # Who sends several samples in a message will do so again.
            self._single = False
        elif np.isfinite(found.t).all() and not np.isinf(found.x).any():
            return found._replace(x=self.shape.values.without_codes(found.x))
        return None

    def name_streams(self, stream_of: Callable[[str], str]) -> None:
        """See `Codec.name_streams`."""
        self.shape.stream_of_topic = stream_of

    def _shaped(self, message: Message) -> Rows:
        """Return the rows of a payload of any shape."""
        payload = message.payload
        try:
            found = self._read(payload)
        except _UNREADABLE as error:
            raise PayloadError(f"not a sample: {_named(error)}{self._hint(payload)}") from None
        rows = self.shape.rows(found, message)
        # Who sends numbers as text will do so again.
        self._struct_fits = self.shape.plain and self._layout is not None
        return rows

    def _hint(self, payload: bytes) -> str:
        """Say what an unreadable payload looks like, where that says what is wrong."""
        if (text := readable(payload)).startswith(("{", "[")):
            return '; it looks like JSON: is codec = "json" meant?'
        return f"; it is {described(text)}" if text else ""

    def _from_struct(self, layout: Layout, payload: bytes) -> Rows | None:
        """Return the rows of a payload of plain numbers, or None if it may be another, or none."""
        try:
            found = layout.read(self._parse(payload))
        except _UNREADABLE:
            return None
        if found is None:
            return None
        check_samples(found.t, found.x, self.columns)
        self._single = len(found.t) == 1
        if self.shape.values.has_codes:
            found = found._replace(x=self.shape.values.without_codes(found.x))
        return found

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
        if self.shape.is_deep:
            return self._encode(self._nested(times, values))
        fields: dict[str, Any] = {}
        if self.columns.time:
            fields[self.columns.time] = [self._encode_time(time) for time in times.tolist()]
        # null rather than NaN: JSON has no NaN, and what is not observed has one spelling in all formats.
        columns = [[None if math.isnan(v) else v for v in column] for column in values.T.tolist()]
        fields.update(zip(self.columns.values, columns, strict=True))
        if len(times) == 1:
            fields = {name: column[0] for name, column in fields.items()}
        return self._encode(fields)

    def _nested(self, times: Floats, values: Floats) -> Any:
        """Return samples as objects within objects, with each field at its path."""
        columns = self.columns
        source = columns.time if columns.time and not is_special(columns.time) else ""
        if columns.name or columns.records or columns.date or columns.sender or (not source and len(times) > 1):
            raise SampleError("samples cannot be written as payloads of this shape; send them in another one")
        rows = []
        for time, row in zip(times.tolist(), values.tolist(), strict=True):
            fields = [*zip(self.columns.values, (None if math.isnan(value) else value for value in row), strict=True)]
            rows.append(placed([(source, self._encode_time(time)), *fields] if source else fields))
        return rows[0] if len(rows) == 1 else rows


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
