"""Count the work on each partition of a topic, where partitions are shared among workers."""

from __future__ import annotations

from dataclasses import dataclass, field

from streamrde.runtime.metrics import Durations


@dataclass
class PartitionMetrics:
    """Count the work of this worker on one partition that it owns."""

    topic: str
    partition: int
    restoring: bool = False
    """Its state is being restored."""
    lag_messages: int = 0
    """Messages in the partition that no checkpoint has yet."""
    lag_seconds: float = 0.0
    """Age of the last message that was taken while others wait behind it, by the time that the broker has for it."""
    streams: int = 0
    state_bytes: int = 0
    """Snapshots of its live streams as the changelog has them."""
    restore_seconds: float = 0.0
    restore_bytes: int = 0
    """Read from the changelog by the last restore."""
    rows: int = 0
    commits: int = 0
    """Transactions that were committed."""
    aborts: int = 0
    """Transactions that were aborted or refused."""
    commit_time: Durations = field(default_factory=Durations)
    """Seconds from the beginning of a commit to the broker's answer."""
    strays: int = 0
    """Streams whose key another partitioner than the topic's puts here."""
    twice: int = 0
    """Streams that were seen in another partition, too."""
    lost: int = 0
    """Messages that the topic deleted before they were read."""


@dataclass
class GroupMetrics:
    """Count the events of a worker in its consumer group."""

    rebalances: int = 0
    """Assignments and revocations."""
    fenced: int = 0
    """Partitions that another worker had taken over before this one knew."""
    partitions: dict[tuple[str, int], PartitionMetrics] = field(default_factory=dict)
    """Partitions that this worker owns now, by topic and number."""
