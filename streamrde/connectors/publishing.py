"""Recorded samples out, as sensors would send them, to whatever a URL names."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Self

import msgspec

from streamrde.connectors.clients import Outgoing, QueueClient
from streamrde.connectors.codecs.json import JsonCodec
from streamrde.connectors.columns import Columns, TimeKeys
from streamrde.connectors.ends import Publisher
from streamrde.connectors.registry import SINKS
from streamrde.connectors.samples import Samples
from streamrde.connectors.sections import SinkConfig
from streamrde.connectors.topics import TopicTemplate
from streamrde.errors import ConfigError, ParameterError


class QueuePublisher(Publisher):
    """Publish samples over a queue's client, as JSON.

    Args:
        client: client of the queue.
        topic: template of the topics, one level of it ``{stream}``.
        columns: names of the fields in the payload.
        batch: samples of one stream in a message, at most.
    """

    def __init__(self, client: QueueClient, topic: TopicTemplate, columns: Columns, batch: int = 1) -> None:
        if batch < 1:
            raise ParameterError(f"batch={batch}: a message needs at least one sample")
        self._client = client
        self._topic = topic
        self._codec = JsonCodec(written(columns))
        self._batch = batch

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._client.__aexit__(kind, error, traceback)

    async def publish(self, samples: Samples) -> None:
        """Send samples, in order within each stream, and return when all are confirmed.

        Raises:
            ParameterError: a stream's name cannot be part of a topic; none of the samples was sent.
        """
        names = samples.streams.to_pylist()
        topics = {name: self._topic.topic_for(name) for name in dict.fromkeys(names)}
        outgoing = [
            Outgoing(topics[name], self._codec.encode_samples(samples.t[rows], samples.x[rows]))
            for name, rows in messages_of(names, self._batch)
        ]
        await self._client.publish(outgoing)
        self.messages += len(outgoing)


def publisher_to(url: str, *, topic: str | None, columns: Columns, batch: int, keys: Mapping[str, str]) -> Publisher:
    """Return what sends samples to a URL, not yet connected.

    Args:
        url: address of a broker or server.
        topic: template of the topics; None: `sensors`, the stream's name and `imu`, as the queue writes it.
        columns: names of the fields in the payload.
        batch: samples of one stream in a message, at most.
        keys: further keys of a section [sink] of the kind, as text.
    Raises:
        ConfigError: no kind has such URLs, or a key is wrong.
    """
    scheme = url.split("://")[0]
    sections = {name: section for section in SINKS.classes() for name in section.schemes}
    if (section := sections.get(scheme)) is None:
        hint = '; a source of kind = "http" takes samples at ws:// or wss://' if scheme in ("http", "https") else ""
        raise ConfigError(
            f"nothing can be sent to {scheme!r}: begin the address with one of "
            f"{', '.join(f'{name}://' for name in sorted(sections))}{hint}"
        )
    kind = section.__struct_config__.tag  # type: ignore[attr-defined]
    settings = {"kind": kind, "url": url, "topic": topic or section.sensors, **keys}
    try:
        found: SinkConfig = msgspec.convert(settings, section, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{kind}: {error}") from None
    return found.publisher(columns, batch)


def written(columns: Columns) -> Columns:
    """Return the fields of payloads with samples that were read by `columns`: the topic has the stream."""
    times = {name: getattr(columns, name) for name in TimeKeys.__struct_fields__}
    return Columns(channels=columns.channels, stream=None, sequence=columns.sequence, **times | {"time": columns.time})


def messages_of(names: list[str], batch: int) -> list[tuple[str, list[int]]]:
    """Return the rows of each message: at most `batch` rows of one stream, in the order of their first rows."""
    messages: list[tuple[str, list[int]]] = []
    opened: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        if len(rows := opened.get(name, [])) in (0, batch):
            opened[name] = rows = []
            messages.append((name, rows))
        rows.append(row)
    return messages
