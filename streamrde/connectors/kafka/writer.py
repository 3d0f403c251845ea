"""Publish to Kafka: an idempotent producer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from streamrde.connectors.clients import Outgoing
from streamrde.connectors.kafka.client import HOLD, KafkaClient
from streamrde.connectors.kafka.cluster import FINAL

if TYPE_CHECKING:
    from confluent_kafka import Message


class KafkaWriter(KafkaClient):
    """A producer whose messages are confirmed by all replicas. A topic ``a/b`` is the topic a with the key b.

    Args:
        headers: headers of every message.
        settings: see `KafkaClient`.
    """

    def __init__(self, *arguments: Any, headers: Sequence[tuple[str, bytes]] = (), **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._headers = list(headers)

    def _make(self) -> Any:
        from confluent_kafka import Producer

        return Producer(self._settings() | self._producing())

    def _producing(self) -> dict[str, Any]:
        return {
            "enable.idempotence": True,
            "acks": "all",
            "message.timeout.ms": max(1, round(self.patience.timeout * 1000)),
        }

    async def _poll(self) -> None:
        producer = self._kafka
        while True:
            await self._call(producer.poll, HOLD)

    async def _publish(self, messages: Sequence[Outgoing]) -> None:
        from confluent_kafka import KafkaException

        producer, loop = self._kafka, asyncio.get_running_loop()
        confirmed: asyncio.Future[None] = loop.create_future()
        left, problems = len(messages), list[Any]()

        def delivered(error: Any, message: Message) -> None:
            # Called in the library's thread, which is the only one that counts.
            nonlocal left
            left -= 1
            if error is not None:
                problems.append(error)
            if not left:
                self._tell(_set, confirmed)

        for message in messages:
            topic, slash, key = message.topic.partition("/")
            headers: Any = [*self._headers, *message.headers] if message.headers else self._headers
            while True:
                try:
                    producer.produce(
                        topic, message.payload, key=key if slash else None, headers=headers, on_delivery=delivered
                    )
                    break
                except BufferError:
                    await asyncio.sleep(HOLD / 10)
                except KafkaException as error:
                    raise self._error(error.args[0], f"topic {topic!r}: ") from None
        await confirmed
        if problems:
            worst = next((one for one in problems if one.name() in FINAL), problems[0])
            raise self._error(worst, f"topic {messages[0].topic.partition('/')[0]!r}: ")

    def _close(self, kafka: Any) -> None:
        # What is not sent is published again on the next connection.
        if len(kafka):
            kafka.purge()
            deadline = time.monotonic() + 1.0
            while len(kafka) and time.monotonic() < deadline:
                kafka.poll(0.05)


def _set(confirmed: asyncio.Future[None]) -> None:
    if not confirmed.done():
        confirmed.set_result(None)
