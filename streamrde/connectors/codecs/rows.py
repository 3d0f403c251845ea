"""JSON, MessagePack and CBOR: a sample is a map of fields, whatever the bytes look like."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamrde.connectors.codecs.codec import MAX_BYTES, check_samples, check_size, to_ticks
from streamrde.connectors.samples import Columns
from streamrde.connectors.timestamps import TICKS_PER_SECOND
from streamrde.errors import MissingExtraError, PayloadError, SampleError


class _RowCodec:
    """Samples of one stream as maps of fields.

    A payload is one sample ``{"t": 12.34, "ax": 0.1}``, a list of such samples, or a batch by columns
    ``{"t": [12.34, 12.36], "ax": [0.1, null]}``. Times are numbers of `columns.time_unit`. A channel that is absent or
    null was not observed (NaN). Fields that `columns` does not name are ignored.

    Args:
        columns: names of the time and channel fields; the stream comes from the topic. Without a time field a payload
            is one sample, whose time is NaN.
        max_bytes: longer payloads are refused before parsing.
    """

    _encode: Callable[[Any], bytes]

    def __init__(self, columns: Columns, *, max_bytes: int = MAX_BYTES) -> None:
        self.columns = columns
        self.max_bytes = max_bytes
        self._rate = TICKS_PER_SECOND[columns.time_unit]
        # A Struct decodes twice as fast as a dict and skips unknown fields unread; it cannot be built from field names
        # that are no identifiers, hence the renaming.
        names = {"t": columns.time} | {f"x{i}": channel for i, channel in enumerate(columns.channels)}
        values: Any = float | list[float | None] | None
        time: Any = ("t", int | float | list[int | float]) if columns.time else ("t", None, None)
        fields = [time] + [(field, values, None) for field in list(names)[1:]]
        row = msgspec.defstruct("Row", fields, rename=names, gc=False)
        self._parse = self._parser(row | list[row])  # type: ignore[valid-type]

    def _parser(self, rows: Any) -> Callable[[bytes], Any]:
        """A function that reads a payload as `rows`, raising msgspec.DecodeError or one of `decode`'s others."""
        raise NotImplementedError

    def decode(self, payload: bytes) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The samples of a payload: t in seconds, (n,), and x, (n, channels), n >= 1.

        Raises:
            PayloadError: too long, no JSON, no sample in it, a wrong type, unequal lengths, or a time that is missing
                or not finite.
        """
        check_size(payload, self.max_bytes)
        try:
            decoded = self._parse(payload)
            rows = decoded if isinstance(decoded, list) else [decoded]
            if len(rows) == 1 and isinstance(rows[0].t, list):
                t, x = self._from_columns(*msgspec.structs.astuple(rows[0]))
            else:
                t, x = self._from_rows([msgspec.structs.astuple(row) for row in rows])
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise PayloadError(f"not a sample: {error}") from None
        except OverflowError:
            raise PayloadError("a number is too large for float64") from None
        if not self.columns.time and len(t) != 1:
            raise PayloadError(f"{len(t)} samples without a time: send them one by one, or each with its time")
        check_samples(t, x, timed=bool(self.columns.time))
        return t, x

    def _from_rows(self, rows: list[tuple[Any, ...]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        rate = self._rate
        x = np.empty((len(rows), len(self.columns.channels)))
        t = np.empty(len(rows))
        for i, row in enumerate(rows):
            if list in map(type, row):
                name = (self.columns.time, *self.columns.channels)[list(map(type, row)).index(list)]
                raise PayloadError(f"field {name!r} is a list and others are not; send lists in all fields, or in none")
            t[i] = math.nan if row[0] is None else row[0] / rate
            x[i] = row[1:]  # None becomes NaN
        return t, x

    def _from_columns(self, time: list[float], *values: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        x = np.full((len(time), len(values)), np.nan)
        for i, (name, column) in enumerate(zip(self.columns.channels, values, strict=True)):
            if isinstance(column, list) and len(column) == len(time):
                x[:, i] = column
            elif column is not None:
                what = f"{len(column)} values" if isinstance(column, list) else "one number"
                raise PayloadError(
                    f"field {name!r} has {what} and {self.columns.time!r} has {len(time)}; send one per time"
                )
        # Python divides integers exactly and rounds once; NumPy would round 64-bit ticks first.
        return np.array([ticks / self._rate for ticks in time], dtype=np.float64), x

    def encode_samples(self, t: ArrayLike, x: ArrayLike) -> bytes:
        """Samples as a payload that `decode` reads back: bit for bit in seconds, else to t's last place.

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
            fields[self.columns.time] = [to_ticks(time, self._rate) for time in times.tolist()]
        # null rather than NaN: JSON has no NaN, and what is not observed has one spelling in all formats.
        columns = [[None if math.isnan(v) else v for v in column] for column in values.T.tolist()]
        fields.update(zip(self.columns.channels, columns, strict=True))
        if len(times) == 1:
            fields = {name: column[0] for name, column in fields.items()}
        return self._encode(fields)


class JsonCodec(_RowCodec):
    """JSON; see the base for what a payload may be."""

    _encode = staticmethod(msgspec.json.encode)

    def _parser(self, rows: Any) -> Callable[[bytes], Any]:
        return msgspec.json.Decoder(rows).decode


class MessagePackCodec(_RowCodec):
    """MessagePack with the fields of JSON: half the bytes, and twice as fast."""

    _encode = staticmethod(msgspec.msgpack.encode)

    def _parser(self, rows: Any) -> Callable[[bytes], Any]:
        return msgspec.msgpack.Decoder(rows).decode


class CborCodec(_RowCodec):
    """CBOR with the fields of JSON; RFC 8949.

    Raises:
        MissingExtraError: cbor2 is not installed.
    """

    def __init__(self, columns: Columns, *, max_bytes: int = MAX_BYTES) -> None:
        self._encode = cbor().dumps
        super().__init__(columns, max_bytes=max_bytes)

    def _parser(self, rows: Any) -> Callable[[bytes], Any]:
        loads = cbor().loads

        def parse(payload: bytes) -> Any:
            try:
                return msgspec.convert(loads(payload), rows)
            except (msgspec.ValidationError, OverflowError, RecursionError):
                raise
            except Exception as error:  # cbor2 lets errors of the types that its tags build through
                raise PayloadError(f"not CBOR: {error}") from None

        return parse


def cbor() -> ModuleType:
    """The module cbor2, or the error that says how to install it."""
    try:
        import cbor2
    except ImportError:
        raise MissingExtraError("CBOR", "cbor") from None
    return cbor2
