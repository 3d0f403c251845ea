"""Positions of a group in a topic, its members, and messages that were deleted before they were read."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from streamrde.errors import StateError


class Lag(NamedTuple):
    """Position of a group in a partition."""

    partition: int
    low: int
    """Offset of the first message that is still there."""
    high: int
    """Offset of the next message to come."""
    committed: int | None
    """Position of the group, or None if it has none."""

    @property
    def begin(self) -> int:
        """The offset of the next message that the group gets."""
        return self.low if self.committed is None else max(self.low, self.committed)

    @property
    def unread(self) -> int:
        """Messages that the group gets next, as far as they are there."""
        return max(0, self.high - self.begin)

    @property
    def lost(self) -> int:
        """Messages that were deleted before the group had read them."""
        return 0 if self.committed is None else max(0, self.low - self.committed)


class Member(NamedTuple):
    """A member of a consumer group."""

    client: str
    host: str
    partitions: tuple[tuple[str, int], ...]

    def __str__(self) -> str:
        return f"{self.client}@{self.host.lstrip('/')}"


def lags_of(consumer: Any, topic: str, *, timeout: float = 10.0) -> list[Lag]:
    """Return the positions of a consumer's group in the partitions of a topic."""
    from confluent_kafka import TopicPartition

    numbers = sorted(consumer.list_topics(topic, timeout=timeout).topics[topic].partitions)
    places = [TopicPartition(topic, number) for number in numbers]
    committed = {one.partition: one.offset for one in consumer.committed(places, timeout=timeout)}
    found = []
    for place in places:
        low, high = consumer.get_watermark_offsets(place, timeout=timeout)
        position = committed.get(place.partition, -1)
        found.append(Lag(place.partition, low, high, position if position >= 0 else None))
    return found


def members_of(admin: Any, group: str, *, timeout: float = 10.0) -> list[Member]:
    """Return the members of a group now."""
    from confluent_kafka import KafkaException

    try:
        found = admin.describe_consumer_groups([group], request_timeout=timeout)[group].result(timeout)
    except KafkaException as error:
        if error.args[0].name() in ("GROUP_ID_NOT_FOUND", "INVALID_GROUP_ID"):
            return []
        raise
    return [
        Member(
            one.group_instance_id or one.client_id,
            one.host,
            tuple((place.topic, place.partition) for place in one.assignment.topic_partitions),
        )
        for one in found.members
    ]


def refuse_members(members: Collection[Member], group: str) -> None:
    """Raise StateError while a group has members, whose state would be changed behind their backs."""
    if members:
        names = ", ".join(map(str, [*members][:5]))
        raise StateError(f"group {group!r} has {len(members)} members ({names}): stop all workers first")


def lag_text(lags: Sequence[Lag]) -> str:
    """Describe the positions in a few words."""
    unread, lost = sum(lag.unread for lag in lags), sum(lag.lost for lag in lags)
    if not any(lag.committed is not None for lag in lags):
        return f"{unread:,} messages, and the group has no position yet"
    most = max(lags, key=lambda lag: lag.unread)
    text = f"{unread:,} messages" + (f", most in partition {most.partition}: {most.unread:,}" if unread else "")
    return text + (f"; {lost:,} were deleted before they were read, and are lost: keep messages longer" if lost else "")
