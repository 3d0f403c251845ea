"""Shapes of payloads: where rows, times, channels and streams stand in parsed JSON, MessagePack or CBOR."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from msgspec import UNSET

from streamrde.arrays import Floats
from streamrde.connectors.codecs.checks import check_samples
from streamrde.connectors.codecs.paths import BROKER, KEY, PROPERTY, TOPIC, Getter, getter, is_special, step_into
from streamrde.connectors.codecs.refusals import described, example, fields_of, listed, no_channel
from streamrde.connectors.columns import Columns, path_of
from streamrde.connectors.ends import Message, Rows
from streamrde.connectors.values import NotANumberError, Values
from streamrde.errors import ParameterError, PayloadError
from streamrde.times import UNITS, NotATimeError

EVERY = "*"
"""Last step of `records`: every field of an object is a record, or a list of them."""
_NUMBERS, _TIMES = frozenset((float, int, type(None))), frozenset((float, int))
# Up to here float64 holds every integer.
_EXACT = 2**53
_NO_MESSAGE = Message(b"", b"", 0.0)


class Record(NamedTuple):
    """One object of a payload that is a row, or a part of one."""

    scopes: tuple[Any, ...]
    """The object, and what is around it, from the inside out. Fields are looked for in this order."""
    key: str = ""
    """Name of the field that it was under."""
    place: str = ""
    """Its path, for messages."""


class Shape:
    """Find samples in parsed payloads, as `Columns` describes them.

    A payload is an object with the time and the channels, a list of such objects, an object of lists (columns), a list
    of numbers (a vector), or a bare value. Names may be paths. With `columns.records` the rows are below a path, and
    with `columns.name` each has the value of one channel.

    Raises:
        ParameterError: a path is none, or the time stands where there can be none.
    """

    def __init__(self, columns: Columns) -> None:
        self.columns = columns
        self.values = Values(columns)
        self.plain = True
        """The values of the last payload were all numbers, or null."""
        self._form = columns.time_form()
        unit = UNITS[columns.time_unit]
        self._plain_times = not columns.time_format and not columns.time_zone and unit.length == 1
        self._rate = unit.rate
        self.bare = not columns.name and "" in columns.channels
        self._getters = [] if columns.name else [getter(path) for path in columns.channels]
        self._sequence = getter(columns.sequence) if columns.sequence else None
        self._time = getter(columns.time) if columns.time else None
        self._date = getter(columns.date) if columns.date else None
        self._streams = [(part, None if is_special(part) else getter(part)) for part in columns.sender]
        self.stream_of_topic: Callable[[str], str] | None = None
        """Gives the stream's name that a topic has, where it is a part of the name."""
        self._records = self._records_path()
        # A vector has no names, so that a list with only places for channels is one row.
        self._vector = not columns.name and all(path.startswith("[") and path_of(path) for path in columns.channels)
        if columns.name:
            self._name, self._value = getter(columns.name), getter(columns.value)
            self._by_name = {name: i for i, name in enumerate(columns.channels)}
            self._inside: dict[str, list[tuple[int, Getter]]] = {}
            for i, channel in enumerate(columns.channels):
                name, colon, path = channel.partition(":")
                if colon and path_of(path):
                    self._inside.setdefault(name, []).append((i, getter(path)))
        timed = bool(columns.time) and not is_special(columns.time)
        if self.bare and (timed or len(columns.channels) > 1) and not columns.records:
            raise ParameterError(
                'a channel "" is the whole payload, a bare value: it is the only channel, and has no time; set '
                'time = "", or "@broker" or "@property.NAME"'
            )

    @property
    def is_deep(self) -> bool:
        """True if a field is not at the top of the payload."""
        columns = self.columns
        rich = columns.records or columns.name or columns.date or columns.sender or is_special(columns.time)
        names = (*columns.values, *([columns.time] if columns.time else []))
        return bool(rich) or any(path_of(name) != (name,) for name in names)

    def rows(self, payload: Any, message: Message = _NO_MESSAGE) -> Rows:
        """Return the samples of a parsed payload.

        Raises:
            PayloadError: it has none, or a field is missing or of a wrong kind.
        """
        self.plain = True
        try:
            return self._long(payload, message) if self.columns.name else self._wide(payload, message)
        except OverflowError:
            raise PayloadError("a number is too large for float64") from None

    def _wide(self, payload: Any, message: Message) -> Rows:
        getters, columns, unused = self._getters, self.columns, 0
        values: list[Any] = []
        times: list[Any] = []
        streams: list[str] = []
        found: list[Record] = []
        for record in self._each(payload):
            scopes = record.scopes
            row = [get(scopes) for get in getters]
            missing = row.count(UNSET)
            if missing:
                if missing == len(row):
                    if columns.others != "ignore":
                        raise PayloadError(record.place + self._nothing(record))
                    unused += 1
                    continue
                row = [None if value is UNSET else value for value in row]
            if self._sequence is not None:
                number = self._sequence(scopes)
                row.append(None if number is UNSET else number)
            time = self._time_of(record, message)
            if type(time) is list and self._date is None:
                several = self._columns(record, time, row)
                rows = [*zip(*several, strict=True)]
                times += time
            else:
                rows = [tuple(row)]
                times.append(time)
            for one in rows:
                values += one
            found += [record] * len(rows)
            if self._streams:
                streams += [self._stream(record, message)] * len(rows)
        x = self._numbers(values, found)
        t = self._seconds(times, found)
        return self._checked(t, x, streams, unused)

    def _long(self, payload: Any, message: Message) -> Rows:
        width, unused, others = len(self.columns.values), 0, dict[str, None]()
        rows: list[list[float]] = []
        times: list[float] = []
        streams: list[str] = []
        # The row of a stream at a time to which further channels are added.
        open_rows: dict[tuple[str, float | None], list[float]] = {}
        for record in self._each(payload):
            name = record.key if self.columns.name == KEY else self._name(record.scopes)
            if name is UNSET or not isinstance(name, str | int) or name == "":
                raise PayloadError(record.place + self._absent("name", self.columns.name, "the channel's name", record))
            channels = self._named(str(name), record)
            if not channels:
                unused += 1
                others[str(name)] = None
                continue
            stream = self._stream(record, message) if self._streams else ""
            t = self._second(self._time_of(record, message), record)
            key = stream, None if math.isnan(t) else t
            row = open_rows.get(key)
            if row is None or any(not math.isnan(row[i]) for i, _ in channels):
                row = open_rows[key] = [math.nan] * width
                rows.append(row)
                times.append(t)
                streams.append(stream)
            for i, value in channels:
                row[i] = self._number(self.columns.channels[i], value, record)
            if self._sequence is not None and (number := self._sequence(record.scopes)) is not UNSET:
                row[-1] = self._number(self.columns.sequence, number, record)
        if others and (self.columns.others == "refuse" or (not rows and self.columns.others == "count")):
            raise PayloadError(
                f"has the names {listed(others)}, and none of {listed(self.columns.channels)}; correct channels, or "
                'set others = "ignore" if such messages are expected'
            )
        x = np.array(rows, dtype=np.float64).reshape(len(rows), width)
        return self._checked(np.array(times, dtype=np.float64), x, streams if self._streams else [], unused)

    def _checked(self, t: Floats, x: Floats, streams: list[str], unused: int) -> Rows:
        columns = self.columns
        if not self.columns.time or is_special(columns.time):
            most = max(Counter(streams).values()) if streams else len(t)
            if most > 1:
                raise PayloadError(f"{most} samples without a time: send them one by one, or each with its time")
        if len(t) or not unused:
            check_samples(t, x, columns)
        return Rows(t, self.values.without_codes(x), streams or None, unused=unused)

    def _records_path(self) -> tuple[str | int, ...]:
        path = self.columns.records
        steps = path_of(path)
        if path and not steps:
            raise ParameterError(f"records = {path!r}: give a path such as 'values' or 'data.readings'")
        return steps

    def _each(self, payload: Any) -> Iterator[Record]:
        """Yield the records of a payload."""
        if not isinstance(payload, list) or self._vector or self.bare or isinstance((*self._records, "")[0], int):
            yield from self._below(payload, "")
            return
        for i, element in enumerate(payload):
            place = f"element {i} of its list: " if len(payload) > 1 else "its list's element: "
            if not isinstance(element, dict):
                raise PayloadError(f"{place[:-2]} is {described(element)}, not an object: send {example(self.columns)}")
            yield from self._below(element, place)

    def _below(self, payload: Any, place: str) -> Iterator[Record]:
        if not self._records:
            if not isinstance(payload, dict) and not self._vector and not self.bare:
                remedy = '; or set value = "" (or channels = [""]) where it is the value'
                bare = "" if isinstance(payload, list) else remedy
                raise PayloadError(f"it is {described(payload)}, not an object: send {example(self.columns)}{bare}")
            yield Record((payload,), place=place)
            return
        yield from self._walk(payload, self._records, (), place)

    def _walk(self, inner: Any, steps: tuple[str | int, ...], around: tuple[Any, ...], place: str) -> Iterator[Record]:
        """Yield the records at a path. A name leads into each object of a list."""
        if not steps:
            if not isinstance(inner, list | dict):
                raise PayloadError(f"{place}{self.columns.records!r} is {described(inner)}, not a list of objects")
            yield from self._listed(inner, around, place, "")
        elif steps == (EVERY,):
            if not isinstance(inner, dict):
                raise PayloadError(f"{place}it is {described(inner)}, not an object of records")
            for key, several in inner.items():
                if isinstance(several, list | dict):
                    yield from self._listed(several, (inner, *around), f"{place}field {key!r}: ", str(key))
        elif isinstance(inner, list) and not isinstance(steps[0], int):
            for i, element in enumerate(inner):
                yield from self._walk(element, steps, around, f"{place}element {i}: ")
        else:
            below = step_into(inner, steps[0])
            if below is UNSET:
                has = listed(fields_of(inner)) if isinstance(inner, dict) else described(inner)
                raise PayloadError(f"{place}has no {self.columns.records!r} with the records; it has: {has}")
            yield from self._walk(below, steps[1:], (inner, *around), place)

    def _listed(self, several: Any, around: tuple[Any, ...], place: str, key: str) -> Iterator[Record]:
        if isinstance(several, dict):
            yield Record((several, *around), key, place)
            return
        for i, record in enumerate(several):
            yield Record((record, *around), key, f"{place}record {i}: ")

    def _named(self, name: str, record: Record) -> list[tuple[int, Any]]:
        """Return the channels that a record of that name has, with their values."""
        index, inside = self._by_name.get(name), self._inside.get(name)
        if index is None and inside is None:
            return []
        value = self._value(record.scopes)
        if value is UNSET:
            raise PayloadError(record.place + self._absent("value", self.columns.value, "the value", record))
        if index is not None:
            return [(index, value)]
        found = [(i, get((value,))) for i, get in inside or ()]
        return [(i, value) for i, value in found if value is not UNSET]

    def _columns(self, record: Record, time: list[Any], row: list[Any]) -> list[Any]:
        """Return a column for each value of an object of lists."""
        several = []
        for name, column in zip(self.columns.values, row, strict=True):
            if isinstance(column, list) and len(column) == len(time):
                several.append(column)
            elif column is None or (name == self.columns.sequence and isinstance(column, int | float)):
                several.append([column] * len(time))  # the sequence number is the message's own
            else:
                what = f"{len(column)} values" if isinstance(column, list) else "one number"
                raise PayloadError(
                    f"{record.place}field {name!r} has {what} and {self.columns.time!r} has {len(time)}; send one per "
                    "time"
                )
        return several

    def _time_of(self, record: Record, message: Message) -> Any:
        """Return a record's time as it is written, or None if it is that of its arrival."""
        if self._time is None:
            return None
        source = self.columns.time
        if source == BROKER:
            if math.isnan(message.stamped):
                raise PayloadError('time = "@broker": the queue gives this message no time; set another time')
            return message.stamped
        if source.startswith(PROPERTY):
            time: Any = _property(source, message)
        else:
            time = self._time(record.scopes)
        if time is UNSET:
            raise PayloadError(record.place + self._absent("time", source, "the time", record))
        if self._date is None:
            return time
        date = self._date(record.scopes)
        if date is UNSET:
            raise PayloadError(record.place + self._absent("time", self.columns.date, "the date", record))
        return f"{date} {time}"

    def seconds(self, times: list[Any]) -> Floats:
        """Return times as they are written in a payload in seconds.

        Raises:
            NotATimeError: one is none; `place` is its number.
            OverflowError: a number is too large for float64.
        """
        plain = self._plain_times and times and _TIMES.issuperset(map(type, times))
        if plain and min(times) > -_EXACT and max(times) < _EXACT:
            return np.array(times, dtype=np.float64) / self._rate
        t = np.empty(len(times))
        for i, time in enumerate(times):
            try:
                t[i] = self._form.seconds(time)
            except NotATimeError as error:
                raise NotATimeError(str(error), place=i) from None
        return t

    def _seconds(self, times: list[Any], records: Sequence[Record]) -> Floats:
        if not self.columns.time:
            return np.full(len(times), math.nan)
        try:
            return np.array(times, dtype=np.float64) if self.columns.time == BROKER else self.seconds(times)
        except NotATimeError as error:
            self._second(times[error.place], records[error.place])  # raises, with the record
            raise

    def _second(self, time: Any, record: Record) -> float:
        """Return one time in seconds."""
        if not self.columns.time:
            return math.nan
        if self.columns.time == BROKER:
            return float(time)
        try:
            return float(self._form.seconds(time))
        except NotATimeError as error:
            raise PayloadError(f"{record.place}field {self.columns.time!r}: {error}") from None

    def _numbers(self, values: list[Any], records: Sequence[Record]) -> Floats:
        names = self.columns.values
        if not _NUMBERS.issuperset(map(type, values)):
            width = len(names)
            values = [self._number(names[i % width], value, records[i // width]) for i, value in enumerate(values)]
        return np.array(values, dtype=np.float64).reshape(-1, len(names))

    def _number(self, channel: str, value: Any, record: Record) -> float:
        self.plain = self.plain and type(value) in _NUMBERS
        if type(value) is list:
            raise PayloadError(
                f"{record.place}field {channel!r} is a list and others are not; send lists in all fields, or in none, "
                f"or name a place in it, as {channel}[0]"
            )
        try:
            return self.values.number(channel, value)
        except NotANumberError as error:
            raise PayloadError(f"{record.place}field {channel!r} is {described(value)}: {error}") from None

    def _stream(self, record: Record, message: Message) -> str:
        return "/".join(self._part(source, get, record, message) for source, get in self._streams)

    def _part(self, source: str, get: Getter | None, record: Record, message: Message) -> str:
        value: Any = None
        if source == TOPIC:
            value = self.stream_of_topic(message.topic) if self.stream_of_topic is not None else message.topic
        elif source == KEY:
            value = record.key
        elif source.startswith(PROPERTY):
            value = _property(source, message)
        elif get is not None:
            value = get(record.scopes)
        if value is UNSET:
            raise PayloadError(record.place + self._absent("stream", source, "the stream's name", record))
        if type(value) is int:
            return str(value)
        if not isinstance(value, str) or not value:
            raise PayloadError(f"{record.place}field {source!r} is {described(value)}: send text for a stream's name")
        return value

    def _absent(self, key: str, source: str, what: str, record: Record) -> str:
        if source.startswith(PROPERTY):
            return f"has no property {source.removeprefix(PROPERTY)!r} with {what}"
        inner = record.scopes[0]
        found = listed(fields_of(inner, self.columns.channels)) if isinstance(inner, dict) else described(inner)
        return f"has no field {source!r} with {what}; it has: {found or 'no other field'}; name it in {key}"

    def _nothing(self, record: Record) -> str:
        inner, columns = record.scopes[0], self.columns
        if not isinstance(inner, dict):
            return f"is {described(inner)}, without {listed(columns.channels)}: send {example(columns)}"
        reason = no_channel(fields_of(inner, (columns.time,)), columns)
        timeless = self._time is not None and not is_special(columns.time) and self._time(record.scopes) is UNSET
        return f"has no time {columns.time!r} and {reason}" if timeless else reason


def _property(source: str, message: Message) -> Any:
    return (message.properties or {}).get(source.removeprefix(PROPERTY), UNSET)
