"""The control port: one JSON object a line, ``{"call": name, ...arguments}``, answered by ``{"value": ...}``.

A call that fails is answered by ``{"error": text}``. Bytes are in base64.
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import json
import math
from typing import Any

from kafka_server import batches, compaction
from kafka_server.codes import Refused
from kafka_server.consumer_groups import ConsumerGroup
from kafka_server.faults import Fault
from kafka_server.log import PartitionLog, Stored
from kafka_server.server import Server

_LOOK = 0.02  # seconds between two looks at what is waited for


def _text(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()


def _standing(log: PartitionLog, one: Stored) -> str:
    """Return how a batch stands to its transaction: plain, open, aborted or committed."""
    producer = one.head.producer
    if not one.head.transactional:
        return "plain"
    if one.base >= log.open.get(producer, math.inf):
        return "open"
    if any(each.producer == producer and each.first <= one.base <= each.last for each in log.aborted):
        return "aborted"
    return "committed"


class Control:
    """The calls; every public method is one."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer calls until the connection ends."""
        while line := await reader.readline():
            call = json.loads(line)
            name = call.pop("call")
            try:
                if name.startswith("_") or name == "serve":
                    raise ValueError(f"no call {name!r}")
                value = getattr(self, name)(**call)
                answer = {"value": await value if asyncio.iscoroutine(value) else value}
            except (Refused, ValueError, TypeError, KeyError, AttributeError, OSError) as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        writer.close()

    async def listen(self, **options: Any) -> int:
        """Open one more port."""
        return await self._server.listen(**options)

    def create_topic(self, name: str, partitions: int, settings: dict[str, str]) -> None:
        """Create a topic."""
        self._server.topics.create(name, partitions, settings)

    def records(self, topic: str, partition: int) -> list[dict[str, Any]]:
        """Return all records of a partition, whatever became of them; markers are not among them."""
        log = self._server.topics.log(topic, partition)
        return [
            {
                "offset": record.offset,
                "key": _text(record.key),
                "value": _text(record.value),
                "headers": [[name, _text(value)] for name, value in record.headers],
                "standing": _standing(log, one),
                "producer": one.head.producer,
                "epoch": one.head.epoch,
            }
            for one in log.stored
            if not one.head.control
            for record in batches.records(one.data)
        ]

    def offsets(self, topic: str, partition: int) -> dict[str, int]:
        """Return where a partition starts and ends, and its last stable offset."""
        log = self._server.topics.log(topic, partition)
        return {"start": log.start, "stable": log.stable, "end": log.end}

    def topics(self) -> dict[str, Any]:
        """Return all topics: their number of partitions and settings."""
        return {
            one.name: {"partitions": len(one.partitions), "settings": one.settings}
            for one in self._server.topics.by_name.values()
        }

    def groups(self) -> dict[str, Any]:
        """Return all groups: state, generation, members, committed and pending offsets."""
        return {
            one.id: {
                "state": one.state.value,
                "generation": one.generation,
                "leader": one.leader,
                "members": [
                    {"id": each.id, "instance": each.instance, "client": each.client_id}
                    for each in one.members.values()
                ],
                "committed": [[*where, value.offset] for where, value in one.offsets.committed.items()],
                "pending": [
                    [*where, value.offset] for sent in one.offsets.pending.values() for where, value in sent.items()
                ],
            }
            for one in self._server.groups.by_name.values()
        }

    def transactions(self) -> list[dict[str, Any]]:
        """Return all transactional ids."""
        return self._server.transactions.shown()

    def expire_transactions(self, names: list[str]) -> list[str]:
        """Abort open transactions as if their timeouts had passed."""
        return self._server.transactions.expire(0.0, names=names)

    def expire_members(self, group: str, members: list[str]) -> list[str]:
        """Remove members (by id, or all) as if their sessions had ended."""
        known = self._server.groups.by_name.get(group)
        if known is None:
            return []
        members = members or list(known.members)
        if isinstance(known, ConsumerGroup):
            return self._server.consumer_groups.expire_members(group, members)
        return known.expire(0.0, members=members)

    def hold_markers(self) -> None:
        """Write no markers from now on: transactions stay in PrepareCommit or PrepareAbort."""
        self._server.transactions.hold_markers = True

    def release_markers(self) -> None:
        """Write the markers that were held."""
        self._server.transactions.release_markers()

    def compact(self, topic: str, tombstones: bool) -> int:
        """Clean all partitions of a compacted topic, and return how many records went."""
        found = self._server.topics.topic(topic)
        if not found.compacted:
            raise ValueError(f"topic {topic!r} has cleanup.policy = {found.setting('cleanup.policy')}")
        return sum(compaction.compact(log, tombstones=tombstones) for log in found.partitions)

    def retain(self, topic: str, partition: int, offset: int) -> int:
        """Delete what is before an offset, as retention does."""
        return self._server.topics.log(topic, partition).delete_before(offset)

    def fault(self, **order: Any) -> int:
        """Order a fault, and return its number."""
        self._server.faults.orders.append(Fault(**order))
        return len(self._server.faults.orders) - 1

    def faults(self) -> list[dict[str, Any]]:
        """Return the orders with how many requests they hit."""
        return [dataclasses.asdict(one) for one in self._server.faults.orders]

    async def wait_fault(self, number: int, hits: int, seconds: float) -> bool:
        """Wait until an order has hit so many requests."""
        return await self._wait(lambda: self._server.faults.orders[number].hits >= hits, seconds)

    async def wait_requests(self, api: str, count: int, seconds: float) -> bool:
        """Wait until so many requests of a kind have come since the start."""
        return await self._wait(lambda: self._server.counts[api] >= count, seconds)

    async def _wait(self, reached: Any, seconds: float) -> bool:
        until = asyncio.get_running_loop().time() + seconds
        while not reached() and asyncio.get_running_loop().time() < until:
            await asyncio.sleep(_LOOK)
        return bool(reached())

    def clear(self) -> None:
        """Take all orders back, and answer everybody."""
        self._server.faults.orders.clear()
        self._server.faults.resume()

    def pause(self, client: str) -> None:
        """Leave clients without answers; their connections stay."""
        self._server.faults.pause(client)

    def resume(self) -> None:
        """Answer everybody again."""
        self._server.faults.resume()

    def close_connections(self, client: str) -> int:
        """Cut connections of clients."""
        return self._server.close_connections(client)

    def clients(self) -> list[str]:
        """Return the ids of those who are connected."""
        return sorted(one.client_id for one in self._server.connections)

    def counts(self) -> dict[str, int]:
        """Return how many requests of each kind came."""
        return dict(self._server.counts)
