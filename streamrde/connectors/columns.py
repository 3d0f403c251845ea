"""One description of columns: which columns of files, or fields of payloads, hold the samples, and how.

`ColumnKeys` are the keys of a configuration, the same ones for payloads, recorded files and training. `Columns` is what
readers get for a model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, Self, TypeAlias

import msgspec

from streamrde.connectors.dialect import Dialect
from streamrde.errors import ConfigError, ParameterError
from streamrde.times import TimeForm
from streamrde.times.texts import Ambiguous

Spelling: TypeAlias = str | float
Missing: TypeAlias = tuple[Spelling, ...] | dict[str, tuple[Spelling, ...]]
Limits: TypeAlias = dict[str, tuple[float, float]]

ALL = "*"
"""Key of `missing` whose spellings hold for every channel."""


class TimeKeys(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Say how times are written. See `times.TimeForm`."""

    time_unit: str = "s"
    """Unit of times that are numbers: s, ms, us, ns, min, h, d or excel (day numbers). Others carry their own unit."""
    time_format: str = ""
    """strptime format of times that are text or digits of a date. If "", text is ISO 8601."""
    time_zone: str = ""
    """Zone of times that name none, such as Europe/Vienna. If "", UTC."""
    time_ambiguous: Ambiguous = "error"
    """Reading of a local time that occurs twice, when clocks go back: stop with an error, or take one."""

    def time_form(self) -> TimeForm:
        """Return how the times are written. Raise ParameterError if no times can be written so."""
        return TimeForm(self.time_unit, self.time_format, self.time_zone, self.time_ambiguous)


class SharedKeys(TimeKeys, frozen=True, kw_only=True):
    """Say how columns are read: the keys that mean the same everywhere."""

    rate: float = 1.0
    """Rows per second of files without a time (time = ""), such as 32. The first row of a file is at 0."""
    records: str = ""
    """Path of a list of objects in a payload, each of which is a row, such as values or data.readings. Fields that an
    object lacks are looked for in the message around it. Lists on the way are gone through."""
    name: str = ""
    """Column, or path, that names the channel of a row. Each row then has the value of one channel (long form)."""
    value: str = "value"
    """Column, or path, of the value where a row has one channel: with `name`, or with {channel} in the topic."""
    others: Literal["count", "refuse", "ignore"] = "count"
    """Rows whose `name` is that of no channel. They are counted, and a message or file that has nothing else is an
    error. "refuse": each of them is one. "ignore": none is, and messages without any channel are counted too."""
    missing: Missing = ()
    """Further spellings of "no value", texts or numbers such as -9999: a list for all channels, or a table by column,
    with "*" for all. Known without it are null, empty text, NaN, NA, N/A, none, unknown, unavailable, - and ---."""
    words: dict[str, float] = {}
    """Numbers of words, such as { open = 1, closed = 0 }. on, true and yes are 1, and off, false and no are 0."""
    units: dict[str, str] = {}
    """Units of columns that are not in the model's unit, such as { ax = "m/s2" }. Values are converted."""
    scale: dict[str, float] = {}
    """Factors of columns without a known unit: x * scale + offset is in the model's unit."""
    offset: dict[str, float] = {}
    """Offsets of columns. See `scale`."""
    limits: Limits = {}
    """Smallest and largest plausible value by channel, in the model's units. Values outside count as not observed."""
    csv: Dialect = Dialect()
    """Dialect of CSV files."""

    def __post_init__(self) -> None:
        self.time_form()
        if self.records and not path_of(self.records):
            raise ParameterError(f"records = {self.records!r}: give a path such as 'values' or 'data.readings'")
        check_limits(self.limits)
        if not 0 < self.rate < math.inf:
            raise ParameterError(f"rate = {self.rate}: give the rows per second, a number above 0")
        for number in (*self.words.values(), *self.scale.values(), *self.offset.values()):
            if not math.isfinite(number):
                raise ParameterError(f"words, scale and offset have the number {number}: give finite numbers")

    def shared(self) -> dict[str, Any]:
        """Return the keys of every reader, for `Columns`."""
        return {name: getattr(self, name) for name in Columns.__struct_fields__ if name in _SHARED}


class ColumnKeys(SharedKeys, frozen=True, kw_only=True):
    """Say which columns of files, or fields of payloads, hold what, and how they are read."""

    stream: str | tuple[str, ...] | None = None
    """Column, or path in a payload, of the stream's name. Several are joined by "/". In files, "" means the file's
    name, and stream_id is the default. In messages, "@topic" is the default, and "@property.NAME" a property."""
    time: str | tuple[str, str] = "t"
    """Column, or path, of the time. Two are the date and the time of day. If "", a message has its time of arrival, and
    rows of files are a second apart, or as rate says. Messages also have "@broker", "@arrival" and "@property.NAME"."""
    channels: tuple[str, ...] = ()
    """Columns, or paths such as values.ax and acc[0], of the model's channels, in its order. "" is a payload that is
    the bare value. If empty, they have the channels' names."""

    def columns_for(
        self,
        own: Sequence[str],
        *,
        stream: str | None = None,
        sequence: str = "",
        classes: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
    ) -> Columns:
        """Return the columns, or payload fields, of a model's channels.

        Args:
            own: names of the model's channels.
            stream: column of the stream's name if the keys name none. None: there is none.
            sequence: field of a sequence number.
            classes: names that stand in a column for numbers, by channel. See `Columns.classes`.
        Raises:
            ConfigError: there is another number of channels.
        """
        if self.channels and len(self.channels) != len(own):
            raise ConfigError(
                f"channels lists {len(self.channels)} names, and the model has {len(own)} channels: {', '.join(own)}"
            )
        name, levels = streams_of(self.stream, stream)
        date, time = dates_of(self.time)
        channels = self.channels or tuple(own)
        return Columns(
            channels=channels,
            classes={column: classes[mine] for column, mine in zip(channels, own, strict=True) if mine in classes},
            stream=name,
            levels=levels,
            sender=self._sender(tuple(part for part in (name, *levels) if part)),
            date=date,
            time=time,
            sequence=sequence,
            **self.shared(),
        )

    def _sender(self, fields: tuple[str, ...]) -> tuple[str, ...]:
        """Return the fields of a payload that make up the stream's name, see `Columns.sender`."""
        return () if self.stream in (None, "@topic", "", ()) else fields


class Columns(TimeKeys, frozen=True, kw_only=True):
    """Say which columns, or payload fields, hold what, for the channels of a model.

    Without a `time` a message's sample gets the time at which it arrives, seconds since 1970.
    """

    channels: tuple[str, ...]
    """Columns of the data channels, in the model's order. With `name`, the names that stand there."""
    time: str = "t"
    """Column, or payload field, with the time. If "", a message has its time of arrival, and a row its number."""
    date: str = ""
    """Column of the date, if `time` has only the time of day. If "", there is none."""
    stream: str | None = "stream_id"
    """Column of the stream's name; None: each file is one stream, named after the file."""
    levels: tuple[str, ...] = ()
    """Columns whose values follow that of `stream` in the stream's name, with "/" between."""
    sender: tuple[str, ...] = ()
    """Fields of a payload, or "@topic" and others, that make up the stream's name. If (), the topic has it."""
    sequence: str = ""
    """Field of a payload that counts what a sender has sent, decoded after the channels. If "", there is none."""
    records: str = ""
    name: str = ""
    value: str = "value"
    others: Literal["count", "refuse", "ignore"] = "count"
    missing: Missing = ()
    words: dict[str, float] = {}
    classes: dict[str, tuple[str, ...]] = {}
    """Names of classes that stand in a column, exactly as they are written. The number of one is its place. No other
    words are read there."""
    limits: Limits = {}
    csv: Dialect = Dialect()
    rate: float = 1.0
    """Rows per second where files have no time."""

    @property
    def values(self) -> tuple[str, ...]:
        """Return the fields of a payload beside the time: the channels, and the sequence number if there is one."""
        return (*self.channels, self.sequence) if self.sequence else self.channels

    def __post_init__(self) -> None:
        if not self.channels:
            raise ParameterError("channels is empty: name at least one data channel")
        if len(set(self.channels)) < len(self.channels):
            raise ParameterError(f"channels {list(self.channels)} has a name twice: name each column once")
        if self.time in self.channels and self.time:
            raise ParameterError(
                f"time = {self.time!r} is also one of the channels: time is channel 0 already, leave it out"
            )
        if self.sequence and self.sequence in (*self.channels, self.time):
            raise ParameterError(
                f"sequence = {self.sequence!r} is also the time or one of the channels: name another field"
            )
        for key in self.missing if isinstance(self.missing, Mapping) else ():
            if key != ALL and key not in self.channels:
                raise ParameterError(
                    f"missing names {key!r}, which is none of the channels' columns {list(self.channels)}"
                )
        if self.rate != 1.0 and self.time:
            raise ParameterError(f'rate = {self.rate:g} is for files without a time: set time = "", or leave rate out')
        self.time_form()

    def refuse_others(self, reader: str, supported: Sequence[str] = ()) -> None:
        """Raise ConfigError where a key is set that a reader does not know.

        Args:
            reader: what it reads, such as "packed payloads".
            supported: keys that it knows beside channels, stream and time.
        """
        for key in ("date", "levels", "sender", "records", "name", "missing", "words", "limits", "rate"):
            if key not in supported and getattr(self, key) not in ("", (), {}, 1.0):
                raise ConfigError(f"columns: {_SPOKEN.get(key, key)} is not for {reader}; leave it out")
        if self.others != "count" and "others" not in supported:
            raise ConfigError(f"columns: others = {self.others!r} is not for {reader}; leave it out")
        if self.time.startswith("@property.") or self.time == "@broker":
            raise ConfigError(f"columns: time = {self.time!r} is not for {reader}; name a column, or a field")

    def missing_of(self, channel: str) -> tuple[Spelling, ...]:
        """Return the further spellings of "no value" in a channel's column."""
        if isinstance(self.missing, Mapping):
            return (*self.missing.get(ALL, ()), *self.missing.get(channel, ()))
        return self.missing

    def only(self, channels: Sequence[str]) -> Self:
        """Return the same description of some of the channels."""
        missing, own = self.missing, (ALL, *channels)
        if isinstance(missing, Mapping):
            missing = {key: spellings for key, spellings in missing.items() if key in own}
        limits = {key: pair for key, pair in self.limits.items() if key in own}
        classes = {key: names for key, names in self.classes.items() if key in own}
        return msgspec.structs.replace(self, channels=tuple(channels), missing=missing, limits=limits, classes=classes)


_SHARED = frozenset(SharedKeys.__struct_fields__)
_SPOKEN = {
    "date": "time with two columns (date and time of day)",
    "levels": "stream with several columns",
    "sender": "stream",
}


def streams_of(stream: str | tuple[str, ...] | None, usual: str | None = None) -> tuple[str | None, tuple[str, ...]]:
    """Return the column of a stream's name, None if there is none, and further ones that are joined to it."""
    if stream is None or stream == ():
        return usual, ()
    name, *levels = (stream,) if isinstance(stream, str) else stream
    return name or None, tuple(levels)


def dates_of(time: str | tuple[str, str]) -> tuple[str, str]:
    """Return the columns of the date, "" if there is none, and of the time, "" for that of arrival."""
    return ("", "" if time == "@arrival" else time) if isinstance(time, str) else time


def check_limits(limits: Mapping[str, Sequence[float]]) -> None:
    """Raise ParameterError unless each channel has a smallest and a larger largest value."""
    for name, pair in limits.items():
        if len(pair) != 2 or not pair[0] < pair[1]:
            raise ParameterError(f"limits of {name!r} are {tuple(pair)}: give the smallest and the largest value")


def path_of(path: str) -> tuple[str | int, ...]:
    """Return the steps of a path: names, and places in lists from 0. () for a path that is none.

    >>> path_of("values.acc[0]"), path_of("[2]"), path_of("a[].b")
    (('values', 'acc', 0), (2,), ())
    """
    steps: list[str | int] = []
    for i, part in enumerate(path.split(".")):
        name, *places = part.split("[")
        if not name and (i or not places):
            return ()
        if name:
            steps.append(name)
        for place in places:
            if not place.endswith("]") or not place[:-1].isascii() or not place[:-1].isdigit():
                return ()
            steps.append(int(place[:-1]))
    return tuple(steps)


def given_keys(keys: msgspec.Struct) -> dict[str, Any]:
    """Return the keys of a section that differ from their defaults, as plain tables."""
    found: dict[str, Any] = msgspec.to_builtins(keys)
    usual = defaults_of(type(keys))
    return {key: value for key, value in found.items() if key not in usual or value != usual[key]}


def defaults_of(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """Return the defaults of a section's keys, as plain tables, without keys that have none."""
    found = {}
    for field in msgspec.structs.fields(kind):
        if field.default is not msgspec.NODEFAULT:
            found[field.encode_name] = msgspec.to_builtins(field.default)
        elif field.default_factory is not msgspec.NODEFAULT:
            found[field.encode_name] = msgspec.to_builtins(field.default_factory())
    return found


def merged_keys(
    columns: Mapping[str, Any], own: Mapping[str, Any], kind: type[msgspec.Struct], where: str
) -> dict[str, Any]:
    """Return a section's table with the keys of [columns] added.

    Args:
        own: the section's table, some of whose keys are older places of the same ones.
        kind: the section's struct, for its defaults.
        where: the section's name, for the error.
    Raises:
        ConfigError: a key has different values in both.
    """
    usual, usual_columns = defaults_of(kind), defaults_of(ColumnKeys)
    found = dict(own)
    for key, value in columns.items():
        plain, already = msgspec.to_builtins(value), msgspec.to_builtins(own.get(key))
        if plain == usual_columns.get(key) and key in own:
            continue
        if key in own and already not in (plain, usual.get(key)):
            raise ConfigError(f"{key} is in [columns] and in [{where}]: give it once")
        found[key] = plain
    return found
