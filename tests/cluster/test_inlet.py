"""A partition's messages in micro-batches: in order, none twice, with the position after each, and never too many."""

from __future__ import annotations

import asyncio

from streamrde.cluster.inlet import Inlet, Position
from streamrde.connectors.codecs.json import JsonCodec
from streamrde.connectors.columns import Columns
from streamrde.connectors.ends import ConnectionCounts, Message
from streamrde.connectors.kafka.fetched import Run
from streamrde.connectors.kafka.topics import KafkaTopic
from streamrde.connectors.messages import MessageReader, Subscription


def inlet(held: list[bool], **keys) -> Inlet:
    subscription = Subscription(KafkaTopic("in"), JsonCodec(Columns(channels=("a", "b"), stream=None)))
    reader = MessageReader([subscription], ("a", "b"), queue="test")
    return Inlet(reader, ConnectionCounts(), hold=held.append, **{"limit": 4, "batch_messages": 2} | keys)


def run_of(begin: int, end: int, without: tuple[int, ...] = ()) -> Run:
    messages = [
        Message(b"in/s", b'{"t": %d, "a": 1, "b": 2}' % offset, 0.0, offset)
        for offset in range(begin, end)
        if offset not in without
    ]
    return Run("in", 0, messages, begin, end, len(without))


def take(source: Inlet, batches: int) -> list[tuple[list[float], int]]:
    async def taken():
        found = []
        async for batch in source:
            place = Position.decode(source.position_after(batch))
            found.append(([*batch.samples.t], place.offset))
            if len(found) == batches:
                source.stop()
        return found

    return asyncio.run(taken())


def test_positions_pass_tombstones_before_the_next_message_and_at_the_end():
    source = inlet([])
    source.put(run_of(0, 6, without=(2, 5)))
    assert take(source, 2) == [([0.0, 1.0], 3), ([3.0, 4.0], 6)]


def test_what_is_fetched_again_or_lies_before_the_position_is_not_taken():
    source = inlet([], begin=2)
    source.put(run_of(0, 4))
    source.put(run_of(1, 6))
    assert take(source, 2) == [([2.0, 3.0], 4), ([4.0, 5.0], 6)]


def test_a_full_inlet_holds_the_partition_until_half_is_taken():
    held: list[bool] = []
    source = inlet(held)
    source.put(run_of(0, 4))
    assert held == []
    source.put(run_of(4, 8))
    assert held == [True]
    take(source, 2)
    assert held == [True]
    source = inlet(held := [])
    source.put(run_of(0, 8))
    take(source, 3)
    assert held == [True, False]
