"""The requests for records: Produce, Fetch, ListOffsets, DeleteRecords.

References: KIP-98 (isolation, aborted transactions), KIP-74 (sizes of Fetch), KIP-79 (offsets by time), KIP-107
(DeleteRecords).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

from kafka_server import batches
from kafka_server.codes import Code, Refused
from kafka_server.log import PartitionLog
from kafka_server.topics import Topics
from kafka_server.transactions import Transactions

_LATEST, _EARLIEST = -1, -2


class Data:
    """The handlers."""

    def __init__(self, topics: Topics, transactions: Transactions, *, check_crc: bool = False) -> None:
        self._topics = topics
        self._transactions = transactions
        self._check_crc = check_crc

    def produce(self, request: Any, context: Any) -> dict[str, Any] | None:
        """Produce: each partition's batch is stored or refused by itself; acks = 0 wants no answer."""
        answer = {
            "throttle_time_ms": 0,
            "topics": [
                {
                    "name": topic.name,
                    "partitions": [self._append(request, topic.name, part) for part in topic.partitions],
                }
                for topic in request.topics
            ],
        }
        return answer if request.acks != 0 else None

    def _append(self, request: Any, name: str, part: Any) -> dict[str, Any]:
        answer = {
            "index": part.index,
            "error_code": Code.NONE,
            "base_offset": -1,
            "log_append_time_ms": -1,
            "log_start_offset": -1,
            "record_errors": [],
            "error_message": None,
        }
        try:
            if request.acks not in (-1, 0, 1):
                raise Refused(Code.INVALID_REQUIRED_ACKS, f"acks = {request.acks}")
            topic = self._topics.topic(name)
            log = self._topics.log(name, part.index)
            data = part.records or b""
            head = batches.header(data)
            if len(data) > int(topic.setting("max.message.bytes")):
                raise Refused(Code.MESSAGE_TOO_LARGE, f"a batch of {len(data)} bytes")
            if head.control:
                raise Refused(Code.INVALID_RECORD, "clients write no control records")
            if self._check_crc:
                batches.check_crc(data)
            if topic.compacted and any(record.key is None for record in batches.records(data)):
                raise Refused(Code.INVALID_RECORD, f"compacted topic {name!r} takes records with keys only")
            if head.transactional:
                self._transactions.check_batch(request.transactional_id, (name, part.index), head)
            answer["base_offset"] = log.append(data, head)
            answer["log_start_offset"] = log.start
        except Refused as error:
            answer["error_code"], answer["error_message"] = error.code, error.message
        return answer

    async def fetch(self, request: Any, context: Any) -> dict[str, Any]:
        """Fetch: at once where there are min_bytes or an error, else when they come, and after max_wait_ms at last."""
        answer, size, failed = self._read(request)
        if size >= request.min_bytes or failed or request.max_wait_ms <= 0:
            return answer
        until, changed = time.monotonic() + request.max_wait_ms / 1000, asyncio.Event()
        logs = list[PartitionLog]()
        for topic in request.topics:
            for part in topic.partitions:
                with contextlib.suppress(Refused):
                    logs.append(self._topics.log(topic.name, part.index))
        for log in logs:
            log.waiting.add(changed)
        try:
            while size < request.min_bytes and not failed and (left := until - time.monotonic()) > 0:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), left)
                changed.clear()
                answer, size, failed = self._read(request)
        finally:
            for log in logs:
                log.waiting.discard(changed)
        return answer

    def _read(self, request: Any) -> tuple[dict[str, Any], int, bool]:
        committed, size, failed = request.isolation_level == 1, 0, False
        topics = []
        for topic in request.topics:
            parts = []
            for part in topic.partitions:
                most = min(part.partition_max_bytes, request.max_bytes - size)
                found = self._read_one(topic.name, part, most, committed, one_at_least=size == 0)
                size += len(found["records"])
                failed = failed or bool(found["error_code"])
                parts.append(found)
            topics.append({"name": topic.name, "partitions": parts})
        return {"throttle_time_ms": 0, "error_code": 0, "session_id": 0, "topics": topics}, size, failed

    def _read_one(self, name: str, part: Any, most: int, committed: bool, *, one_at_least: bool) -> dict[str, Any]:
        answer = {
            "index": part.index,
            "error_code": Code.NONE,
            "high_watermark": -1,
            "last_stable_offset": -1,
            "log_start_offset": -1,
            "aborted_transactions": None,
            "preferred_read_replica": -1,
            "records": b"",
        }
        try:
            log = self._topics.log(name, part.index)
            found, after = log.read(part.fetch_offset, most, committed, one_at_least=one_at_least)
        except Refused as error:
            return answer | {"error_code": error.code}
        aborted = None
        if committed:
            aborted = [
                {"producer_id": one.producer, "first_offset": one.first}
                for one in log.aborted_between(part.fetch_offset, after)
            ]
        return answer | {
            "high_watermark": log.end,
            "last_stable_offset": log.stable,
            "log_start_offset": log.start,
            "aborted_transactions": aborted,
            "records": b"".join(found),
        }

    def list_offsets(self, request: Any, context: Any) -> dict[str, Any]:
        """ListOffsets: earliest, latest (the last stable offset for readers of committed records), or by time."""
        committed = getattr(request, "isolation_level", 0) == 1

        def find(name: str, part: Any) -> dict[str, Any]:
            answer = {"index": part.index, "error_code": 0, "timestamp": -1, "offset": -1, "leader_epoch": -1}
            try:
                log = self._topics.log(name, part.index)
                if part.timestamp == _LATEST:
                    answer["offset"] = log.bound(committed)
                elif part.timestamp == _EARLIEST:
                    answer["offset"] = log.start
                elif part.timestamp < 0:
                    raise Refused(Code.UNSUPPORTED_VERSION, f"time {part.timestamp} is of a later version")
                else:
                    answer["timestamp"], answer["offset"] = log.find_time(part.timestamp, committed)
            except Refused as error:
                return answer | {"error_code": error.code}
            return answer | {"leader_epoch": 0 if answer["offset"] >= 0 else -1}

        return {
            "throttle_time_ms": 0,
            "topics": [
                {"name": topic.name, "partitions": [find(topic.name, part) for part in topic.partitions]}
                for topic in request.topics
            ],
        }

    def delete_records(self, request: Any, context: Any) -> dict[str, Any]:
        """DeleteRecords: what is before an offset; -1 is the end."""

        def delete(name: str, part: Any) -> dict[str, Any]:
            try:
                low, code = self._topics.log(name, part.index).delete_before(part.offset), Code.NONE
            except Refused as error:
                low, code = -1, error.code
            return {"index": part.index, "low_watermark": low, "error_code": code}

        return {
            "throttle_time_ms": 0,
            "topics": [
                {"name": topic.name, "partitions": [delete(topic.name, part) for part in topic.partitions]}
                for topic in request.topics
            ],
        }
