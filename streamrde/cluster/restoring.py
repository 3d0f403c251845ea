"""Read a partition of a changelog back: all of it, or what came after a local copy."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from streamrde.cluster.changelog import Entry, decode
from streamrde.cluster.transactions import SILENT
from streamrde.errors import BrokerError

logger = logging.getLogger(__name__)
# Seconds for one answer. The partition may be given up meanwhile.
_HOLD = 0.5
_PAUSE = 0.2
_PART = 1000
# Settings of the client library that read a whole partition fast. The end of it is told at once.
_FAST = {
    "enable.partition.eof": True,
    "fetch.wait.max.ms": 20,
    "queued.min.messages": 100_000,
    "queued.max.messages.kbytes": 65_536,
    "fetch.max.bytes": 50_000_000,
    "max.partition.fetch.bytes": 10_000_000,
}


@dataclass
class Restored:
    """Count what was read of a changelog."""

    entries: int = 0
    size: int = 0
    """Bytes."""
    seconds: float = 0.0
    copied: bool = False
    """A local copy was used, and only what came after it was read."""


class Reading:
    """Read partitions outside of the group's assignment. All methods block.

    Args:
        settings: of the client library, for a consumer of the group.
        refusal: turns an error of the client library into one with a remedy.
        check: raises where the partition was given up.
    """

    def __init__(
        self, settings: Mapping[str, Any], *, refusal: Callable[[Any], BrokerError], check: Callable[[], None]
    ) -> None:
        from confluent_kafka import Consumer

        self._refusal = refusal
        self._check = check
        own = {key: value for key, value in settings.items() if key not in ("group.instance.id", "group.protocol")}
        self._consumer = Consumer({**own, **_FAST}, logger=SILENT)

    def close(self) -> None:
        """Let go of the connections."""
        self._consumer.close()

    def committed(self, topic: str, partition: int) -> int | None:
        """Return the group's position, or None if it has none."""
        from confluent_kafka import TopicPartition

        place = TopicPartition(topic, partition)
        (found,) = self._insist(lambda: self._consumer.committed([place], timeout=_HOLD * 4))
        if found.error is not None:
            raise self._refusal(found.error)
        return found.offset if found.offset >= 0 else None

    def known(self, topic: str, partitions: int) -> bool:
        """Return True if the group has a position in some partition of the topic."""
        from confluent_kafka import TopicPartition

        places = [TopicPartition(topic, number) for number in range(partitions)]
        return any(one.offset >= 0 for one in self._insist(lambda: self._consumer.committed(places, timeout=_HOLD * 4)))

    def ends(self, topic: str, partition: int) -> tuple[int, int]:
        """Return the offset of the first message that is there, and of the one that will come next."""
        from confluent_kafka import TopicPartition

        place = TopicPartition(topic, partition)
        low, high = self._insist(lambda: self._consumer.get_watermark_offsets(place, timeout=_HOLD * 4))
        return low, high

    def entries(self, topic: str, partition: int, begin: int, restored: Restored) -> Iterator[tuple[int, Entry]]:
        """Yield the committed entries of a changelog from an offset to its end, each with its offset."""
        from confluent_kafka import TopicPartition

        began = time.perf_counter()
        low, high = self.ends(topic, partition)
        if high <= max(begin, low):
            return
        self._consumer.assign([TopicPartition(topic, partition, max(begin, low))])
        try:
            at_end = False
            while not at_end:
                self._check()
                first = self._consumer.poll(_HOLD)
                for message in [] if first is None else [first, *self._consumer.consume(_PART - 1, 0)]:
                    if (error := message.error()) is not None:
                        if error.name() == "_PARTITION_EOF":
                            at_end = True
                        elif not error.retriable() and (refused := self._refusal(error)).final:
                            raise refused
                        continue
                    key, value, offset = message.key() or b"", message.value(), message.offset() or 0
                    restored.entries += 1
                    restored.size += len(key) + len(value or b"")
                    place = f"topic {topic!r}, partition {partition}, offset {offset}"
                    yield offset, decode(key, value, message.headers(), place=place)
        finally:
            self._consumer.unassign()
            restored.seconds += time.perf_counter() - began

    def _insist(self, call: Callable[[], Any]) -> Any:
        """Repeat a call until a broker answers it."""
        from confluent_kafka import KafkaException

        said = ""
        while True:
            self._check()
            try:
                return call()
            except KafkaException as error:
                refused = self._refusal(error.args[0])
                if refused.final:
                    raise refused from None
                if said != (said := f"{refused}"):
                    logger.warning("waiting for the cluster: %s", said)
            time.sleep(_PAUSE)
