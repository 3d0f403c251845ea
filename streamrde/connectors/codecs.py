"""JSON payloads: samples in, samples and predictions out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamrde.connectors.samples import Columns
from streamrde.connectors.timestamps import TICKS_PER_SECOND
from streamrde.errors import PayloadError, SampleError

MAX_BYTES = 1 << 20


class JsonCodec:
    """Samples of one stream as JSON.

    A payload is one sample ``{"t": 12.34, "ax": 0.1}``, a list of such samples, or a batch by columns
    ``{"t": [12.34, 12.36], "ax": [0.1, null]}``. Times are numbers of `columns.time_unit`. A channel that is absent or
    null was not observed (NaN). Fields that `columns` does not name are ignored.

    Args:
        columns: names of the time and channel fields; the stream comes from the topic.
        max_bytes: longer payloads are refused before parsing.
    """

    def __init__(self, columns: Columns, *, max_bytes: int = MAX_BYTES) -> None:
        self.columns = columns
        self.max_bytes = max_bytes
        self._rate = TICKS_PER_SECOND[columns.time_unit]
        # A Struct decodes twice as fast as a dict and skips unknown fields unread; it cannot be built from field names
        # that are no identifiers, hence the renaming.
        names = {"t": columns.time} | {f"x{i}": channel for i, channel in enumerate(columns.channels)}
        values: Any = float | list[float | None] | None
        fields = [("t", int | float | list[int | float])] + [(field, values, None) for field in list(names)[1:]]
        row = msgspec.defstruct("Row", fields, rename=names, gc=False)
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(row | list[row])  # type: ignore[valid-type]

    def decode(self, payload: bytes) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The samples of a payload: t in seconds, (n,), and x, (n, channels), n >= 1.

        Raises:
            PayloadError: too long, no JSON, no sample in it, a wrong type, unequal lengths, or a time that is missing
                or not finite.
        """
        if len(payload) > self.max_bytes:
            raise PayloadError(
                f"payload of {len(payload)} bytes, more than max_bytes = {self.max_bytes}; send smaller batches"
            )
        try:
            decoded = self._decoder.decode(payload)
            rows = decoded if isinstance(decoded, list) else [decoded]
            if len(rows) == 1 and isinstance(rows[0].t, list):
                t, x = self._from_columns(*msgspec.structs.astuple(rows[0]))
            else:
                t, x = self._from_rows([msgspec.structs.astuple(row) for row in rows])
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise PayloadError(f"not a sample: {error}") from None
        except OverflowError:
            raise PayloadError("a number is too large for float64") from None
        if not len(t):
            raise PayloadError("no sample in it: send at least one")
        return t, x

    def _from_rows(self, rows: list[tuple[Any, ...]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        rate = self._rate
        x = np.empty((len(rows), len(self.columns.channels)))
        t = np.empty(len(rows))
        for i, row in enumerate(rows):
            if list in map(type, row):
                name = (self.columns.time, *self.columns.channels)[list(map(type, row)).index(list)]
                raise PayloadError(f"field {name!r} is a list and others are not; send lists in all fields, or in none")
            t[i] = row[0] / rate
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
        if not np.isfinite(times).all() or np.isinf(values).any():
            raise SampleError(
                "JSON carries finite numbers only; drop the sample, or send NaN for a channel not observed"
            )
        fields: dict[str, Any] = {self.columns.time: [_ticks(time, self._rate) for time in times.tolist()]}
        fields.update(zip(self.columns.channels, values.T.tolist(), strict=True))
        if len(times) == 1:
            fields = {name: column[0] for name, column in fields.items()}
        return msgspec.json.encode(fields)


def _ticks(seconds: float, rate: int) -> int | float:
    """Seconds in ticks; a whole number where float64 would round ticks more coarsely than seconds."""
    ticks = seconds * rate
    return ticks if rate == 1 or abs(ticks) < 2**53 else round(Fraction(seconds) * rate)


class _Prediction(msgspec.Struct, omit_defaults=True):
    stream: str
    window: int
    t_start: float
    t_end: float
    value: list[float | None]
    label: str | None = None


def encode_prediction(row: Mapping[str, Any]) -> bytes:
    """One prediction as JSON: stream, window, t_start, t_end, value and, for a classification, label.

    Args:
        row: a row of the prediction record batch, as `RecordBatch.to_pylist` gives it.
    """
    return msgspec.json.encode(
        _Prediction(row["stream"], row["window"], row["t_start"], row["t_end"], row["value"], row.get("label"))
    )


def decode_prediction(payload: bytes) -> dict[str, Any]:
    """The row that `encode_prediction` wrote.

    Raises:
        PayloadError: the payload is no prediction.
    """
    try:
        row: dict[str, Any] = msgspec.to_builtins(msgspec.json.decode(payload, type=_Prediction))
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise PayloadError(f"not a prediction: {error}") from None
    row["value"] = [math.nan if value is None else value for value in row["value"]]
    return row
