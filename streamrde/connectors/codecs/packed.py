"""Packed numbers: what a microcontroller sends, laid out as in Python's struct module."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import ArrayLike

from streamrde.arrays import Floats
from streamrde.connectors.codecs.checks import check_samples, check_size
from streamrde.connectors.codecs.refusals import described
from streamrde.connectors.columns import Columns
from streamrde.connectors.ends import MAX_BYTES, Codec
from streamrde.connectors.values import Values
from streamrde.errors import ConfigError, ParameterError, PayloadError, SampleError
from streamrde.times import NotATimeError

# struct's letters, as NumPy's kinds; the sizes are struct's standard ones.
_TYPES = {
    "b": "i1", "B": "u1", "h": "i2", "H": "u2", "i": "i4", "I": "u4", "l": "i4", "L": "u4", "q": "i8", "Q": "u8",
    "e": "f2", "f": "f4", "d": "f8",
}  # fmt: skip
_LAYOUT = re.compile(r"([<>])((?:\d{0,4}[bBhHiIlLqQefdx])+)")


class PackedCodec(Codec):
    """Convert samples of one stream to and from packed numbers, one record after the other.

    A layout is an order of bytes, ``<`` (little-endian) or ``>``, and a letter per number as in Python's struct module:
    ``<q6f`` is a time in 8 bytes and six channels in 4 each. The first number is the time, in `columns.time_unit`, then
    come the channels in order, and the sequence number last if there is one; ``x`` skips a byte. There is no padding
    but that. NaN in a channel = not observed.

    Args:
        columns: the time's unit and the channels.
        layout: of a record.
        max_bytes: longer payloads are refused.
    Raises:
        ParameterError: the layout is none, or has another number of values.
    """

    format = "packed"

    def __init__(self, columns: Columns, *, layout: str, max_bytes: int = MAX_BYTES) -> None:
        if not columns.time:
            raise ParameterError("packed records have a time: name it in columns.time")
        columns.refuse_others("packed payloads", ("missing",))
        self._values = Values(columns)
        super().__init__(columns, max_bytes=max_bytes)
        self._form = columns.time_form()
        if (match := _LAYOUT.fullmatch(layout)) is None:
            raise ParameterError(
                f"layout = {layout!r}: give < or > and struct's letters, such as '<d6f'; see PackedCodec"
            )
        order, offset, places = match[1], 0, list[tuple[str, int]]()
        for times, letter in re.findall(r"(\d*)(\w)", match[2]):
            for _ in range(int(times or 1)):
                if letter == "x":
                    offset += 1
                    continue
                kind = order + _TYPES[letter]
                places.append((kind, offset))
                offset += np.dtype(kind).itemsize
        if len(places) != 1 + len(columns.values):
            raise ParameterError(
                f"layout = {layout!r} has {len(places)} numbers, and a record has {1 + len(columns.values)}: "
                f"{columns.time}, {', '.join(columns.values)}"
            )
        self._record = np.dtype(
            {
                "names": [f"f{i}" for i in range(len(places))],
                "formats": [kind for kind, _ in places],
                "offsets": [place for _, place in places],
                "itemsize": offset,
            }
        )

    @classmethod
    def configured(cls, columns: Columns, *, layout: str | None, max_bytes: int) -> PackedCodec:
        """See `Codec.configured`."""
        if layout is None:
            raise ConfigError('codec = "packed" needs a layout, such as "<d6f": a time and six channels')
        return cls(columns, layout=layout, max_bytes=max_bytes)

    def decode(self, payload: bytes) -> tuple[Floats, Floats]:
        """See `Codec.decode`."""
        check_size(payload, self.max_bytes)
        size = self._record.itemsize
        if not payload or len(payload) % size:
            raise PayloadError(
                f"{len(payload)} bytes are not a whole number of records of {size}{_text(payload)}; check the layout"
            )
        if payload[:1] in b"{[" and (text := _text(payload)):
            raise PayloadError(f"it is not a packed record{text}; check codec and layout")
        records = np.frombuffer(payload, self._record)
        time, *channels = (records[name] for name in self._record.names or ())
        try:
            t = self._form.numbers(time)
        except NotATimeError as error:
            raise PayloadError(f"record {error.place}: {error}") from None
        # A signalling NaN of another width makes NumPy warn; it is a NaN all the same.
        with np.errstate(invalid="ignore"):
            x = np.stack([channel.astype(np.float64) for channel in channels], axis=1)
        check_samples(t, x, self.columns)
        return t, self._values.without_codes(x)

    def _ticks(self, seconds: float) -> int | float:
        ticks = self._form.encode(seconds)
        return int(ticks) if isinstance(ticks, str) else ticks

    def encode_samples(self, t: ArrayLike, x: ArrayLike) -> bytes:
        """See `Codec.encode_samples`."""
        times, values = np.asarray(t, dtype=np.float64), np.asarray(x, dtype=np.float64)
        records = np.zeros(len(times), self._record)
        names = self._record.names or ()
        columns = [[self._ticks(time) for time in times.tolist()], *values.T]
        for name, column in zip(names, columns, strict=True):
            if self._record[name].kind in "iu":
                limits = np.iinfo(self._record[name])
                column = [round(v) if np.isfinite(v) else limits.max + 1 for v in column]
                if any(not limits.min <= v <= limits.max for v in column):
                    raise SampleError(f"a value does not fit into {self._record[name]}; use another layout")
            elif not np.isfinite(column).all() and name == names[0]:
                raise SampleError("a time is not finite")
            with np.errstate(over="ignore"):
                records[name] = column
        return records.tobytes()


def _text(payload: bytes) -> str:
    """Return the beginning of a payload that is all text, or "" for others. Packed numbers hardly ever are."""
    if not payload or not payload.isascii() or not (text := payload.rstrip(b"\0\r\n").decode()).isprintable():
        return ""
    return f": it is {described(text)}"
