"""What the tests of NATS, Redis and AMQP share: samples, a model's outline, and receiving until enough has come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from streamrde.connectors.codecs import JsonCodec
from streamrde.connectors.columns import Columns
from streamrde.connectors.messages import MessageBatch
from streamrde.connectors.queues import QueueSource
from streamrde.connectors.sections import ModelOutline
from streamrde.testing import PREDICTIONS

COLUMNS = Columns(channels=("a", "b"))
MODEL = ModelOutline(("a", "b"), PREDICTIONS, {})


def sample(t: float) -> bytes:
    """A sample of the channels a and b."""
    return JsonCodec(COLUMNS).encode_samples([t], [(t, -t)])


async def until(source: QueueSource, count: int) -> AsyncIterator[MessageBatch]:
    """Receive batches until they have so many samples."""
    async with asyncio.timeout(20):
        async for batch in source:
            count -= len(batch.samples.t)
            yield batch
            if count <= 0:
                return


async def take(source: QueueSource, count: int, *, acknowledge: bool = True) -> list[float]:
    """Receive so many samples, and return their times."""
    found: list[float] = []
    async for batch in until(source, count):
        found += batch.samples.t.tolist()
        if acknowledge:
            await source.acknowledge(batch)
    return found


async def rest(source: QueueSource) -> list[float]:
    """Receive what still comes in a short while."""
    asyncio.get_running_loop().call_later(0.3, source.stop)
    return [t async for batch in source for t in batch.samples.t.tolist()]
