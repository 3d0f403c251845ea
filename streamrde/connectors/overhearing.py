"""Clients that listen to a queue for a look: they take nothing from other readers and leave nothing behind."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any

from streamrde.connectors.amqp import AmqpClient
from streamrde.connectors.clients import Intake, mapped
from streamrde.connectors.redis import RedisClient, converted

# Entries of each Redis stream that are looked at of those it has already.
_LAST = 200
# Redis streams that are looked at, and entries that one request returns.
_MOST_KEYS = 1000
_PART = 1000
_BLOCK = 1.0  # seconds that the server holds a request for new entries


class RedisListener(RedisClient):
    """Read streams of Redis without a consumer group: the last entries of each, and those that come.

    Args:
        pattern: keys to read, in the signs of SCAN.
        field: field of an entry with the payload. None: it is looked for in the first entry of each key.
        options: further arguments of `RedisClient`.
    """

    def __init__(self, *arguments: Any, pattern: str, field: str | None, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.fields: dict[str, str] = {}
        """Field with the payload, by key. "": the fields are the payload."""
        self._given = field
        self._pattern = pattern
        self._after: dict[bytes, bytes] = {}

    async def _look_for_keys(self, *, begin: bool = False) -> None:
        self._next_look = time.monotonic() + self._discover
        first = not self._after
        async for key in self._redis.scan_iter(match=self._pattern, count=_PART, _type="STREAM"):
            if key in self._after or len(self._after) == _MOST_KEYS:
                continue
            self._after[key] = b"0-0"
            if first:
                # The newest come first.
                self._take_all(key, reversed(await self._redis.xrevrange(key, count=_LAST)), self.intake)

    async def _read(self, intake: Intake) -> None:
        with mapped(converted):
            while len(intake.messages) < intake.limit:
                if time.monotonic() >= self._next_look:
                    await self._look_for_keys()
                if not self._after:
                    await asyncio.sleep(min(_BLOCK, self._discover))
                    continue
                wait = round(min(_BLOCK, self._discover) * 1000)
                for key, entries in await self._redis.xread(dict(self._after), count=_PART, block=wait) or ():
                    self._take_all(key, entries, intake)
                await asyncio.sleep(0)

    def _take_all(self, key: bytes, entries: Iterable[tuple[bytes, dict[bytes, bytes]]], intake: Intake | None) -> None:
        for identity, fields in entries:
            self._after[key] = identity
            field = self._given
            if field is None:
                field = self.fields.setdefault(key.decode("utf-8", "replace"), payload_field(fields))
            self._field = field.encode()
            if intake is not None:
                self._take(key, identity, fields, intake)


def payload_field(fields: dict[bytes, bytes]) -> str:
    """Return the field of an entry that has the payload, or "" if the fields are the values.

    >>> payload_field({b"payload": b"1.5", b"host": b"a"}), payload_field({b"ax": b"1", b"ay": b"2"})
    ('payload', '')
    >>> payload_field({b"data": b'{"ax": 1}', b"host": b"a"})
    'data'
    """
    if b"payload" in fields:
        return "payload"
    packed = [name for name, value in fields.items() if value[:1] in (b"{", b"[") or not _readable(value)]
    return packed[0].decode("utf-8", "replace") if len(packed) == 1 else ""


def _readable(value: bytes) -> bool:
    try:
        return value.decode().isprintable()
    except UnicodeDecodeError:
        return False


class AmqpListener(AmqpClient):
    """Receive copies of what is sent to an exchange, by a queue that the broker deletes with the connection."""

    async def _prepare(self, queue: str) -> None:
        assert self.intake is not None  # noqa: S101 (it only receives)
        limit = {"x-max-length": self.intake.limit}
        declared = await self._channel.queue_declare("", exclusive=True, auto_delete=True, arguments=limit)
        self._queue = declared.queue
        for key in self._bindings:
            await self._channel.queue_bind(declared.queue, self._exchange, key)
