"""Messages as a consumer fetched them, many at a time."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from streamrde.connectors.ends import Message
from streamrde.connectors.kafka.topics import KafkaTopic

if TYPE_CHECKING:
    from confluent_kafka import Message as Fetched

# Keys of messages that are remembered with their topic; who publishes is free to invent more.
_REMEMBERED = 100_000


class Run(NamedTuple):
    """Neighbours: messages of one partition, in their order."""

    topic: str
    partition: int
    messages: list[Message]
    """The messages. The receipt of each is its offset."""
    begin: int
    """Offset of the first, tombstones included."""
    end: int
    """Offset after the last, tombstones included."""
    tombstones: int
    """Messages without a payload: they delete their key in a compacted topic, and are no samples."""

    def position(self, count: int) -> int:
        """Return the offset to go on from after the first `count` messages."""
        return self.messages[count].receipt if count < len(self.messages) else self.end


def fetch(consumer: Any, most: int, hold: float) -> list[Fetched]:
    """Return what a consumer in a group has, waiting a moment for the first message.

    It polls one by one. librdkafka's consume() may assign partitions in between, and then throws away messages that it
    has taken already, although the position has passed them.

    Args:
        most: messages that are returned, at most.
        hold: seconds to wait.
    """
    poll, found = consumer.poll, list[Any]()
    message = poll(hold)
    while message is not None:
        found.append(message)
        message = poll(0) if len(found) < most else None
    return found


class Unpacker:
    """Turn what a consumer fetched into messages.

    Args:
        templates: topics that are read. The first that fits says if the key of a message names its stream.
        keyed: keys are taken along in topics that fit no template.
    """

    def __init__(self, templates: Sequence[KafkaTopic], *, keyed: bool = False) -> None:
        self._templates = tuple(templates)
        self._keyed = keyed
        # By topic: names with keys behind them, by the key. None: keys mean nothing.
        self._names: dict[str, dict[Any, bytes] | None] = {}

    def unpack(self, fetched: Sequence[Fetched]) -> tuple[list[Run], list[Any]]:
        """Return runs of neighbours, and the errors among what was fetched."""
        runs, errors = list[Run](), list[Any]()
        arrival, missing, new = time.perf_counter(), math.nan, tuple.__new__
        topic, partition, begin, end, tombstones = "", -1, 0, 0, 0
        named: dict[Any, bytes] | None = None
        plain = b""
        messages = list[Message]()
        # This loop is all that each message costs here, so it is written out, and spares the call of Message.__new__.
        for one in fetched:
            if (error := one.error()) is not None:
                errors.append(error)
                continue
            if one.partition() != partition or one.topic() != topic:
                if partition >= 0:
                    runs.append(Run(topic, partition, messages, begin, end, tombstones))
                topic, partition, begin, tombstones = one.topic() or "", one.partition() or 0, one.offset() or 0, 0
                messages = []
                named, plain = self._keys(topic), topic.encode()
            offset: Any = one.offset()
            end = offset + 1
            if (payload := one.value()) is None:
                tombstones += 1
                continue
            key = plain if named is None else named.get(name := one.key()) or self._named(named, plain, name)
            kind, milliseconds = one.timestamp()
            headers = one.headers()
            messages.append(
                new(
                    Message,
                    (
                        key,
                        payload,
                        arrival,
                        offset,
                        headers_of(headers) if headers else None,
                        milliseconds * 1e-3 if kind else missing,
                        False,
                        False,
                    ),
                )
            )
        if partition >= 0:
            runs.append(Run(topic, partition, messages, begin, end, tombstones))
        return runs, errors

    def is_keyed(self, topic: str) -> bool:
        """Return True if the key of a message names its stream."""
        return self._keys(topic) is not None

    def _keys(self, topic: str) -> dict[Any, bytes] | None:
        if topic not in self._names:
            fits = [one for one in self._templates if one.place_of(f"{topic}/-") is not None]
            self._names[topic] = {} if (fits[0].keyed if fits else self._keyed) else None
        return self._names[topic]

    def _named(self, named: dict[Any, bytes], topic: bytes, key: Any) -> bytes:
        if len(named) >= _REMEMBERED:
            named.clear()
        name = named[key] = topic + b"/" + (key.encode() if isinstance(key, str) else key or b"")
        return name


def headers_of(headers: Any) -> dict[str, str]:
    """Return headers as text. Of several with one name, the last counts. Bytes that are no UTF-8 are replaced.

    >>> headers_of([("line", b"7"), ("line", b"8"), ("none", None)])
    {'line': '8', 'none': ''}
    """
    return {
        name: value.decode("utf-8", "replace") if isinstance(value, bytes) else value or "" for name, value in headers
    }
