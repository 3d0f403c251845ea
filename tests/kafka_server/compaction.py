"""Cleanup of a compacted topic's log by key, when a test asks for it.

Reference: https://kafka.apache.org/documentation/#design_compactionguarantees. The cleaner stops at the last stable
offset. Records of aborted transactions go, and are nobody's latest value. Offsets never change. Kafka keeps its active
segment as it is; here everything before the last stable offset is cleaned, and only the last batch stays, empty if
need be, so that a reader's position can pass it. Markers stay, and so do the entries of aborted transactions, which a
reader must find together.
"""

from __future__ import annotations

from kafka_server import batches
from kafka_server.log import PartitionLog, Stored


def compact(log: PartitionLog, *, tombstones: bool) -> int:
    """Keep each key's latest record, and its tombstone where `tombstones` is true; return how many records went."""
    bound = log.stable
    latest: dict[bytes, int] = {}
    chosen: list[tuple[Stored, list[batches.Record]]] = []
    for one in log.stored:
        if one.base >= bound:
            break
        found = [] if one.head.control or _aborted(log, one) else list(batches.records(one.data))
        chosen.append((one, found))
        latest.update((record.key, record.offset) for record in found if record.key is not None)
    left, gone = list[Stored](), 0
    for index, (one, found) in enumerate(chosen):
        if one.head.control:
            left.append(one)
            continue
        wanted = [
            record
            for record in found
            if (record.key is None or latest[record.key] == record.offset) and (tombstones or record.value is not None)
        ]
        gone += one.head.count - len(wanted)
        if len(wanted) == one.head.count:
            left.append(one)
        elif wanted or index + 1 == len(chosen):
            left.append(
                one._replace(
                    head=one.head._replace(count=len(wanted), attributes=one.head.attributes & ~batches.COMPRESSION),
                    data=batches.kept(one.base, one.head, wanted),
                )
            )
    log.stored[: len(chosen)] = left
    return gone


def _aborted(log: PartitionLog, one: Stored) -> bool:
    return one.head.transactional and any(
        each.producer == one.head.producer and each.first <= one.base <= each.last for each in log.aborted
    )
