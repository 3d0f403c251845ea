"""Payloads of the InfluxDB line protocol, as Telegraf and many gateways send them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from streamrde.arrays import Floats
from streamrde.connectors.codecs.checks import check_size
from streamrde.connectors.codecs.points import (
    FieldValue,
    Point,
    parse_points,
    value_of,
    written_name,
)
from streamrde.connectors.codecs.refusals import described, listed, no_channel
from streamrde.connectors.columns import Columns
from streamrde.connectors.ends import MAX_BYTES, Codec
from streamrde.errors import ParameterError, PayloadError, SampleError
from streamrde.times import UNITS, NotATimeError
from streamrde.times.plausible import LARGEST

# Names of a point's own time, which stands behind its fields and has no name there.
_TIMESTAMP = ("t", "time", "timestamp")
_MEASUREMENT = "samples"


class LinesCodec(Codec):
    """Decode and encode the line protocol: ``weather,site=roof temperature=21.5,humidity=40i 1465839830100400200``.

    A payload has one point or several, one per line. Channels are fields. A channel that a point does not have was not
    observed. Points of the same time are one sample. `columns.time_unit` is the precision of the timestamps, which
    InfluxDB's clients write in nanoseconds unless told otherwise. A point without a timestamp has its time of arrival.
    If `columns.time` is not "t", "time" or "timestamp", it is the name of a field with the time.
    """

    format = "lines"

    def __init__(self, columns: Columns, *, max_bytes: int = MAX_BYTES) -> None:
        super().__init__(columns, max_bytes=max_bytes)
        self._form = columns.time_form()
        self._places = {name: i for i, name in enumerate(columns.values)}
        self._of_field = "" if columns.time in _TIMESTAMP else columns.time
        if columns.time_format and not self._of_field:
            raise ParameterError("timestamps of line protocol are numbers: set time_unit, and leave time_format out")

    def decode(self, payload: bytes) -> tuple[Floats, Floats]:
        """See `Codec.decode`. The time of points without a timestamp is NaN."""
        check_size(payload, self.max_bytes)
        try:
            text = payload.rstrip(b"\0").decode().removeprefix("\ufeff")
        except UnicodeDecodeError:
            raise PayloadError(f"it is {described(payload)} that are not UTF-8 text, and line protocol is") from None
        rows: dict[float, list[float]] = {}
        others: dict[str, None] = {}
        for point in parse_points(text):
            values = self._values(point, others)
            if values is not None:
                _join(rows, self._time(point), values)
        if not rows:
            raise PayloadError(no_channel(others, self.columns) if others else "no point in it: send at least one")
        return np.array(list(rows)), np.array(list(rows.values()))

    def _values(self, point: Point, others: dict[str, None]) -> list[float] | None:
        """Return a point's values, or None if no channel is among its fields, which are then noted in `others`."""
        values = [math.nan] * len(self._places)
        found = False
        for name, written in point.fields:
            try:
                value = value_of(written)
            except ValueError as error:
                raise PayloadError(f"line {point.line}: field {name!r} is {error}") from None
            if (place := self._places.get(name)) is not None:
                values[place] = self._number(point, name, value)
                found = found or name != self.columns.sequence
        if not found:
            others.update(dict.fromkeys(name for name, _ in point.fields))
        return values if found else None

    def _number(self, point: Point, name: str, value: FieldValue) -> float:
        if isinstance(value, str):
            if value.lower() == "nan":
                return math.nan
            raise PayloadError(f"line {point.line}: field {name!r} is {described(value)}: send a number")
        if not math.isfinite(value):
            raise PayloadError(f"line {point.line}: field {name!r} is too large for float64")
        return float(value)

    def _time(self, point: Point) -> float:
        if not self.columns.time:
            return math.nan
        value: FieldValue | None = point.timestamp
        if self._of_field:
            value = next((value_of(written) for name, written in point.fields if name == self._of_field), None)
            if value is None:
                fields = listed(name for name, _ in point.fields)
                raise PayloadError(
                    f"line {point.line} has no field {self._of_field!r} with the time; it has: {fields}; name it in "
                    'time, or set time = "t" for the timestamps of the lines'
                )
        if value is None:
            return math.nan
        try:
            seconds = self._form.seconds(value)
        except NotATimeError as error:
            raise PayloadError(f"line {point.line}: {error}") from None
        if not abs(seconds) < LARGEST:
            raise PayloadError(
                f"line {point.line}: {value} {UNITS[self.columns.time_unit].name} is no time that can be: set "
                'time_unit to the precision of the timestamps, which is "ns" unless the sender was told another'
            )
        return seconds

    def encode_samples(self, t: ArrayLike, x: ArrayLike) -> bytes:
        """See `Codec.encode_samples`. A sample without any value has the text NaN as that of its first channel."""
        times, values = np.asarray(t, dtype=np.float64), np.asarray(x, dtype=np.float64)
        if (self.columns.time and not np.isfinite(times).all()) or np.isinf(values).any():
            raise SampleError("line protocol carries finite numbers only; drop the sample")
        names = [written_name(name) for name in self._places]
        lines = []
        for time, row in zip(times.tolist(), values.tolist(), strict=True):
            fields = [f"{name}={value!r}" for name, value in zip(names, row, strict=True) if value == value]
            written = ",".join(fields) or f'{names[0]}="NaN"'
            lines.append(f"{_MEASUREMENT} {written}{self._stamp(time)}")
        return "\n".join(lines).encode()

    def _stamp(self, time: float) -> str:
        """Return a sample's time as it stands behind the fields."""
        if not self.columns.time:
            return ""
        encoded = self._form.encode(time)
        if self._of_field:
            value = f'"{encoded}"' if isinstance(encoded, str) else repr(float(encoded))
            return f",{written_name(self._of_field)}={value}"
        # Nanoseconds are the finest that the protocol has: what is finer is rounded, and anything else is not.
        ticks = round(float(encoded)) if isinstance(encoded, float) else int(encoded)
        if self.columns.time_unit != "ns" and self._form.seconds(ticks) != time:
            raise SampleError(
                f"a timestamp of line protocol is a whole number, and {time!r} s is not one of "
                f'{UNITS[self.columns.time_unit].name}; set time_unit = "ns"'
            )
        return f" {ticks}"


def _join(rows: dict[float, list[float]], time: float, values: list[float]) -> None:
    """Add a point's values to those of the same time: points of one time are one sample."""
    if (row := rows.setdefault(time, values)) is not values:
        row[:] = [old if new != new else new for old, new in zip(row, values, strict=True)]
