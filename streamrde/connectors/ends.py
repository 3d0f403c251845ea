"""Contracts of the ends of a run: everything that the runtime asks of a connector.

A source delivers batches of samples, a sink takes predictions, dead letters are what could not be used, and a codec
turns payloads into samples and back. What has a default here need not be written in a connector.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import TracebackType
from typing import Any, ClassVar, Generic, NamedTuple, Self, TypeVar

import pyarrow as pa
from numpy.typing import ArrayLike

from streamrde.arrays import Floats
from streamrde.connectors.columns import Columns
from streamrde.connectors.quarantine import Quarantine
from streamrde.connectors.samples import Samples, SourceCounts
from streamrde.errors import ConfigError

MAX_BYTES = 1 << 20
"""Longest payload that is decoded, by default."""


class Message(NamedTuple):
    """A message of any queue, as it arrived."""

    key: bytes
    """Topic, subject, routing key or key of a stream, in UTF-8."""
    payload: bytes
    arrival: float
    """When it arrived, `time.perf_counter()` seconds."""
    receipt: Any = None
    """Handle by which the queue acknowledges it. None if it asks for no acknowledgement."""
    properties: Mapping[str, str] | None = None
    """Properties, or headers, that travel beside the payload."""
    stamped: float = math.nan
    """The queue's own time of the message, seconds since 1970; NaN if the queue has none."""
    again: bool = False
    """The queue marked it as sent before."""
    retained: bool = False
    """The queue had kept it from before."""

    @property
    def topic(self) -> str:
        """Return the key as text, with replacements for what is no UTF-8."""
        return self.key.decode("utf-8", "replace")


class Rows(NamedTuple):
    """Samples of one message, perhaps of several streams."""

    t: Floats
    """Seconds, (n,); NaN for a sample without a time of its own, which gets that of its arrival."""
    x: Floats
    """Values, (n, channels), with the sequence number in one more column if the codec has it; NaN = not observed."""
    streams: Sequence[str] | None = None
    """Stream of each row. None: all are of the stream that the topic names."""
    ended: Sequence[str] = ()
    """Streams that end before these rows. A name that ends with "/" stands for all streams below it."""
    unused: int = 0
    """Values of another kind than those that were asked for. They are counted, and are no fault."""
    missed: int = 0
    """Messages that never came before this one, by numbers that the codec follows itself."""


class DeadLetter(NamedTuple):
    """A message that could not be used."""

    reason: str
    topic: str
    payload: bytes
    received: float
    """When it arrived, seconds since 1970."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Samples that arrived together."""

    samples: Samples
    arrivals: Floats | None = None
    """When each row arrived, `time.perf_counter()` seconds, (rows,); None for recorded rows."""
    messages: int = 1
    """Messages in it, unreadable ones too."""
    letters: Sequence[DeadLetter] = ()
    """Messages that could not be used."""
    ends: Sequence[tuple[int, str]] = ()
    """Streams that end, as their messages say, each with the row before which it ends, in the order of these. A name
    that ends with "/" stands for all streams below it."""
    source: str = field(default="", kw_only=True)
    """Name of the source, in a run with several."""
    labels: bool = field(default=False, kw_only=True)
    """The rows are labels of earlier predictions, and no samples."""


B = TypeVar("B", bound=Batch)


@dataclass
class ConnectionCounts:
    """State of a connection, and counts of what has happened to it."""

    connected: bool = False
    waiting: bool = False
    """At the start: the broker is not there yet, and is asked again and again."""
    connects: int = 0
    """Number of times the connection was made, including the first."""
    sessions_lost: int = 0
    """Number of times the broker had forgotten the session. Everything it held for this client is then lost."""
    redelivered: int = 0
    """Messages that came again while they were still held here. They are passed on once."""
    resent: int = 0
    """Messages published again because a lost connection left them unconfirmed."""
    refused: int = 0
    """Messages that the broker refused for the time being (MQTT 5), and that are published again."""
    lost: int = 0
    """Messages of QoS 0 that were under way when a connection was lost, or that a broker deleted unread."""
    tombstones: int = 0
    """Messages of Kafka without a payload, which delete a key. They are passed over."""


class End:
    """Be one end of a run. Entering it connects, leaving it disconnects."""

    connection: ConnectionCounts | None = None
    """State of the connection; None for an end that has none, such as a file."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return None


class Source(End, ABC, Generic[B]):
    """Deliver samples. Iterating it ends when the source does, or after `stop`."""

    quarantine: Quarantine | None = None
    """Streams whose messages are left unread; None for a source that reads all it gets."""

    @property
    def source_names(self) -> tuple[str, ...]:
        """Return the names of the sources that are in it, "" for itself."""
        return ("",)

    @property
    def connections(self) -> dict[str, ConnectionCounts]:
        """Return the connections by name."""
        return {} if self.connection is None else {"source": self.connection}

    @cached_property
    def counts(self) -> SourceCounts:
        """Counts of what the source has seen."""
        return SourceCounts()

    @property
    def waiting(self) -> int | None:
        """Count the messages that have arrived and were not delivered yet. None if the source has no queue."""
        return None

    @abstractmethod
    def __aiter__(self) -> AsyncIterator[B]:
        """Deliver micro-batches in order of arrival."""

    @abstractmethod
    def stop(self) -> None:
        """End the iteration after what has arrived by now."""

    async def acknowledge(self, batch: B) -> None:
        """Take note that a batch's predictions are safe, so that it need not come again.

        The runtime acknowledges each batch once, in the order in which they were delivered.
        """

    def position_after(self, batch: B) -> bytes:
        """Return the position after a batch, for a store that keeps it beside the state. b"": the queue keeps it."""
        return b""

    def topic_of(self, stream: str) -> str | None:
        """Return a topic from which the stream's messages come, or None if it is not known."""
        return None


class Sink(End, ABC):
    """Take predictions."""

    @abstractmethod
    async def write(self, batch: pa.RecordBatch) -> None:
        """Return when every prediction is confirmed, or, at a `StagingSink`, held for the next checkpoint."""

    def finish(self) -> None:
        """Prepare for the last checkpoint of a run: no predictions follow."""

    @property
    def staging(self) -> StagingSink | None:
        """Return the sink itself if its output appears with a checkpoint, else None."""
        return None


class StagingSink(Sink):
    """Take predictions and show them with the checkpoint that saved them: exactly once."""

    @property
    def staging(self) -> StagingSink:
        """Return the sink itself."""
        return self

    @abstractmethod
    def resume(self, position: bytes, outbox: dict[int, bytes]) -> None:
        """Go on from the last checkpoint."""

    @abstractmethod
    def stage(self) -> tuple[bytes, list[bytes], int]:
        """Return the position, new entries of the outbox, and the number up to which entries are in a file.

        See `state.Checkpoint`.
        """

    @abstractmethod
    def staged(self) -> None:
        """Take note that the checkpoint with what `stage` returned is saved."""


class Publisher(End, ABC):
    """Send recorded samples as sensors would, for a replay."""

    messages: int = 0
    """Messages that are confirmed."""

    @abstractmethod
    async def publish(self, samples: Samples) -> None:
        """Send samples, in order within each stream. `flush` waits for what this leaves unconfirmed."""

    async def flush(self) -> None:
        """Wait until every message is confirmed."""


class DeadLetters(End, ABC):
    """Take messages that could not be used."""

    @abstractmethod
    async def write(self, letters: Sequence[DeadLetter]) -> None:
        """Return when the letters are safe."""


class Codec(ABC):
    """Read and write samples of one stream as the payload of a message, and predictions if it can.

    Args:
        columns: names of the time and channel fields; the stream comes from the topic.
        max_bytes: longer payloads are refused before parsing.
    """

    format: ClassVar[str] = ""
    """Name of the format in a configuration, and of the codec's module."""
    media_types: ClassVar[tuple[str, ...]] = ()
    """Content types of HTTP bodies that are in the format."""
    takes_topic: ClassVar[bool] = False
    """`read` looks at more of a message than its payload, so that the topic need not name the stream."""

    def __init__(self, columns: Columns, *, max_bytes: int = MAX_BYTES) -> None:
        self.columns = columns
        self.max_bytes = max_bytes
        self.stream_of_topic: Callable[[str], str] | None = None

    @classmethod
    def configured(cls, columns: Columns, *, layout: str | None, max_bytes: int) -> Codec:
        """Return the codec of a configuration.

        Raises:
            ConfigError: there is a layout, and the format has none.
        """
        if layout is not None:
            raise ConfigError(f'layout is for codec = "packed", and codec is {cls.format!r}')
        return cls(columns, max_bytes=max_bytes)

    @abstractmethod
    def decode(self, payload: bytes) -> tuple[Floats, Floats]:
        """Return the samples of a payload: t in seconds, (n,), finite, and x, (n, channels), finite or NaN.

        NaN is a channel that was not observed. There is at least one sample, and each has the field of some channel: a
        payload without any is not a sample. Where `columns.sequence` names a field, x has its numbers in one more
        column.

        Raises:
            PayloadError: whatever else the payload is; nothing else is ever raised.
        """

    def read(self, message: Message) -> Rows:
        """Return the samples of a message. By default they are those of its payload, and of one stream.

        Unlike `decode` it may return no samples, where a message is legal and has none.

        Raises:
            PayloadError: see `decode`.
        """
        return Rows(*self.decode(message.payload))

    def read_together(self, payloads: Sequence[bytes]) -> Rows | None:
        """Return one row for each payload, the same as by `read`, or None.

        It is None if some payload is anything but one sample of the topic's stream with a time of its own, or if it is
        not known that all are. They are then read one by one. Formats that gain nothing by reading many at once leave
        this as it is.
        """
        return None

    def name_streams(self, stream_of: Callable[[str], str]) -> None:
        """Take the function that gives the stream's name in a topic, for names that are partly there."""
        self.stream_of_topic = stream_of

    def ask_for_births(self) -> None:
        """Let the codec ask senders for messages that it needs and has not seen. See `requests`.

        Raises:
            ConfigError: the format has no such messages.
        """
        raise ConfigError(f'rebirth is for codec = "sparkplug", and codec is {self.format!r}')

    def requests(self) -> list[tuple[str, bytes]]:
        """Return topics and payloads of what is to be published to senders, each once."""
        return []

    @abstractmethod
    def encode_samples(self, t: ArrayLike, x: ArrayLike) -> bytes:
        """Return samples as a payload that `decode` reads back.

        Args:
            t: seconds, (n,), finite.
            x: (n, channels), finite or NaN.
        Raises:
            SampleError: a value that the format cannot carry.
        """

    @staticmethod
    def encode_prediction(row: Mapping[str, Any]) -> bytes:
        """Return a row of the prediction record batch as a payload. Formats that cannot do this leave it as it is."""
        raise NotImplementedError

    @classmethod
    def carries_predictions(cls) -> bool:
        """Return True if the format has an `encode_prediction` of its own."""
        return cls.encode_prediction is not Codec.encode_prediction
