"""From the messages of a queue to samples: the same for every queue."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from streamrde.arrays import Floats
from streamrde.connectors.codecs.checks import check_size
from streamrde.connectors.codecs.refusals import listed
from streamrde.connectors.ends import MAX_BYTES, Batch, Codec, DeadLetter, Message, Rows
from streamrde.connectors.quarantine import Quarantine
from streamrde.connectors.samples import Samples, SourceCounts
from streamrde.connectors.sequences import Sequences
from streamrde.connectors.topics import Place, TopicTemplate, check_names
from streamrde.connectors.units import Conversion
from streamrde.errors import PayloadError

logger = logging.getLogger(__name__)
_LOG_INTERVAL = 10.0
# Streams whose losses are named within that time.
_MOST_LOSSES = 20
# Bytes of a stream's name in a payload. Those in topics have limits of their own.
_LONGEST_NAME = 1000
# Topics whose stream is remembered; who publishes is free to invent more.
_REMEMBERED = 100_000
# Messages that are worth reading together. Of more, one that has to be read alone is searched for by halves.
_FEW = 8


@dataclass(frozen=True)
class Subscription:
    """Topics, and how their payloads are read.

    Args:
        topic: template; one level is ``{stream}``, another may be ``{channel}``.
        codec: of the payloads; its columns are the model's channels, or the one value where the topic has the channel.
        numbered: the codec's last column is a sequence number.
    """

    topic: TopicTemplate
    codec: Codec
    numbered: bool = False
    names: Sequence[str] = ()
    """Names of the model's channels where topics have a channel, in its order. If (), they are the model's own."""
    ignores: bool = False
    """Topics of other channels are counted, and are no fault."""
    conversion: Conversion | None = None
    """Brings the values to the model's units. None: they are in these."""

    def channel_of(self, place: Place, own: Mapping[str, int]) -> int | None:
        """Return the number of a topic's channel, or None if there is none of that name."""
        if place.channel is None or not self.names:
            return own.get(place.channel or "")
        return self.names.index(place.channel) if place.channel in self.names else None


@dataclass(frozen=True, eq=False)
class MessageBatch(Batch):
    """A micro-batch: what had arrived when it was taken."""

    receipts: tuple[Any, ...] = ()
    """Receipts of the messages to acknowledge, in order of arrival."""
    requests: tuple[tuple[str, bytes], ...] = ()
    """Topics and payloads of what the codecs ask senders for."""
    refused: tuple[tuple[Any, str], ...] = ()
    """Receipts of the messages that cannot be read, each with the reason."""


class _Topic:
    """A topic from which a message came."""

    __slots__ = ("channel", "codec", "conversion", "device", "name", "numbered", "place", "sampled", "usual")

    def __init__(self, name: str, place: Place, subscription: Subscription, channel: int | None) -> None:
        self.channel = channel
        self.conversion = subscription.conversion
        self.name = name
        self.place = place
        self.device = subscription.topic.device_of(name)
        self.codec = subscription.codec
        self.numbered = subscription.numbered
        self.sampled = False
        """A sample came from it."""
        self.usual = False
        """Nothing but the payload decides what a message says."""


class _Found(NamedTuple):
    """Samples of one message, or of several that have one row each and the codec and conversion of one topic."""

    topic: _Topic
    rows: Rows
    arrivals: list[float]
    """When each row arrived."""


class _Gathered:
    """Collect what the messages of a batch say."""

    def __init__(self) -> None:
        self.found: list[_Found] = []
        self.letters: list[DeadLetter] = []
        self.refused: list[tuple[Any, str]] = []
        self.run: list[tuple[_Topic, Message]] = []
        """Messages that wait to be read together."""


class MessageReader:
    """Turn messages into batches of samples, and what cannot be read into dead letters.

    A message that cannot be read is counted, logged at most every ten seconds, and handed on in `Batch.letters`. A
    topic on which nothing else comes is set aside: what comes on it is counted apart and reported no more, until a
    message can be read again.

    Args:
        subscriptions: the first that fits a message's topic is used.
        channels: of the model.
        queue: name of the queue in messages, such as "MQTT broker 10.0.0.1:1883".
        counts: counts to continue.
        time_zero: moment from which the times of payloads are counted, seconds since 1970; it is added to them.
        skip_retained: leave out messages that the queue kept from before.
        max_bytes: longer payloads are refused before parsing.
        quarantine: when a topic is set aside; None: never.
        lossy: what may have lost messages, for the log.
    """

    def __init__(
        self,
        subscriptions: Sequence[Subscription],
        channels: Sequence[str],
        *,
        queue: str,
        counts: SourceCounts | None = None,
        time_zero: float = 0.0,
        skip_retained: bool = False,
        max_bytes: int = MAX_BYTES,
        quarantine: Quarantine | None = None,
        lossy: str = "look at what the queue keeps and at the sender",
    ) -> None:
        self.counts = SourceCounts() if counts is None else counts
        self.quarantine = Quarantine(faults=0) if quarantine is None else quarantine
        self.sequences = Sequences()
        self._queue, self._lossy = queue, lossy
        self._channels = {name: i for i, name in enumerate(channels)}
        self._subscriptions = tuple(subscriptions)
        self._conversions = [own.conversion for own in self._subscriptions if own.conversion is not None]
        check_names(s.topic for s in self._subscriptions)
        self._topics: dict[bytes, _Topic] = {}
        # The topic from which a stream's samples came first, without the channel, and streams that have several.
        self._devices: dict[str, str] = {}
        self._merged: set[str] = set()
        self._time_zero = time_zero
        self._skip_retained = skip_retained
        self._max_bytes = max_bytes
        self._next_log = self._next_losses = 0.0
        self._losses_said = 0

    def read(self, messages: Sequence[Message]) -> MessageBatch:
        """Return what the messages say, as one batch with their receipts."""
        gathered, now = _Gathered(), time.monotonic()
        receipts: list[Any] = []
        counts, run, topics = self.counts, gathered.run, self._topics
        counts.messages += len(messages)
        calm, codec, conversion = self.quarantine.is_empty, None, None
        # What a plain message costs is spent in this loop, so it is written out.
        for message in messages:
            key, _, _, receipt, _, _, again, retained = message
            if receipt is not None:
                receipts.append(receipt)
            if again or retained:
                counts.duplicates += again
                counts.retained += retained
                if retained and self._skip_retained:
                    continue
            topic = topics.get(key)
            if topic is None or not topic.usual or not (calm or self._is_calm(topic, key)):
                self._read_run(gathered, now)
                self._gather(message, gathered, now)
                calm = self.quarantine.is_empty
                continue
            if topic.codec is not codec or topic.conversion is not conversion:
                self._read_run(gathered, now)
                calm, codec, conversion = self.quarantine.is_empty, topic.codec, topic.conversion
            run.append((topic, message))
        self._read_run(gathered, now)
        return self._batch(gathered, len(messages), receipts)

    def _is_calm(self, topic: _Topic, key: bytes) -> bool:
        """Return True if a message of the topic is read as any other."""
        return not (self.quarantine.knows(key) or self.quarantine.knows(topic.place.stream))

    def _read_run(self, gathered: _Gathered, now: float) -> None:
        """Read the messages that wait, together if that can be."""
        run = gathered.run[:]
        gathered.run.clear()
        self._read_some(run, gathered, now)

    def _read_some(self, run: list[tuple[_Topic, Message]], gathered: _Gathered, now: float) -> None:
        if len(run) < _FEW:
            for _, message in run:
                self._gather(message, gathered, now)
            return
        payloads = [message.payload for _, message in run]
        rows = None if max(map(len, payloads)) > self._max_bytes else run[0][0].codec.read_together(payloads)
        if rows is None:
            half = len(run) // 2
            self._read_some(run[:half], gathered, now)
            self._read_some(run[half:], gathered, now)
            return
        if not self.quarantine.is_empty:  # messages of the same run, read before, were faults
            for topic, message in run:
                self._clear(topic, message.key)
        if self._time_zero:
            rows = rows._replace(t=rows.t + self._time_zero)
        rows = rows._replace(streams=[topic.place.stream for topic, _ in run])
        gathered.found.append(_Found(run[0][0], rows, [message.arrival for _, message in run]))

    def _clear(self, topic: _Topic, key: bytes) -> None:
        """Take note that a message of the topic can be read."""
        if self.quarantine.clear(key):
            logger.warning("%s: topic %r (stream %r) can be read again", self._queue, topic.name, topic.place.stream)

    def _gather(self, message: Message, gathered: _Gathered, now: float) -> None:
        """Read a message by itself."""
        try:
            gathered.found.append(self._read(message, now))
        except _UnusedError:
            self.counts.unused += 1
        except PayloadError as error:
            gathered.letters.append(self._dead(message, error))
            if message.receipt is not None:
                gathered.refused.append((message.receipt, f"{error}"))

    def topic_of(self, stream: str) -> str | None:
        """Return a topic from which the stream's messages come, or None if that is no longer known."""
        return self._devices.get(stream)

    def dropped(self, message: Message, waiting: int) -> None:
        """Count a message that a full queue of `waiting` messages pushed out unread."""
        self.sequences.skip(message.key)
        self.counts.dropped += 1
        self._log("the queue of %d messages is full: %d dropped so far", waiting, self.counts.dropped)

    def _batch(self, gathered: _Gathered, messages: int, receipts: Sequence[Any]) -> MessageBatch:
        found = gathered.found
        sizes = [len(one.rows.t) for one in found]
        begins = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).tolist()
        ends = tuple((begins[i], stream) for i, one in enumerate(found) for stream in one.rows.ended)
        self.counts.samples += sum(sizes)
        names = [one.rows.streams or [one.topic.place.stream] * len(one.rows.t) for one in found]
        empty = np.empty((0, len(self._channels)))
        t = np.concatenate([empty[:, 0], *(one.rows.t for one in found)])
        x = np.concatenate([empty, *(one.rows.x for one in found)])
        for conversion in self._conversions:
            own = np.repeat(np.array([one.topic.conversion is conversion for one in found], np.bool_), sizes)
            x = np.where(own[:, None], x * conversion.factor + conversion.offset, x)
        requests = [request for one in self._subscriptions for request in one.codec.requests()]
        return MessageBatch(
            Samples(pa.array([*chain.from_iterable(names)], pa.string()), t, x),
            np.array([*chain.from_iterable(one.arrivals for one in found)]),
            messages,
            tuple(gathered.letters),
            ends,
            tuple(receipts),
            tuple(requests),
            tuple(gathered.refused),
        )

    def _read(self, message: Message, now: float) -> _Found:
        """Return the samples of a message, in the model's channels and in seconds since 1970."""
        key = message.key
        topic = self._topics.get(key) or self._topic_of(key)
        place = topic.place
        if self.quarantine.holds(place.stream, now):
            raise _SetAsideError(f"stream {place.stream!r} is in quarantine")
        try:
            check_size(message.payload, self._max_bytes)
            rows = topic.codec.read(message)
            if rows.streams is not None:
                _check_streams(rows.streams)
        except PayloadError as error:
            self.sequences.skip(key)
            if self.quarantine.holds(key, now):
                raise _SetAsideError(f"the topic is in quarantine: {error}") from None
            if self.quarantine.fault(key, now):
                logger.error(
                    "%s: topic %r (stream %r) is set aside after %d messages in a row that cannot be read: %s; they "
                    "are counted and not reported for %g s, or until one can be read",
                    self._queue, topic.name, place.stream, self.quarantine.in_a_row(key), error,
                    self.quarantine.seconds,
                )  # fmt: skip
            raise
        self._clear(topic, key)
        self.counts.unused += rows.unused
        self.counts.missed += rows.missed
        if rows.streams is not None:
            rows = self._of_payload(topic, rows, now)
        elif not topic.sampled:
            self._sampled(topic)
        t, x = rows.t, rows.x
        if topic.numbered:
            self._follow(key, topic, x[:, -1])
            x = x[:, :-1]
        if place.channel is not None:
            values, x = x[:, 0], np.full((len(t), len(self._channels)), np.nan)
            x[:, topic.channel] = values
        if len(t) == 1 and math.isnan(t[0]):  # the payload has no time
            t[0] = _moment(message.arrival)
        elif len(t) != 1 and np.isnan(t).any():
            t = np.where(np.isnan(t), _moment(message.arrival), t + self._time_zero)
        elif self._time_zero:
            t = t + self._time_zero
        if t is not rows.t or x is not rows.x:
            rows = rows._replace(t=t, x=x)
        return _Found(topic, rows, [message.arrival] * len(rows.t))

    def _topic_of(self, key: bytes) -> _Topic:
        try:
            name = key.decode()
        except UnicodeDecodeError:
            raise PayloadError("its topic is not UTF-8") from None
        unknown, ignored = "", False
        for subscription in self._subscriptions:
            place = subscription.topic.place_of(name)
            if place is None:
                continue
            channel = subscription.channel_of(place, self._channels)
            if place.channel is not None and channel is None:
                unknown, ignored = place.channel, ignored or subscription.ignores
            else:
                if len(self._topics) >= _REMEMBERED:
                    self._topics.clear()
                topic = self._topics[key] = _Topic(name, place, subscription, channel)
                return topic
        if ignored:
            raise _UnusedError(f"its topic has another channel, {unknown!r}")
        if unknown:
            names = self._subscriptions[0].names or self._channels
            raise PayloadError(f"its topic has the channel {unknown!r}, which is none of {listed(names)}")
        raise PayloadError(f"its topic does not fit {', '.join(repr(s.topic.template) for s in self._subscriptions)}")

    def _sampled(self, topic: _Topic) -> None:
        """Note a topic's first sample. Warn once if a stream's samples come from two topics."""
        topic.sampled = True
        topic.usual = topic.channel is None and not topic.numbered
        if len(self._devices) >= _REMEMBERED:
            self._devices.clear()
            self._merged.clear()
        stream = topic.place.stream
        before = self._devices.setdefault(stream, topic.device)
        if before == topic.device or stream in self._merged:
            return
        self._merged.add(stream)
        self.counts.merged += 1
        if self.counts.merged == 1:
            logger.error(
                "%s: stream %r gets samples from two topics, %r and %r: two devices become one; give the level that "
                "tells them apart a name, such as {site}, in the source's topic",
                self._queue, stream, before, topic.device,
            )  # fmt: skip

    def _of_payload(self, topic: _Topic, rows: Rows, now: float) -> Rows:
        """Note the topic of streams that a payload names, and leave out those that are set aside."""
        for stream in dict.fromkeys(rows.streams or ()):
            if len(self._devices) >= _REMEMBERED:
                self._devices.clear()
            self._devices[stream] = topic.name
        if not len(self.quarantine):
            return rows
        kept = [i for i, stream in enumerate(rows.streams or ()) if not self.quarantine.holds(stream, now)]
        if len(kept) == len(rows.t):
            return rows
        self.counts.quarantined += 1
        return rows._replace(t=rows.t[kept], x=rows.x[kept], streams=[(rows.streams or ())[i] for i in kept])

    def _follow(self, key: bytes, topic: _Topic, numbers: Floats) -> None:
        loss = self.sequences.observe(key, topic.place.stream, numbers)
        if loss is None:
            return
        self.counts.missed += loss.missed
        if loss.first:
            self._log_loss(
                "%s: stream %r: %s messages or samples never came, between number %d and %d on topic %r; %s",
                self._queue, topic.place.stream, f"{loss.missed:,}", loss.before, loss.after, topic.name, self._lossy,
            )  # fmt: skip

    def _dead(self, message: Message, error: PayloadError) -> DeadLetter:
        name = message.topic
        if isinstance(error, _SetAsideError):
            self.counts.quarantined += 1
        else:
            self.counts.malformed += 1
            topic = self._topics.get(message.key)
            stream = f" (stream {topic.place.stream!r})" if topic is not None else ""
            self._log(
                "skipped a message on topic %r%s: %s; %d malformed so far", name, stream, error, self.counts.malformed
            )
        return DeadLetter(str(error), name, message.payload, _moment(message.arrival))

    def _log_loss(self, message: str, *arguments: object) -> None:
        """Log each stream's first loss, but not thousands of losses at once."""
        now = time.monotonic()
        if now >= self._next_losses:
            self._next_losses, self._losses_said = now + _LOG_INTERVAL, 0
        self._losses_said += 1
        if self._losses_said <= _MOST_LOSSES:
            logger.warning(message, *arguments)
        elif self._losses_said == _MOST_LOSSES + 1:
            logger.warning("%s: more streams have lost messages; the metric `missed` counts them", self._queue)

    def _log(self, message: str, *arguments: object) -> None:
        if (now := time.monotonic()) >= self._next_log:
            self._next_log = now + _LOG_INTERVAL
            logger.warning("%s: " + message, self._queue, *arguments)


class _UnusedError(PayloadError):
    """A message of something else, which is to be ignored."""


class _SetAsideError(PayloadError):
    """A message of a topic or a stream that is set aside."""


def _check_streams(streams: Iterable[str]) -> None:
    """Raise PayloadError where a stream's name is not one that can be kept and written."""
    for stream in dict.fromkeys(streams):
        try:
            size = len(stream.encode())
        except UnicodeEncodeError:
            raise PayloadError("the stream's name is not Unicode text: it has half of a surrogate pair") from None
        if size > _LONGEST_NAME:
            raise PayloadError(f"the stream's name has {size} bytes: send {_LONGEST_NAME} at most")


def _moment(arrival: float) -> float:
    """Return a time of `time.perf_counter()` in seconds since 1970."""
    return time.time() - (time.perf_counter() - arrival)


def joined(batches: Sequence[MessageBatch]) -> MessageBatch:
    """Return batches as one, in their order."""
    if len(batches) == 1:
        return batches[0]
    samples = [batch.samples for batch in batches]
    begins = np.cumsum([0, *(len(part.t) for part in samples)]).tolist()
    return MessageBatch(
        Samples(
            pa.concat_arrays([part.streams for part in samples]),
            np.concatenate([part.t for part in samples]),
            np.concatenate([part.x for part in samples]),
        ),
        np.concatenate([[] if batch.arrivals is None else batch.arrivals for batch in batches]),
        sum(batch.messages for batch in batches),
        tuple(letter for batch in batches for letter in batch.letters),
        tuple(
            (begin + row, stream) for begin, batch in zip(begins, batches, strict=False) for row, stream in batch.ends
        ),
        tuple(receipt for batch in batches for receipt in batch.receipts),
        tuple(request for batch in batches for request in batch.requests),
        tuple(refused for batch in batches for refused in batch.refused),
    )
