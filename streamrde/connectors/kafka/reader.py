"""Receive from Kafka: a consumer in a group, with positions that follow acknowledgement."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import math
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from streamrde.connectors.clients import Intake, Outgoing
from streamrde.connectors.ends import Message
from streamrde.connectors.kafka.client import HOLD, SHARE, KafkaClient
from streamrde.connectors.kafka.fetched import Run, Unpacker, fetch
from streamrde.connectors.kafka.membership import Membership
from streamrde.connectors.kafka.positions import Positions, Span, beginning
from streamrde.errors import BrokerError

if TYPE_CHECKING:
    from confluent_kafka import Message as Fetched
    from confluent_kafka import TopicPartition

logger = logging.getLogger(__name__)
# Messages that are fetched at a time.
_PART = 1000
# Refusals of positions that pass: the group is assigning partitions, perhaps the same ones, or has a new coordinator.
_PASSING = (
    "COORDINATOR_LOAD_IN_PROGRESS", "COORDINATOR_NOT_AVAILABLE", "ILLEGAL_GENERATION", "NOT_COORDINATOR",
    "REBALANCE_IN_PROGRESS", "STALE_MEMBER_EPOCH", "_TIMED_OUT", "_WAIT_COORD",
)  # fmt: skip


class KafkaReader(KafkaClient):
    """A consumer in a group.

    Positions are committed after acknowledgement, in order within each partition. A new connection goes on behind the
    last message that came. A partition that another member of the group takes away is an error, since the states of its
    streams are here.

    Args:
        membership: the consumer group, which keeps the positions, and this member of it.
        deliver: where a new group begins.
        settings: see `KafkaClient`.
    """

    intake: Intake

    def __init__(
        self,
        *arguments: Any,
        membership: Membership,
        intake: Intake,
        deliver: Literal["all", "new"] = "all",
        **settings: Any,
    ) -> None:
        super().__init__(*arguments, intake=intake, **settings)
        self._membership = membership
        self._group = membership.group
        self._deliver = deliver
        self._telling = False
        self._refused_since = math.inf
        self._positions = Positions()
        self._unpacker = Unpacker(self._templates)
        # Runs whose messages wait in the intake, each with the number of those that do not any more.
        self._waiting: deque[tuple[Run, int]] = deque()
        self._assigned = asyncio.Event()
        self._paused: list[TopicPartition] = []

    def _make(self) -> Any:
        from confluent_kafka import Consumer

        self._telling, self._paused, self._refused_since = False, [], math.inf
        self._positions.ask_again()
        self._assigned.clear()
        return Consumer(self._settings() | self._membership.settings() | {"on_commit": self._on_commit})

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
        # Here confluent-kafka must not be asked for what runs callbacks itself, as list_topics: it forgets that it is
        # inside of a call, and the next callback of the same call ends the process.
        from confluent_kafka import TopicPartition

        timeout = self.patience.timeout * SHARE
        begins, new = [], []
        for topic in dict.fromkeys(one.topic for one in given):
            mine = [one.partition for one in given if one.topic == topic]
            numbers = {*self._numbers.get(topic, ()), *mine}
            kept = consumer.committed([TopicPartition(topic, number) for number in numbers], timeout=timeout)
            positions = {one.partition: one.offset for one in kept if one.offset >= 0}
            for number in mine:
                low, high = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=timeout)
                position = self._after_break((topic, number), positions.get(number))
                start = beginning(position, low, high, deliver=self._deliver, known=bool(positions))
                if position is None:
                    new.append(TopicPartition(topic, number, start.offset))
                if start.lost:
                    self.counts.lost += start.lost
                    logger.error(
                        "%s: topic %r, partition %d: %d messages were deleted before group %r had read them, and are "
                        "lost; keep messages longer",
                        self.name, topic, number, start.lost, self._group,
                    )  # fmt: skip
                if self._positions.taken((topic, number)) is None:
                    self._positions.begin((topic, number), start.offset)
                begins.append(TopicPartition(topic, number, start.offset))
            if len(numbers) > len(mine) and not positions.keys() >= numbers:
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
        self._tell(self._commit_again)

    def _after_break(self, partition: tuple[str, int], committed: int | None) -> int | None:
        """Return where a partition goes on: behind what has come of it, else where the group is."""
        taken, done = self._positions.taken(partition), self._positions.done(partition)
        if taken is None or done is None:
            return committed
        if committed is not None and committed > done:
            self._tell(self.fail, self._taken_away(f"{partition[0]} {partition[1]}"))
        return taken

    def _on_revoke(self, consumer: Any, taken: list[TopicPartition]) -> None:
        if not taken or not self.counts.connected:
            return
        places = ", ".join(f"{one.topic} {one.partition}" for one in taken[:5])
        self._tell(self.fail, self._taken_away(places))

    def _taken_away(self, places: str) -> str:
        return (
            f"takes partitions away ({places}): another client reads as group = {self._group!r}, or the topic was "
            "deleted. The states of their streams are here; give each run a group of its own, or keep the states in "
            'Kafka, with [state] kind = "kafka", so that runs can share the partitions'
        )

    def _on_lost(self, consumer: Any, taken: list[TopicPartition]) -> None:
        self._tell(self.lost, f"group {self._group!r} has dropped this client, which did not answer in time")

    async def _poll(self) -> None:
        consumer, waiting, limit = self._kafka, self.intake.messages, self.intake.limit
        await self._call(self._subscribe, consumer, [template.pattern for template in self._templates])
        while True:
            held = self._positions.unacknowledged + len(waiting)
            room = min(self._inflight - held, limit - len(waiting), _PART)
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
            if fetched := await self._call(fetch, consumer, max(1, room), HOLD):
                self._take(fetched)

    def _take(self, fetched: Sequence[Fetched]) -> None:
        """Put what was fetched into the intake."""
        runs, errors = self._unpacker.unpack(fetched)
        for run in runs:
            partition = run.topic, run.partition
            taken = self._positions.taken(partition) or 0
            if run.begin < taken:
                # Partitions that were assigned anew meanwhile begin where they were before.
                kept = [one for one in run.messages if one.receipt >= taken]
                self.counts.redelivered += len(run.messages) - len(kept)
                run = run._replace(messages=kept, begin=taken, end=max(run.end, taken))
            self._positions.take(partition, run.end)
            if run.messages:
                self._waiting.append((run, 0))
                self.intake.messages.extend(run.messages)
            else:
                self._pass(run)
            if run.tombstones:
                self._say_tombstones(run)
        self.changed.set()
        for error in errors:
            if error.retriable():
                continue
            if error.name() == "_AUTO_OFFSET_RESET":
                raise BrokerError(
                    f"{error.str()}: messages after the position of group {self._group!r} are no longer there, and are "
                    "lost, or the topic was made again; set the position with  kafka-consumer-groups.sh "
                    "--reset-offsets  and keep messages longer",
                    final=True,
                )
            raise self._error(error)

    def _pass(self, run: Run) -> None:
        """Let the position pass a run without messages."""
        for i in reversed(range(len(self._waiting))):
            before, gone = self._waiting[i]
            if (before.topic, before.partition) == (run.topic, run.partition):
                self._waiting[i] = before._replace(end=run.end), gone
                return
        self._positions.acknowledge([self._positions.open((run.topic, run.partition), run.end, 0)])
        self._commit()

    def _say_tombstones(self, run: Run) -> None:
        self.intake.counts.tombstones += run.tombstones
        if self.intake.counts.tombstones == run.tombstones:
            logger.warning(
                "%s: topic %r has messages without a payload, which delete a key: they are passed over and counted",
                self.name, run.topic,
            )  # fmt: skip

    def deliver(self, size: int) -> tuple[list[Message], tuple[Span, ...]]:
        """Return the first messages of the intake, and spans of partitions to acknowledge them by."""
        messages = self.intake.messages
        taken, spans = [messages.popleft() for _ in range(size)], list[Span]()
        while size:
            run, gone = self._waiting[0]
            count = min(size, len(run.messages) - gone)
            gone += count
            size -= count
            spans.append(self._positions.open((run.topic, run.partition), run.position(gone), count))
            if gone == len(run.messages):
                self._waiting.popleft()
            else:
                self._waiting[0] = run, gone
        return taken, tuple(spans)

    async def acknowledge(self, receipts: Iterable[Span]) -> None:
        """See `QueueClient.acknowledge`. Positions outlive connections, so that nothing has to come again."""
        self._positions.acknowledge(receipts)
        self.changed.set()
        self._commit_again()

    def _moved(self) -> list[TopicPartition]:
        from confluent_kafka import TopicPartition

        return [TopicPartition(*partition, offset) for partition, offset in self._positions.moved().items()]

    def _commit(self) -> None:
        """Commit positions that have moved, one request at a time."""
        member = self._kafka is not None and self._assigned.is_set()
        if not member or self._telling or not (positions := self._moved()):
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
        if error is None:
            self._refused_since = math.inf
            self._commit_again()
            return
        self._positions.ask_again()
        now = time.monotonic()
        self._refused_since = min(self._refused_since, now)
        passing = error.retriable() or error.name() in _PASSING
        if passing and now - self._refused_since < self.patience.timeout and self._loop is not None:
            self._loop.call_later(HOLD, self._commit_again)
            return
        # The next connection commits them.
        self.lost(f"it does not take positions: {error.str()}")

    def _commit_again(self) -> None:
        try:
            self._commit()
        except BrokerError as refused:
            self.lost(f"{refused}")

    async def _settle(self) -> None:
        # Requests are answered in their order: the answer to the last one proves the rest.
        while (consumer := self._kafka) is not None and self.counts.connected:
            if self._telling:
                await asyncio.sleep(0.001)
                continue
            if not (positions := self._moved()):
                return
            try:
                await self._call(functools.partial(consumer.commit, offsets=positions, asynchronous=False))
            except BrokerError as error:
                self._positions.ask_again()
                if error.final:
                    raise
                await asyncio.sleep(HOLD)
