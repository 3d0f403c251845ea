"""Membership in a consumer group."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Protocol: TypeAlias = Literal["classic", "consumer"]
HOST = "{host}"
"""Placeholder for the machine's name in the name of a member."""
# Settings that the group's coordinator decides with the protocol "consumer" (KIP-848), each with its setting there.
DECIDED_THERE = {
    "session.timeout.ms": "group.consumer.session.timeout.ms",
    "heartbeat.interval.ms": "group.consumer.heartbeat.interval.ms",
    "partition.assignment.strategy": "group.consumer.assignors",
    "group.protocol.type": "nothing",
}


@dataclass(frozen=True)
class Membership:
    """A member of a consumer group, as this client is one.

    Args:
        group: the consumer group.
        instance: name of a static member (KIP-345), whose partitions wait for it while it restarts; {host} in it stands
            for the machine's name. None: a member is new at each start.
        protocol: who assigns partitions: a member of the group ("classic"), or the coordinator ("consumer", KIP-848).
        discover: seconds between two looks for new topics and partitions.
    """

    group: str
    instance: str | None = None
    protocol: Protocol = "classic"
    discover: float = 30.0

    def settings(self) -> dict[str, Any]:
        """Return librdkafka's settings for a consumer whose positions follow acknowledgement."""
        found: dict[str, Any] = {
            "group.id": self.group,
            "group.protocol": self.protocol,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            # Where to begin is said at assignment. A position that is gone is an error, and no silent jump.
            "auto.offset.reset": "error",
            "topic.metadata.refresh.interval.ms": round(self.discover * 1000),
        }
        if self.protocol == "classic":
            found["partition.assignment.strategy"] = "cooperative-sticky"
        if self.instance is not None:
            found["group.instance.id"] = self.instance.replace(HOST, socket.gethostname())
        return found
