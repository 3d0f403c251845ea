"""Keys of every source that reads messages: topics, how payloads are read, and what becomes of unreadable ones."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, ClassVar, Self

import msgspec

from streamrde.connectors.clients import QueueClient
from streamrde.connectors.columns import ALL, ColumnKeys, given_keys
from streamrde.connectors.messages import Subscription
from streamrde.connectors.quarantine import Quarantine
from streamrde.connectors.registry import CODECS, CodecName
from streamrde.connectors.sections import SourceConfig
from streamrde.connectors.topics import MQTT, Grammar, TopicTemplate
from streamrde.connectors.units import conversion
from streamrde.errors import ConfigError
from streamrde.settings import Positive, Seconds
from streamrde.times import zero_seconds

# Keys beside those of times and channels that decide which samples a payload gives.
_SHAPES = ("stream", "records", "name", "missing", "words", "units", "scale", "offset")


class PayloadKeys(ColumnKeys, frozen=True, kw_only=True):
    """Say how payloads are read."""

    codec: CodecName = "json"
    """Encoding of the payloads."""
    layout: str | None = None
    """For codec = "packed": the record, as in Python's struct module."""
    sequence: str = ""
    """Payload field that counts up with every message or sample. If "", there is none, and losses go unnoticed."""

    rebirth: bool = False
    """For codec = "sparkplug": ask nodes for their birth where it was not seen, or messages are missing (NCMD)."""

    def subscription(
        self,
        topic: TopicTemplate,
        own: Sequence[str],
        units: Sequence[str] = (),
        *,
        max_bytes: int,
        classes: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
    ) -> Subscription:
        """Return the topics with their codec, for a model's channels, their units and names of classes.

        Raises:
            ConfigError: there is no such codec or unit, or there are limits, which belong to the whole run.
        """
        columns = self.columns_for(own, sequence=self.sequence, classes=classes)
        names = columns.channels
        if topic.has_channel:
            if isinstance(self.missing, dict) and self.missing.keys() - {ALL}:
                raise ConfigError("missing is a table by channel, and the topic has the channel: list it for all")
            columns = columns.only((self.value,))
        if self.rate != 1.0:
            raise ConfigError("rate is for files; messages without a time have that of their arrival: leave it out")
        if self.limits:
            raise ConfigError("limits are of the model's channels, wherever they come from: give them in [columns]")
        converted = conversion(
            names, units or [""] * len(names), recorded=self.units, scale=self.scale, offset=self.offset
        )
        if (codec := CODECS.find(self.codec)) is None:
            raise ConfigError(f"codec = {self.codec!r}: there is none of that name")
        found = codec.configured(columns, layout=self.layout, max_bytes=max_bytes)
        found.name_streams(topic.stream_of)
        if self.rebirth:
            found.ask_for_births()
        return Subscription(
            topic, found, bool(self.sequence), names, ignores=self.others == "ignore", conversion=converted
        )


class PayloadConfig(PayloadKeys, frozen=True, kw_only=True):
    """Topics of a source, and how their payloads are read."""

    topic: str
    """Template of the topics. {stream} is a level, {channel} is the channel, others in braces are part of its name."""

    def template(self, grammar: Grammar, sort: type[TopicTemplate] = TopicTemplate) -> TopicTemplate:
        """Return the template of the topics."""
        codec, parts = CODECS.find(self.codec), self.stream if isinstance(self.stream, tuple) else (self.stream,)
        said = any(part not in (None, "", "@topic") for part in parts) and "@topic" not in parts
        return sort(self.topic, grammar, named=not said and (codec is None or not codec.takes_topic))

    @classmethod
    def of(cls, keys: PayloadKeys, topic: str) -> Self:
        """Return a topic with the keys of a section."""
        return cls(topic=topic, **{name: getattr(keys, name) for name in PayloadKeys.__struct_fields__})


class PayloadSourceConfig(PayloadKeys, SourceConfig, frozen=True, kw_only=True):
    """Answer for a source of messages. A queue's section adds its `kind` and how it is reached."""

    grammar: ClassVar[Grammar] = MQTT
    sort: ClassVar[type[TopicTemplate]] = TopicTemplate
    """The templates that topics are."""
    answers: ClassVar[bool] = False
    """The source can publish to the senders."""

    topic: str | None = None
    """Template of the topics; or `topics`, several with a codec each."""
    topics: tuple[PayloadConfig, ...] = ()
    """Several topics, each with its payload, instead of topic."""
    time_zero: str = ""
    """Moment from which the times of payloads are counted, ISO 8601. "": 1970, or any other if nothing depends on
    it."""
    queue_messages: Positive = 10_000
    """Messages that wait to be processed, at most."""
    max_bytes: Positive = 1 << 20
    """Longest payload that is read."""
    quarantine_faults: Annotated[int, msgspec.Meta(ge=0)] = 10
    """Messages in a row that cannot be read after which a topic is set aside. If 0, it never is."""
    quarantine_seconds: Seconds = 60.0
    """Seconds for which a stream is set aside."""

    def payloads(self) -> tuple[PayloadConfig, ...]:
        """Return all topics with their payloads."""
        if (self.topic is None) == (not self.topics):
            raise ConfigError("source: give topic, or [[source.topics]], one of them")
        return self.topics if self.topic is None else (PayloadConfig.of(self, self.topic),)

    def templates(self) -> list[TopicTemplate]:
        """Return the templates of all topics."""
        return [payload.template(self.grammar, self.sort) for payload in self.payloads()]

    def subscriptions(
        self,
        own: Sequence[str],
        units: Sequence[str] = (),
        classes: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
    ) -> list[Subscription]:
        """Return all topics with their codecs, for a model's channels, their units and names of classes."""
        pairs = [*zip(self.templates(), self.payloads(), strict=True)]
        if not self.answers and any(payload.rebirth for _, payload in pairs):
            raise ConfigError("source.rebirth is for MQTT, which carries messages to the senders; leave it out")
        return [
            payload.subscription(topic, own, units, max_bytes=self.max_bytes, classes=classes)
            for topic, payload in pairs
        ]

    def overhear(self, topic: str, limit: int, given: Collection[str] = ()) -> QueueClient | None:
        """Return a client that receives what is sent and takes it from nobody. None: the source itself does.

        Args:
            topic: topics in the signs of the queue; "": all.
            limit: messages to receive, at most.
            given: keys of the section that were given. Others may be found out.
        """
        return None

    @property
    def topics_shown(self) -> str:
        """Name the topics that are read, for people."""
        return ", ".join(payload.topic for payload in self.payloads())

    @property
    def time_units(self) -> set[str]:
        """See `SourceConfig.time_units`."""
        return {payload.time_unit for payload in self.payloads() if payload.time}

    @property
    def zero(self) -> float:
        """Return the moment from which times are counted, in seconds since 1970."""
        return zero_seconds(self.time_zero) if self.time_zero else 0.0

    def quarantine(self) -> Quarantine:
        """Return the rules for topics on which nothing comes that can be read."""
        return Quarantine(faults=self.quarantine_faults, seconds=self.quarantine_seconds)

    def identity(self) -> dict[str, str]:
        """See `SourceConfig.identity`."""
        found: dict[str, str] = {}
        for i, payload in enumerate(self.payloads()):
            place = f"source.topics[{i}]" if self.topics else "source"
            found |= {f"{place}.topic": payload.topic, f"{place}.time_unit": payload.time_unit}
            rare = {f"{place}.time_format": payload.time_format, f"{place}.time_zone": payload.time_zone}
            found |= {key: value for key, value in rare.items() if value}
            shapes = given_keys(payload)
            found |= {f"{place}.{key}": str(shapes[key]) for key in _SHAPES if key in shapes}
            found[f"{place}.channels"] = ", ".join(payload.channels)
        return found | ({"source.time_zero": self.time_zero} if self.time_zero else {})


def unkept(name: str) -> str:
    """Return the warning for a run with [state] whose source keeps nothing for it."""
    return (
        f"{name}: [state] saves the streams, and nothing keeps the messages that come while this is away or that were "
        "not acknowledged when it ended: they are lost"
    )
