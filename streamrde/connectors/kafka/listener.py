"""Listen to Kafka for a look: no group is joined, and no position is kept."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from streamrde.connectors.clients import Intake, Outgoing
from streamrde.connectors.kafka.client import HOLD, SHARE, KafkaClient
from streamrde.connectors.kafka.fetched import Unpacker
from streamrde.errors import BrokerError

if TYPE_CHECKING:
    from confluent_kafka import Message, TopicPartition

# Messages of each partition that are looked at of those it has already.
_LAST = 200
# Partitions that are looked at.
_MOST = 1000
_PART = 1000


class KafkaListener(KafkaClient):
    """Read topics without a consumer group: the last messages of each partition, and those that come.

    Args:
        pattern: topic, with * for any one level; "": all.
        settings: see `KafkaClient`.
    """

    intake: Intake

    def __init__(self, *arguments: Any, pattern: str, intake: Intake, **settings: Any) -> None:
        super().__init__(*arguments, intake=intake, **settings)
        self._pattern = pattern
        self._unpacker = Unpacker((), keyed=True)

    def _make(self) -> Any:
        from confluent_kafka import Consumer

        # The client library asks for a group, which nobody joins: partitions are assigned here.
        own = {"group.id": "-", "enable.auto.commit": False, "enable.auto.offset.store": False}
        return Consumer(self._settings() | own | {"auto.offset.reset": "latest"})

    def _prepare(self) -> None:
        super()._prepare()
        levels = self._pattern.split(".") if self._pattern else []
        wanted = re.compile("[.]".join("[^.]+" if level == "*" else re.escape(level) for level in levels) or "(?!__).*")
        names = sorted(name for name in self._numbers if wanted.fullmatch(name))
        if not names:
            listed = ", ".join(sorted(name for name in self._numbers if not name.startswith("__"))[:10]) or "none"
            raise BrokerError(f"it has no topic {self._pattern!r}; it has: {listed}", final=True)
        places = [(name, number) for name in names for number in self._numbers[name]][:_MOST]
        self._kafka.assign([self._begin_of(name, number) for name, number in places])

    def _begin_of(self, name: str, number: int) -> TopicPartition:
        from confluent_kafka import TopicPartition

        timeout = self.patience.timeout * SHARE
        low, high = self._kafka.get_watermark_offsets(TopicPartition(name, number), timeout=timeout)
        return TopicPartition(name, number, max(low, high - _LAST))

    def _fetch(self, room: int) -> list[Message]:
        first = self._kafka.poll(HOLD)
        return [] if first is None else [first, *self._kafka.consume(room, 0)]  # nothing is assigned anew

    async def _poll(self) -> None:
        messages, limit = self.intake.messages, self.intake.limit
        while len(messages) < limit:
            runs, errors = self._unpacker.unpack(await self._call(self._fetch, _PART))
            for run in runs:
                # A message without a key has its topic alone.
                messages.extend(
                    one._replace(key=one.key[:-1]) if one.key.endswith(b"/") else one for one in run.messages
                )
            for error in errors:
                if not error.retriable():
                    raise self._error(error)
            self.changed.set()

    async def _publish(self, messages: Sequence[Outgoing]) -> None:
        raise NotImplementedError("a listener publishes nothing")

    def _close(self, kafka: Any) -> None:
        kafka.close()
