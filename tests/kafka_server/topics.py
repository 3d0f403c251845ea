"""Topics, their partitions and their settings."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass, field

from kafka_server.codes import Code, Refused
from kafka_server.log import PartitionLog

_NAME = re.compile(r"[a-zA-Z0-9._-]{1,249}")
# Kafka's defaults of the settings that this broker knows. Those it does not act upon are kept and shown.
DEFAULTS = {
    "cleanup.policy": "delete",
    "compression.type": "producer",
    "delete.retention.ms": "86400000",
    "max.compaction.lag.ms": "9223372036854775807",
    "max.message.bytes": "1048588",
    "message.timestamp.type": "CreateTime",
    "min.cleanable.dirty.ratio": "0.5",
    "min.compaction.lag.ms": "0",
    "min.insync.replicas": "1",
    "retention.bytes": "-1",
    "retention.ms": "604800000",
    "segment.bytes": "1073741824",
    "segment.ms": "604800000",
    "unclean.leader.election.enable": "false",
}


@dataclass
class Topic:
    """A topic."""

    name: str
    partitions: list[PartitionLog]
    settings: dict[str, str] = field(default_factory=dict)
    id: uuid.UUID = field(default_factory=uuid.uuid4)

    def setting(self, name: str) -> str:
        """Return a setting, or Kafka's default."""
        return self.settings.get(name, DEFAULTS[name])

    @property
    def compacted(self) -> bool:
        """Return if records are kept by key."""
        return "compact" in self.setting("cleanup.policy").split(",")


class Topics:
    """All topics."""

    def __init__(self, *, partitions: int, automatic: bool) -> None:
        self.default_partitions = partitions
        self.automatic = automatic
        self.by_name: dict[str, Topic] = {}

    def create(
        self, name: str, partitions: int = -1, settings: dict[str, str] | None = None, *, only_check: bool = False
    ) -> None:
        """Create a topic; -1 partitions are the broker's default number (KIP-464)."""
        if not _NAME.fullmatch(name) or name in (".", ".."):
            raise Refused(Code.INVALID_TOPIC_EXCEPTION, f"topic name {name!r}")
        if name in self.by_name:
            raise Refused(Code.TOPIC_ALREADY_EXISTS, f"topic {name!r} exists")
        partitions = self.default_partitions if partitions == -1 else partitions
        if partitions < 1:
            raise Refused(Code.INVALID_PARTITIONS, f"{partitions} partitions")
        check_settings(settings or {})
        if not only_check:
            self.by_name[name] = Topic(name, [PartitionLog() for _ in range(partitions)], dict(settings or {}))

    def grow(self, name: str, count: int, *, only_check: bool = False) -> None:
        """Give a topic more partitions (KIP-195)."""
        topic = self.topic(name)
        if count <= len(topic.partitions):
            raise Refused(Code.INVALID_PARTITIONS, f"topic {name!r} has {len(topic.partitions)} partitions")
        if not only_check:
            topic.partitions += [PartitionLog() for _ in range(count - len(topic.partitions))]

    def delete(self, name: str) -> None:
        """Delete a topic with all its records."""
        for log in self.topic(name).partitions:
            log.wake()
        del self.by_name[name]

    def topic(self, name: str) -> Topic:
        """Return a topic."""
        if name not in self.by_name:
            raise Refused(Code.UNKNOWN_TOPIC_OR_PARTITION, f"no topic {name!r}")
        return self.by_name[name]

    def log(self, name: str, partition: int) -> PartitionLog:
        """Return a partition."""
        topic = self.topic(name)
        if not 0 <= partition < len(topic.partitions):
            raise Refused(Code.UNKNOWN_TOPIC_OR_PARTITION, f"no partition {partition} in {name!r}")
        return topic.partitions[partition]


def check_settings(settings: dict[str, str]) -> None:
    """Refuse settings that Kafka does not have, or that would need what this broker does not do."""
    for name, value in settings.items():
        if name not in DEFAULTS:
            raise Refused(Code.INVALID_CONFIG, f"unknown topic config name: {name}")
        if name == "message.timestamp.type" and value != "CreateTime":
            raise Refused(Code.INVALID_CONFIG, f"{name} = {value}: this broker keeps the producers' times only")
        if name == "cleanup.policy" and not set(value.split(",")) <= {"compact", "delete"}:
            raise Refused(Code.INVALID_CONFIG, f"{name} = {value}: compact, delete, or both")
