"""Receive from Kafka: a consumer in a group, with positions that follow acknowledgement."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from streamrde.connectors.clients import Intake, Outgoing
from streamrde.connectors.kafka.client import HOLD, SHARE, KafkaClient
from streamrde.connectors.kafka.offsets import Handle, Offsets
from streamrde.errors import BrokerError

if TYPE_CHECKING:
    from confluent_kafka import Message, TopicPartition

logger = logging.getLogger(__name__)
# Messages that are fetched at a time.
_PART = 1000


class KafkaReader(KafkaClient):
    """A consumer in a group.

    Positions are committed after acknowledgement, in order within each partition. What was not acknowledged comes again
    on the next connection. A partition that another member of the group takes away is an error, since the states of its
    streams are here.

    Args:
        group: consumer group that keeps the position.
        deliver: where a new group begins.
        discover: seconds between two looks for new topics and partitions.
        settings: see `KafkaClient`.
    """

    intake: Intake

    def __init__(
        self,
        *arguments: Any,
        group: str,
        intake: Intake,
        deliver: Literal["all", "new"] = "all",
        discover: float = 30.0,
        **settings: Any,
    ) -> None:
        super().__init__(*arguments, intake=intake, **settings)
        self._group = group
        self._deliver = deliver
        self._discover = discover
        self._telling = False
        self._offsets = Offsets()
        self._keyed: dict[str, bool] = {}
        self._assigned = asyncio.Event()
        self._paused: list[TopicPartition] = []

    def _make(self) -> Any:
        from confluent_kafka import Consumer

        self._offsets, self._telling, self._paused = Offsets(), False, []
        self._assigned.clear()
        return Consumer(self._settings() | self._consuming())

    def _consuming(self) -> dict[str, Any]:
        return {
            "group.id": self._group,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            # Where to begin is said at assignment. A position that is gone is an error, and no silent jump.
            "auto.offset.reset": "error",
            "topic.metadata.refresh.interval.ms": round(self._discover * 1000),
            "on_commit": self._on_commit,
        } | ({} if "group.protocol" in self._options else {"partition.assignment.strategy": "cooperative-sticky"})

    async def _begin(self) -> None:
        # A group waits for members that went away without a word, perhaps longer than this.
        try:
            async with asyncio.timeout(self.patience.timeout * SHARE):
                await self._assigned.wait()
        except TimeoutError:
            logger.warning(
                "%s: group %r has given no partition yet; another member may have to time out first",
                self.name, self._group,
            )  # fmt: skip

    def _close(self, kafka: Any) -> None:
        kafka.close()

    async def _publish(self, messages: Sequence[Outgoing]) -> None:
        raise NotImplementedError("a consumer publishes nothing")

    def _subscribe(self, consumer: Any, patterns: list[str]) -> None:
        consumer.subscribe(patterns, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost)

    def _on_assign(self, consumer: Any, given: list[TopicPartition]) -> None:
        """Begin where the group's positions are. A new group gets positions at once, so that it keeps its place."""
        from confluent_kafka import TopicPartition

        timeout = self.patience.timeout * SHARE
        begins, new = [], []
        for topic in dict.fromkeys(one.topic for one in given):
            numbers = consumer.list_topics(topic, timeout=timeout).topics[topic].partitions
            kept = consumer.committed([TopicPartition(topic, number) for number in numbers], timeout=timeout)
            positions = {one.partition: one.offset for one in kept if one.offset >= 0}
            mine = [one.partition for one in given if one.topic == topic]
            for number in mine:
                low, high = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=timeout)
                position = positions.get(number)
                if position is None:
                    # A partition that is added to a topic which the group knows has new messages only.
                    position = high if self._deliver == "new" and not positions else low
                    new.append(TopicPartition(topic, number, position))
                elif position < low:
                    lost = low - position
                    self.counts.lost += lost
                    logger.error(
                        "%s: topic %r, partition %d: %d messages were deleted before group %r had read them, and are "
                        "lost; keep messages longer",
                        self.name, topic, number, lost, self._group,
                    )  # fmt: skip
                    position = low
                begins.append(TopicPartition(topic, number, position))
            if len(numbers) > len(mine) and not positions.keys() >= {*numbers}:
                logger.info("%s: topic %r: %d of %d partitions", self.name, topic, len(mine), len(numbers))
        consumer.incremental_assign(begins)
        if new:
            consumer.commit(offsets=new, asynchronous=False)
        if not given:
            logger.warning(
                "%s: group %r gives this run no further partition; another client reads as the same group, or no topic "
                "fits",
                self.name, self._group,
            )  # fmt: skip
        self._tell(self._assigned.set)

    def _on_revoke(self, consumer: Any, taken: list[TopicPartition]) -> None:
        if not taken or not self.counts.connected:
            return
        places = ", ".join(f"{one.topic} {one.partition}" for one in taken[:5])
        self._tell(
            self.fail,
            f"takes partitions away ({places}): another client reads as group = {self._group!r}, or the topic was "
            "deleted. The states of their streams are here; give each run a group of its own",
        )

    def _on_lost(self, consumer: Any, taken: list[TopicPartition]) -> None:
        self._tell(self.lost, f"group {self._group!r} has dropped this client, which did not answer in time")

    def _fetch(self, consumer: Any, room: int) -> list[Message]:
        """Return what has come, waiting a moment for the first message. Called in the library's thread."""
        first = consumer.poll(HOLD)
        if first is None:
            return []
        return [first, *(consumer.consume(room - 1, 0) if room > 1 else ())]

    async def _poll(self) -> None:
        consumer, intake = self._kafka, self.intake
        await self._call(self._subscribe, consumer, [template.pattern for template in self._templates])
        while True:
            room = min(self._inflight - intake.held, intake.limit - len(intake.messages), _PART)
            if room <= 0 and not self._paused:
                # Room is soon there again as a rule. A consumer that does not ask at all is dropped from its group.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(HOLD):
                        await self.changed.wait()
                    self.changed.clear()
                    continue
                self._paused = await self._call(consumer.assignment)
                await self._call(consumer.pause, self._paused)
            elif room > 0 and self._paused:
                still = await self._call(consumer.assignment)
                await self._call(consumer.resume, [one for one in self._paused if one in still])
                self._paused = []
            for message in await self._call(self._fetch, consumer, max(1, room)):
                await self._take(message, intake)

    async def _take(self, message: Message, intake: Intake) -> None:
        if (error := message.error()) is not None:
            if error.retriable():
                return
            if error.name() == "_AUTO_OFFSET_RESET":
                raise BrokerError(
                    f"{error.str()}: messages after the position of group {self._group!r} are no longer there, and are "
                    "lost; set the position with  kafka-consumer-groups.sh --reset-offsets  and keep messages longer",
                    final=True,
                )
            raise self._error(error)
        topic, partition, offset = message.topic(), message.partition(), message.offset()
        if topic is None or partition is None or offset is None:
            return
        key = topic.encode()
        if (keyed := self._keyed.get(topic)) is None:
            fits = [one for one in self._templates if one.place_of(f"{topic}/-") is not None]
            keyed = self._keyed[topic] = bool(fits) and fits[0].keyed
        if keyed:
            name: Any = message.key()
            key += b"/" + (name.encode() if isinstance(name, str) else name or b"")
        kind, milliseconds = message.timestamp()
        payload: Any = message.value()
        handle: Handle = (topic, partition, offset)
        self._offsets.take(*handle)
        again = intake.put(
            key,
            payload.encode() if isinstance(payload, str) else payload or b"",
            handle,
            handle,
            properties=_headers(message.headers()),
            stamped=milliseconds * 1e-3 if kind else math.nan,
        )
        self.changed.set()
        if again is not None:
            await self.acknowledge_now([again])

    async def _acknowledge(self, handles: Sequence[Handle]) -> None:
        for handle in handles:
            self._offsets.acknowledge(handle)
        self._commit()

    def _moved(self) -> list[TopicPartition]:
        from confluent_kafka import TopicPartition

        return [TopicPartition(*partition, offset) for partition, offset in self._offsets.moved().items()]

    def _commit(self) -> None:
        """Commit positions that have moved, one request at a time."""
        if self._kafka is None or self._telling or not (positions := self._moved()):
            return
        from confluent_kafka import KafkaException

        self._telling = True
        try:
            self._kafka.commit(offsets=positions, asynchronous=True)
        except KafkaException as error:
            raise self._error(error.args[0]) from None

    def _on_commit(self, error: Any, positions: list[TopicPartition]) -> None:
        self._tell(self._committed, self._kafka, error or next((one.error for one in positions if one.error), None))

    def _committed(self, consumer: Any, error: Any) -> None:
        if consumer is not self._kafka:
            return
        self._telling = False
        if error is not None:
            # The messages come again on the next connection, and are recognised.
            self.lost(f"it does not take positions: {error.str()}")
            return
        try:
            self._commit()
        except BrokerError as refused:
            self.lost(f"{refused}")

    async def _settle(self) -> None:
        # Requests are answered in their order: the answer to the last one proves the rest.
        if self._kafka is not None:
            while self._telling:
                await asyncio.sleep(0.001)
            if positions := self._moved():
                consumer = self._kafka
                await self._call(lambda: consumer.commit(offsets=positions, asynchronous=False))


def _headers(headers: Any) -> dict[str, str] | None:
    """Return headers as text. Of several with one name, the last counts. Bytes that are no UTF-8 are replaced."""
    if not headers:
        return None
    return {
        name: value.decode("utf-8", "replace") if isinstance(value, bytes) else value or "" for name, value in headers
    }
