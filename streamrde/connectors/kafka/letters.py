"""Dead letters to Kafka."""

from __future__ import annotations

from collections.abc import Sequence

from streamrde.connectors.clients import Outgoing
from streamrde.connectors.dead_letters import MESSAGE_BYTES, encode_letter
from streamrde.connectors.ends import DeadLetter
from streamrde.connectors.queues import QueueDeadLetters


class KafkaDeadLetters(QueueDeadLetters):
    """Dead letters to one topic, as JSON, with the reason and the topic in headers too, by which they can be sorted."""

    async def write(self, letters: Sequence[DeadLetter]) -> None:
        """See `QueueDeadLetters.write`."""
        await self.client.publish(
            [Outgoing(self._topic, encode_letter(one, MESSAGE_BYTES), "", _headers(one)) for one in letters]
        )


def _headers(letter: DeadLetter) -> list[tuple[str, bytes]]:
    return [("reason", letter.reason.encode("utf-8", "replace")), ("topic", letter.topic.encode("utf-8", "replace"))]
