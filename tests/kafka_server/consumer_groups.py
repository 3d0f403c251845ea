"""Groups of the consumer protocol: the coordinator assigns, and each member moves to its target by itself.

Reference: KIP-848. A member's epoch stays behind the group's until it has given up what is not its own any more. A
partition is given to its next owner only when nobody else has it. Offsets are taken with the member's current epoch
only: STALE_MEMBER_EPOCH, which TxnOffsetCommit calls ILLEGAL_GENERATION.
"""

from __future__ import annotations

import re
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from kafka_server.codes import Code, Refused
from kafka_server.groups import Groups, State
from kafka_server.offsets import Offsets
from kafka_server.topics import Topics

Where = tuple[str, int]
_LEAVE, _LEAVE_FOR_A_WHILE, _JOIN = -1, -2, 0
_UNKNOWN_OPERATIONS = -2147483648


@dataclass
class Subscriber:
    """A member."""

    id: str
    instance: str | None = None
    client_id: str = ""
    host: str = ""
    epoch: int = 0
    previous_epoch: int = -1
    names: list[str] = field(default_factory=list)
    pattern: str | None = None
    rebalance: float = 300.0
    expires: float = 0.0
    revoke_until: float = 0.0
    assigned: set[Where] = field(default_factory=set)
    revoking: set[Where] = field(default_factory=set)
    target: set[Where] = field(default_factory=set)

    def topics(self, topics: Topics) -> set[str]:
        """Return the topics that it is subscribed to and that exist."""
        matching = {name for name in topics.by_name if self.pattern and re.fullmatch(self.pattern, name)}
        return matching | {name for name in self.names if name in topics.by_name}


@dataclass
class ConsumerGroup:
    """A group; `generation` is its epoch."""

    id: str
    offsets: Offsets = field(default_factory=Offsets)
    generation: int = 0
    members: dict[str, Subscriber] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)  # partitions of each topic, at the last assignment
    protocol_type: str = "consumer"
    leader: str | None = None
    pending: dict[str, float] = field(default_factory=dict)  # always empty: members bring their ids

    @property
    def state(self) -> State:
        """Empty, Reconciling or Stable."""
        if not self.members:
            return State.EMPTY
        behind = any(one.epoch != self.generation or one.assigned != one.target for one in self.members.values())
        return State.RECONCILING if behind else State.STABLE

    def check_member(self, member_id: str) -> Subscriber:
        """Return a member."""
        if member_id not in self.members:
            raise Refused(Code.UNKNOWN_MEMBER_ID, f"no member {member_id!r}")
        return self.members[member_id]

    def check_epoch(self, member_id: str, epoch: int) -> None:
        """Refuse one who is no member, or one of another epoch."""
        member = self.check_member(member_id)
        if epoch != member.epoch:
            raise Refused(Code.STALE_MEMBER_EPOCH, f"epoch {epoch} where {member.epoch} is the current")

    def check_commit(self, generation: int, member_id: str, instance: str | None, *, transactional: bool) -> None:
        """Refuse offsets of one who is no member of this epoch."""
        if generation < 0 and (not self.members or (transactional and not member_id and instance is None)):
            return
        try:
            self.check_epoch(member_id, generation)
        except Refused as error:
            if transactional and error.code is Code.STALE_MEMBER_EPOCH:
                raise Refused(Code.ILLEGAL_GENERATION, error.message or "") from None
            raise

    def refresh(self, topics: Topics, *, changed: bool) -> None:
        """Begin the next epoch where members or topics have changed, and choose the members' targets."""
        wanted = {name for one in self.members.values() for name in one.topics(topics)}
        seen = {name: len(topics.by_name[name].partitions) for name in wanted}
        if not changed and seen == self.seen:
            return
        self.generation += 1
        self.seen = seen
        _choose(self.members, topics, {(name, each) for name, count in seen.items() for each in range(count)})

    def reconcile(self, member: Subscriber, owned: set[Where] | None) -> None:
        """Move a member towards its target, as far as it and the others let go."""
        if member.revoking:
            if owned is None or owned & member.revoking:
                return
            member.revoking = set()
        if member.epoch == self.generation and member.assigned == member.target:
            return
        excess = member.assigned - member.target
        if excess:
            member.assigned -= excess
            member.revoking = excess
            member.revoke_until = time.monotonic() + member.rebalance
            return
        taken = {where for one in self.members.values() if one is not member for where in one.assigned | one.revoking}
        member.assigned |= member.target - taken
        if member.epoch != self.generation:
            member.previous_epoch, member.epoch = member.epoch, self.generation

    def remove(self, member_id: str, topics: Topics) -> None:
        """Take a member out."""
        del self.members[member_id]
        self.refresh(topics, changed=True)

    def late(self, now: float, members: list[str] | None = None) -> list[str]:
        """Return members whose session has passed, or who did not let go in time, or those of `members`."""
        if members is not None:
            return [name for name in members if name in self.members]
        return [
            one.id for one in self.members.values() if now > one.expires or (one.revoking and now > one.revoke_until)
        ]


def _choose(members: dict[str, Subscriber], topics: Topics, everything: set[Where]) -> None:
    """Give each partition to a subscribed member; nobody has two more than another who could have them, few move."""
    subscribed = {one.id: one.topics(topics) for one in members.values()}
    for one in members.values():
        one.target = {where for where in one.target if where in everything and where[0] in subscribed[one.id]}
    free = sorted(everything - {where for one in members.values() for where in one.target})
    for where in free:
        able = [one for one in members.values() if where[0] in subscribed[one.id]]
        min(able, key=lambda one: (len(one.target), one.id)).target.add(where)
    while True:
        moves = [
            (rich, poor, where)
            for rich in members.values()
            for poor in members.values()
            if len(rich.target) > len(poor.target) + 1
            for where in sorted(rich.target)
            if where[0] in subscribed[poor.id]
        ]
        if not moves:
            return
        rich, poor, where = max(moves, key=lambda move: (len(move[0].target) - len(move[1].target), move[2]))
        rich.target.discard(where)
        poor.target.add(where)


class ConsumerGroups:
    """The requests."""

    def __init__(self, topics: Topics, groups: Groups) -> None:
        self.session = 6.0  # group.consumer.session.timeout.ms; Kafka's default is 45 s
        self.interval = 0.1  # group.consumer.heartbeat.interval.ms; Kafka's default is 5 s
        self._topics = topics
        self._groups = groups

    def expire(self, now: float) -> None:
        """Let time pass in every group."""
        for group in self._groups.by_name.values():
            if isinstance(group, ConsumerGroup):
                for name in group.late(now):
                    group.remove(name, self._topics)

    def expire_members(self, name: str, members: list[str]) -> list[str]:
        """Remove members as if their sessions had passed."""
        group = self._groups.by_name[name]
        gone = group.late(0.0, members)
        for one in gone:
            group.remove(one, self._topics)
        return gone

    def _group(self, name: str, epoch: int) -> ConsumerGroup:
        group = self._groups.by_name.get(name)
        if isinstance(group, ConsumerGroup):
            return group
        if epoch != _JOIN or (group is not None and (group.members or group.pending)):
            raise Refused(Code.GROUP_ID_NOT_FOUND, f"{name!r} is no group of the consumer protocol")
        group = ConsumerGroup(name, group.offsets if group else Offsets(), group.generation if group else 0)
        self._groups.by_name[name] = group
        return group

    def consumer_group_heartbeat(self, request: Any, context: Any) -> dict[str, Any]:
        """ConsumerGroupHeartbeat: join, stay, report what is owned, leave."""
        answer = {
            "throttle_time_ms": 0,
            "error_code": Code.NONE,
            "error_message": None,
            "member_id": request.member_id,
            "member_epoch": request.member_epoch,
            "heartbeat_interval_ms": int(self.interval * 1000),
            "assignment": None,
        }
        try:
            group = self._group(request.group_id, request.member_epoch)
            if request.member_epoch < 0:
                self._leave(group, request)
                return answer
            return answer | self._beat(group, request, context)
        except Refused as error:
            return answer | {"error_code": error.code, "error_message": error.message, "member_epoch": 0}

    def _leave(self, group: ConsumerGroup, request: Any) -> None:
        member = group.check_member(request.member_id)
        if request.member_epoch == _LEAVE_FOR_A_WHILE and member.instance is not None:
            member.epoch = _LEAVE_FOR_A_WHILE  # its session goes on, and nobody gets its partitions
        else:
            group.remove(member.id, self._topics)

    def _member(self, group: ConsumerGroup, request: Any) -> tuple[Subscriber, bool]:
        """Return the member, and if the group has changed by it."""
        known = group.members.get(request.member_id)
        if request.member_epoch != _JOIN:
            known = group.check_member(request.member_id)
            owned = _where(request.owned, self._topics)
            repeated = request.member_epoch == known.previous_epoch and owned is not None and owned <= known.assigned
            if request.member_epoch != known.epoch and not repeated:
                raise Refused(Code.FENCED_MEMBER_EPOCH, f"epoch {request.member_epoch} where {known.epoch} is current")
            return known, False
        if known is not None:
            return known, False
        name = request.member_id or f"{uuid.uuid4()}"
        instance = request.instance_id
        old = next((one for one in group.members.values() if instance and one.instance == instance), None)
        if old is None:
            group.members[name] = Subscriber(name, instance)
            return group.members[name], True
        if old.epoch != _LEAVE_FOR_A_WHILE:
            raise Refused(Code.UNRELEASED_INSTANCE_ID, f"instance {instance!r} is still {old.id}")
        del group.members[old.id]
        old.id, old.epoch, old.previous_epoch = name, 0, -1
        group.members[name] = old
        return old, False

    def _beat(self, group: ConsumerGroup, request: Any, context: Any) -> dict[str, Any]:
        member, changed = self._member(group, request)
        member.client_id, member.host = context.client_id, context.host
        member.expires = time.monotonic() + self.session
        if request.rebalance_timeout_ms >= 0:
            member.rebalance = request.rebalance_timeout_ms / 1000
        if request.subscribed_topic_names is not None and request.subscribed_topic_names != member.names:
            member.names, changed = request.subscribed_topic_names, True
        pattern = getattr(request, "subscribed_topic_regex", None)
        if pattern is not None and pattern != (member.pattern or ""):
            member.pattern, changed = pattern or None, True
        if request.server_assignor not in (None, "", "uniform", "range"):
            raise Refused(Code.UNSUPPORTED_ASSIGNOR, f"{request.server_assignor!r}: uniform or range")
        group.refresh(self._topics, changed=changed)
        before = set(member.assigned)
        group.reconcile(member, set() if request.member_epoch == _JOIN else _where(request.owned, self._topics))
        # A full request is answered in full, so that an answer that was lost is made good.
        full = request.member_epoch == _JOIN or (request.rebalance_timeout_ms >= 0 and request.owned is not None)
        told = full or before != member.assigned
        return {
            "member_id": member.id,
            "member_epoch": member.epoch,
            "assignment": {"owned": self._owned(member.assigned)} if told else None,
        }

    def _owned(self, assigned: set[Where]) -> list[dict[str, Any]]:
        return [
            {
                "topic_id": self._topics.by_name[name].id,
                "topic_name": name,
                "partitions": sorted(each for topic, each in assigned if topic == name),
            }
            for name in sorted({name for name, _ in assigned} & self._topics.by_name.keys())
        ]

    def consumer_group_describe(self, request: Any, context: Any) -> dict[str, Any]:
        """ConsumerGroupDescribe; a group of the classic protocol is not found, and is asked for by DescribeGroups."""
        groups = []
        for name in request.groups:
            group = self._groups.by_name.get(name)
            known = isinstance(group, ConsumerGroup)
            groups.append(
                {
                    "error_code": Code.NONE if known else Code.GROUP_ID_NOT_FOUND,
                    "error_message": None if known else f"{name!r} is no group of the consumer protocol",
                    "group_id": name,
                    "group_state": group.state.value if known else "",
                    "group_epoch": group.generation if known else 0,
                    "assignment_epoch": group.generation if known else 0,
                    "assignor_name": "uniform",
                    "members": [
                        {
                            "member_id": one.id,
                            "instance_id": one.instance,
                            "rack_id": None,
                            "member_epoch": one.epoch,
                            "client_id": one.client_id,
                            "client_host": one.host,
                            "subscribed_topic_names": one.names,
                            "subscribed_topic_regex": one.pattern,
                            "assigned": {"owned": self._owned(one.assigned)},
                            "target": {"owned": self._owned(one.target)},
                        }
                        for one in (group.members.values() if known else ())
                    ],
                    "authorized_operations": _UNKNOWN_OPERATIONS,
                }
            )
        return {"throttle_time_ms": 0, "groups": groups}


def _where(owned: Any, topics: Topics) -> set[Where] | None:
    """Return what a member says it owns, by names; None if it does not say."""
    if owned is None:
        return None
    names = {one.id: one.name for one in topics.by_name.values()}
    return {(names[one.topic_id], each) for one in owned if one.topic_id in names for each in one.partitions}
