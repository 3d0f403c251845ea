"""Redis and Valkey: samples from streams by a consumer group, predictions and dead letters to streams."""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar, Literal

import msgspec

from streamrde.connectors.access import Address, Scheme, Tls
from streamrde.connectors.clients import Intake, Outgoing, Patience, QueueClient, certificate_refused, mapped
from streamrde.connectors.queue_sections import QueueAccess, QueueLettersKeys, QueueSinkKeys, QueueSourceConfig
from streamrde.connectors.sections import DeadLettersConfig, RunSections, SinkConfig
from streamrde.connectors.topics import REDIS, Grammar, TopicTemplate
from streamrde.errors import BrokerError, ConfigError, MissingExtraError
from streamrde.settings import Positive, Seconds

_SCHEME = Scheme("redis", "rediss", (6379, 6379), "/0")
# Longest time, in seconds, that the server holds a request for new entries. A request in between costs 0.1 ms.
_BLOCK = 1.0
# Entries that are asked for at a time where nothing limits them.
_PART = 1000
# Signs that SCAN understands and that a key may have.
_SPECIAL = re.compile(r"([\[\]?\\^])")


class RedisClient(QueueClient):
    """A client of a Redis or Valkey server.

    On every connection it first reads what its consumer was given and has not acknowledged, then new entries.

    Args:
        address: the server, whose path is the number of the database.
        tls: files of TLS; None: without TLS.
        templates: keys to read; those with placeholders or wildcards are looked for every `discover` seconds.
        group: consumer group that keeps the position.
        consumer: name in the group.
        field: field of an entry with the payload; "": the fields are the payload, as a JSON object.
        create: create a key that is not there.
        deliver: where a new group begins.
        claim: take over, at the start, what other consumers of the group have not acknowledged for so many seconds.
        maxlen: entries that are kept of a stream that is published to, about; None: all.
    """

    def __init__(
        self,
        address: Address,
        *,
        tls: Tls | None = None,
        patience: Patience | None = None,
        intake: Intake | None = None,
        inflight: int = 1000,
        templates: Sequence[TopicTemplate] = (),
        group: str = "",
        consumer: str = "streamrde",
        field: str = "payload",
        create: bool = False,
        deliver: Literal["all", "new"] = "all",
        discover: float = 5.0,
        claim: float | None = None,
        maxlen: int | None = None,
    ) -> None:
        super().__init__(f"Redis server {address}", patience=patience, intake=intake, inflight=inflight)
        self._address = address
        self._tls = tls
        self._templates = tuple(templates)
        self._group, self._consumer = group, consumer
        self._field = field.encode()
        self._create = create
        self._deliver = deliver
        self._discover = discover
        self._claim = claim
        self._maxlen = maxlen
        self._redis: Any = None
        self._reading: asyncio.Task[None] | None = None
        self._keys: dict[bytes, None] = {}
        self._joined: list[bytes] = []
        # Entries that are done, and that the server does not know to be.
        self._done: list[tuple[bytes, bytes]] = []
        self._telling: asyncio.Task[None] | None = None
        self._next_look = 0.0

    async def _connect(self) -> None:
        try:
            from redis.asyncio import Redis
            from redis.asyncio.retry import Retry
            from redis.backoff import NoBackoff
        except ImportError:
            raise MissingExtraError("Redis", "redis") from None
        address, tls = self._address, self._tls
        files: dict[str, Any] = {}
        if tls is not None:
            files = {
                "ssl": True,
                "ssl_ca_certs": tls.ca,
                "ssl_certfile": tls.certificate,
                "ssl_keyfile": tls.key,
                "ssl_password": tls.key_password,
            }
        self._redis = Redis(
            host=address.host,
            port=address.port,
            db=int(address.path.strip("/") or 0),
            username=address.user,
            password=address.password,
            socket_connect_timeout=self.patience.timeout,
            socket_timeout=self.patience.timeout + _BLOCK,
            # Lost connections are noticed and made again here.
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            **files,
        )
        self._keys, self._joined = {}, []
        with mapped(converted):
            await self._redis.ping()
            await self._tell()
            await self._look_for_keys(begin=self.counts.connects == 0 and self._deliver == "new")
        if self.intake is not None:
            self._reading = self.spawn(self._read(self.intake))

    async def _look_for_keys(self, *, begin: bool = False) -> None:
        """Find the keys to read, and join the group of each.

        Args:
            begin: a group that is new begins with what comes from now on.
        """
        self._next_look = time.monotonic() + self._discover
        for template in self._templates:
            if template.filter == template.template:
                keys = [template.template.encode()]
                if not self._create and not await self._redis.exists(*keys):
                    raise BrokerError(
                        f"it has no key {template.template!r}; create it with  redis-cli XGROUP CREATE "
                        f"{template.template} {self._group or 'GROUP'} $ MKSTREAM  or set create_stream = true",
                        final=True,
                    )
            else:
                pattern = scan_pattern(template.filter)
                found = [key async for key in self._redis.scan_iter(match=pattern, count=_PART, _type="STREAM")]
                keys = sorted(key for key in found if template.place_of(key.decode("utf-8", "replace")) is not None)
            for key in keys:
                if self.intake is not None and key not in self._keys:
                    await self._join(key, "$" if begin else "0")

    async def _join(self, key: bytes, first: str) -> None:
        from redis.exceptions import ResponseError

        try:
            await self._redis.xgroup_create(key, self._group, first, mkstream=self._create)
        except ResponseError as error:
            if "BUSYGROUP" not in f"{error}":
                raise
        self._keys[key] = None
        if self._claim is not None:
            start: Any = b"0-0"
            while True:
                idle = round(self._claim * 1000)
                answer = await self._redis.xautoclaim(key, self._group, self._consumer, idle, start, count=_PART)
                start = answer[0]
                if start == b"0-0":
                    break
        self._joined.append(key)

    async def _read_again(self, key: bytes, intake: Intake) -> None:
        """Read what this consumer was given and has not acknowledged. What is still held here takes no room."""
        after = b"0"
        while True:
            while len(intake.messages) >= intake.limit:
                await self._pause()
            found = await self._redis.xreadgroup(self._group, self._consumer, {key: after}, count=_PART)
            entries = found[0][1] if found else []
            if not entries:
                return
            for identity, fields in entries:
                if fields:
                    again = self._take(key, identity, fields, intake)
                    if again is not None:
                        await self.acknowledge_now([again])
                else:  # deleted meanwhile, by XDEL or MAXLEN
                    self.counts.lost += 1
                    await self._redis.xack(key, self._group, identity)
                after = identity
            self.changed.set()

    async def _room(self, intake: Intake) -> int:
        """Return how many entries may be read, waiting until it is at least one."""
        while True:
            room = min(self._inflight - intake.held, intake.limit - len(intake.messages), _PART)
            if room > 0:
                return room
            await self._pause()

    async def _pause(self) -> None:
        await self.changed.wait()
        self.changed.clear()

    async def _read(self, intake: Intake) -> None:
        """Read new entries until the connection is lost."""
        with mapped(converted):
            while True:
                if time.monotonic() >= self._next_look:
                    await self._look_for_keys()
                while self._joined:
                    await self._read_again(self._joined.pop(0), intake)
                if not self._keys:
                    await asyncio.sleep(min(_BLOCK, self._discover))
                    continue
                room = await self._room(intake)
                found = await self._redis.xreadgroup(
                    self._group,
                    self._consumer,
                    dict.fromkeys(self._keys, ">"),
                    count=max(1, room // len(self._keys)),
                    block=round(min(_BLOCK, self._discover) * 1000),
                )
                for key, entries in found or ():
                    taken = (self._take(key, identity, fields, intake) for identity, fields in entries)
                    await self.acknowledge_now([again for again in taken if again is not None])
                self.changed.set()
                # A full stream answers at once: other tasks have their turn too.
                await asyncio.sleep(0)

    def _take(self, key: bytes, identity: bytes, fields: dict[bytes, bytes], intake: Intake) -> Any:
        """Take an entry. Return what to acknowledge if it came again and is done."""
        properties = None
        if self._field:
            # An entry without the field is refused by the codec, with its topic, as an empty payload.
            payload = fields.pop(self._field, b"")
            if fields:
                properties = {name.decode("utf-8", "replace"): _text(value) for name, value in fields.items()}
        else:
            payload = as_json(fields)
        name = (key, identity)
        stamped = int(identity[: identity.index(b"-")]) * 1e-3
        return intake.put(key, payload, name, name, properties=properties, stamped=stamped)

    async def _acknowledge(self, handles: Sequence[tuple[bytes, bytes]]) -> None:
        self._done += handles
        if self._redis is not None and (self._telling is None or self._telling.done()):
            self._telling = self.spawn(self._tell())

    async def _tell(self) -> None:
        """Acknowledge what is done, as much as there is at a time. The next connection tells what this one leaves."""
        with mapped(converted):
            while self._done:
                handles = [*self._done]
                by_key: dict[bytes, list[bytes]] = {}
                for key, identity in handles:
                    by_key.setdefault(key, []).append(identity)
                pipeline = self._redis.pipeline(transaction=False)
                for key, identities in by_key.items():
                    pipeline.xack(key, self._group, *identities)
                await pipeline.execute()
                del self._done[: len(handles)]

    async def _settle(self) -> None:
        if self._telling is not None:
            await asyncio.wait((self._telling,))

    async def _publish(self, messages: Sequence[Outgoing]) -> None:
        limit = {} if self._maxlen is None else {"maxlen": self._maxlen, "approximate": True}
        field = self._field or b"payload"
        with mapped(converted):
            pipeline = self._redis.pipeline(transaction=False)
            for message in messages:
                pipeline.xadd(message.topic, {field: message.payload}, **limit)
            await pipeline.execute()

    async def _disconnect(self) -> None:
        tasks = (self._reading, self._telling)
        self._reading = self._telling = None
        for task in tasks:
            await self.end(task)
        client, self._redis = self._redis, None
        if client is not None:
            await self.let_go(client.aclose())


def converted(error: Exception) -> BrokerError | None:
    """Return the error of this project for one of the client library or the network."""
    from redis import exceptions

    text = f"{error}".rstrip(".")
    if isinstance(error, exceptions.AuthenticationError | exceptions.AuthorizationError) or "NOAUTH" in text:
        return BrokerError("it refuses user and password; check them", final=True)
    if isinstance(error, exceptions.NoPermissionError):
        return BrokerError(f"it refuses this user a command ({text}); let its access rules allow it", final=True)
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return certificate_refused(text)
    if "WRONGTYPE" in text:
        return BrokerError("the key holds another type than a stream; choose another key", final=True)
    if isinstance(error, exceptions.RedisError | OSError):
        return BrokerError(f"{text}; start the server or check host, port and redis:// or rediss://")
    return None


def scan_pattern(topic: str) -> str:
    """Return the pattern of SCAN for keys, in which only the star is a wildcard.

    >>> scan_pattern("sensors:*:[imu]")
    'sensors:*:\\\\[imu\\\\]'
    """
    return _SPECIAL.sub(r"\\\1", topic)


def as_json(fields: Mapping[bytes, bytes]) -> bytes:
    """Return the fields of an entry as a JSON object, with numbers for texts that are numbers."""
    return msgspec.json.encode({name.decode("utf-8", "replace"): _number(value) for name, value in fields.items()})


def _number(value: bytes) -> float | str:
    try:
        number = float(value)
    except ValueError:
        return _text(value)
    return number if math.isfinite(number) else _text(value)


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


class RedisAccess(QueueAccess):
    """Answer for a client of this queue."""

    __slots__ = ()

    grammar: ClassVar[Grammar] = REDIS
    scheme: ClassVar[Scheme] = _SCHEME
    system: ClassVar[str] = "Redis server"
    schemes: ClassVar[tuple[str, ...]] = ("redis", "rediss")
    sensors: ClassVar[str] = "sensors:{stream}:imu"


class RedisSourceConfig(RedisAccess, QueueSourceConfig, frozen=True, kw_only=True, tag_field="kind", tag="redis"):
    """Receive samples from Redis or Valkey Streams, by a consumer group."""

    group: str
    """Name of the consumer group, which keeps the position. Each run needs its own."""
    consumer: str = "streamrde"
    """Name in the group. What it was given and has not acknowledged comes again."""
    field: str = "payload"
    """Field of an entry that has the payload. If "", the entry's fields are the values."""
    create_stream: bool = False
    """Create a key that is not there. Keys with placeholders are found when they are."""
    deliver: Literal["all", "new"] = "all"
    """Where a new group begins: with all that a stream has, or with what comes from then on."""
    discover: Seconds = 5.0
    """Seconds between two looks for new keys that fit the topic."""
    claim: Seconds | None = None
    """At the start, take over what other consumers of the group have left unacknowledged for so many seconds."""

    def check(self, name: str, run: RunSections) -> None:
        """See `EndConfig.check`."""
        super().check(name, run)
        _check_database(name, self.address())
        if not self.field and any(payload.codec != "json" for payload in self.payloads()):
            raise ConfigError(
                f'{name}.field = "" makes the fields of an entry its values; leave codec out, or name the field that '
                "has the payload"
            )

    def client(self, intake: Intake | None) -> RedisClient:
        """Return a client with the section's keys."""
        return RedisClient(
            self.address(),
            tls=self.encryption(),
            patience=self.patience(),
            intake=intake,
            inflight=self.inflight,
            templates=self.templates(),
            group=self.group,
            consumer=self.consumer,
            field=self.field,
            create=self.create_stream,
            deliver=self.deliver,
            discover=self.discover,
            claim=self.claim,
        )

    def overhear(self, topic: str, limit: int, given: Collection[str] = ()) -> QueueClient:
        """See `PayloadSourceConfig.overhear`."""
        from streamrde.connectors.overhearing import RedisListener

        _check_database("source", self.address())
        return RedisListener(
            self.address(),
            tls=self.encryption(),
            patience=self.patience(),
            intake=Intake(limit=limit),
            pattern=scan_pattern(topic or "*"),
            field=self.field if "field" in given else None,
            discover=1.0,
        )


class RedisSinkConfig(RedisAccess, QueueSinkKeys, SinkConfig, frozen=True, kw_only=True, tag="redis"):
    """Predictions to Redis or Valkey Streams."""

    field: str = "payload"
    """Field of an entry that gets the payload."""
    maxlen: Positive | None = None
    """Entries that each stream keeps, about. None: all, and the server's memory grows."""

    def check(self, name: str, run: RunSections) -> None:
        """See `EndConfig.check`."""
        super().check(name, run)
        _check_database(name, self.address())
        if not self.field:
            raise ConfigError(f'{name}.field = "": name the field of an entry that gets the payload')

    def look(self) -> RedisClient:
        """See `QueueAccess.look`."""
        return RedisClient(
            self.address(),
            tls=self.encryption(),
            patience=self.patience(),
            inflight=self.inflight,
            field=self.field,
            maxlen=self.maxlen,
        )


class RedisDeadLettersConfig(RedisAccess, QueueLettersKeys, DeadLettersConfig, frozen=True, kw_only=True, tag="redis"):
    """Messages that cannot be used, to a Redis or Valkey Stream."""

    def look(self) -> RedisClient:
        """See `QueueAccess.look`."""
        return RedisClient(self.address(), tls=self.encryption(), patience=self.patience())


def _check_database(name: str, address: Address) -> None:
    if not address.path.strip("/").isdecimal() and address.path.strip("/"):
        raise ConfigError(f"{name}.url ends with {address.path!r}: end it with the database's number, such as /0")
