"""The requests for a group's offsets, and for its description.

References: KIP-447 (TxnOffsetCommit with member and generation, stable offsets), KIP-98, KIP-222 and KIP-229 (groups
for administrators), KIP-496 (OffsetDelete).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kafka_server.codes import Code, Refused
from kafka_server.consumer_groups import ConsumerGroup
from kafka_server.groups import Group, Groups, State
from kafka_server.topics import Topics
from kafka_server.transactions import Transactions


class Commits:
    """The handlers."""

    def __init__(self, topics: Topics, groups: Groups, transactions: Transactions) -> None:
        self._topics = topics
        self._groups = groups
        self._transactions = transactions

    def offset_commit(self, request: Any, context: Any) -> dict[str, Any]:
        """OffsetCommit: of a member, or of anybody while the group is empty."""

        def check() -> Group:
            group = self._groups.by_name.get(request.group_id)
            if group is None:
                if request.generation_id >= 0:
                    raise Refused(Code.ILLEGAL_GENERATION, f"no group {request.group_id!r}")
                group = self._groups.group(request.group_id)
            instance = getattr(request, "group_instance_id", None)
            group.check_commit(request.generation_id, request.member_id, instance, transactional=False)
            return group

        return self._commit(request, check, None)

    def txn_offset_commit(self, request: Any, context: Any) -> dict[str, Any]:
        """TxnOffsetCommit: of the current producer, and (from version 3 on) of a member of the current generation."""

        def check() -> Group:
            group = self._groups.group(request.group_id)
            who = [getattr(request, "generation_id", -1), getattr(request, "member_id", "")]
            group.check_commit(*who, getattr(request, "group_instance_id", None), transactional=True)
            self._transactions.check_offsets(request)
            return group

        return self._commit(request, check, request.producer_id)

    def _commit(self, request: Any, check: Callable[[], Group], producer: int | None) -> dict[str, Any]:
        group, refused = None, Code.NONE
        try:
            group = check()
        except Refused as error:
            refused = error.code

        def store(name: str, part: Any) -> Code:
            if group is None:
                return refused
            try:
                self._topics.log(name, part.index)
            except Refused as error:
                return error.code
            if len(part.committed_metadata or "") > 4096:
                return Code.OFFSET_METADATA_TOO_LARGE
            group.offsets.commit((name, part.index), part, producer=producer)
            return Code.NONE

        return {
            "throttle_time_ms": 0,
            "topics": [
                {
                    "name": topic.name,
                    "partitions": [
                        {"index": part.index, "error_code": store(topic.name, part)} for part in topic.partitions
                    ],
                }
                for topic in request.topics
            ],
        }

    def offset_fetch(self, request: Any, context: Any) -> dict[str, Any]:
        """OffsetFetch: the committed offsets; UNSTABLE_OFFSET_COMMIT where a transaction has sent one (KIP-447)."""
        stable = getattr(request, "require_stable", False)
        if context.version < 8:
            found = self._fetch(request.group_id, request.topics, stable)
            return {"throttle_time_ms": 0, "topics": found, "error_code": 0}
        return {"throttle_time_ms": 0, "groups": [self._fetch_checked(one, stable) for one in request.groups]}

    def _fetch_checked(self, one: Any, stable: bool) -> dict[str, Any]:
        """Refuse a member of the consumer protocol whose epoch is another (KIP-848)."""
        group, member = self._groups.by_name.get(one.group_id), getattr(one, "member_id", None)
        answer = {"group_id": one.group_id, "topics": [], "error_code": Code.NONE}
        try:
            if isinstance(group, ConsumerGroup) and member and one.member_epoch >= 0:
                group.check_epoch(member, one.member_epoch)
        except Refused as error:
            return answer | {"error_code": error.code}
        return answer | {"topics": self._fetch(one.group_id, one.topics, stable)}

    def _fetch(self, name: str, topics: Any, stable: bool) -> list[dict[str, Any]]:
        offsets = self._groups.by_name.get(name, Group(name)).offsets
        if topics is None:
            asked: dict[str, list[int]] = {}
            for topic, partition in offsets.known():
                asked.setdefault(topic, []).append(partition)
        else:
            asked = {topic.name: topic.partitions for topic in topics}
        return [
            {"name": topic, "partitions": [offsets.fetch((topic, each), stable) for each in partitions]}
            for topic, partitions in asked.items()
        ]

    def list_groups(self, request: Any, context: Any) -> dict[str, Any]:
        """ListGroups."""
        groups = [{"group_id": one.id, "protocol_type": one.protocol_type} for one in self._groups.by_name.values()]
        return {"throttle_time_ms": 0, "error_code": 0, "groups": groups}

    def describe_groups(self, request: Any, context: Any) -> dict[str, Any]:
        """DescribeGroups; one that does not exist is called Dead."""
        return {"throttle_time_ms": 0, "groups": [self._described(name) for name in request.groups]}

    def _described(self, name: str) -> dict[str, Any]:
        group = self._groups.by_name.get(name)
        group = group if isinstance(group, Group) else None
        return {
            "error_code": 0,
            "group_id": name,
            "group_state": group.state.value if group else "Dead",
            "protocol_type": group.protocol_type if group else "",
            "protocol_data": (group.protocol if group and group.state is State.STABLE else None) or "",
            "members": [
                {
                    "member_id": one.id,
                    "group_instance_id": one.instance,
                    "client_id": one.client_id,
                    "client_host": one.host,
                    "member_metadata": one.metadata(group.protocol),
                    "member_assignment": one.assignment,
                }
                for one in group.members.values()
            ]
            if group
            else [],
            "authorized_operations": -2147483648,
        }

    def delete_groups(self, request: Any, context: Any) -> dict[str, Any]:
        """DeleteGroups: only empty ones."""

        def delete(name: str) -> Code:
            group = self._groups.by_name.get(name)
            if group is None:
                return Code.GROUP_ID_NOT_FOUND
            if group.state is not State.EMPTY or group.pending:
                return Code.NON_EMPTY_GROUP
            del self._groups.by_name[name]
            return Code.NONE

        return {
            "throttle_time_ms": 0,
            "groups": [{"group_id": name, "error_code": delete(name)} for name in request.groups],
        }

    def offset_delete(self, request: Any, context: Any) -> dict[str, Any]:
        """OffsetDelete: while the group is empty."""
        group = self._groups.by_name.get(request.group_id)
        code = Code.NONE
        if group is None:
            code = Code.GROUP_ID_NOT_FOUND
        elif group.state is not State.EMPTY:
            code = Code.NON_EMPTY_GROUP
        topics = []
        for topic in request.topics if group is not None and not code else ():
            for part in topic.partitions:
                group.offsets.forget((topic.name, part.index))
            parts = [{"index": part.index, "error_code": 0} for part in topic.partitions]
            topics.append({"name": topic.name, "partitions": parts})
        return {"error_code": code, "throttle_time_ms": 0, "topics": topics}
