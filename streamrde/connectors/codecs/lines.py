"""Payloads of the InfluxDB line protocol, as Telegraf and many gateways send them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from streamrde.arrays import Floats
from streamrde.connectors.codecs.checks import check_size
from streamrde.connectors.codecs.paths import PROPERTY, TOPIC, is_special
from streamrde.connectors.codecs.points import (
    FieldValue,
    Point,
    parse_points,
    series_of,
    value_of,
    written_name,
)
from streamrde.connectors.codecs.refusals import described, listed, no_channel
from streamrde.connectors.columns import Columns
from streamrde.connectors.ends import MAX_BYTES, Codec, Message, Rows
from streamrde.connectors.values import NotANumberError, Values
from streamrde.errors import ParameterError, PayloadError, SampleError
from streamrde.times import UNITS, NotATimeError
from streamrde.times.plausible import LARGEST

# Names of a point's own time, which stands behind its fields and has no name there.
_TIMESTAMP = ("t", "time", "timestamp")
_MEASUREMENT = "samples"
# Series whose names are remembered. Who publishes is free to invent more.
_REMEMBERED = 10_000


class _Series(NamedTuple):
    """Names that the points of a series have in common."""

    measurement: str
    tags: Mapping[str, str]


class LinesCodec(Codec):
    """Decode and encode the line protocol: ``weather,site=roof temperature=21.5,humidity=40i 1465839830100400200``.

    A payload has one point or several, one per line. Channels are fields: ``temperature``, or ``weather.temperature``
    if several measurements have a field of that name. A channel that a point does not have was not observed. Points of
    one stream and time are one sample. The stream is that of the topic, or tags, fields and ``measurement``, as
    `columns.sender` names them. With `columns.name` a tag, a field or ``measurement`` names the channel of each point.

    `columns.time_unit` is the precision of the timestamps, which InfluxDB's clients write in nanoseconds unless told
    otherwise. A point without a timestamp has its time of arrival. If `columns.time` is not "t", "time" or "timestamp",
    it is the name of a field with the time.
    """

    format = "lines"

    def __init__(self, columns: Columns, *, max_bytes: int = MAX_BYTES) -> None:
        columns.refuse_others("line protocol", ("sender", "name", "missing", "words", "others"))
        super().__init__(columns, max_bytes=max_bytes)
        self._form = columns.time_form()
        self._values = Values(columns)
        self._places = {name: i for i, name in enumerate(columns.values)}
        self._qualified = any("." in name for name in columns.values)
        self._of_field = "" if columns.time in _TIMESTAMP else columns.time
        if columns.time_format and not self._of_field:
            raise ParameterError("timestamps of line protocol are numbers: set time_unit, and leave time_format out")
        if is_special(columns.time):
            raise ParameterError(f'time = {columns.time!r} is not for line protocol: set time = "t", or "" for arrival')
        self._series: dict[str, _Series] = {}

    def decode(self, payload: bytes) -> tuple[Floats, Floats]:
        """Decode points of one stream. See `Codec.decode`. The time of points without a timestamp is NaN."""
        rows = self._read(payload, None)
        if not len(rows.t):
            raise PayloadError("no point of these channels in it: send at least one")
        return rows.t, rows.x

    def read(self, message: Message) -> Rows:
        """See `Codec.read`."""
        return self._read(message.payload, message if self.columns.sender else None)

    def _read(self, payload: bytes, message: Message | None) -> Rows:
        check_size(payload, self.max_bytes)
        try:
            text = payload.rstrip(b"\0").decode().removeprefix("\ufeff")
        except UnicodeDecodeError:
            raise PayloadError(f"it is {described(payload)} that are not UTF-8 text, and line protocol is") from None
        rows: dict[tuple[str, float], list[float]] = {}
        others: dict[str, None] = {}
        unused = 0
        for point in parse_points(text):
            values = self._by_name(point, others) if self.columns.name else self._by_field(point, others)
            if values is None:
                unused += 1
                continue
            stream = "" if message is None else self._stream(point, message)
            _join(rows, (stream, self._time(point)), values)
        if others and (self.columns.others == "refuse" or (not rows and self.columns.others == "count")):
            raise PayloadError(no_channel(others, self.columns))
        if not rows and not others:
            raise PayloadError("no point in it: send at least one")
        streams = None if message is None else [stream for stream, _ in rows]
        x = np.array(list(rows.values())).reshape(len(rows), len(self._places))
        return Rows(np.array([time for _, time in rows]), self._values.without_codes(x), streams, unused=unused)

    def _by_field(self, point: Point, others: dict[str, None]) -> list[float] | None:
        """Return a point's values, or None if no channel is among its fields, which are then noted in `others`."""
        values = [math.nan] * len(self._places)
        found = False
        for name, written in point.fields:
            value = _value(point, name, written)
            place = self._places.get(name)
            if place is None and self._qualified:
                place = self._places.get(f"{self._series_of(point).measurement}.{name}")
            if place is not None:
                values[place] = self._number(point, self.columns.values[place], name, value)
                found = found or name != self.columns.sequence
        if not found:
            others.update(dict.fromkeys(name for name, _ in point.fields))
        return values if found else None

    def _by_name(self, point: Point, others: dict[str, None]) -> list[float] | None:
        """Return the value of the channel that a point is of, among NaN, or None if it is of no channel."""
        channel = self._named(point, self.columns.name)
        if channel is None:
            raise PayloadError(f"line {point.line} has no {self.columns.name!r} with the channel; name it in name")
        if (place := self._places.get(str(channel))) is None:
            others[str(channel)] = None
            return None
        values = [math.nan] * len(self._places)
        for name, written in point.fields:
            value = _value(point, name, written)
            if name == self.columns.value:
                values[place] = self._number(point, str(channel), name, value)
                return values
        fields = listed(name for name, _ in point.fields)
        raise PayloadError(f"line {point.line} has no field {self.columns.value!r}; it has: {fields}; name it in value")

    def _number(self, point: Point, channel: str, name: str, value: FieldValue) -> float:
        try:
            number = self._values.number(channel, value)
        except NotANumberError as error:
            raise PayloadError(f"line {point.line}: field {name!r} is {described(value)}: {error}") from None
        if math.isinf(number):
            raise PayloadError(f"line {point.line}: field {name!r} is too large for float64")
        return number

    def _series_of(self, point: Point) -> _Series:
        if (found := self._series.get(point.series)) is None:
            if len(self._series) >= _REMEMBERED:
                self._series.clear()
            found = self._series[point.series] = _Series(*series_of(point.series))
        return found

    def _named(self, point: Point, name: str) -> FieldValue | None:
        """Return the measurement, or a tag or field of a point, or None if it does not have it."""
        series = self._series_of(point)
        plain = name.removeprefix("tags.").removeprefix("fields.")
        if plain in series.tags and not name.startswith("fields."):
            return series.tags[plain]
        if name == "measurement":
            return series.measurement
        return next((_value(point, field, written) for field, written in point.fields if field in (name, plain)), None)

    def _stream(self, point: Point, message: Message) -> str:
        parts = []
        for name in self.columns.sender:
            part: FieldValue | None
            if name == TOPIC:
                part = message.topic if self.stream_of_topic is None else self.stream_of_topic(message.topic)
            elif name.startswith(PROPERTY):
                part = (message.properties or {}).get(name.removeprefix(PROPERTY))
            else:
                part = self._named(point, name)
            if part is None or isinstance(part, float | bool) or part == "":
                has = listed(["measurement", *(f"tags.{tag}" for tag in self._series_of(point).tags)])
                raise PayloadError(f"line {point.line} has no {name!r} with the stream's name; it has: {has}")
            parts.append(str(part))
        return "/".join(parts)

    def _time(self, point: Point) -> float:
        if not self.columns.time:
            return math.nan
        value: FieldValue | None = point.timestamp
        if self._of_field:
            fields = dict(point.fields)
            if self._of_field not in fields:
                raise PayloadError(
                    f"line {point.line} has no field {self._of_field!r} with the time; it has: {listed(fields)}; name "
                    'it in time, or set time = "t" for the timestamps of the lines'
                )
            value = _value(point, self._of_field, fields[self._of_field])
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


def _join(rows: dict[tuple[str, float], list[float]], key: tuple[str, float], values: list[float]) -> None:
    """Add a point's values to those of the same stream and time: such points are one sample."""
    if (row := rows.setdefault(key, values)) is not values:
        row[:] = [old if new != new else new for old, new in zip(row, values, strict=True)]


def _value(point: Point, name: str, written: str) -> FieldValue:
    try:
        return value_of(written)
    except ValueError as error:
        raise PayloadError(f"line {point.line}: field {name!r} is {error}") from None
