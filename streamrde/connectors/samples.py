"""Samples, as they travel between a source, the fleet and a sink."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa

from streamrde.arrays import Floats
from streamrde.connectors.dialect import Dialect
from streamrde.errors import ConfigError, ParameterError
from streamrde.times import TimeForm
from streamrde.times.texts import Ambiguous

HORIZON = "streamrde.horizon"
"""Metadata of a column with targets that lie so many seconds ahead of their rows."""


class Samples(NamedTuple):
    """Rows of samples of one or many streams, in the order in which they arrived."""

    streams: pa.Array
    """Stream of each row: a string array, dictionary-encoded or plain, (rows,), without nulls."""
    t: Floats
    """Time of each row in seconds, (rows,)."""
    x: Floats
    """Data channels in the model's order, (rows, channels); NaN = not observed."""
    extra: pa.RecordBatch | None = None
    """Further columns that were asked for (targets, groups), row by row, or None."""

    def by_code(self) -> tuple[Any, pa.Array]:
        """Return each row's code, (rows,), and the names that codes stand for. Two codes may have the same name."""
        streams = self.streams
        streams = streams if pa.types.is_dictionary(streams.type) else streams.dictionary_encode()
        return streams.indices.to_numpy(), streams.dictionary


class TimeKeys(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Say where times stand and how they are written. See `times.TimeForm`."""

    time: str = "t"
    """Column, or payload field, with the time. If "", a message has its time of arrival, and a row its number."""
    time_unit: str = "s"
    """Unit of times that are numbers: s, ms, us, ns, min, h, d or excel (day numbers). Others carry their own unit."""
    time_format: str = ""
    """strptime format of times that are text or digits of a date. If "", text is ISO 8601."""
    time_zone: str = ""
    """Zone of times that name none, such as Europe/Vienna. If "", UTC."""
    time_ambiguous: Ambiguous = "error"
    """Reading of a local time that occurs twice, when clocks go back: stop with an error, or take one."""

    def columns_for(
        self, own: Sequence[str], channels: Sequence[str] = (), *, stream: str | None = None, sequence: str = ""
    ) -> Columns:
        """Return the columns, or payload fields, of a model's channels.

        Args:
            own: names of the model's channels.
            channels: names of their columns, in the model's order; without them they have the channels' names.
        Raises:
            ConfigError: there is another number of channels.
        """
        if channels and len(channels) != len(own):
            raise ConfigError(
                f"channels lists {len(channels)} names, and the model has {len(own)} channels: {', '.join(own)}"
            )
        times = {name: getattr(self, name) for name in TimeKeys.__struct_fields__}
        return Columns(channels=tuple(channels or own), stream=stream or None, sequence=sequence, **times)


class Columns(TimeKeys, frozen=True, kw_only=True):
    """Say which columns, or payload fields, hold what.

    Without a `time` a message's sample gets the time at which it arrives, seconds since 1970.
    """

    channels: tuple[str, ...]
    """Columns of the data channels, in the model's order."""
    stream: str | None = "stream_id"
    """Column of the stream's name; None: each file is one stream, named after the file."""
    sequence: str = ""
    """Field of a payload that counts what a sender has sent, decoded after the channels. If "", there is none."""
    csv: Dialect = Dialect()
    """How files of text are written."""

    @property
    def values(self) -> tuple[str, ...]:
        """Return the fields of a payload beside the time: the channels, and the sequence number if there is one."""
        return (*self.channels, self.sequence) if self.sequence else self.channels

    def __post_init__(self) -> None:
        if not self.channels:
            raise ParameterError("channels is empty: name at least one data channel")
        if len(set(self.channels)) < len(self.channels):
            raise ParameterError(f"channels {list(self.channels)} has a name twice: name each column once")
        if self.time in self.channels:
            raise ParameterError(
                f"time = {self.time!r} is also one of the channels: time is channel 0 already, leave it out"
            )
        if self.sequence and self.sequence in (*self.channels, self.time):
            raise ParameterError(
                f"sequence = {self.sequence!r} is also the time or one of the channels: name another field"
            )
        self.time_form()

    def time_form(self) -> TimeForm:
        """Return how the times are written. Raise ParameterError if no times can be written so."""
        return TimeForm(self.time_unit, self.time_format, self.time_zone, self.time_ambiguous)


@dataclass
class SourceCounts:
    """Count what a source has seen."""

    messages: int = 0
    samples: int = 0
    malformed: int = 0
    """Messages whose topic or payload could not be read, or rows of a file without a time, a stream or numbers."""
    dropped: int = 0
    """Messages of QoS 0 that a full queue pushed out."""
    quarantined: int = 0
    """Messages of topics or streams that are set aside."""
    missed: int = 0
    """Messages, or samples, that never came, by the sequence numbers of those that did."""
    unused: int = 0
    """Values of another kind than those that were asked for."""
    merged: int = 0
    """Streams whose samples came from more than one topic."""
    retained: int = 0
    """Messages that the broker had kept from before. They are skipped if the source says so."""
    duplicates: int = 0
    """Messages that the broker marked as sent before."""
