"""The group coordinator of the classic protocol: members, generations, assignments.

References: https://kafka.apache.org/protocol (JoinGroup to LeaveGroup); KIP-394 (a dynamic member is given its id
first, MEMBER_ID_REQUIRED); KIP-345 (static members: a newcomer of the same instance takes the place, the assignment and
the generation, and the old one is told FENCED_INSTANCE_ID). Cooperative rebalancing (KIP-429) is a matter of the
clients: two rebalances in a row.
"""

from __future__ import annotations

import asyncio
import enum
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from kafka_server.codes import Code, Refused
from kafka_server.offsets import Offsets


class State(enum.Enum):
    """States of a group."""

    EMPTY = "Empty"
    PREPARING = "PreparingRebalance"
    COMPLETING = "CompletingRebalance"
    STABLE = "Stable"
    RECONCILING = "Reconciling"  # of consumer_groups.py only


@dataclass
class Member:
    """A member; `joining` and `syncing` are its requests that wait for the others."""

    id: str
    instance: str | None
    client_id: str
    host: str
    session: float
    rebalance: float
    protocols: list[tuple[str, bytes]]
    expires: float
    assignment: bytes = b""
    joining: asyncio.Future[dict[str, Any]] | None = None
    syncing: asyncio.Future[tuple[Code, bytes]] | None = None

    def beat(self) -> None:
        """Begin the session timeout again."""
        self.expires = time.monotonic() + self.session

    def metadata(self, protocol: str | None) -> bytes:
        """Return what the member said of itself for a protocol."""
        return next((data for name, data in self.protocols if name == protocol), b"")

    def fail(self, code: Code) -> None:
        """Answer the waiting requests with an error."""
        if self.joining is not None and not self.joining.done():
            self.joining.set_result(joined(code, member_id=self.id))
        if self.syncing is not None and not self.syncing.done():
            self.syncing.set_result((code, b""))
        self.joining = self.syncing = None


def joined(code: Code, **fields: Any) -> dict[str, Any]:
    """Make an answer to JoinGroup."""
    return {
        "throttle_time_ms": 0,
        "error_code": code,
        "generation_id": -1,
        "protocol_name": "",
        "leader": "",
        "member_id": "",
        "members": [],
    } | fields


@dataclass
class Group:
    """A consumer group."""

    id: str
    state: State = State.EMPTY
    generation: int = 0
    protocol_type: str = ""
    protocol: str | None = None
    leader: str | None = None
    members: dict[str, Member] = field(default_factory=dict)
    pending: dict[str, float] = field(default_factory=dict)  # ids that were given and are not used yet, until when
    unsynced: set[str] = field(default_factory=set)
    deadline: float = 0.0  # of the rebalance, or of the SyncGroup requests after it
    delayed: bool = False  # the first rebalance waits for more members to come
    offsets: Offsets = field(default_factory=Offsets)

    def static(self, instance: str | None) -> Member | None:
        """Return the member of an instance."""
        return next((one for one in self.members.values() if instance and one.instance == instance), None)

    def check_member(self, member_id: str, instance: str | None) -> Member:
        """Return the member, unless another one took its instance (KIP-345)."""
        if instance is not None:
            static = self.static(instance)
            if static is not None and static.id != member_id:
                raise Refused(Code.FENCED_INSTANCE_ID, f"instance {instance!r} is {static.id} now")
        if member_id not in self.members or (instance is not None and self.members[member_id].instance != instance):
            raise Refused(Code.UNKNOWN_MEMBER_ID, f"no member {member_id!r}")
        return self.members[member_id]

    def check_generation(self, generation: int) -> None:
        """Refuse a request of another generation."""
        if generation != self.generation:
            raise Refused(Code.ILLEGAL_GENERATION, f"generation {generation} where {self.generation} is the current")

    def check_commit(self, generation: int, member_id: str, instance: str | None, *, transactional: bool) -> None:
        """Refuse offsets of one who is no member of this generation (KIP-447)."""
        if generation >= 0 or member_id or instance is not None:
            member = self.check_member(member_id, instance)
            self.check_generation(generation)
            if not transactional:
                if self.state is State.COMPLETING:
                    raise Refused(Code.REBALANCE_IN_PROGRESS, "join again first")
                member.beat()
        elif not transactional and self.state is not State.EMPTY:
            raise Refused(Code.UNKNOWN_MEMBER_ID, "a group with members takes offsets from them only")

    def supports(self, protocol_type: str, names: set[str]) -> bool:
        """Return if a member with these protocols could be in the group."""
        if not protocol_type or not names:
            return False
        if self.state is State.EMPTY or not self.members:
            return True
        return protocol_type == self.protocol_type and bool(names & self._common())

    def _common(self) -> set[str]:
        return set.intersection(*({name for name, _ in one.protocols} for one in self.members.values()))

    def select(self) -> str:
        """Return the protocol that most members like best among those that all have."""
        common = self._common()
        votes = [next(name for name, _ in one.protocols if name in common) for one in self.members.values()]
        return max(dict.fromkeys(votes), key=votes.count)

    def prepare(self, delay: float = 0.0) -> None:
        """Begin a rebalance, if none is being joined."""
        if self.state is State.PREPARING:
            return
        for one in self.members.values():
            if one.syncing is not None and not one.syncing.done():
                one.syncing.set_result((Code.REBALANCE_IN_PROGRESS, b""))
            one.syncing = None
        longest = max((one.rebalance for one in self.members.values()), default=0.0)
        self.unsynced.clear()
        self.deadline = time.monotonic() + (delay if self.state is State.EMPTY and delay else longest)
        self.delayed = self.state is State.EMPTY and delay > 0
        self.state = State.PREPARING

    def complete_if_joined(self) -> None:
        """End the rebalance once every member has joined."""
        everyone = not self.pending and all(one.joining is not None for one in self.members.values())
        if self.state is State.PREPARING and not self.delayed and everyone:
            self._complete()

    def _complete(self) -> None:
        """Begin the next generation with those who joined, and with static members whose session goes on."""
        for one in list(self.members.values()):
            if one.joining is None and one.instance is None:
                del self.members[one.id]
        ready = [one for one in self.members.values() if one.joining is not None]
        if self.members and not ready:
            self.deadline = time.monotonic() + max(one.rebalance for one in self.members.values())
            return
        self.generation += 1
        if not self.members:
            self.state, self.protocol, self.leader = State.EMPTY, None, None
            return
        if self.leader not in {one.id for one in ready}:
            self.leader = ready[0].id
        self.state, self.protocol = State.COMPLETING, self.select()
        self.deadline = time.monotonic() + max(one.rebalance for one in self.members.values())
        self.unsynced = set(self.members)
        for one in self.members.values():
            if one.joining is not None and not one.joining.done():
                one.joining.set_result(self.standing(one))
            one.joining = None
            one.beat()

    def standing(self, member: Member, leader: str | None = None) -> dict[str, Any]:
        """Make the answer to a JoinGroup of this generation; its leader is told of all members."""
        leader = leader or self.leader
        everyone = self.members.values() if member.id == leader else ()
        return joined(
            Code.NONE,
            generation_id=self.generation,
            protocol_name=self.protocol or "",
            leader=leader,
            member_id=member.id,
            members=[
                {"member_id": one.id, "group_instance_id": one.instance, "metadata": one.metadata(self.protocol)}
                for one in everyone
            ],
        )

    def remove(self, member_id: str) -> None:
        """Take a member out, and rebalance without it."""
        member = self.members.pop(member_id)
        member.fail(Code.UNKNOWN_MEMBER_ID)
        self.unsynced.discard(member_id)
        if self.leader == member_id:
            self.leader = next(iter(self.members), None)
        self.prepare()
        self.complete_if_joined()

    def expire(self, now: float, *, members: list[str] | None = None) -> list[str]:
        """Remove members whose session has passed, or those of `members`, and end what waited for too long."""
        for name in [name for name, until in self.pending.items() if now > until]:
            del self.pending[name]
        gone = [
            one.id
            for one in self.members.values()
            if (
                one.joining is None and one.syncing is None and now > one.expires
                if members is None
                else one.id in members
            )
        ]
        for name in gone:
            if name in self.members:
                self.remove(name)
        if self.state is State.PREPARING and now >= self.deadline:
            self.delayed = False
            self._complete()
        elif self.state in (State.COMPLETING, State.STABLE) and self.unsynced and now >= self.deadline:
            late = [name for name in self.members if name in self.unsynced]
            for name in late:
                if name in self.members:
                    self.remove(name)
            gone += late
        self.complete_if_joined()
        return gone


class Groups:
    """All groups, and the requests of their members."""

    def __init__(self, *, initial_delay: float = 0.0) -> None:
        self.by_name: dict[str, Any] = {}  # Group, or ConsumerGroup of consumer_groups.py
        self.initial_delay = initial_delay

    def group(self, name: str) -> Any:
        """Return a group of either protocol, new if need be."""
        return self.by_name.setdefault(name, Group(name))

    def classic(self, name: str) -> Group:
        """Return a group for members; an empty one of the consumer protocol becomes one, with its offsets."""
        group = self.group(name)
        if not isinstance(group, Group):
            if group.members:
                raise Refused(Code.INCONSISTENT_GROUP_PROTOCOL, f"{name!r} has members of the consumer protocol")
            group = self.by_name[name] = Group(name, generation=group.generation, offsets=group.offsets)
        return group

    def known(self, name: str) -> Group:
        """Return a group that has members."""
        group = self.by_name.get(name)
        if not isinstance(group, Group):
            raise Refused(Code.UNKNOWN_MEMBER_ID, f"no group {name!r} of the classic protocol")
        return group

    def finish(self, name: str, producer: int, commit: bool) -> None:
        """End a transaction's part in a group's offsets."""
        if name in self.by_name:
            self.by_name[name].offsets.finish(producer, commit)

    def expire(self, now: float) -> None:
        """Let time pass in every group."""
        for group in self.by_name.values():
            if isinstance(group, Group):
                group.expire(now)

    async def join_group(self, request: Any, context: Any) -> dict[str, Any]:
        """JoinGroup: answered once all members have joined, or at once where nothing changes."""
        try:
            if not request.group_id:
                raise Refused(Code.INVALID_GROUP_ID, "no name")
            if not 100 <= request.session_timeout_ms <= 1_800_000:
                raise Refused(Code.INVALID_SESSION_TIMEOUT, f"{request.session_timeout_ms} ms")
            answer = self._join(self.classic(request.group_id), request, context)
        except Refused as error:
            return joined(error.code, member_id=request.member_id)
        return answer if isinstance(answer, dict) else await answer

    def _join(self, group: Group, request: Any, context: Any) -> dict[str, Any] | asyncio.Future[dict[str, Any]]:
        instance = getattr(request, "group_instance_id", None)
        protocols = [(one.name, one.metadata) for one in request.protocols]
        if not group.supports(request.protocol_type, {name for name, _ in protocols}):
            raise Refused(Code.INCONSISTENT_GROUP_PROTOCOL, f"{request.protocol_type} {protocols}")
        session = request.session_timeout_ms / 1000
        rebalance = getattr(request, "rebalance_timeout_ms", request.session_timeout_ms) / 1000
        name, now = request.member_id, time.monotonic()
        replaced: str | None = None
        if not name:
            name = f"{instance or context.client_id}-{uuid.uuid4()}"
            old = group.static(instance)
            if old is not None:
                replaced = old.id
            elif instance is None and context.version >= 4:
                group.pending[name] = now + session
                return joined(Code.MEMBER_ID_REQUIRED, member_id=name)
        elif name not in group.pending:
            group.check_member(name, instance)
        elif instance is not None:
            raise Refused(Code.UNKNOWN_MEMBER_ID, "a static member has no id to begin with")
        group.pending.pop(name, None)
        known = group.members.get(replaced or name)
        leader = group.leader
        if replaced is not None and known is not None:
            known.fail(Code.FENCED_INSTANCE_ID)
            group.members = {(name if key == replaced else key): one for key, one in group.members.items()}
            known.id = name
            group.leader = name if group.leader == replaced else group.leader
            if replaced in group.unsynced:
                group.unsynced = group.unsynced - {replaced} | {name}
        same = known is not None and known.protocols == protocols
        if known is None:
            known = Member(name, instance, context.client_id, context.host, session, rebalance, protocols, 0.0)
            if not group.members:
                group.protocol_type, group.leader = request.protocol_type, name
            group.members[name] = known
        known.session, known.rebalance, known.protocols = session, rebalance, protocols
        known.client_id, known.host = context.client_id, context.host
        known.beat()
        if replaced is not None:
            stays = group.state is State.STABLE and group.select() == group.protocol
            if stays:
                return group.standing(known, leader) | {"members": []}
        elif same and (group.state is State.COMPLETING or (group.state is State.STABLE and group.leader != name)):
            return group.standing(known)
        known.fail(Code.REBALANCE_IN_PROGRESS)  # an earlier request that still waits
        known.joining = asyncio.get_running_loop().create_future()
        waiting = known.joining
        group.prepare(self.initial_delay)
        group.complete_if_joined()
        return waiting

    async def sync_group(self, request: Any, context: Any) -> dict[str, Any]:
        """SyncGroup: the leader brings the assignments, the others wait for theirs."""
        try:
            code, assignment = await self._sync(request)
        except Refused as error:
            code, assignment = error.code, b""
        return {"throttle_time_ms": 0, "error_code": code, "assignment": assignment}

    async def _sync(self, request: Any) -> tuple[Code, bytes]:
        group = self.known(request.group_id)
        member = group.check_member(request.member_id, getattr(request, "group_instance_id", None))
        group.check_generation(request.generation_id)
        member.beat()
        if group.state is State.PREPARING:
            raise Refused(Code.REBALANCE_IN_PROGRESS, "join again")
        group.unsynced.discard(member.id)
        if group.state is State.STABLE:
            return Code.NONE, member.assignment
        waiting = member.syncing = asyncio.get_running_loop().create_future()
        if group.leader == member.id:
            given = {one.member_id: one.assignment for one in request.assignments}
            group.state = State.STABLE
            for one in group.members.values():
                one.assignment = given.get(one.id, b"")
                if one.syncing is not None and not one.syncing.done():
                    one.syncing.set_result((Code.NONE, one.assignment))
                one.syncing = None
                one.beat()
        return await waiting

    def heartbeat(self, request: Any, context: Any) -> dict[str, Any]:
        """Heartbeat: the session goes on; REBALANCE_IN_PROGRESS calls to join again."""
        try:
            group = self.known(request.group_id)
            member = group.check_member(request.member_id, getattr(request, "group_instance_id", None))
            group.check_generation(request.generation_id)
            member.beat()
            code = Code.REBALANCE_IN_PROGRESS if group.state is State.PREPARING else Code.NONE
        except Refused as error:
            code = error.code
        return {"throttle_time_ms": 0, "error_code": code}

    def leave_group(self, request: Any, context: Any) -> dict[str, Any]:
        """LeaveGroup: the others rebalance at once."""
        group = self.by_name.get(request.group_id)
        group = group if isinstance(group, Group) else None
        code = Code.NONE
        if group is not None and request.member_id in group.members:
            group.remove(request.member_id)
        elif group is None or group.pending.pop(request.member_id, None) is None:
            code = Code.UNKNOWN_MEMBER_ID
        else:
            group.complete_if_joined()
        return {"throttle_time_ms": 0, "error_code": code}
